"""phiq compare: the figures against numpy's on the same bytes, and what broken or other inputs do."""
import json
import shutil
import struct

import numpy as np
import pytest

from gguf_file import read_gguf
from harness import bf16, input_bytes, make_checkpoint, read_safetensors, refused, run, snapshot, tiny, tiny_tensors
from onnx_file import FLOAT, f32, graph, model, node, tensor

DOWN = "model.layers.0.mlp.down_proj.weight"
# Sums of up to 540,672 terms in another order, each sum off by as many roundings of 2^-53.
RELATIVE = 540_672 * 2.0**-53

OUTSIDE = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
           "output.weight": "lm_head.weight"}
LAYER = {"attn_norm": "input_layernorm", "attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj",
         "ffn_norm": "post_attention_layernorm", "ffn_up": "mlp.gate_up_proj", "ffn_down": "mlp.down_proj"}


def checkpoint_name(name):
    if name in OUTSIDE:
        return OUTSIDE[name]
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{LAYER[part]}.weight"


def decode(type, content):
    """float64 values of a GGUF tensor."""
    if type == "F32":
        return np.frombuffer(content, "<f4").astype(float)
    if type == "F16":
        return np.frombuffer(content, "<f2").astype(float)
    assert type == "Q8_0"  # a half and 32 signed bytes; their product is rounded to float32
    blocks = np.frombuffer(content, np.dtype([("d", "<f2"), ("q", "i1", 32)]))
    return (blocks["d"].astype("<f4")[:, None] * blocks["q"].astype("<f4")).astype(float).ravel()


def gguf_weights(path):
    return {checkpoint_name(name): decode(t.type, t.content)
            for name, t in read_gguf(path)[1].items() if not name.startswith("rope_factors")}


