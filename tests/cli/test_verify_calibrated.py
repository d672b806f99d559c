"""`phiq verify` with the text or the matrix that codes were chosen by: it chooses them again and compares bytes."""
import json
import re

import pytest
from harness import DATA, refused, run

MODEL = DATA / "phi35-tiny"
FORMATS = {"gguf": "out.gguf", "onnx": "out", "openvino": "out", "mlx": "out", "litert": "out.tflite", "torch": "out"}
TOKENS = ["--calibration-ctx", "256", "--calibration-tokens", "1024"]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_bytes((DATA / "heldout.txt").read_bytes()[:30551])
    return path


def quantize(work, format, *options):
    out = work / FORMATS[format]
    run(["quantize", MODEL, "--format", format, "-o", out, *options], timeout=120).ok()
    return out


def verify(out, *options):
    return run(["verify", out, "--against", MODEL, *options, "--json"], timeout=120)


def record_of(out):
    """The file that holds the record, where it begins in it, and the record."""
    file = out / "phiq.json" if out.is_dir() else out
    content = file.read_bytes()
    begin = content.index(b'{"phiq":')
    end = begin + re.search(rb'"record":"[0-9a-f]{32}"\}\n', content[begin:]).end()
    return file, begin, json.loads(content[begin:end]), content[begin:end]


def forget_checksums(out):
    """As of an output that was never read again."""
    file, begin, _, text = record_of(out)
    blank = re.sub(rb'(?<=")[0-9a-f]{32}(?=")', b"0" * 32, text)
    content = file.read_bytes()
    file.write_bytes(content[:begin] + blank + content[begin + len(text):])


def change_a_code(out, tensor):
    """By one, the lowest bit of some codes' byte."""
    _, _, record, _ = record_of(out)
    file, offset, _, _ = tensor["arrays"][0]
    path = out / record["files"][file][0] if out.is_dir() else out
    content = bytearray(path.read_bytes())
    content[offset + 20] ^= 1  # behind the scales of a GGUF block
    path.write_bytes(content)


def calibrated(out, method):
    return [tensor for tensor in record_of(out)[2]["tensors"] if tensor["method"] == method]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("options, method, n_behind", [
    (["--method", "imatrix"], "imatrix", 0),
    (["--no-correction"], "feedback", 0),
    ([], "feedback", 1),  # behind a code that is not its own, a corrected output's cannot be judged
])
def test_a_code_that_no_bound_sees_is_seen_by_choosing_it_again(work, text, format, options, method, n_behind):
    inputs = ["--calibrate", text, *TOKENS]
    out = quantize(work, format, *inputs, *options)
    tensors = record_of(out)[2]["tensors"]
    whole = verify(out, *inputs).ok().json()
    assert whole["encoded_again"] == whole["checksums"] == len(tensors) and whole["notes"] == []
    without = verify(out).ok().json()
    chosen = [tensor for tensor in tensors if tensor["method"] in ("imatrix", "feedback")]
    assert chosen and without["encoded_again"] == len(tensors) - len(chosen)
    assert [note for note in without["notes"] if note.startswith(
        f"{len(chosen)} tensors have codes chosen by a calibration: they are held to their checksums and the bounds")]

    forget_checksums(out)
    tensor = next(tensor for tensor in calibrated(out, method) if "layers.2" in tensor["name"])
    change_a_code(out, tensor)
    blind = verify(out).ok().json()
    assert blind["checksums"] == 0 and blind["problems"] == []
    result = verify(out, *inputs)
    assert result.code == 1
    seen = result.json()
    assert len(seen["problems"]) == 1, seen["problems"]
    assert tensor["name"] in seen["problems"][0] and "its bytes are not those that" in seen["problems"][0]
    behind = [note for note in seen["notes"] if "make up for what codes before them lost" in note]
    assert len(behind) == n_behind
    if not behind:
        assert seen["encoded_again"] == len(tensors)
    else:
        assert seen["encoded_again"] + int(behind[0].split()[0]) == len(tensors)


@pytest.mark.parametrize("format", FORMATS)
def test_with_the_importance_matrix(work, text, format):
    matrix = work / "matrix.dat"
    run(["quantize", MODEL, "-o", work / "other.gguf", "--calibrate", text, *TOKENS, "--imatrix-out", matrix]).ok()
    out = quantize(work, format, "--imatrix", matrix)
    forget_checksums(out)
    n = len(record_of(out)[2]["tensors"])
    assert verify(out, "--imatrix", matrix).ok().json()["encoded_again"] == n
    change_a_code(out, calibrated(out, "imatrix")[0])
    verify(out).ok()
    result = verify(out, "--imatrix", matrix)
    assert result.code == 1 and len(result.json()["problems"]) == 1
    # The same values in the other form.
    content = bytearray(matrix.read_bytes())
    content[-40] ^= 1
    (work / "changed.dat").write_bytes(content)
    refused(run(["verify", out, "--against", MODEL, "--imatrix", work / "changed.dat"]), 2,
            "its codes were chosen by other values than those of changed.dat", "it names matrix.dat")


