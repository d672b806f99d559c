"""--method reference stores what compressed-tensors' own functions make of the weights, to the bit.

llm-compressor's data-free recipes are these functions on the ends of each group: calculate_qparams, quantize,
and the packing of its compressor.
"""
import json

import numpy as np
import pytest
import safetensors.torch
import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import quantize as quantize_weights
from compressed_tensors.quantization.utils import calculate_qparams

from program import config_of, copy_checkpoint

# build: bits, group size (0: a row), symmetric
SCHEMES = {"W4A16": (4, 128, True), "W4A16-g32": (4, 32, True), "W4A16-row": (4, 0, True), "W4A16-asym": (4, 32, False),
           "W8A16": (8, 128, True), "W8A16-row": (8, 0, True), "W8A8": (8, 0, True)}
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def theirs(weight, bits, group_size, symmetric):
    """codes, scale, zero point"""
    args = QuantizationArgs(num_bits=bits, type="int", symmetric=symmetric,
                            strategy="group" if group_size else "channel", group_size=group_size or None)
    grouped = weight.unflatten(-1, (-1, group_size or weight.shape[1]))
    scale, zero = calculate_qparams(grouped.amin(-1), grouped.amax(-1), args)
    return quantize_weights(weight, scale, zero, args, dtype=torch.int8), scale, zero


def differences(weights, folder, build):
    bits, group_size, symmetric = SCHEMES[build]
    ours = safetensors.torch.load_file(folder / "model.safetensors")
    found = []
    for name, weight in weights.items():
        if "_proj" not in name:
            wanted = {name: weight}
        else:
            codes, scale, zero = theirs(weight, bits, group_size, symmetric)
            module = name.removesuffix(".weight")
            wanted = {f"{module}.weight_scale": scale}
            if build == "W8A8":
                wanted[f"{module}.weight"] = codes
            else:
                wanted[f"{module}.weight_packed"] = pack_to_int32(codes, bits)
                wanted[f"{module}.weight_shape"] = torch.tensor(weight.shape)
            if not symmetric:
                wanted[f"{module}.weight_zero_point"] = pack_to_int32(zero.to(torch.int8), bits, packed_dim=0)
        for key, tensor in wanted.items():
            mine = ours.pop(key)
            if mine.dtype != tensor.dtype or mine.shape != tensor.shape:
                found.append(f"{key}: {mine.dtype} {mine.shape}, wanted {tensor.dtype} {tensor.shape}")
            elif not torch.equal(mine, tensor):
                found.append(f"{key}: {(mine != tensor).sum()} of {tensor.numel()} values differ")
    return found + [f"{key}: not wanted" for key in ours]


@pytest.mark.parametrize("build", SCHEMES)
def test_tensors_are_compressed_tensors(outputs, source, build):
    assert differences(source, outputs.of(build), build) == []


@pytest.mark.parametrize("dtype", DTYPES)
def test_odd_weights_too(outputs, model, source, tmp_path, dtype):
    """In every type of weights: rows of one sign, of ties, of zeros, of outliers, of tiny numbers."""
    rng = np.random.Generator(np.random.PCG64(1))
    tensors = {}
    for name, weight in source.items():
        if "_proj" in name:
            weight = torch.from_numpy(odd_rows(rng, *weight.shape))
        tensors[name] = weight.to(DTYPES[dtype]).contiguous()
    folder = copy_checkpoint(model, tmp_path / "checkpoint", {**config_of(model), "torch_dtype": dtype})
    safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    for build in ("W4A16-g32", "W4A16-asym", "W8A16", "W8A8"):
        assert differences(tensors, outputs.of_checkpoint(folder, build), build) == [], build


def odd_rows(rng, n_rows, k):
    rows = []
    group = np.arange(k) // 32
    while len(rows) < n_rows:
        size = 2.0 ** rng.integers(-12, 4)
        normal = size * rng.standard_normal(k)
        rows += [normal, np.abs(normal), -np.abs(normal), np.where(np.arange(k) % 100 == 33, 150 * size, normal),
                 np.where(group % 3 == 1, 0, normal), np.where(group % 3 == 1, size, -size),
                 size * rng.integers(-16, 17, k) / 16, size * rng.integers(-3, 4, k), np.zeros(k), 2.0 ** -14 * normal]
    return np.stack(rows[:n_rows]).astype(np.float32)


@pytest.mark.parametrize("build", ["W4A16", "W8A8", "W4A16-mixed"])
def test_the_file_is_as_the_safetensors_library_writes_it(outputs, build, tmp_path):
    """Header, order and padding: sizes are those of other tools' files, to the byte."""
    path = outputs.of(build) / "model.safetensors"
    safetensors.torch.save_file(safetensors.torch.load_file(path), tmp_path / "model.safetensors", {"format": "pt"})
    assert path.read_bytes() == (tmp_path / "model.safetensors").read_bytes()


def test_config_is_taken_by_compressed_tensors_as_it_is(outputs):
    """Every key is one that it knows: its classes refuse others within a group."""
    from compressed_tensors.quantization import QuantizationConfig
    for build in outputs.builds("W4A16", "W8A16", "W8A8"):
        quantization = json.loads((outputs.of(build) / "config.json").read_text())["quantization_config"]
        quantization.pop("phiq")
        config = QuantizationConfig.model_validate(quantization)
        assert str(config.quantization_status.value) == "compressed"
