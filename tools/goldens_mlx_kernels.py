#!/usr/bin/env python3
"""Lists what MLX's own quantizer stores for rows of many kinds.

Hands small matrices to mx.quantize on the CPU, in float32, float16 and bfloat16, and writes what comes
back: the reference of tests/kernels/mlx_golden_test.cpp.

Needs a Python with mlx:
  python3 -m venv VENV
  VENV/bin/pip install mlx==0.32.4 mlx-cpu==0.32.4 numpy

  VENV/bin/python tools/goldens_mlx_kernels.py --out DIR     (writes DIR/mlx/kernels.bin)

The file, in little-endian u32 and raw bytes:
  n_matrices, then for each: rows, K, rows * K floats (row by row)
  n_cases, then for each: matrix, mode (0 affine, 1 mxfp4, 2 mxfp8, 3 nvfp4), bits, group_size, type (0
    float32, 1 float16, 2 bfloat16), then four arrays, each its size in bytes and its bytes: codes,
    scales, biases (empty but for affine) and the SHA-256, in hex, of the float32 weights that
    mx.dequantize makes of them
"""

import argparse
import hashlib
import os
import pathlib
import struct

# Fused operations do not round between their steps.
os.environ["MLX_DISABLE_COMPILE"] = "1"

import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402

MODES = ["affine", "mxfp4", "mxfp8", "nvfp4"]
TYPES = [mx.float32, mx.float16, mx.bfloat16]
K = 256


def signs(rng):
    return rng.choice([-1.0, 1.0], K)


def rows_of(rng):
    """Rows for every mode and type: within the halves, and nvfp4's scales do not reach 448."""
    normal = rng.standard_normal
    i = np.arange(K)
    rows = {
        "trained size": 0.02 * normal(K),
        "large": 50.0 * normal(K),
        "uniform": 0.1 * rng.random(K) - 0.05,
        "one outlier": np.where(i == K // 3, 3.0, 0.02 * normal(K)),
        "positive": 0.02 * np.abs(normal(K)) + 0.01,
        "negative": -0.02 * np.abs(normal(K)) - 0.01,
        "far from zero": 5.0 + 0.01 * normal(K),
        "far below zero": -5.0 + 0.01 * normal(K),
        "nearly constant": 0.3 * (1.0 + 1e-6 * normal(K)),
        # Zero and constant groups between others.
        "zeros": np.where(i // 16 % 3 == 1, 0.0, normal(K)),
        "minus zeros": np.where(i < K // 2, -0.0, 0.0),
        "constant": np.where(i // 16 % 4 == 2, 0.3, -0.7),
        "signs only": 0.125 * signs(rng),
        "one in a group": np.where(i % 32 == 5, 0.02 * normal(K), 0.0),
        # Half-way codes of the grids of all widths, of E2M1 and of E4M3; both ends equally large.
        "ties": (i * 7 % 32 - 16.0) / 16.0,
        "halves of steps": rng.integers(-15, 16, K) / 30.0,
        "E2M1 ties": np.where(i % 16 == 0, 6.0, signs(rng) * rng.integers(0, 25, K) / 4.0),
        "E4M3 ties": np.where(i % 32 == 0, 448.0, signs(rng) * rng.integers(0, 449, K)),
        # Groups whose largest is 6 or 448 times a power of two, or just beside.
        "edges": (np.repeat([6.0, 6.03125, 5.96875, 448.0, 450.0, 446.0, 3.0, 3.015625], 32) *
                  np.where(i % 16 == 3, -1.0, rng.random(K))),
        "powers of two": signs(rng) * 2.0 ** rng.integers(-20, 8, K),
        # Around the affine floor of 1e-7 for a step, and where E4M3 scales are subnormal or zero.
        "near the floor": np.repeat([4e-8, 6e-8, 1e-7, 2e-7, 5e-7, 1e-6, 3e-6, 3e-5], 32) * normal(K),
        "small scales": np.repeat([1e-4, 1e-3, 2e-3, 3e-3, 4e-3, 6e-3, 1e-2, 3e-2], 32) * normal(K),
        "smallest halves": np.where(i % 5 == 0, 0.0, 2e-7 * normal(K)),
    }
    return np.stack([np.asarray(row, np.float32) for row in rows.values()])


def wide_rows(rng):
    """Beyond the halves, for affine and mx modes. MLX's exponents wrap around below 2^-127."""
    rows = [scale * rng.standard_normal(K) for scale in (1e-30, 1e-12, 1e5, 1e10, 1e20, 1e30, 1e37)]
    rows += [np.full(K, 1e38), np.full(K, -3e31), signs(rng) * 2.0 ** rng.uniform(-110, 120, K)]
    rows += [1e30 * (1.0 + 1e-3 * rng.standard_normal(K))]
    return np.stack([np.asarray(row, np.float32) for row in rows])


def subnormal_rows(rng):
    return np.stack([np.asarray(scale * rng.standard_normal(K), np.float32) for scale in (1e-37, 1e-39, 1e-42)])


def encodings_of(matrix):
    """(mode, bits, group_size)"""
    for bits in (2, 3, 4, 5, 6, 8):
        for group_size in (32, 64, 128):
            yield 0, bits, group_size
    if matrix != "subnormal":
        yield 1, 4, 32
        yield 2, 8, 32
    if matrix == "common":
        yield 3, 4, 16


def bytes_of(array):
    if array.dtype not in (mx.uint8, mx.uint32):
        array = array.view(mx.uint8)  # numpy has no bfloat16
    return np.array(array).tobytes()


def stored_of(mode, bits, group_size, dtype, weights):
    """Codes, scales and biases, and the hash of what they decode to."""
    kind = {"group_size": group_size, "bits": bits, "mode": MODES[mode]}
    arrays = mx.quantize(mx.array(weights).astype(dtype), **kind)
    # Affine scales and biases decide what mx.dequantize computes in.
    floats = [array if mode else array.astype(mx.float32) for array in arrays[1:]]
    decoded = mx.dequantize(arrays[0], *floats, **kind, dtype=mx.float32)
    stored = [bytes_of(array) for array in arrays]
    stored += [b""] * (3 - len(stored))
    return stored + [hashlib.sha256(bytes_of(decoded)).hexdigest().encode()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    mx.set_default_device(mx.cpu)
    rng = np.random.Generator(np.random.PCG64(1))
    matrices = {"common": rows_of(rng), "wide": wide_rows(rng), "subnormal": subnormal_rows(rng)}
    out = bytearray(struct.pack("<I", len(matrices)))
    for matrix in matrices.values():
        out += struct.pack("<II", *matrix.shape) + matrix.tobytes()
    cases = [(index, *encoding, type_index)
             for index, name in enumerate(matrices)
             for encoding in encodings_of(name)
             for type_index in range(len(TYPES))
             if name != "wide" or TYPES[type_index] != mx.float16]
    out += struct.pack("<I", len(cases))
    for index, mode, bits, group_size, type_index in cases:
        weights = list(matrices.values())[index]
        out += struct.pack("<5I", index, mode, bits, group_size, type_index)
        for array in stored_of(mode, bits, group_size, TYPES[type_index], weights):
            out += struct.pack("<I", len(array)) + array
    path = options.out / "mlx" / "kernels.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out)


if __name__ == "__main__":
    main()
