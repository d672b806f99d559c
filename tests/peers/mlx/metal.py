"""What MLX's Metal kernels compute, in numpy: affine_quantize and fp_quantize as the wheel of mlx 0.32.4
has their source (include/mlx/backend/metal/kernels: quantized.h, fp_quantized.h, fp4.h, fp8.h)."""
import mlx.core as mx
import numpy as np

ONE = np.float32(1)


def round_half_away(x):
    whole = np.trunc(x)
    return whole + np.where(np.abs(x - whole) >= 0.5, np.copysign(ONE, x), 0).astype(np.float32)


def affine(weights, group_size, bits):
    """float32 [rows, K] -> codes [rows, K], scales and biases [rows, K / group_size], float32."""
    groups = weights.reshape(len(weights), -1, group_size)
    n_bins = np.float32(2**bits - 1)
    low, high = groups.min(axis=-1), np.maximum(groups.max(axis=-1), 0)  # 0: also where all are negative
    scale = np.maximum((high - low) / n_bins, np.float32(1e-7))
    is_low = np.abs(low) > np.abs(high)
    scale, edge = np.where(is_low, scale, -scale), np.where(is_low, low, high)
    q0 = round_half_away(edge / scale)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale, bias = np.where(q0 == 0, scale, edge / q0), np.where(q0 == 0, np.float32(0), edge)
    codes = np.minimum(round_half_away((groups - bias[..., None]) / scale[..., None]), n_bins)
    return codes.reshape(weights.shape).astype(np.uint8), scale, bias


def small_floats(weights, mode):
    """float32 [rows, K] -> codes [rows, K], scales [rows, K / group_size], both as stored."""
    group_size, largest = {"mxfp4": (32, 6), "mxfp8": (32, 448), "nvfp4": (16, 6)}[mode]
    groups = weights.reshape(len(weights), -1, group_size)
    a = np.abs(groups).max(axis=-1) / np.float32(largest)
    if mode == "nvfp4":
        stored = np.array(mx.to_fp8(mx.array(a)))
        scale = np.array(mx.from_fp8(mx.array(stored), dtype=mx.float32))
    else:
        fraction, exponent = np.frexp(a)  # in [0.5, 1)
        n = np.where(a == 0, -127, np.clip(exponent - (fraction == 0.5), -127, 127))  # log2(a), rounded up
        stored, scale = (n + 127).astype(np.uint8), np.ldexp(ONE, n)
    with np.errstate(divide="ignore"):
        x = groups * np.where(scale == 0, np.float32(0), ONE / scale)[..., None]
    codes = np.array(mx.to_fp8(mx.array(x))) if mode == "mxfp8" else e2m1(x)
    return codes.reshape(weights.shape), stored


def e2m1(x):
    x, sign = np.abs(x), np.signbit(x)
    code = np.select([x > 5, x >= 3.5, x > 2.5, x >= 1.75, x > 1.25, x >= 0.75, x > 0.25], [7, 6, 5, 4, 3, 2, 1], 0)
    return (code + 8 * sign).astype(np.uint8)