def checkpoint_weights(folder):
    return {name: (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4").astype(float)
            for name, (_, _, content) in read_safetensors(folder / "model.safetensors").items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A checkpoint of two layers and its outputs."""
    work = tmp_path_factory.mktemp("compare")
    tiny(work / "model", layers=2)
    for type in ("F32", "F16", "Q8_0", "Q4_0"):
        run(["quantize", work / "model", "-o", work / f"{type}.gguf", "--type", type], cwd=work).ok()
    for precision in ("fp32", "int8"):
        run(["quantize", work / "model", "-o", work / precision, "--format", "onnx", "--precision", precision],
            cwd=work).ok()
    return work


def compare(a, b, *options):
    return run(["compare", a, b, *options])


def compared(a, b, *options):
    return compare(a, b, "--json", *options).ok().json()


def check_figures(found, a, b):
    """Every figure of `found` against numpy on the weights of both sides by name."""
    assert {t["name"] for t in found["tensors"]} == set(a) == set(b)
    squared = {name: np.sum((a[name] - b[name])**2) for name in a}
    total = sum(squared.values())
    assert total > 0
    for t in found["tensors"]:
        x, y = a[t["name"]], b[t["name"]]
        relative = np.sqrt(squared[t["name"]] / np.sum(x**2))
        near = lambda value: pytest.approx(value, rel=2 * RELATIVE)
        assert t["max_error"] == np.max(np.abs(x - y))
        assert t["rmse"] == near(np.sqrt(np.mean((x - y)**2)))
        assert t["relative_rmse"] == near(relative)
        assert t["cosine"] == near(np.dot(x, y) / np.sqrt(np.dot(x, x) * np.dot(y, y)))
        assert t["share"] == near(squared[t["name"]] / total)
        if relative > 0:
            # The logarithm turns a relative error into an absolute one, times 20 / ln 10.
            assert t["snr_db"] == pytest.approx(-20 * np.log10(relative), abs=18 * RELATIVE)
        else:
            assert t["snr_db"] is None
        assert np.prod(t["shape"]) == x.size
    assert found["relative_rmse"] == pytest.approx(
        np.sqrt(total / sum(np.sum(x**2) for x in a.values())), rel=2 * RELATIVE)
    assert found["n_weights"] == sum(x.size for x in a.values())
    shares = [t["share"] for t in found["tensors"]]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1)


@pytest.mark.parametrize("type", ["Q8_0", "F16"])
def test_figures_of_an_output_are_numpys(made, type):
    found = compared(made / "model", made / f"{type}.gguf")
    check_figures(found, checkpoint_weights(made / "model"), gguf_weights(made / f"{type}.gguf"))
    assert found["a"]["kind"] == "checkpoint" and found["b"]["kind"] == "gguf"
    assert found["a"]["bits_per_weight"] == 16
    tensor = next(t for t in found["tensors"] if t["name"] == DOWN)
    assert (tensor["type_a"], tensor["type_b"]) == ("BF16", type)
    assert tensor["bits_per_weight_b"] == {"Q8_0": 8.5, "F16": 16}[type]
    assert tensor["role"] == "mlp_down" and tensor["layer"] == 0 and tensor["shape"] == [256, 256]


def test_figures_between_two_outputs_are_numpys(made):
    check_figures(compared(made / "F16.gguf", made / "Q8_0.gguf"), gguf_weights(made / "F16.gguf"),
                  gguf_weights(made / "Q8_0.gguf"))


@pytest.mark.parametrize("output", ["F32.gguf", "fp32", "model"])
def test_what_is_stored_exactly_is_exact(made, output):
    found = compared(made / "model", made / output)
    assert found["relative_rmse"] == 0 and found["max_error"] == 0
    for t in found["tensors"]:
        assert (t["relative_rmse"], t["snr_db"], t["cosine"], t["share"]) == (0, None, 1, 0)
    text = compare(made / "model", made / output).ok().text
    assert text.count("exact") == len(found["tensors"]) + 1
    assert "relative RMSE 0 (exact)" in text.split("\n")[-2]


def test_parts_are_compared_where_one_side_stores_them(made):
    found = compared(made / "Q8_0.gguf", made / "int8")
    names = [t["name"] for t in found["tensors"]]
    for layer in (0, 1):
        name = f"model.layers.{layer}.mlp.gate_up_proj.weight"
        assert name + "[gate]" in names and name + "[up]" in names and name not in names
    # Each part against numpy: the rows of both sides stand in the GGUF files.
    found = compared(made / "F32.gguf", made / "fp32")
    assert {t["name"] for t in found["tensors"]} == set(names)


def test_table(made):
    text = compare(made / "model", made / "Q8_0.gguf").ok().text
    lines = text.split("\n")
    assert lines[0].split() == ["TENSOR", "TYPES", "BITS", "MAX", "ERROR", "RMSE", "REL.", "RMSE", "SNR", "dB",
                                "COSINE", "SHARE"]
    assert "BF16 -> Q8_0" in text and "16.00 -> 8.50" in text
    assert lines[-2].startswith("15 tensors, ") and " bits per weight: relative RMSE " in lines[-2]
    top = compare(made / "model", made / "Q8_0.gguf", "--top", "3").ok().text.split("\n")
    assert [line.split()[0] for line in top[:4]] == [line.split()[0] for line in lines[:4]]
    assert top[4] == "... and 12 more"
    assert top[-2] == lines[-2]
    assert len(compared(made / "model", made / "Q8_0.gguf", "--top", "3")["tensors"]) == 3
    assert compare(made / "model", made / "Q8_0.gguf", "--quiet").ok().text == ""


def test_the_same_bytes_for_any_number_of_threads(made):
    outputs = {compare(made / "model", made / "int8", "--json", "--threads", n).ok().out for n in "127"}
    assert len(outputs) == 1


def test_a_split_file_is_one_model(made, work):
    run(["quantize", made / "model", "-o", work / "split.gguf", "--type", "F32", "--split-max-size", "3M"]).ok()
    parts = sorted(work.glob("split-*.gguf"))
    assert len(parts) > 1
    assert compared(made / "model", parts[1])["relative_rmse"] == 0


# --- what cannot be compared -----------------------------------------------------------------

def refused_compare(a, b, code, *needles, **kwargs):
    size = sum(p.stat().st_size if p.is_file() else input_bytes(p) for p in (a, b) if p.exists())
    return refused(compare(a, b), code, *needles, input_size=size, **kwargs)


def test_another_model(made, work):
    tiny(work / "other", layers=1)
    line = refused_compare(made / "Q8_0.gguf", work / "other", 3, "is another model than", "layers 1, there 2")
    assert line.startswith(str(work / "other"))
    refused_compare(work / "other", made / "fp32", 3, "layers 2, there 1")


def test_nothing_there(made, work):
    refused_compare(made / "model", work / "none.gguf", 4, "none.gguf")
    refused_compare(work / "none", made / "model", 4, "none")


def test_nan_in_the_weights(made, work):
    values = np.ones((256, 256), "<f4")
    values[3, 200] = np.nan
    tiny(work / "model", layers=2, tensors_update={DOWN: ("BF16", (256, 256), bf16(values))})
    refused_compare(made / "model", work / "model", 9, f"tensor '{DOWN}'", "BF16", "row 3, column 200")


@pytest.mark.parametrize("type,block,size", [("Q8_0", 34, 32), ("Q4_0", 18, 32)])
@pytest.mark.parametrize("bits", [0x7C00, 0x7E00])
def test_row_086_block_scale_not_finite(made, work, type, block, size, bits):
    content = bytearray((made / f"{type}.gguf").read_bytes())
    position = read_gguf(made / f"{type}.gguf")[1]["blk.0.ffn_down.weight"].position
    row, column = 2, 96
    index = row * 256 // size + column // size
    content[position + index * block:position + index * block + 2] = struct.pack("<H", bits)
    (work / "bad.gguf").write_bytes(content)
    refused_compare(made / "model", work / "bad.gguf", 9, "'blk.0.ffn_down.weight'", type,
                    f"row {row}, column {column}, block {index}")


def test_row_086_onnx_scale_not_finite(made, work):
    shutil.copytree(made / "int8", work / "bad")
    # Float scales of 1/127 to 1 of the weights: the last bytes of the file are the head's.
    with open(work / "bad" / "model.onnx.data", "r+b") as file:
        file.seek(-4, 2)
        file.write(struct.pack("<f", np.inf))
    refused_compare(made / "model", work / "bad", 9, "'lm_head.MatMul.weight'", "int8 g32", "row 2111, column 224")


# --- hostile files ---------------------------------------------------------------------------

def patched(path, work, key, value):
    """The GGUF file with the four bytes of a u32 or f32 record replaced."""
    content = bytearray(path.read_bytes())
    at = content.index(struct.pack("<Q", len(key)) + key.encode()) + 8 + len(key)
    content[at + 4:at + 8] = value
    (work / "bad.gguf").write_bytes(content)
    return work / "bad.gguf"


@pytest.mark.parametrize("key,value", [
    ("phi3.embedding_length", 0), ("phi3.embedding_length", 2**32 - 1), ("phi3.embedding_length", 512),
    ("phi3.feed_forward_length", 0), ("phi3.feed_forward_length", 2**31), ("phi3.feed_forward_length", 255),
    ("phi3.block_count", 0), ("phi3.block_count", 2**32 - 1), ("phi3.block_count", 3),
    ("phi3.attention.head_count", 0), ("phi3.attention.head_count", 3), ("phi3.attention.head_count_kv", 0),
    ("phi3.attention.head_count_kv", 2), ("phi3.attention.head_count_kv", 5),
    ("phi3.context_length", 0), ("phi3.rope.dimension_count", 0), ("phi3.rope.dimension_count", 63),
    ("phi3.rope.scaling.original_context_length", 1), ("phi3.attention.sliding_window", 2**32 - 1)])
def test_numbers_of_a_gguf_file_that_cannot_be(made, work, key, value):
    bad = patched(made / "Q8_0.gguf", work, key, struct.pack("<I", value))
    refused_compare(made / "model", bad, 3, str(bad), before=snapshot(work), folder=work)
    refused_compare(bad, made / "model", 3, str(bad))


def test_a_layer_too_few(made, work):
    bad = patched(made / "Q8_0.gguf", work, "phi3.block_count", struct.pack("<I", 1))
    refused_compare(made / "model", bad, 6, "'blk.1.attn_norm.weight'", "no role in a phi3 model of 1 layers")


@pytest.mark.parametrize("key", ["phi3.rope.freq_base", "phi3.rope.scaling.attn_factor",
                                 "phi3.attention.layer_norm_rms_epsilon"])
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_floats_of_a_gguf_file_that_cannot_be(made, work, key, value):
    bad = patched(made / "Q8_0.gguf", work, key, struct.pack("<f", value))
    refused_compare(made / "model", bad, 3, f"'{key}'", "needs a finite f32 above 0")


def test_another_architecture(made, work):
    content = (made / "Q8_0.gguf").read_bytes().replace(b"phi3", b"phi9")
    (work / "bad.gguf").write_bytes(content)
    refused_compare(made / "model", work / "bad.gguf", 6, "architecture 'phi9'")


def test_a_file_that_is_cut(made, work):
    content = (made / "Q8_0.gguf").read_bytes()
    for n in (0, 3, 24, 1000, len(content) - 1000):
        (work / "bad.gguf").write_bytes(content[:n])
        refused_compare(made / "model", work / "bad.gguf", 3, "bad.gguf")
    shutil.copytree(made / "fp32", work / "bad")
    content = (made / "fp32" / "model.onnx").read_bytes()
    for n in (0, 100, len(content) // 2):
        (work / "bad" / "model.onnx").write_bytes(content[:n])
        refused_compare(made / "model", work / "bad", 3, "model.onnx")


def test_an_onnx_file_that_is_no_phi_model(made, work):
    (work / "x.onnx").write_bytes(model(graph([node("Relu", "a", ["x"], ["y"])])))
    refused_compare(made / "model", work / "x.onnx", 6, "model.embed_tokens.weight", "x.onnx")
    # An embedding of no rows, and nothing else.
    (work / "x.onnx").write_bytes(model(graph(
        [node("Gather", "/model/embed_tokens/Gather", ["w", "x"], ["y"])], [tensor("w", FLOAT, [1, 2], f32(1, 2))])))
    refused_compare(made / "model", work / "x.onnx", 6, "gate_proj", "x.onnx")


@pytest.mark.parametrize("key,value,code", [("num_hidden_layers", 3, 3), ("num_attention_heads", 2, 3),
                                            ("head_size", "64", 3), ("hidden_size", [256], 3)])
def test_a_genai_config_that_does_not_fit(made, work, key, value, code):
    shutil.copytree(made / "fp32", work / "bad")
    path = work / "bad" / "genai_config.json"
    config = json.loads(path.read_text())
    config["model"]["decoder"][key] = value
    path.write_text(json.dumps(config))
    refused_compare(made / "model", work / "bad", code, "genai_config.json", f"'model.decoder.{key}'")


def test_a_tokenizer_is_not_needed(work):
    for name in ("a", "b"):
        make_checkpoint(work / name)
        for file in ("tokenizer.json", "tokenizer.model"):
            (work / name / file).unlink(missing_ok=True)
    assert compared(work / "a", work / "b")["relative_rmse"] == 0
