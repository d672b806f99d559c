"""llama.cpp's converter decodes the folders that the plan does not say it refuses: to the same floats, bit for bit."""
import json
import sys

import numpy as np
import pytest

import boxes
import llama_converter
from program import DATA, run_phiq
from outputs import BUILDS, Outputs, type_of

CONVERTER = f"{sys.prefix}/llama.cpp"  # tools/setup puts it into this Python's environment
WHO = "llama.cpp's converter"
# Searched codes stand as others do.
TRIED = [build for build in BUILDS if build != "W4A16-search"]
TAKEN = ["W4A16", "W4A16-g32", "W4A16-g64", "W4A16-asym", "W8A16", "W8A8", "W8A8-head", "W4A16-head", "GPTQ-Int4", "GPTQ-Int8"]

NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
PARTS = {"self_attn.qkv_proj": "attn_qkv", "self_attn.o_proj": "attn_output", "mlp.gate_up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


def gguf_name(name):
    module = name.removesuffix(".weight")
    if module in NAMES:
        return f"{NAMES[module]}.weight"
    _, _, layer, part = module.split(".", 3)
    return f"blk.{layer}.{PARTS[part]}.weight"


def of_model(model, builds):
    known = Outputs(model, None).builds("W4A16", "W8A16", "W8A8", "GPTQ-Int4", "GPTQ-Int8", "AWQ")
    return [build for build in builds if build in known]


@pytest.fixture(scope="module")
def said(outputs, model, tmp_path_factory):
    """What the converter said of each folder that it did not take, and where its files are."""
    out = tmp_path_factory.mktemp("converted")
    folders = {outputs.of(build): out / f"{build}.gguf" for build in of_model(model, TRIED)}
    said = llama_converter.convert(CONVERTER, model, folders)
    return {build: said[outputs.of(build)] for build in of_model(model, TRIED)}, out


def test_it_takes_the_folders_that_the_plan_does_not_warn_of(said, model):
    for build, refusal in said[0].items():
        plan = run_phiq("plan", DATA / model, "--format", "torch", "--type", type_of(build), *BUILDS[build], "--json")
        assert plan.returncode == 0, plan.stderr
        warned = any(decision["subject"] == WHO and decision["value"] == "no"
                     for decision in json.loads(plan.stdout)["decisions"])
        assert (refusal is not None) == warned == (build not in TAKEN), (build, refusal)


def test_its_floats_are_those_of_the_format(said, outputs, model):
    sys.path.insert(0, f"{CONVERTER}/gguf-py")
    from gguf import GGUFReader
    for build in of_model(model, TAKEN):
        read = {tensor.name: np.array(tensor.data) for tensor in GGUFReader(said[1] / f"{build}.gguf").tensors}
        wanted = {gguf_name(name): weight.numpy() for name, weight in boxes.decode(outputs.of(build)).items()}
        assert {name for name in read if not name.startswith("rope_factors")} == wanted.keys()
        for name, weight in wanted.items():
            assert read[name].dtype == np.float32 and np.array_equal(read[name], weight), (build, name)


def test_phiq_finds_no_difference(said, outputs, model):
    for build in ("W4A16", "GPTQ-Int4"):
        done = run_phiq("compare", outputs.of(build), said[1] / f"{build}.gguf", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["max_error"] == 0
