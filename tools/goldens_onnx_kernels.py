#!/usr/bin/env python3
"""Lists what onnxruntime's own weight quantizers store for rows of many kinds.

Builds one-node models around a few small matrices, hands them to onnxruntime's MatMulNBitsQuantizer
and writes the initializers it leaves: the reference of tests/kernels/onnx_golden_test.cpp.

Needs a Python with onnxruntime and onnx:
  python3 -m venv VENV
  VENV/bin/pip install onnxruntime==1.31.1 onnx==1.23.2 onnx-ir==1.1.0 sympy

  VENV/bin/python tools/goldens_onnx_kernels.py --out DIR     (writes DIR/onnx/kernels.bin)

The file, in little-endian u32 and raw bytes:
  n_matrices, then for each: rows, K, rows * K floats (row by row)
  n_cases, then for each: matrix, method (0 default, 1 rtn, 2 k_quant, 3 gather), bits, symmetric,
    group_size, is_half, then three arrays (codes, scales, zero points), each its size in bytes and its
    bytes; zero points are empty where onnxruntime stores none
"""

import argparse
import contextlib
import io
import logging
import pathlib
import struct
import warnings

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import matmul_nbits_quantizer as nbits

METHODS = ["default", "rtn", "k_quant", "gather"]
GROUP_SIZES = [16, 32, 64, 128, 256]


