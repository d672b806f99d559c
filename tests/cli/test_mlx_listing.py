"""MLX folders are made up as mlx-lm makes them: the same tensors, types, shapes, index and config.json.

The listings are mlx_lm.convert's (tests/data/golden/mlx). Where we differ on purpose, this file says
so; values are compared in tests/peers/mlx, where mlx is at hand.
"""
import json

import pytest

import mlx_folder
from harness import DATA, RECORD, run

MODELS = ("phi35-tiny", "phi4mini-tiny")
RECIPES = {"mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6"}
FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
LISTINGS = {name: json.loads((DATA / "golden" / "mlx" / "listing" / f"{name}.json").read_text()) for name in MODELS}
BUILDS = list(LISTINGS[MODELS[0]])

# mlx-lm loads the tokenizer and saves it anew, which moves the template into a file and drops what
# tokenizer.json has too. We copy the checkpoint's files as they are.
ONLY_THEIRS = {"chat_template.jinja"}
ONLY_OURS = {"phi35-tiny": {"special_tokens_map.json", "added_tokens.json", "tokenizer.model"},
             "phi4mini-tiny": {"special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt"}}


@pytest.fixture(scope="module", params=[(name, build) for name in MODELS for build in BUILDS], ids="-".join)
def both(request, tmp_path_factory):
    """Checkpoint's name, build, our folder and mlx-lm's listing."""
    name, build = request.param
    out = tmp_path_factory.mktemp("mlx") / "out"
    run(["quantize", DATA / name, "--format", "mlx", *mlx_folder.options_of(build), "-o", out, "--no-fsync"]).ok()
    return name, build, out, LISTINGS[name][build]


def test_the_listing_has_every_kind_of_build():
    kinds = {build.partition("-g")[0] for build in BUILDS}
    assert kinds == {*(f"{bits}bit" for bits in (2, 3, 4, 5, 6, 8)), "mxfp4", "mxfp8", "nvfp4", *RECIPES, *FLOATS}
    assert LISTINGS[MODELS[1]].keys() == set(BUILDS)


def test_files(both):
    name, _, out, theirs = both
    files = {path.name for path in out.iterdir()}
    assert files == set(theirs["files"]) - ONLY_THEIRS | ONLY_OURS[name] | {RECORD}
    for copied in {"generation_config.json", "tokenizer.json", "tokenizer_config.json"} | ONLY_OURS[name]:
        assert (out / copied).read_bytes() == (DATA / name / copied).read_bytes(), copied


def test_tensors(both):
    _, _, out, theirs = both
    assert mlx_folder.by_layers(mlx_folder.tensors_of(out)) == theirs["tensors"]


def test_metadata(both):
    _, _, out, theirs = both
    metadata = mlx_folder.metadata_of(out)
    assert metadata.items() >= theirs["safetensors_metadata"].items()
    # What we say besides is under our own name.
    assert all(key.startswith("phiq.") for key in metadata.keys() - theirs["safetensors_metadata"].keys())


def test_index(both):
    _, _, out, theirs = both
    text = (out / "model.safetensors.index.json").read_text()
    weight_map = dict.fromkeys(mlx_folder.tensors_of(out), "model.safetensors")
    assert text == mlx_folder.index_text(theirs["index_metadata"], weight_map)


def test_config(both):
    name, build, out, theirs = both
    changes = dict(theirs["config_changes"])
    if build in RECIPES:
        changes["quantization"] = {path: with_group_size(entry) for path, entry in changes["quantization"].items()}
    if build in FLOATS:
        # The type that the weights have now: mlx-lm leaves the checkpoint's.
        changes["torch_dtype"] = FLOATS[build]
    source = json.loads((DATA / name / "config.json").read_text())
    assert (out / "config.json").read_text() == mlx_folder.config_text(source, changes)


def with_group_size(entry):
    """A recipe's entry has the group size of the command line, null where that has none: MLX takes
    null for 64, but other readers need a number."""
    if not isinstance(entry, dict):
        return entry
    assert entry["group_size"] is None
    return {**entry, "group_size": 64}
