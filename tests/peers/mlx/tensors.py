"""Tensors of MLX folders, compared to the bit."""
import mlx.core as mx
import numpy as np


def tensors_of(folder):
    return mx.load(str(folder / "model.safetensors"))


def bits_of(array):
    """An array's bytes as numpy can compare them: -0 is not 0."""
    return np.array(mx.view(array, {1: mx.uint8, 2: mx.uint16, 4: mx.uint32}[array.dtype.size]))


def differences(ours, theirs):
    """What differs in two sets of tensors."""
    found = [f"{name}: only in one" for name in sorted(ours.keys() ^ theirs.keys())]
    for name in sorted(ours.keys() & theirs.keys()):
        a, b = ours[name], theirs[name]
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            found.append(f"{name}: {a.dtype} {a.shape}, wanted {b.dtype} {b.shape}")
        elif (n := np.count_nonzero(bits_of(a) != bits_of(b))) != 0:
            found.append(f"{name}: {n} of {a.size} values differ")
    return found