def test_a_text_that_the_model_writes_is_written_again(work):
    self = ["--calibrate", "self", "--calibration-ctx", "64", "--calibration-tokens", "1024"]
    out = quantize(work, "gguf", *self, "--shrink", "0.3")
    assert verify(out, *self).ok().json()["encoded_again"] == len(record_of(out)[2]["tensors"])


def test_token_ids_are_the_text_that_they_are_of(work, text):
    out = quantize(work, "onnx", "--calibrate", text, *TOKENS, "--calibration-out", work / "ids")
    found = verify(out, "--calibration-ids", work / "ids", *TOKENS).ok().json()
    assert found["encoded_again"] == len(record_of(out)[2]["tensors"])


def test_blocks_that_the_memory_made_are_those_of_the_file(work, text):
    """How wide moments are is what the file says, not what this limit would bear."""
    limit = ["--memory-limit", "80M"]
    out = quantize(work, "gguf", "--calibrate", text, *TOKENS, *limit)
    said = run(["inspect", out, "--json"]).ok().json()["metadata"]
    assert int(dict(map(tuple, said.items() if isinstance(said, dict) else said))["phiq.calibration_block"]) < 8192
    verify(out, "--calibrate", text, *TOKENS).ok()
    verify(out, "--calibrate", text, *TOKENS, *limit).ok()


@pytest.mark.parametrize("options, code, says", [
    (["--calibrate", "TEXT", "--calibration-ctx", "256"], 2,
     "its codes were chosen by other token ids: 4 windows of 256 tokens of text.txt"),
    (["--calibrate", "OTHER", *TOKENS], 2, "its codes were chosen by other token ids"),
    (["--calibration-tokens", "1024"], 2, "--calibration-tokens: needs a text"),
    (["--imatrix", "TEXT"], 2, "its codes were chosen by text of text.txt, not by an importance matrix"),
    (["--calibrate", "TEXT", *TOKENS, "--memory-limit", "20M"], 7, "--memory-limit 20.00 MiB: calibrating this model needs at least"),
    (["--calibrate", "missing"], 4, "missing"),
    (["--calibrate", ""], 2, "--calibrate: the name is empty"),
])
def test_other_inputs_are_refused_in_one_line(work, text, options, code, says):
    out = quantize(work, "gguf", "--calibrate", text, *TOKENS)
    (work / "other.txt").write_bytes((DATA / "heldout.txt").read_bytes()[40000:80000])
    options = [{"TEXT": text, "OTHER": work / "other.txt"}.get(option, option) for option in options]
    refused(run(["verify", out, "--against", MODEL, *options], cwd=work), code, says)


def test_what_no_text_has_chosen_is_refused_in_one_line(work, text):
    out = quantize(work, "gguf")
    refused(run(["verify", out, "--against", MODEL, "--calibrate", text]), 2,
            "no text and no importance matrix chose its codes")
    refused(run(["verify", out, "--calibrate", text]), 2, "makes codes of a checkpoint", "--against MODEL")
    out = quantize(work, "onnx", "--calibrate", text, *TOKENS)
    (out / "phiq.json").unlink()
    refused(run(["verify", out, "--against", MODEL, "--calibrate", text, *TOKENS]), 2,
            "has no record of which codes a calibration chose")


@pytest.mark.parametrize("value, name", [("1e9", "calibration_shrink"), ("nan", "calibration_shrink"), ("7", "calibration_block")])
def test_an_output_that_names_what_phiq_never_writes(work, text, value, name):
    out = quantize(work, "openvino", "--calibrate", text, *TOKENS)
    graph = out / "openvino_model.xml"
    changed, n = re.subn(rf'<{name} value="[^"]*"', f'<{name} value="{value}"', graph.read_text())
    assert n == 1
    graph.write_text(changed)
    refused(run(["verify", out, "--against", MODEL, "--calibrate", text, *TOKENS]), 3,
            f"its 'phiq.{name}' is '{value}', which phiq does not write")


def test_a_search_needs_no_text_to_be_made_again(work):
    out = quantize(work, "gguf", "--method", "search")
    found = verify(out).ok().json()
    assert found["encoded_again"] == len(found["tensors"]) and found["notes"] == []
