"""The F32 and F16 files say what Hugging Face says: perplexity, greedy text, token ids.

Most faults of a file leave a short answer as it was, so perplexity is held at both context sizes
(256 uses the short rotary factors, 1024 the long ones), and each fault is shown to be caught.
"""
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

import gguf_file
import llama
from program import DATA, HELDOUT

# llama.cpp sums in another order than torch: they differ by 7e-6 at most (relative), the mildest
# fault below by 1.6e-4.
TOLERANCE = 5e-5


@pytest.fixture(scope="session")
def f32(outputs):
    return outputs.of_phiq("F32")


@pytest.mark.parametrize("n_context", [256, 1024])
def test_perplexity_is_hugging_faces(f32, reference, n_context):
    wanted = reference["perplexity"][str(n_context)]["second_half"]
    assert llama.perplexity(f32, HELDOUT, n_context) == pytest.approx(wanted, rel=TOLERANCE)


def test_metadata_is_the_converters(f32, model):
    assert gguf_file.listing(gguf_file.read(f32)) == wanted_metadata(model)


def wanted_metadata(model):
    """What convert_hf_to_gguf.py writes, but for two keys that tests/formats/gguf justifies."""
    golden = json.loads((DATA / "golden" / "gguf" / f"{model}.json").read_text())
    metadata = {key: [value_type, value] for key, value_type, value in golden["metadata"]}
    metadata["general.name"] = ["string", model]
    metadata["tokenizer.ggml.eot_token_id"] = ["uint32", {"phi35-tiny": 2055, "phi4mini-tiny": 2051}[model]]
    return metadata


# --- faults ----------------------------------------------------------------------------------

def remove_tensors(*names):
    def change(file):
        for name in names:
            del file.tensors[name]
    return change


def remove_key(key):
    def change(file):
        del file.metadata[key]
    return change


def set_key(key, value):
    return lambda file: file.set_scalar(key, value)


def exchange_rope_factors(file):
    short, long = file.tensors[SHORT], file.tensors[LONG]
    file.tensors[SHORT], file.tensors[LONG] = long, short


def exchange_gate_and_up(file):
    for name, tensor in file.tensors.items():
        if name.endswith(".ffn_up.weight"):
            half = len(tensor.data) // 2
            tensor.data = tensor.data[half:] + tensor.data[:half]


SHORT, LONG = "rope_factors_short.weight", "rope_factors_long.weight"

# name: (change of the file, contexts whose perplexity must differ)
FAULTS = {
    "both rope tensors missing": (remove_tensors(SHORT, LONG), {256, 1024}),
    "short rope tensor missing": (remove_tensors(SHORT), {256}),
    "rope tensors exchanged": (exchange_rope_factors, {256, 1024}),
    "attn_factor missing": (remove_key("phi3.rope.scaling.attn_factor"), {256, 1024}),
    "original context length missing": (remove_key("phi3.rope.scaling.original_context_length"), {1024}),
    "gate and up exchanged": (exchange_gate_and_up, {256, 1024}),
    # The mildest: at 256 it shows in phi35-tiny alone.
    "epsilon 1e-6": (set_key("phi3.attention.layer_norm_rms_epsilon", 1e-6), {1024}),
    "BOS added": (set_key("tokenizer.ggml.add_bos_token", True), {256, 1024}),
    "scores missing": (remove_key("tokenizer.ggml.scores"), {256, 1024}),
    # These two do not show in perplexity here; only the metadata tells.
    "freq_base missing": (remove_key("phi3.rope.freq_base"), set()),
    "token types missing": (remove_key("tokenizer.ggml.token_type"), set()),
}
FIRST_WINDOWS = {256: 16, 1024: 4}


@pytest.fixture(scope="session")
def first_perplexities(f32):
    return {n: llama.perplexity(f32, HELDOUT, n, chunks) for n, chunks in FIRST_WINDOWS.items()}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught(f32, model, first_perplexities, fault, tmp_path):
    file = gguf_file.read(f32)
    if fault == "scores missing" and "tokenizer.ggml.scores" not in file.metadata:
        return  # a byte-level tokenizer has none
    change, contexts = FAULTS[fault]
    change(file)
    path = file.write(tmp_path / "faulty.gguf")
    differing = {n for n, wanted in first_perplexities.items()
                 if llama.perplexity(path, HELDOUT, n, FIRST_WINDOWS[n]) != pytest.approx(wanted, rel=TOLERANCE)}
    assert differing >= contexts
    if not differing:
        assert gguf_file.listing(file) != wanted_metadata(model)


def test_a_file_written_back_unchanged_is_the_same(f32, tmp_path):
    """So it is the change that the tests above see, not the rewriting."""
    assert gguf_file.read(f32).write(tmp_path / "same.gguf").read_bytes() == f32.read_bytes()


# --- text ------------------------------------------------------------------------------------

@pytest.mark.parametrize("file_type", ["F32", "F16"])
def test_greedy_text_is_hugging_faces(outputs, reference, tmp_path, file_type):
    for case in reference["greedy"]:
        prompt = tmp_path / "prompt"
        prompt.write_text(case["prompt"])
        # The long prompt wants the long factors, which a context above 512 selects.
        n_context = 512 if len(case["prompt_ids"]) + len(case["ids"]) <= 512 else 1024
        text = llama.complete(outputs.of_phiq(file_type), prompt, len(case["ids"]), n_context)
        # llama-completion ends with two line ends of its own; Hugging Face's decoder drops the
        # first blank of a text.
        assert text.removesuffix("\n\n").removeprefix(" ") == case["text"].removeprefix(" "), case["prompt"][:60]


def test_tokenization_is_that_of_the_converters_file(f32, model):
    """Special tokens are recognised; the ids are llama-tokenize's with the converter's file."""
    cases = json.loads((DATA / "golden" / "tokenization" / f"{model}.json").read_text())
    assert len(cases) == 50
    with ThreadPoolExecutor(8) as pool:  # most of the time is spent asleep in linger.so
        ids = list(pool.map(lambda case: llama.tokenize(f32, case["text"]), cases))
    assert ids == [case["ids"] for case in cases]
