"""Importance matrices: llama-imatrix' files give llama-quantize's bytes, and phiq's own say what llama-imatrix' say."""
import struct

import pytest

import gguf_file
import llama
from program import DATA, HELDOUT, run_phiq
from test_quantize import FILE_TYPES, differences

QUANTIZED = [file_type for file_type in FILE_TYPES if file_type not in ("F32", "F16", "BF16")]
WINDOW = 128
FORMS = ("gguf", "dat")


@pytest.fixture(scope="module")
def text(outputs, tmp_path_factory):
    """A file of eleven windows and a rest."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    content = HELDOUT.read_text()
    n_characters = 1000
    while True:
        path.write_text(content[:n_characters])
        n = len(llama.tokenize(outputs.of_phiq("F32"), content[:n_characters]))
        if 11 * WINDOW < n < 12 * WINDOW:
            return path
        assert n < 12 * WINDOW, "a step of a hundred characters is less than a window"
        n_characters += 100


def importance(model, text, out, *options):
    """What llama-imatrix makes of a text."""
    form = out.suffix.removeprefix(".")
    llama.run("imatrix", "-m", model, "-f", text, "-o", out, "--output-format", form, *llama.window(WINDOW),
              *llama.FLOAT_CACHES, *options)
    return out


@pytest.fixture(scope="module")
def matrices(outputs, text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("imatrix")
    return {form: importance(outputs.of_phiq("F32"), text, folder / f"matrix.{form}") for form in FORMS}


def of_both(outputs, file_type, matrix, tmp_path):
    ours = outputs.run_phiq(tmp_path / "ours.gguf", "--type", file_type, "--imatrix", matrix)
    theirs = tmp_path / "theirs.gguf"
    llama.run("quantize", "--imatrix", matrix, outputs.of_phiq("F32"), theirs, file_type, 1)
    return gguf_file.read(ours), gguf_file.read(theirs)


def without_words_of_matrices(file):
    """The keys that say which matrix it was are each program's own."""
    for key in [key for key in file.metadata if key.startswith(("quantize.imatrix.", "phiq."))]:
        del file.metadata[key]
    return file


@pytest.mark.parametrize("file_type", QUANTIZED)
def test_file_is_llama_quantizes(outputs, matrices, tmp_path, file_type):
    ours, theirs = map(without_words_of_matrices, of_both(outputs, file_type, matrices["gguf"], tmp_path))
    assert differences(ours, theirs) == []
    if file_type != "Q8_0":  # which has no use for a matrix
        plain = gguf_file.read(outputs.of_phiq(file_type)).tensors
        assert any(plain[name].data != tensor.data for name, tensor in ours.tensors.items())


@pytest.mark.parametrize("file_type", ["Q4_K_M", "Q4_0"])
def test_the_older_form_serves_as_well(outputs, matrices, tmp_path, file_type):
    ours, theirs = map(without_words_of_matrices, of_both(outputs, file_type, matrices["dat"], tmp_path))
    assert differences(ours, theirs) == []


def test_weights_that_the_matrix_lacks_are_quantized_as_without(outputs, matrices, tmp_path):
    ours, _ = of_both(outputs, "Q4_K_M", matrices["gguf"], tmp_path)
    plain = gguf_file.read(outputs.of_phiq("Q4_K_M")).tensors
    assert ours.tensors["token_embd.weight"].data == plain["token_embd.weight"].data


def sums_of(path):
    """{weight: (sums of squares, tokens)} of a file in GGUF form."""
    tensors = gguf_file.read(path).tensors
    found = {}
    for name in tensors:
        if name.endswith(".in_sum2"):
            n, = tensors[name].dims
            count, = struct.unpack_from("<f", tensors[name.replace(".in_sum2", ".counts")].data)
            found[name.removesuffix(".in_sum2")] = struct.unpack_from(f"<{n}f", tensors[name].data), count
    return found


def test_phiqs_own_matrix_agrees_with_llama_imatrix(outputs, model, text, tmp_path):
    """Of eleven windows phiq holds the sixth back: their sums less those of that window."""
    ours = tmp_path / "ours.gguf"
    outputs.run_phiq(tmp_path / "out.gguf", "--type", "Q4_K_M", "--method", "imatrix", "--calibrate", text,
                     "--calibration-tokens", 10 * WINDOW, "--calibration-ctx", WINDOW, "--imatrix-out", ours)
    options = ("--process-output",)
    whole = sums_of(importance(outputs.of_phiq("F32"), text, tmp_path / "all.gguf", *options))
    sixth = sums_of(importance(outputs.of_phiq("F32"), text, tmp_path / "one.gguf", *options, "--chunk", 5, "--chunks", 1))
    found = sums_of(ours)
    tied = model == "phi4mini-tiny"  # llama-imatrix leaves a tied head out
    assert found.keys() - ({"token_embd.weight"} if tied else set()) == whole.keys()
    for name, (sums, count) in whole.items():
        assert found[name][1] == count - sixth[name][1] == 10 * WINDOW
        wanted = [a - b for a, b in zip(sums, sixth[name][0])]
        # Both sum in float32 in orders of their own.
        assert found[name][0] == pytest.approx(wanted, rel=1e-3), name


def test_phiqs_own_matrix_serves_llama_quantize(outputs, text, tmp_path):
    for form in FORMS:
        matrix = tmp_path / f"ours.{form}"
        outputs.run_phiq(tmp_path / f"out-{form}.gguf", "--type", "Q4_K_M", "--method", "imatrix", "--calibrate", text,
                         "--calibration-tokens", 10 * WINDOW, "--calibration-ctx", WINDOW, "--imatrix-out", matrix)
        (tmp_path / form).mkdir()
        ours, theirs = map(without_words_of_matrices, of_both(outputs, "Q4_K_M", matrix, tmp_path / form))
        assert differences(ours, theirs) == []


def test_a_matrix_of_another_model_is_refused(outputs, matrices, tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(matrices["gguf"].read_bytes().replace(b"blk.", b"bkl."))
    done = run_phiq("quantize", DATA / outputs.model, "--type", "Q4_0", "--imatrix", broken, "-o", tmp_path / "out.gguf")
    assert done.returncode == 3
    assert "has none of the model's weights; its first entry is 'bkl.0.attn_output.weight'" in done.stderr
