"""Folders are those of an mlx_lm.convert that runs here: every value, and what config.json says.

tests/cli/test_mlx_listing.py has more builds, without their values.
"""
import json

import mlx.core as mx
import pytest

from program import run_phiq
from tensors import differences, tensors_of


def quantization_of(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["quantization_config"] == config["quantization"]
    return config["quantization"]


BUILDS = ["4bit", "mixed_3_6", "by-tensor", "nvfp4", "BF16"]


@pytest.mark.parametrize("build", BUILDS)
def test_values_are_mlx_lms(outputs, build):
    assert differences(tensors_of(outputs.of(build)), tensors_of(outputs.of_mlx_lm(build))) == []


@pytest.mark.parametrize("build", BUILDS)
def test_mlx_lms_folders_are_read(outputs, build):
    """Their tensors stand in any order and their data anywhere; a recipe's group sizes are null."""
    done = run_phiq("compare", outputs.of(build), outputs.of_mlx_lm(build), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["max_error"] == 0
    assert report["a"]["bits_per_weight"] == report["b"]["bits_per_weight"]
    assert all(tensor["type_a"] == tensor["type_b"] for tensor in report["tensors"])


def test_entries_of_tensors_with_a_type_of_their_own_are_mlx_lms(outputs):
    """mlx-lm writes such entries where a function given to it chooses. (Those of recipes:
    tests/cli/test_mlx_listing.py.)"""
    ours, theirs = quantization_of(outputs.of("by-tensor")), quantization_of(outputs.of_mlx_lm("by-tensor"))
    assert list(ours.items()) == list(theirs.items())
    # What has no codes needs no entry.
    assert sum(isinstance(entry, dict) for entry in ours.values()) == 5


@pytest.mark.parametrize("torch_dtype", ["float16", "float32", None])
@pytest.mark.parametrize("build", ["4bit", "mxfp4", "nvfp4"])
def test_weights_are_cast_to_torch_dtype_first(outputs, checkpoints, torch_dtype, build):
    """Scales, biases and norms have that type, and small floats are rounded in it."""
    checkpoint = checkpoints.with_changes(torch_dtype=torch_dtype)
    ours, theirs = outputs.of_checkpoint(checkpoint, build), outputs.of_mlx_lm_for(checkpoint, build)
    assert differences(tensors_of(ours), tensors_of(theirs)) == []
    norm = tensors_of(ours)["model.norm.weight"].dtype
    assert norm == {"float16": mx.float16, "float32": mx.float32, None: mx.bfloat16}[torch_dtype]
