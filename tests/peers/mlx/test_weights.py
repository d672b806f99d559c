"""Weights are mx.quantize's to the bit, and what phiq decodes is what MLX decodes."""
import functools
import json

import mlx.core as mx
import mlx.utils
import numpy as np
import pytest

import metal
from outputs import goldens_mlx
from program import DATA, run_phiq
from runtime import Session
from tensors import bits_of, differences, tensors_of

# Every matrix of both checkpoints has rows of 256 or 768, so every group size fits.
AFFINE = [(bits, group_size) for bits in goldens_mlx.WIDTHS for group_size in (32, 64, 128)]
MODES = goldens_mlx.MODES


def named(bits, group_size):
    return f"{bits}bit-g{group_size}"


@pytest.fixture(scope="session")
def checkpoint(model):
    return mx.load(str(DATA / model / "model.safetensors"))


def matrices_of(tensors):
    return {name.removesuffix(".weight"): weight for name, weight in tensors.items() if weight.ndim == 2}


@pytest.fixture(scope="session")
def matrices(checkpoint):
    found = matrices_of(checkpoint)
    assert {weight.shape[1] for weight in found.values()} == {256, 768}
    assert {weight.dtype for weight in found.values()} == {mx.bfloat16}
    return found


@pytest.fixture(scope="session")
def odd(checkpoints, checkpoint):
    """Makes a checkpoint of rows that trained weights do not have; gives it and its tensors."""
    @functools.cache
    def odd(largest=90):
        folder, rng = checkpoints.copy(), np.random.Generator(np.random.PCG64(1))
        tensors = {name: mx.array(odd_rows(rng, *weight.shape, largest)).astype(mx.bfloat16)
                   if weight.ndim == 2 else weight for name, weight in checkpoint.items()}
        mx.save_safetensors(str(folder / "model.safetensors"), tensors, metadata={"format": "pt"})
        return folder, tensors
    return odd


def odd_rows(rng, n_rows, k, largest):
    """The kinds in turn, half of them at sizes from 2^-90 to 2^largest."""
    def kinds(size):
        normal = size * rng.standard_normal(k)
        group = np.arange(k) // 32
        yield normal
        yield np.abs(normal) + size
        yield -np.abs(normal) - size  # Metal's affine kernel takes 0 for the largest
        yield np.where(np.arange(k) % 100 == 33, 150 * size, normal)
        yield np.where(np.arange(k) % 100 == 33, -150 * size, normal)
        yield np.where(group % 3 == 1, 0, normal)
        yield np.where(group % 3 == 1, size, -size)  # constant groups
        yield size * rng.integers(-16, 16, k) / 16  # ties between codes
        yield size * rng.integers(-3, 4, k)
    rows = []
    while len(rows) < n_rows:
        rows.extend(kinds(2.0 ** rng.integers(-16, 4)))
        rows.extend(kinds(2.0 ** rng.integers(-90, largest)))
    return np.stack(rows[:n_rows]).astype(np.float32)


# Of a number's power of two: nvfp4's scales end at 448, and phiq refuses weights that need more.
LARGEST = {"nvfp4": 4}


def quantized(checkpoint, **arguments):
    """The checkpoint's tensors as mx.quantize makes them."""
    found = {}
    for name, weight in checkpoint.items():
        if weight.ndim == 1:
            found[name] = weight
            continue
        parts = mx.quantize(weight, **arguments)
        found |= {f"{name.removesuffix('weight')}{part}": array
                  for part, array in zip(("weight", "scales", "biases"), parts)}
    return found


def codes_of(words, bits):
    """The codes of packed words: one stream of bits a row, the lowest first."""
    stream = np.unpackbits(np.array(words).view(np.uint8), axis=1, bitorder="little")
    return (stream.reshape(len(stream), -1, bits) @ (1 << np.arange(bits))).astype(np.uint8)


# --- as MLX's CPU back end -------------------------------------------------------------------

