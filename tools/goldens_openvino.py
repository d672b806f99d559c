#!/usr/bin/env python3
"""Lists what NNCF's weight compression stores for the tiny checkpoints and for rows of many kinds.

  OUT/openvino/weights/MODEL.json   type, shape and digest of every constant, for each build of BUILDS
  OUT/openvino/ratios/MODEL.json    the matrices that become 4-bit, for each of RATIOS
  OUT/openvino/kernels.bin          codes, scales and zero points of a few small matrices

Each model is a chain of the checkpoint's matrices in the order of its layers, which is all that NNCF
looks at: embedding, then qkv, attention output, gate and up, down of each layer, then the head.

Needs a Python with nncf and openvino:
  python3 -m venv VENV
  VENV/bin/pip install nncf==3.4.0 openvino==2026.4.1 numpy==2.4.6

  VENV/bin/python tools/goldens_openvino.py --out DIR

tools/goldens does all that. kernels.bin, in little-endian u32 and raw bytes:
  n_matrices, then for each: rows, K, rows * K floats (row by row)
  n_cases, then for each: matrix, bits, symmetric, group_size (0: the row), then three arrays (codes,
    scales, zero points), each its size in bytes and its bytes; zero points are empty where there are none
"""

import argparse
import hashlib
import json
import pathlib
import struct
import tempfile
import xml.etree.ElementTree as ElementTree

import nncf
import numpy as np
import openvino as ov
from openvino import opset13 as ops

from goldens_json import write_json

ROOT = pathlib.Path(__file__).resolve().parent.parent

MODELS = ("phi35-tiny", "phi4mini-tiny")

# name: (mode, group size (-1: the row), ratio)
BUILDS = {
    "int8": ("int8_asym", -1, 1.0),
    "int8-sym": ("int8_sym", -1, 1.0),
    "int4": ("int4_sym", 128, 0.6),
    "int4-r1": ("int4_sym", 128, 1.0),
    "int4-g32": ("int4_sym", 32, 1.0),
    "int4-g64": ("int4_sym", 64, 1.0),
    "int4-g256": ("int4_sym", 256, 1.0),
    "int4-row": ("int4_sym", -1, 1.0),
    "int4-asym": ("int4_asym", 128, 0.6),
    "int4-asym-r1": ("int4_asym", 128, 1.0),
    "int4-asym-g64": ("int4_asym", 64, 1.0),
    "int4-asym-g256": ("int4_asym", 256, 1.0),  # one zero point a row in most: half a byte
    "int4-asym-row": ("int4_asym", -1, 1.0),
}
RATIOS = [0.01, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95, 0.99]


# --- models ----------------------------------------------------------------------------------

def chain_of(checkpoint):
    """An ov.Model of the checkpoint's matrices; weights as bfloat16 constants named as in the file."""
    config = json.loads((checkpoint / "config.json").read_text())
    data = (checkpoint / "model.safetensors").read_bytes()
    (header_size,) = struct.unpack_from("<Q", data)
    header, data = json.loads(data[8:8 + header_size]), data[8 + header_size:]
    constants = {}

    def weight(name):
        if name not in constants:
            entry = header[name]
            assert entry["dtype"] == "BF16"
            tensor = ov.Tensor(ov.Type.bf16, ov.Shape(entry["shape"]))
            tensor.data.view(np.uint8).reshape(-1)[:] = np.frombuffer(data[slice(*entry["data_offsets"])], np.uint8)
            constant = ops.constant(tensor)
            constant.set_friendly_name(name)
            constants[name] = ops.convert(constant, "f32")
        return constants[name]

    def product(x, name):
        return ops.matmul(x, weight(name), False, True)

    def first_columns(x, n):
        return ops.slice(x, [0], [n], [1], [-1])

    ids = ops.parameter([-1, -1], np.int64, name="ids")
    hidden = ops.gather(weight("model.embed_tokens.weight"), ids, 0)
    size, intermediate = config["hidden_size"], config["intermediate_size"]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        qkv = product(hidden, prefix + "self_attn.qkv_proj.weight")
        hidden = ops.add(hidden, product(first_columns(qkv, size), prefix + "self_attn.o_proj.weight"))
        gate_up = product(hidden, prefix + "mlp.gate_up_proj.weight")
        hidden = ops.add(hidden, product(first_columns(gate_up, intermediate), prefix + "mlp.down_proj.weight"))
    head = "model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"
    logits = product(hidden, head)
    return ov.Model([ops.result(logits)], [ids], "chain")


def one_product(weights):
    """An ov.Model of one matrix, float32 [rows, K]."""
    x = ops.parameter([-1, weights.shape[1]], np.float32, name="x")
    constant = ops.constant(weights)
    constant.set_friendly_name("weight")
    return ov.Model([ops.result(ops.matmul(x, constant, False, True))], [x], "product")


