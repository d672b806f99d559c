"""Rows 42 to 52: config.json, and the tensors that it promises."""
import json
import shutil

import numpy as np
import pytest

from harness import (bf16, converted, read_safetensors, refused, refused_by_both, run, side_files,
                     tiny, warnings, write_raw)


def set_config(folder, **values):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.update(values)
    path.write_text(json.dumps(config))


def ids_file(work):
    path = work / "ids"
    path.write_text(" ".join(str(i) for i in range(16)))
    return path


@pytest.mark.parametrize("content, code, needle", [
    (None, 4, "holds weights but no config.json"),
    (b"", 3, "is empty"),
    (b"[]", 3, "needs a JSON object"),
    (b'{"a": "\xff"}', 3, "JSON"),
    (b'{"vocab_size": 1, "vocab_size": 2}', 3, "duplicate key 'vocab_size'"),
])
def test_row_042_config_missing_or_not_an_object(folder, content, code, needle):
    tiny(folder)
    (folder / "config.json").unlink()
    if content is not None:
        (folder / "config.json").write_bytes(content)
    refused_by_both(folder, code, "config.json", needle)


LIES = ["(missing)", "256", 0, -1, 10**9, 2**63]


@pytest.mark.parametrize("value", LIES)
@pytest.mark.parametrize("key", ["hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size"])
def test_row_043_config_number_out_of_range(folder, key, value):
    tiny(folder)
    if value == "(missing)":
        set_config(folder, **{key: None})
        refused_by_both(folder, 3, f"'{key}' is missing", "needs a whole number from 1 to ")
    else:
        set_config(folder, **{key: value})
        refused_by_both(folder, 3, f"'{key}' is {json.dumps(value)}", "needs a whole number from 1 to ")


def test_row_043_heads_that_do_not_divide(folder):
    tiny(folder)
    set_config(folder, num_attention_heads=5)
    refused_by_both(folder, 3, "'num_attention_heads' is 5", "a divisor of hidden_size 256")
    set_config(folder, num_attention_heads=4, num_key_value_heads=3)
    refused_by_both(folder, 3, "'num_key_value_heads' is 3", "a divisor of num_attention_heads 4")


def test_row_043_largest_allowed_lie_sizes_no_memory(folder):
    tiny(folder)  # the memory bound is refused_by_both's
    set_config(folder, hidden_size=65536, num_attention_heads=1024, num_key_value_heads=1024,
               num_hidden_layers=1024, vocab_size=1048576)
    refused_by_both(folder, 3)


def test_row_044_layer_missing_or_extra(folder):
    tiny(folder, layers=2)
    set_config(folder, num_hidden_layers=3)
    refused_by_both(folder, 3, "missing tensor", "model.layers.2.", "num_hidden_layers 3")
    set_config(folder, num_hidden_layers=1)
    refused_by_both(folder, 3, "without a role", "model.layers.1.", "1 layers")


def test_row_045_wrong_shape(folder):
    down = "model.layers.0.mlp.down_proj.weight"
    transposed = ("BF16", (512, 256), bf16(np.zeros((512, 256))))
    tiny(folder, intermediate=512, tensors_update={down: transposed})
    refused_by_both(folder, 3, down, "[512, 256]", "expected shape [256, 512]", "intermediate_size")
    shutil.rmtree(folder)
    embedding = "model.embed_tokens.weight"
    tiny(folder, tensors_update={embedding: ("BF16", (2113, 256), bf16(np.zeros((2113, 256))))})
    refused_by_both(folder, 3, embedding, "[2113, 256]", "expected shape [2112, 256]", "vocab_size")


def rope_scaling(folder):
    return json.loads((folder / "config.json").read_text())["rope_scaling"]


def test_row_046_rope_factors(folder):
    tiny(folder)
    good = rope_scaling(folder)
    set_config(folder, rope_scaling={**good, "long_factor": good["long_factor"] + [1.0]})
    refused_by_both(folder, 3, "'long_factor'", "has 33", "array of 32")
    set_config(folder, rope_scaling={**good, "short_factor": [0] + good["short_factor"][1:]})
    refused_by_both(folder, 3, "'short_factor[0]' is 0")
    for key in ("long_factor", "short_factor"):
        set_config(folder, rope_scaling={k: v for k, v in good.items() if k != key})
        refused_by_both(folder, 3, f"'{key}' is missing", "array of 32")
    set_config(folder, rope_scaling={**good, "long_factor": [float("nan")] + good["long_factor"][1:]})
    refused_by_both(folder, 3, "config.json", "'long_factor[0]' is NaN, needs a finite number above 0")
    set_config(folder, rope_scaling={**good, "type": "dynamic"})
    refused_by_both(folder, 6, "rope scaling type", "dynamic", "longrope")