@pytest.mark.parametrize("bits, group_size", AFFINE)
def test_affine_is_mx_quantizes(outputs, checkpoint, bits, group_size):
    ours = tensors_of(outputs.of(named(bits, group_size)))
    assert differences(ours, quantized(checkpoint, bits=bits, group_size=group_size)) == []


@pytest.mark.parametrize("mode", MODES)
def test_small_floats_are_mx_quantizes(outputs, checkpoint, mode):
    assert differences(tensors_of(outputs.of(mode)), quantized(checkpoint, mode=mode)) == []


@pytest.mark.parametrize("kind, dtype", [("F32", mx.float32), ("F16", mx.float16), ("BF16", mx.bfloat16)])
def test_floats_are_cast_as_mlx_casts(outputs, checkpoint, kind, dtype):
    wanted = {name: weight.astype(dtype) for name, weight in checkpoint.items()}
    assert differences(tensors_of(outputs.of(kind)), wanted) == []


ODD = [(bits, 64) for bits in goldens_mlx.WIDTHS] + [(4, 32), (4, 128)]


@pytest.mark.parametrize("bits, group_size", ODD)
def test_affine_of_odd_rows_is_mx_quantizes(outputs, odd, bits, group_size):
    folder, tensors = odd()
    ours = tensors_of(outputs.of_checkpoint(folder, named(bits, group_size)))
    assert differences(ours, quantized(tensors, bits=bits, group_size=group_size)) == []


@pytest.mark.parametrize("mode", MODES)
def test_small_floats_of_odd_rows_are_mx_quantizes(outputs, odd, mode):
    folder, tensors = odd(LARGEST.get(mode, 90))
    assert differences(tensors_of(outputs.of_checkpoint(folder, mode)), quantized(tensors, mode=mode)) == []


def test_a_changed_bit_is_a_difference(outputs, checkpoint):
    ours = tensors_of(outputs.of("4bit-g64"))
    changed = bits_of(ours["model.norm.weight"])
    changed[7] ^= 1
    ours["model.norm.weight"] = mx.view(mx.array(changed), mx.bfloat16)
    del ours["model.layers.1.mlp.down_proj.biases"]
    assert differences(ours, quantized(checkpoint, bits=4, group_size=64)) == [
        "model.layers.1.mlp.down_proj.biases: only in one", "model.norm.weight: 1 of 256 values differ"]


# --- as its Metal kernels --------------------------------------------------------------------

# At most 0.50 % of the codes and 0.27 % of the groups differ between mx.quantize and metal.py on these
# checkpoints; documentation says so.
MOST_CODES, MOST_GROUPS = 0.008, 0.004


def as_metal(matrices, bits, group_size):
    """The tensors of matrices as Metal's affine kernel makes them, codes not packed."""
    found = {}
    for name, weight in matrices.items():
        codes, scales, biases = metal.affine(np.array(weight.astype(mx.float32)), group_size, bits)
        found |= {f"{name}.weight": mx.array(codes), f"{name}.scales": mx.array(scales).astype(mx.bfloat16),
                  f"{name}.biases": mx.array(biases).astype(mx.bfloat16)}
    return found


def as_metal_floats(matrices, mode):
    found = {}
    for name, weight in matrices.items():
        codes, scales = metal.small_floats(np.array(weight.astype(mx.float32)), mode)
        found |= {f"{name}.weight": mx.array(codes), f"{name}.scales": mx.array(scales)}
    return found


def unpacked(folder, bits):
    """The tensors of the folder's matrices, codes not packed."""
    tensors = tensors_of(folder)
    return {name: mx.array(codes_of(array, bits)) if array.dtype == mx.uint32 else array
            for name, array in tensors.items() if array.ndim == 2}


def bits_of_mode(mode):
    return 8 if mode == "mxfp8" else 4


@pytest.mark.parametrize("bits, group_size", AFFINE)
def test_affine_with_metals_rounding_is_metals(outputs, matrices, bits, group_size):
    ours = unpacked(outputs.of(named(bits, group_size), "metal"), bits)
    assert differences(ours, as_metal(matrices, bits, group_size)) == []