def rows_of(rng, k):
    """One row of each kind, float32."""
    normal = rng.standard_normal
    rows = {
        "trained size": 0.02 * normal(k),
        "large": 50.0 * normal(k),
        "one outlier": np.where(np.arange(k) == k // 3, 3.0, 0.02 * normal(k)),
        "positive": 0.02 * np.abs(normal(k)) + 0.01,
        "negative": -0.02 * np.abs(normal(k)) - 0.01,
        # Zero and constant blocks of 16 between others.
        "zeros": np.where(np.arange(k) // 16 % 3 == 1, 0.0, normal(k)),
        # Each sign of zero alone in its blocks: the scale shows it.
        "minus zeros": np.where(np.arange(k) < k // 2, -0.0, 0.0),
        "constant": np.where(np.arange(k) // 16 % 4 == 2, 0.3, 0.7),
        # Each extreme with its negative, in both orders, and many half-way codes.
        "ties": np.resize([1.0, -1.0, 0.5, 0.25, -0.25, 0.1875, 0.0625, -0.0625,
                           -1.0, 0.75, 1.0, -0.5, 0.4375, -0.4375, 0.0, 0.3125], k),
        # Multiples of 1/15 and 1/8 of a step: half-way cases of the asymmetric grids.
        "grid": rng.integers(-15, 31, k) / 30.0,
        # Subnormal halves, and halves whose scale is subnormal.
        "tiny": 3e-6 * normal(k),
        "smallest": np.where(np.arange(k) % 5 == 0, 0.0, 2e-7 * normal(k)),
        "bfloat16": (np.asarray(0.05 * normal(k), np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32),
    }
    return np.stack([np.asarray(row, np.float32) for row in rows.values()])


def subnormal_rows(rng, k):
    """Subnormal and nearly subnormal floats, where reciprocals of scales overflow or nearly do."""
    return np.stack([np.asarray(scale * rng.standard_normal(k), np.float32)
                     for scale in (1e-36, 3e-38, 1e-39, 1e-42)])


def initializers_of(method, bits, symmetric, group_size, weights):
    """{"codes", "scales", "zero_points"}: what the quantized model holds for weights [rows, K]."""
    rows, k = weights.shape
    dtype = helper.np_dtype_to_tensor_dtype(weights.dtype)
    if method == "gather":
        node = helper.make_node("Gather", ["weight", "ids"], ["y"], name="node")
        inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, [1])]
        weight = numpy_helper.from_array(weights, "weight")
    else:
        node = helper.make_node("MatMul", ["x", "weight"], ["y"], name="node")
        inputs = [helper.make_tensor_value_info("x", dtype, [1, k])]
        weight = numpy_helper.from_array(np.ascontiguousarray(weights.T), "weight")
    output = helper.make_tensor_value_info("y", dtype, None)
    graph = helper.make_graph([node], "graph", inputs, [output], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    if method in ("default", "gather"):
        config = nbits.DefaultWeightOnlyQuantConfig(
            block_size=group_size, is_symmetric=symmetric, bits=bits,
            op_types_to_quantize=("Gather",) if method == "gather" else ("MatMul",))
    else:
        kind = nbits.RTNWeightOnlyQuantConfig if method == "rtn" else nbits.KQuantWeightOnlyQuantConfig
        config = kind(customized_weight_config={"node": {"bits": bits}})
    quantizer = nbits.MatMulNBitsQuantizer(model, bits=bits, block_size=group_size,
                                           is_symmetric=symmetric, algo_config=config)
    with contextlib.redirect_stdout(io.StringIO()):  # a progress bar for each matrix
        quantizer.process()
    found = {"codes": b"", "scales": b"", "zero_points": b""}
    for tensor in quantizer.model.model.graph.initializer:
        if tensor.name == "weight":
            continue
        suffix = tensor.name.removeprefix("weight_")
        kind = ("codes" if suffix.startswith("Q") else
                {"scales": "scales", "scale": "scales", "zero_points": "zero_points", "zp": "zero_points"}[suffix])
        found[kind] = tensor.raw_data
    if not found["codes"]:
        raise SystemExit(f"{method}: the weight was not quantized")
    return found


def stored_of(method, bits, symmetric, group_size, weights):
    """The arrays that initializers_of finds. Row by row for rtn and k_quant, which pack the zero points of
    all rows as one run of nibbles and fail when a row has an odd number of them."""
    if method in ("default", "gather"):
        return initializers_of(method, bits, symmetric, group_size, weights)
    rows = [initializers_of(method, bits, symmetric, group_size, weights[i:i + 1]) for i in range(len(weights))]
    return {kind: b"".join(row[kind] for row in rows) for kind in rows[0]}


def cases_of(names):
    """(matrix, method, bits, symmetric, group_size, is_half)"""
    for matrix, name in enumerate(names):
        for method in METHODS:
            for bits in (4, 8) if method != "gather" else (4,):
                for symmetric in (True, False):
                    for group_size in GROUP_SIZES:
                        for is_half in (False, True):
                            if method == "gather" and (name == "short tail" or group_size == 256):
                                # GatherBlockQuantized wants whole blocks; its UINT4 zero points run
                                # across rows, which differs from phiq's when a row has an odd number.
                                continue
                            if name == "subnormal" and (is_half or group_size > 32):
                                continue
                            yield matrix, method, bits, symmetric, group_size, is_half


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore", RuntimeWarning)  # numpy divides by zero scales on purpose
    rng = np.random.Generator(np.random.PCG64(1))
    matrices = {"whole": rows_of(rng, 256), "short tail": rows_of(rng, 80),
                "subnormal": subnormal_rows(rng, 64)}
    out = bytearray(struct.pack("<I", len(matrices)))
    for matrix in matrices.values():
        out += struct.pack("<II", *matrix.shape) + matrix.tobytes()
    cases = list(cases_of(list(matrices)))
    out += struct.pack("<I", len(cases))
    for index, method, bits, symmetric, group_size, is_half in cases:
        weights = list(matrices.values())[index].astype(np.float16 if is_half else np.float32)
        out += struct.pack("<6I", index, METHODS.index(method), bits, symmetric, group_size, is_half)
        for array in stored_of(method, bits, symmetric, group_size, weights).values():
            out += struct.pack("<I", len(array)) + array
    path = options.out / "onnx" / "kernels.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out)


if __name__ == "__main__":
    main()
