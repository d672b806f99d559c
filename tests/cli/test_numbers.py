"""Weights that are not ordinary numbers: NaN, Inf, what a half cannot hold, zeros, rows that no
block divides. The test of row N is named after it (docs/reliability.md)."""
import struct

import numpy as np
import pytest

import harness
from harness import bf16, refused, run, snapshot, tiny, tiny_tensors, warnings
from gguf_file import read_gguf

TYPES = ("F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S",
         "Q4_1", "Q4_0", "IQ4_NL", "IQ4_XS", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K")
DOWN = "model.layers.0.mlp.down_proj.weight"  # 256 x 256 in tiny()


def weights(name=DOWN):
    """The float values of a tensor of tiny()."""
    _, shape, content = tiny_tensors()[name]
    bits = np.frombuffer(content, "<u2").astype("<u4") << 16
    return bits.view("<f4").reshape(shape).copy()


def with_weights(folder, values, name=DOWN, dtype="BF16"):
    """tiny() with one tensor replaced."""
    values = np.asarray(values, dtype="<f4")
    content = {"BF16": bf16, "F32": lambda v: v.tobytes(), "F16": lambda v: v.astype("<f2").tobytes()}[dtype](values)
    return tiny(folder, tensors_update={name: (dtype, values.shape, content)})


def with_bits(folder, positions, dtype="BF16", name=DOWN):
    """tiny() with raw bit patterns at flat indices of one tensor."""
    values = weights(name)
    width, content = {"BF16": ("<u2", bf16(values)), "F16": ("<u2", values.astype("<f2").tobytes()),
                      "F32": ("<u4", values.tobytes())}[dtype]
    raw = np.frombuffer(content, width).copy()
    for index, bits in positions.items():
        raw[index] = bits
    return tiny(folder, tensors_update={name: (dtype, values.shape, raw.tobytes())})


def quantize(folder, work, type="Q8_0", *options):
    return run(["quantize", folder, "-o", work / "out.gguf", "--type", type, *options], cwd=work)


def refused_numeric(folder, work, type, *needles, options=()):
    before = snapshot(work)
    return refused(quantize(folder, work, type, *options), 9, *needles, before=before, folder=work,
                   input_size=harness.input_bytes(folder))


@pytest.mark.parametrize("type", TYPES)
def test_row_108_one_nan_stops_every_type(folder, work, type):
    with_bits(folder, {1000: 0x7FC0})
    refused_numeric(folder, work, type, f"tensor '{DOWN}'", "1 NaN or Inf weight,", "index 1000 (row 3, column 232)",
                    "0x7fc0")


@pytest.mark.parametrize("index", [0, 31, 32, 255, 256, 65535])
def test_row_108_a_nan_is_found_wherever_it_is(folder, work, index):
    with_bits(folder, {index: 0x7FC0})
    refused_numeric(folder, work, "Q4_K_M", f"index {index} (row {index // 256}, column {index % 256})")


def test_row_109_a_row_of_nan(folder, work):
    with_bits(folder, {256 * 7 + i: 0x7FC0 for i in range(256)})
    for type in ("Q4_0", "Q5_0", "Q6_K", "IQ4_XS"):
        refused_numeric(folder, work, type, "256 NaN or Inf weights", "(row 7, column 0)")


@pytest.mark.parametrize("bits", [0x7F80, 0xFF80])
def test_row_110_infinity(folder, work, bits):
    with_bits(folder, {70: bits})
    for type in ("Q3_K_M", "Q6_K", "IQ4_XS", "F16"):
        refused_numeric(folder, work, type, "index 70", "inf", f"0x{bits:04x}")
    # --nan zero speaks of NaN only
    refused_numeric(folder, work, "Q8_0", "index 70", options=("--nan", "zero"))


def test_row_111_nan_zero_replaces_and_says_so(folder, work):
    with_bits(folder, {5: 0x7FC0, 6: 0xFFC1})
    result = quantize(folder, work, "F32", "--nan", "zero").ok()
    assert any("2 NaN weights became 0" in line for line in warnings(result))
    metadata, tensors = read_gguf(work / "out.gguf")
    assert metadata["phiq.nan_policy"] == "zero"
    decoded = np.frombuffer(tensors["blk.0.ffn_down.weight"].content, "<f4")
    expected = weights().ravel()
    expected[5:7] = 0
    assert np.array_equal(decoded, expected)
    run(["verify", work / "out.gguf", "--against", folder]).ok()


@pytest.mark.parametrize("dtype,bits", [("BF16", 0x7F81), ("BF16", 0xFFC0), ("F16", 0x7C01), ("F16", 0xFE00),
                                        ("F32", 0x7F800001), ("F32", 0xFFC12345)])
def test_row_112_every_kind_of_nan(folder, work, dtype, bits):
    with_bits(folder, {300: bits}, dtype)
    refused_numeric(folder, work, "Q8_0", "index 300", f"0x{bits:0{8 if dtype == 'F32' else 4}x}")


def test_row_113_what_a_half_cannot_hold(folder, work):
    values = weights()
    values[2, 3] = -70000.0  # 69,632 or 70,144 in bf16: beyond 65520 both
    with_weights(folder, values)
    refused_numeric(folder, work, "F16", f"tensor '{DOWN}'", "weight 515", "65504", "--overflow")
    stored = struct.unpack("<f", b"\0\0" + bf16(np.float32(-70000.0)))[0]

    result = quantize(folder, work, "F16", "--overflow", "clamp").ok()
    assert any("1 weights became" in line for line in warnings(result))
    _, tensors = read_gguf(work / "out.gguf")
    assert np.frombuffer(tensors["blk.0.ffn_down.weight"].content, "<f2")[515] == -65504

    run(["quantize", folder, "-o", work / "wide.gguf", "--type", "F16", "--overflow", "f32"]).ok()
    _, tensors = read_gguf(work / "wide.gguf")
    assert tensors["blk.0.ffn_down.weight"].type == "F32"
    assert np.frombuffer(tensors["blk.0.ffn_down.weight"].content, "<f4")[515] == np.float32(stored)
    assert tensors["blk.0.ffn_up.weight"].type == "F16"


@pytest.mark.parametrize("value,half", [(65504.0, 65504.0), (65519.99, 65504.0)])
def test_row_113_the_last_values_that_fit(folder, work, value, half):
    values = weights()
    values[0, 0] = value
    with_weights(folder, values, dtype="F32")
    quantize(folder, work, "F16").ok()
    _, tensors = read_gguf(work / "out.gguf")
    assert np.frombuffer(tensors["blk.0.ffn_down.weight"].content, "<f2")[0] == np.float16(half)


# The amplitude of a block at which its scale passes 65520: 65520 times the type's levels.
@pytest.mark.parametrize("type,threshold", [("Q8_0", 127 * 65520), ("Q4_0", 8 * 65520), ("Q5_0", 16 * 65520),
                                            ("Q6_K", 4096 * 65520)])
def test_row_114_a_scale_that_a_half_cannot_hold(folder, work, type, threshold):
    signs = np.where(np.arange(256) % 2 == 0, 1, -1)
    values = weights()
    values[4] = 0.9 * threshold * signs
    with_weights(folder, values, dtype="F32")
    rule = ["--tensor-type", f"down_proj={type}"]
    quantize(folder, work, "Q8_0", *rule).ok()
    (work / "out.gguf").unlink()
    values[4] = 1.1 * threshold * signs
    with_weights(folder, values, dtype="F32")
    line = refused_numeric(folder, work, "Q8_0", f"tensor '{DOWN}'", "scale", "block", "(row 4,", options=rule)
    assert type in line


def test_row_117_denormal_weights(folder, work):
    values = np.zeros((256, 256), "<f4")
    values[0, :] = 1e-45
    values[1, :] = 1e-38
    values[2, ::2] = -1e-40
    with_weights(folder, values, dtype="F32")
    for type in TYPES:
        quantize(folder, work, type, "--force").ok()
        run(["verify", work / "out.gguf", "--against", folder]).ok()


def test_row_119_zeros_and_constants(folder, work):
    values = np.zeros((256, 256), "<f4")
    values[1] = -0.0
    values[2] = 0.125
    values[3, :32] = -0.5
    with_weights(folder, values)
    for type in TYPES:
        quantize(folder, work, type, "--force").ok()
        run(["verify", work / "out.gguf", "--against", folder]).ok()
    quantize(folder, work, "F32", "--force", "--tensor-type", "down_proj=F16").ok()
    _, tensors = read_gguf(work / "out.gguf")
    decoded = np.frombuffer(tensors["blk.0.ffn_down.weight"].content, "<f2").astype("<f4")
    assert np.array_equal(decoded, values.ravel())


def odd_model(folder, width):
    """A model whose down_proj has rows of `width` weights."""
    return tiny(folder, intermediate=width)


def test_row_121_a_row_that_no_block_divides(folder, work):
    odd_model(folder, 320)  # a multiple of 32, not of 256
    result = quantize(folder, work, "Q4_K_M").ok()
    lines = [line for line in warnings(result) if DOWN in line]
    assert len(lines) == 1 and "320" in lines[0] and "256" in lines[0]
    _, tensors = read_gguf(work / "out.gguf")
    assert tensors["blk.0.ffn_down.weight"].type == "Q8_0"  # Q6_K, the wanted type here, becomes Q8_0
    (work / "out.gguf").unlink()
    refused(quantize(folder, work, "Q4_K_M", "--strict-types"), 6, DOWN, "320")


def test_row_121_a_row_that_32_does_not_divide(folder, work):
    odd_model(folder, 300)
    quantize(folder, work, "Q8_0").ok()
    _, tensors = read_gguf(work / "out.gguf")
    assert tensors["blk.0.ffn_down.weight"].type == "F16"


@pytest.mark.parametrize("format, type", [("gguf", "Q8_0"), ("gguf", "BF16"), ("mlx", "4bit"), ("onnx", "int4"), ("openvino", "INT8_SYM"),
                                          ("litert", "int4"), ("torch", "W4A16")])
def test_row_116_120_a_weight_that_dwarfs_its_row_is_told(folder, work, format, type):
    values = weights()
    values[17, 3] = 30000
    values[18] *= 1e5  # large, and alike
    values[19] = 0
    values[19, 5] = 20  # nothing is lost beside it
    with_weights(folder, values)
    args = ["quantize", folder, "--format", format, "--type", type]
    told = [line for line in warnings(run([*args, "-o", work / "out"]).ok()) if "damaged" in line]
    if type == "BF16":
        assert told == []
        return
    assert told == [f"tensor '{DOWN}': a weight is more than 4096 times as large as the median of its row: what shares a scale with "
                    "it is lost; is the checkpoint damaged?"]
    refused(run([*args, "-o", work / "other", "--werror"]), 9, "damaged", folder=work)
    assert not (work / "other").exists()
    # Of several formats it is told once; nor is it forgotten by a run that is gone on with.
    if format == "gguf":
        both = run(["quantize", folder, "--format", "gguf,onnx", "-o", work / "both", "--resume"]).ok()
        assert sum("damaged" in line for line in warnings(both)) == 1