def test_row_047_head_of_a_tied_model(folder):
    tiny(folder, base="phi4mini-tiny")
    embedding = read_safetensors(folder / "model.safetensors")["model.embed_tokens.weight"]
    _, without_head = converted(folder)
    shutil.rmtree(folder)
    tiny(folder, base="phi4mini-tiny", tensors_update={"lm_head.weight": embedding})
    assert converted(folder)[1] == without_head
    dtype, shape, content = embedding
    shutil.rmtree(folder)
    tiny(folder, base="phi4mini-tiny",
         tensors_update={"lm_head.weight": (dtype, shape, content[:-1] + bytes([content[-1] ^ 1]))})
    # Planning reads no weight; whoever reads the embedding compares.
    assert any("'lm_head.weight' is left out" in text for text in warnings(run(["plan", folder]).ok()))
    for args in (["quantize", folder, "-o", folder.parent / "out.gguf"],
                 ["eval", folder, "--ids", ids_file(folder.parent), "--ctx", "8"]):
        refused(run(args), 3, "lm_head.weight", f"element {2112 * 256 - 1} is", "tie_word_embeddings is true",
                folder=folder.parent)


def test_row_047_head_that_is_missing(folder):
    tiny(folder, drop=["lm_head.weight"])
    refused_by_both(folder, 3, "missing tensor 'lm_head.weight'", "tie_word_embeddings false")


def test_row_048_mixed_dtypes_give_the_same_bytes(folder):
    norm, down = "model.norm.weight", "model.layers.0.mlp.down_proj.weight"
    # Eighths up to 4: exact in all three types.
    weights = np.random.default_rng(2).integers(-32, 33, (256, 256)).astype("<f4") / 8
    ones = np.ones(256, dtype="<f4")
    tiny(folder, tensors_update={norm: ("BF16", (256,), bf16(ones)), down: ("BF16", (256, 256), bf16(weights))})
    _, one_dtype = converted(folder)
    shutil.rmtree(folder)
    tiny(folder, tensors_update={norm: ("F32", (256,), ones.tobytes()),
                                 down: ("F16", (256, 256), weights.astype("<f2").tobytes())})
    assert converted(folder)[1] == one_dtype


@pytest.mark.parametrize("architecture, why", [
    ("PhiForCausalLM", "Phi-1, Phi-1.5 and Phi-2 are not read"),
    ("Phi3SmallForCausalLM", "Phi-3-small computes another function"),
    ("Phi4FlashForCausalLM", "Phi-4-mini-flash-reasoning computes another function"),
    ("Phi4ForCausalLMV", "Phi-4-reasoning-vision is not read"),
    ("Phi4MultimodalForCausalLM", "Phi-4-multimodal is read as Phi4MMForCausalLM only"),
    ("Qwen2ForCausalLM", "Qwen2.5, which NextCoder is too, is no Phi")])
def test_other_models_of_the_family_are_named(folder, architecture, why):
    side_files(folder, "phi35-tiny", {"architectures": [architecture]})
    write_raw(folder / "model.safetensors", b"", n_header_bytes=2**62)
    refused_by_both(folder, 6, f'["{architecture}"] is not supported: {why}', "phiq converts Phi3ForCausalLM: Phi-3-mini")


@pytest.mark.parametrize("architectures", [
    ["Phi3SmallForCausalLM"], ["PhiForCausalLM"], ["Qwen2ForCausalLM"],
    ["GemmaForCausalLM"], ["Phi3ForCausalLM", "GemmaForCausalLM"]])
def test_row_049_unsupported_architecture(folder, architectures):
    side_files(folder, "phi35-tiny", {"architectures": architectures})
    # A shard that cannot be read shows that none was.
    write_raw(folder / "model.safetensors", b"", n_header_bytes=2**62)
    refused_by_both(folder, 6, "architecture", architectures[0], "phiq converts Phi3ForCausalLM")


def test_row_050_already_quantized(folder):
    tiny(folder, config_updates={"quantization_config": {"quant_method": "hqq", "bits": 4}},
         drop=["model.layers.0.mlp.down_proj.weight"],
         tensors_update={"model.layers.0.mlp.down_proj.W_q": ("I32", (256, 32), bytes(32768))})
    refused_by_both(folder, 6, "already quantized", "hqq")


def test_row_051_custom_code_is_ignored(folder):
    tiny(folder)
    plain_result, plain = converted(folder)
    (folder / "modeling_evil.py").write_text("raise SystemExit(1)\n")
    set_config(folder, auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"})
    result, content = converted(folder)
    assert content == plain
    assert warnings(result) == warnings(plain_result)


def test_row_052_tensors_without_a_role(folder):
    extra = {f"model.vision.{i}.weight": ("BF16", (4,), bf16(np.zeros(4))) for i in range(7)}
    tiny(folder)
    _, plain = converted(folder)
    shutil.rmtree(folder)
    tiny(folder, tensors_update=extra)
    refused_by_both(folder, 3, "7 tensors without a role", "model.vision.4.weight", "(7 in all)", "--ignore-extra")
    assert converted(folder, "--ignore-extra", "model.vision.*")[1] == plain