@pytest.mark.parametrize("mode", MODES)
def test_small_floats_with_metals_rounding_are_metals(outputs, matrices, mode):
    ours = unpacked(outputs.of(mode, "metal"), bits_of_mode(mode))
    assert differences(ours, as_metal_floats(matrices, mode)) == []


@pytest.mark.parametrize("bits, group_size", ODD)
def test_affine_of_odd_rows_with_metals_rounding_is_metals(outputs, odd, bits, group_size):
    folder, tensors = odd()
    ours = unpacked(outputs.of_checkpoint(folder, named(bits, group_size), "--mlx-rounding", "metal"), bits)
    assert differences(ours, as_metal(matrices_of(tensors), bits, group_size)) == []


@pytest.mark.parametrize("mode", MODES)
def test_small_floats_of_odd_rows_with_metals_rounding_are_metals(outputs, odd, mode):
    folder, tensors = odd(LARGEST.get(mode, 90))
    ours = unpacked(outputs.of_checkpoint(folder, mode, "--mlx-rounding", "metal"), bits_of_mode(mode))
    assert differences(ours, as_metal_floats(matrices_of(tensors), mode)) == []


@pytest.mark.parametrize("bits, group_size", AFFINE)
def test_metals_rounding_moves_few_affine_codes(outputs, matrices, bits, group_size):
    metals, cpu = (unpacked(outputs.of(named(bits, group_size), rounding), bits) for rounding in ("metal", "cpu"))
    moved, is_other_group = [], []
    for name in matrices:
        codes = [np.array(folder[f"{name}.weight"]).astype(np.int32) for folder in (metals, cpu)]
        moved.append(np.abs(codes[0] - codes[1]).reshape(-1, group_size))
        is_other_group.append(np.any([bits_of(metals[f"{name}.{part}"]) != bits_of(cpu[f"{name}.{part}"])
                                      for part in ("scales", "biases")], axis=0).reshape(-1))
    moved, is_other_group = np.concatenate(moved), np.concatenate(is_other_group)
    assert 0 < np.mean(moved != 0) < MOST_CODES
    assert np.mean(is_other_group) < MOST_GROUPS
    # A tie moves a code by one, and another scale by one more.
    assert moved[~is_other_group].max() == 1 and moved.max() <= 2


@pytest.mark.parametrize("mode", MODES)
def test_metals_rounding_moves_small_floats_but_those_of_8_bits(outputs, matrices, mode):
    """Only Metal has a code for -0, and it rounds ties of E2M1 otherwise; E4M3 has one rule in both."""
    metals, cpu = (unpacked(outputs.of(mode, rounding), bits_of_mode(mode)) for rounding in ("metal", "cpu"))
    is_same = [np.array_equal(metals[f"{name}.weight"], cpu[f"{name}.weight"]) for name in matrices]
    assert all(is_same) if mode == "mxfp8" else not any(is_same)


# --- decoding --------------------------------------------------------------------------------

@pytest.mark.parametrize("build", [*(f"{bits}bit" for bits in goldens_mlx.WIDTHS), "4bit-g32", "4bit-g128", *MODES,
                                   "mixed_3_6", "by-tensor"])
def test_compare_sees_the_weights_that_mlx_decodes(outputs, model, matrices, build):
    done = run_phiq("compare", DATA / model, outputs.of(build), "--json")
    assert done.returncode == 0, done.stderr
    report = {tensor["name"]: tensor for tensor in json.loads(done.stdout)["tensors"]}
    decoded = dict(mlx.utils.tree_flatten(Session(outputs.of(build)).model.parameters()))
    for name, weight in matrices.items():
        error = np.array(decoded[f"{name}.weight"], np.float64) - np.array(weight.astype(mx.float32), np.float64)
        figures = report[f"{name}.weight"]
        # The weights are the same float32 numbers; sums of them in double differ by their order.
        assert figures["max_error"] == np.abs(error).max(), name
        assert figures["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-12), name