def compressed(model, mode, group_size, ratio, all_layers):
    """{constant's name: (type, shape, bytes)} after NNCF, as openvino writes the model."""
    mode = nncf.CompressWeightsMode(mode)
    options = {"group_size": group_size, "ratio": ratio, "all_layers": all_layers} if "int4" in mode.value else {}
    model = nncf.compress_weights(model, mode=mode, **options)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.xml"
        ov.serialize(model, path)
        data = path.with_suffix(".bin").read_bytes()
        layers = ElementTree.parse(path).getroot().find("layers")
    constants = {}
    for layer in layers:
        if layer.get("type") != "Const":
            continue
        attributes = layer.find("data")
        shape = [int(size) for size in attributes.get("shape").split(",") if size.strip()]
        offset, size = int(attributes.get("offset")), int(attributes.get("size"))
        constants[layer.get("name")] = attributes.get("element_type"), shape, data[offset:offset + size]
    return constants


def is_weight(name):
    return name.startswith(("model.", "lm_head."))


def list_model(name, checkpoint, out):
    weights = {}
    for build, (mode, group_size, ratio) in BUILDS.items():
        constants = compressed(chain_of(checkpoint), mode, group_size, ratio, False)
        weights[build] = {"mode": mode, "group_size": group_size, "ratio": ratio, "constants": {
            constant: {"type": kind, "shape": shape, "sha256": hashlib.sha256(raw).hexdigest()}
            for constant, (kind, shape, raw) in sorted(constants.items()) if is_weight(constant)}}
    write_json(out / "weights" / f"{name}.json", weights, 3)
    ratios = {}
    for ratio in RATIOS:
        constants = compressed(chain_of(checkpoint), "int4_sym", 128, ratio, False)
        ratios[ratio] = [constant for constant, (kind, _, _) in sorted(constants.items()) if kind == "i4"]
    write_json(out / "ratios" / f"{name}.json", ratios, 1)


# --- rows of many kinds ----------------------------------------------------------------------

def rows_of(rng, k):
    """One row of each kind, float32."""
    normal = rng.standard_normal
    rows = {
        "trained size": 0.02 * normal(k),
        "large": 50.0 * normal(k),
        "huge": 1e6 * normal(k),
        "beyond halves": 1e30 * normal(k),  # whose scale is Inf as a half
        "one outlier": np.where(np.arange(k) == k // 3, 3.0, 0.02 * normal(k)),
        "one negative outlier": np.where(np.arange(k) == k // 5, -3.0, 0.02 * normal(k)),
        "positive": 0.02 * np.abs(normal(k)) + 0.01,
        "negative": -0.02 * np.abs(normal(k)) - 0.01,
        "zeros": np.zeros(k),
        "minus zeros": np.where(np.arange(k) < k // 2, -0.0, 0.0),
        "zero groups": np.where(np.arange(k) // 32 % 3 == 1, 0.0, normal(k)),
        "constant groups": np.where(np.arange(k) // 32 % 4 == 2, 0.3, -0.7),
        # Each extreme with its negative, in both orders, and many half-way codes.
        "ties": np.resize([1.0, -1.0, 0.5, 0.25, -0.25, 0.1875, 0.0625, -0.0625,
                           -1.0, 0.75, 1.0, -0.5, 0.4375, -0.4375, 0.0, 0.3125], k),
        # Multiples of half a step of the asymmetric grid.
        "grid": rng.integers(-15, 31, k) / 30.0,
        # Scales near 2^-23, the smallest that NNCF has, which is a subnormal half.
        "tiny": 3e-6 * normal(k),
        "smallest": np.where(np.arange(k) % 5 == 0, 0.0, 2e-7 * normal(k)),
        "subnormal": 1e-39 * normal(k),
        "bfloat16": (np.asarray(0.05 * normal(k), np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32),
    }
    return np.stack([np.asarray(row, np.float32) for row in rows.values()])


def write_kernels(path):
    rng = np.random.Generator(np.random.PCG64(1))
    # NNCF computes matrices of 10000 weights and more by another way, through an OpenVINO model.
    matrices = [rows_of(rng, 256), rows_of(rng, 640), rows_of(rng, 45)]
    groups = [(0, 32, 64, 128, 256), (0, 32, 128), (0,)]
    out = bytearray(struct.pack("<I", len(matrices)))
    for matrix in matrices:
        out += struct.pack("<II", *matrix.shape) + matrix.tobytes()
    cases = [(index, bits, symmetric, group_size)
             for index in range(len(matrices)) for bits in (4, 8) for symmetric in (True, False)
             for group_size in (groups[index] if bits == 4 else (0,))]
    out += struct.pack("<I", len(cases))
    for index, bits, symmetric, group_size in cases:
        mode = f"int{bits}_{'sym' if symmetric else 'asym'}"
        constants = compressed(one_product(matrices[index]), mode, group_size or -1, 1.0, True)
        arrays = [constants.get(name, (None, None, b""))[2] for name in ("weight", "weight/scale", "weight/zero_point")]
        out += struct.pack("<4I", index, bits, symmetric, group_size)
        for array in arrays:
            out += struct.pack("<I", len(array)) + array
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, default=ROOT / "tests/data", help="where the checkpoints are")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    out = options.out / "openvino"
    write_kernels(out / "kernels.bin")
    for name in MODELS:
        list_model(name, options.data / name, out)


if __name__ == "__main__":
    main()
