"""Decodes the tensors of a folder by the rules of its format (docs/formats/torch.md), one element at a time."""
import json

import numpy as np
import safetensors.torch
import torch

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def bits_of_words(words, bits):
    """Each word as its numbers, the lowest bits first: [..., 32 / bits]."""
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    return (words.numpy().view(np.uint32)[..., None] >> shifts) & ((1 << bits) - 1)


def along_rows(words, bits):
    """[a, b] words, numbers along b -> [a, b * 32 / bits]."""
    numbers = bits_of_words(words, bits)
    return numbers.reshape(len(words), -1).astype(np.float32)


def along_columns(words, bits, order=None):
    """[a, b] words, numbers along a -> [a * 32 / bits, b]; `order`: which of them a place in a word is."""
    numbers = bits_of_words(words, bits)  # [a, b, n]
    if order is not None:
        placed = np.empty_like(numbers)
        placed[..., list(order)] = numbers
        numbers = placed
    return numbers.transpose(0, 2, 1).reshape(-1, words.shape[1]).astype(np.float32)


def spread(values, n):
    """A value for each group of a row -> one for each column."""
    return np.repeat(values, n // values.shape[1], axis=1)


def scales_of(tensor):
    return tensor.to(torch.float32).numpy()


def decode(folder):
    """{name: float32 tensor} of every weight."""
    quantization = json.loads((folder / "config.json").read_text())["quantization_config"]
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    method = quantization["quant_method"]
    modules = sorted({name.rsplit(".", 1)[0] for name in tensors})
    return {f"{module}.weight": torch.from_numpy(np.ascontiguousarray(
        _decode_module({name[len(module) + 1:]: tensor for name, tensor in tensors.items()
                        if name.startswith(f"{module}.") and "." not in name[len(module) + 1:]}, method, quantization)))
        for module in modules}


def _decode_module(parts, method, quantization):
    if parts.keys() == {"weight"}:
        return scales_of(parts["weight"])
    if method == "compressed-tensors":
        scale = scales_of(parts["weight_scale"])
        if "weight" in parts:
            assert parts["weight"].dtype == torch.int8
            codes = parts["weight"].numpy().astype(np.float32)
            return codes * spread(scale, codes.shape[1])
        n, k = parts["weight_shape"].tolist()
        bits = parts["weight_packed"].shape[1] * 32 // k
        codes = along_rows(parts["weight_packed"], bits)
        zero = np.full_like(scale, 2 ** (bits - 1))
        if "weight_zero_point" in parts:
            zero = along_columns(parts["weight_zero_point"], bits)
        assert codes.shape == (n, k)
        return (codes - spread(zero, k)) * spread(scale, k)
    bits, scale = quantization["bits"], scales_of(parts["scales"])  # [groups, rows]
    if method == "gptq":
        codes = along_columns(parts["qweight"], bits)  # [k, rows]
        zero = along_rows(parts["qzeros"], bits) + 1
        group = parts["g_idx"].numpy()
    else:
        codes = along_columns(parts["qweight"].T.contiguous(), bits, AWQ_ORDER).T
        zero = along_columns(parts["qzeros"].T.contiguous(), bits, AWQ_ORDER).T
        group = np.arange(len(codes)) * len(scale) // len(codes)
    return ((codes - zero[group]) * scale[group]).T
