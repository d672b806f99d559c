#!/usr/bin/env python3
"""Lists the folders that mlx_lm.convert writes for the tiny checkpoints.

  OUT/mlx/listing/MODEL.json   for each build of BUILDS: file names, the type and shape of every
                               tensor, the index's totals, how config.json differs from the checkpoint's

Needs a Python with mlx-lm:
  python3 -m venv VENV
  VENV/bin/pip install --require-hashes -r tests/peers/mlx.txt

  VENV/bin/python tools/goldens_mlx.py --out DIR

tools/goldens does all that.
"""

import argparse
import contextlib
import io
import json
import pathlib
import sys
import tempfile

import mlx_lm

from goldens_json import write_json

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests/cli"))
import mlx_folder  # noqa: E402

MODELS = ("phi35-tiny", "phi4mini-tiny")

# The builds are named after phiq's types, with a group size where it is not the type's own.
WIDTHS = (2, 3, 4, 5, 6, 8)
MODES = ("mxfp4", "mxfp8", "nvfp4")
RECIPES = ("mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6")
FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
BUILDS = [*(f"{bits}bit" for bits in WIDTHS), "2bit-g128", "3bit-g32", "4bit-g32", "4bit-g128", "8bit-g32",
          *MODES, *RECIPES, "mixed_4_6-g32", *FLOATS]


def arguments_of(build):
    """mlx_lm.convert's arguments for a build."""
    kind, _, group_size = build.partition("-g")
    if kind in FLOATS:
        return {"dtype": FLOATS[kind]}
    arguments = {"quantize": True}
    if group_size:
        arguments["q_group_size"] = int(group_size)
    if kind in RECIPES:
        arguments["quant_predicate"] = kind
    elif kind in MODES:
        arguments["q_mode"] = kind
    else:
        arguments["q_bits"] = int(kind.removesuffix("bit"))
    return arguments


def convert(checkpoint, out, **arguments):
    """Runs mlx_lm.convert and returns the folder that it writes."""
    with contextlib.redirect_stdout(io.StringIO()):
        mlx_lm.convert(str(checkpoint), str(out), **arguments)
    return out


def listing_of(folder, source):
    """A folder that was made from a checkpoint with the config.json `source`."""
    config = json.loads((folder / "config.json").read_text())
    changes = {key: value for key, value in config.items() if key not in source or source[key] != value}
    if "quantization" in changes:
        assert changes.pop("quantization_config") == changes["quantization"]
    # What the listing leaves out can be made from it, to the byte.
    assert mlx_folder.config_text(source, changes) == (folder / "config.json").read_text()
    tensors = mlx_folder.tensors_of(folder)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    weight_map = dict.fromkeys(tensors, "model.safetensors")
    assert mlx_folder.index_text(index["metadata"], weight_map) == (folder / "model.safetensors.index.json").read_text()
    return {"files": sorted(path.name for path in folder.iterdir()),
            "safetensors_metadata": mlx_folder.metadata_of(folder), "index_metadata": index["metadata"],
            "config_changes": changes, "tensors": mlx_folder.by_layers(tensors)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, default=ROOT / "tests/data", help="where the checkpoints are")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    for name in MODELS:
        checkpoint = options.data / name
        source = json.loads((checkpoint / "config.json").read_text())
        listing = {}
        for build in BUILDS:
            with tempfile.TemporaryDirectory() as scratch:
                folder = convert(checkpoint, pathlib.Path(scratch) / build, **arguments_of(build))
                listing[build] = {"arguments": arguments_of(build), **listing_of(folder, source)}
        write_json(options.out / "mlx" / "listing" / f"{name}.json", listing, 3)


if __name__ == "__main__":
    main()
