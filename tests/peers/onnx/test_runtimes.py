"""Folders run in the onnxruntime they name, older ones included; a sliding window, shared embeddings
and quantized activations work in the runtime as they should."""
import os
import pathlib
import subprocess
import sys

import numpy as np
import onnx
import pytest

import genai
import safetensors_file
from outputs import DYNAMIC, OPTIONS, SHARED_HEAD_OF_8_BITS
from program import CACHE, DATA
from quality import divergence
from runtime import Session, without_saturation

OLDER = {"1.20": "1.20.1", "1.22": "1.22.1", "1.24": "1.24.1"}
N_TOKENS = 256


def logits_in(version, folder, ids, scratch):
    """The logits that an older onnxruntime computes; the test fails if it refuses the folder."""
    home = CACHE / "onnx" / f"onnxruntime-{version}"
    assert home.is_dir(), "tools/setup test installs it"
    np.save(scratch / "ids.npy", np.array(ids))
    done = subprocess.run([sys.executable, pathlib.Path(__file__).parent / "old_runtime.py", folder,
                           scratch / "ids.npy", scratch / "logits.npy"],
                          env={**os.environ, "PYTHONPATH": str(home)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == [version]
    return np.load(scratch / "logits.npy")


def assert_same_logits(ours, theirs, file_type, float_activations):
    """Two versions of onnxruntime on one folder."""
    if float_activations:
        # By the order of sums, as in test_reference.py; FP16 rounds between nodes besides.
        assert np.abs(ours - theirs).max() < (0.06 if file_type == "fp16" else 2e-4)
    else:
        # A last bit makes an int8 activation flip, and what comes after differs. Up to 3e-4 was seen,
        # where int8 itself costs 4e-4 and int4 0.03.
        assert divergence(ours, theirs).mean() < 1e-3


FLOAT_ACTIVATIONS = ("--accuracy-level", "1")


@pytest.mark.parametrize("file_type, version, options", [
    ("fp32", "1.20", ()), ("fp16", "1.20", ()), ("int4", "1.20", FLOAT_ACTIVATIONS), ("int8", "1.22", ()),
    ("int4", "1.22", FLOAT_ACTIVATIONS), ("int4", "1.24", FLOAT_ACTIVATIONS), ("int8", "1.24", FLOAT_ACTIVATIONS),
    ("int4", "1.24", (*FLOAT_ACTIVATIONS, "--tensor-type", "embed_tokens=int4")),
])
def test_min_onnxruntime_is_enough(outputs, heldout_ids, tmp_path, file_type, version, options):
    folder = outputs.of("--type", file_type, "--min-onnxruntime", version, *options)
    assert needed(folder) <= version
    ids = heldout_ids[:N_TOKENS]
    assert_same_logits(Session(folder).logits(ids), logits_in(OLDER[version], folder, ids, tmp_path), file_type,
                       float_activations=file_type in ("fp32", "fp16") or options)


def needed(folder):
    """The oldest onnxruntime that runs the folder, as its metadata says."""
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    return {entry.key: entry.value for entry in model.metadata_props}["phiq.min_onnxruntime"]


# options: (version needed by an untied model, by a tied one)
NEEDED = {
    ("--type", "fp32"): ("1.20", "1.20"),
    ("--type", "fp16"): ("1.20", "1.20"),
    ("--type", "int8"): ("1.22", "1.22"),  # MatMulNBits with 8 bits
    ("--type", "int4"): ("1.20", "1.24"),  # the tied embedding is a UINT8 tensor
    ("--type", "k_quant_mixed"): ("1.22", "1.24"),
    # 1.22 has 8 bits for int8 activations only.
    ("--type", "int8", *FLOAT_ACTIVATIONS): ("1.24", "1.24"),
    DYNAMIC: ("1.20", "1.20"),
}


@pytest.mark.parametrize("options", NEEDED, ids=" ".join)
def test_the_metadata_name_a_version_that_runs_the_folder(outputs, heldout_ids, tied, tmp_path, options):
    folder = outputs.of(*options)
    assert needed(folder) == NEEDED[options][tied]
    ids = heldout_ids[:N_TOKENS]
    theirs = logits_in(OLDER[needed(folder)], folder, ids, tmp_path)
    assert_same_logits(Session(folder).logits(ids), theirs, options[1],
                       float_activations=options[1] in ("fp32", "fp16") or options[2:] == FLOAT_ACTIVATIONS)


def test_eight_bit_weights_are_refused_for_1_20(outputs):
    code, message = outputs.refusal("--type", "int8", "--min-onnxruntime", "1.20")
    assert code == 6, message
    assert "1.22" in message and "1.20" in message


def test_an_older_runtime_refuses_what_it_lacks(outputs, heldout_ids, tied, tmp_path):
    """So the versions in the metadata are not merely cautious, and the old runtime is really run."""
    file_type, version, message = ("int4", "1.22.1", "GatherBlockQuantized") if tied else \
        ("int8", "1.20.1", "Only 4b quantization is supported")
    with pytest.raises(AssertionError, match=message):
        logits_in(version, outputs.of("--type", file_type), heldout_ids[:8], tmp_path)


# --- tied embeddings -------------------------------------------------------------------------

def embedding_tensors(folder):
    """{name: data type} of the initializers whose first dimension is the vocabulary's."""
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    return {tensor.name: tensor.data_type for tensor in model.graph.initializer if 2112 in tensor.dims}


def test_a_tied_head_of_8_bits_is_shared_when_asked(outputs, heldout_ids, tied, reference):
    if not tied:
        return
    folder = outputs.of(*SHARED_HEAD_OF_8_BITS)
    assert embedding_tensors(folder) == {"lm_head.MatMul.weight_Q8": onnx.TensorProto.UINT8,
                                         "lm_head.MatMul.weight_scales": onnx.TensorProto.FLOAT}
    # Without the rule the embedding stays float, as the builder leaves it.
    assert "model.embed_tokens.weight" in embedding_tensors(outputs.of("--type", "int8"))
    shared, plain = Session(folder), Session(outputs.of("--type", "int8"))
    ids = heldout_ids[:N_TOKENS]
    assert divergence(plain.logits(ids), shared.logits(ids)).mean() < 1e-3  # 1e-4 was seen
    case = reference["greedy"][0]
    assert len(genai.Model(folder).complete(case["prompt_ids"], 8)) == 8


def test_an_unshared_embedding_of_4_bits_is_nearly_the_shared_one(outputs, heldout_ids, tied):
    """It rounds half to even where the head's quantizer rounds away from zero: a few codes differ."""
    if not tied:
        return
    shared = outputs.of("--type", "int4")
    unshared = outputs.of("--type", "int4", "--min-onnxruntime", "1.20")
    assert "model.embed_tokens.weight_Q4" in embedding_tensors(unshared)
    assert "model.embed_tokens.weight_Q4" not in embedding_tensors(shared)
    ids = heldout_ids[:N_TOKENS]
    assert divergence(Session(shared).logits(ids), Session(unshared).logits(ids)).mean() < 1e-3


@pytest.mark.parametrize("build", ["int4-asym", "int4-asym-bs64", "int4-last-int8"])
def test_what_the_builder_gets_wrong_for_tied_models_runs(outputs, heldout_ids, fp32, build):
    ids = heldout_ids[:N_TOKENS]
    logits = Session(outputs.of(*OPTIONS[build])).logits(ids)
    assert divergence(fp32.logits(ids), logits).mean() < 0.1  # 4 bits cost 0.02 to 0.08


# --- activations -----------------------------------------------------------------------------

def test_dynamic_activations_are_plain_onnx(outputs):
    folder = outputs.of(*DYNAMIC)
    nodes = onnx.load(folder / "model.onnx", load_external_data=False).graph.node
    ours = {(node.domain, node.op_type) for node in nodes if "MatMul" in node.op_type or "Quantize" in node.op_type}
    assert ours == {("", "MatMulInteger"), ("", "DynamicQuantizeLinear")}


@without_saturation
def test_dynamic_activations_run_in_genai(outputs, reference):
    # One range for a whole tensor: logits of a step and of a longer pass differ by up to 1.
    assert_text_is_the_models(outputs.of(*DYNAMIC), reference, 2.0)


def assert_text_is_the_models(folder, reference, margin):
    """Of each token that genai writes, the logit in one pass of onnxruntime is the best, or no more
    than `margin` below: twice what the logits of single steps and of one pass differ by."""
    for case in reference["greedy"]:
        ids = [*case["prompt_ids"], *genai.Model(folder).complete(case["prompt_ids"], len(case["ids"]))]
        assert len(ids) == len(case["prompt_ids"]) + len(case["ids"])
        logits = Session(folder).logits(ids)[len(case["prompt_ids"]) - 1:-1]
        chosen = np.take_along_axis(logits, np.array(ids[len(case["prompt_ids"]):])[:, None], axis=-1)[:, 0]
        assert (logits.max(axis=-1) - chosen).max() < margin, case["prompt"][:60]


@pytest.mark.parametrize("file_type", ["int8", "int4", "k_quant_mixed"])
def test_quantized_folders_write_text_in_genai(outputs, reference, file_type):
    # Activations in int8: a code that flips moves logits by up to 0.2.
    assert_text_is_the_models(outputs.of("--type", file_type), reference, 0.4)


# --- the sliding window ----------------------------------------------------------------------

@pytest.fixture(scope="session")
def window_logits():
    return safetensors_file.read(DATA / "golden" / "onnx" / "window.safetensors")


@pytest.mark.parametrize("window, agrees", [(100, True), (99, False), (101, False)])
def test_a_sliding_window_is_hugging_faces_to_the_token(outputs, model, window_logits, window, agrees):
    if model != "phi35-tiny":
        return  # the logits are that model's
    session = Session(outputs.with_config(("--type", "fp32"), sliding_window=window))
    for case in ("short", "long"):
        logits = session.logits(window_logits[f"{case}.ids"])[window_logits[f"{case}.positions"]]
        difference = np.abs(logits - window_logits[f"{case}.logits"]).max()
        # As in test_reference.py; the wrong windows are off by more than 0.1.
        assert difference < 5e-4 if agrees else difference > 0.1, case


def test_a_sliding_window_runs_in_genai(outputs, model, window_logits):
    """The builder's own folder does not: its genai_config.json says more than the runtime bears."""
    if model != "phi35-tiny":
        return
    folder = outputs.with_config(("--type", "fp32"), sliding_window=100)
    ids = window_logits["short.ids"].tolist()
    new = genai.Model(folder).complete(ids, 16)
    logits = Session(folder).logits([*ids, *new])
    assert logits[len(ids) - 1:-1].argmax(axis=-1).tolist() == new
