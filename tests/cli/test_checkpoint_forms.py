"""The same model as people have it: under other names, in parts, with keys left out, in 8-bit floats.
What is written is, byte for byte, what comes from the plain checkpoint."""
import hashlib
import json
import shutil

import numpy as np
import pytest

from harness import (DATA, bf16, read_safetensors, refused_by_both, run, side_files, warnings,
                     write_safetensors)

OUTPUTS = {"gguf": ("gguf", "Q4_K_M"), "onnx": ("onnx", "int4"), "openvino": ("openvino", "INT4_SYM"),
           "mlx": ("mlx", "4bit"), "litert": ("litert", "int4"), "torch": ("torch", "W4A16")}


def weights(base="phi35-tiny"):
    return read_safetensors(DATA / base / "model.safetensors")


def make(folder, tensors, base="phi35-tiny", updates=None, remove=()):
    """A checkpoint in a folder called like the plain one, so that outputs carry the same name."""
    folder = folder / base
    shutil.rmtree(folder, ignore_errors=True)
    side_files(folder, base, {"z": 0, **(updates or {})}, ("z", *remove))
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def digests(path):
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def write(model, work, kind, *options):
    form, type_name = OUTPUTS[kind]
    out = work / f"out-{kind}"
    result = run(["quantize", model, "--format", form, "--type", type_name, "-o", out, "--force",
                  "--no-fsync", *options], cwd=work).ok()
    return result, digests(out)


def same_as_plain(work, model, plain, kind):
    """The warnings of `model`, whose output is that of `plain`, and which verify finds right."""
    _, wanted = write(plain, work, kind)
    result, found = write(model, work, kind)
    assert found == wanted
    run(["verify", work / f"out-{kind}", "--against", model], cwd=work).ok()
    return [text for text in warnings(result) if "general.name" not in text]


def split(tensors, hidden=256, key=256, inner=768):
    """q, k, v and gate, up as tensors of their own."""
    result = {}
    for name, (dtype, shape, content) in tensors.items():
        def rows(parts):
            begin = 0
            for part, n in parts:
                size = n * shape[1] * 2
                yield part, (dtype, [n, shape[1]], content[begin:begin + size])
                begin += size
        if "qkv_proj" in name:
            for letter, part in rows([("q", hidden), ("k", key), ("v", key)]):
                result[name.replace("qkv_proj", f"{letter}_proj")] = part
        elif "gate_up_proj" in name:
            for letter, part in rows([("gate", inner), ("up", inner)]):
                result[name.replace("gate_up_proj", f"{letter}_proj")] = part
        else:
            result[name] = (dtype, shape, content)
    return result


NO_ROPE_SCALING = {"rope_scaling": None}
NO_ORIGINAL = ("original_max_position_embeddings",)


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("architecture, model_type",
                         [("LlamaForCausalLM", "llama"), ("MistralForCausalLM", "mistral")])
def test_other_classes_with_split_rows(work, kind, architecture, model_type):
    plain = make(work / "a", weights(), updates={**NO_ROPE_SCALING, "sliding_window": None}, remove=NO_ORIGINAL)
    model = make(work / "b", split(weights()), remove=NO_ORIGINAL,
                 updates={**NO_ROPE_SCALING, "sliding_window": None, "architectures": [architecture],
                          "model_type": model_type})
    assert same_as_plain(work, model, plain, kind) == []


@pytest.mark.parametrize("kind", OUTPUTS)
def test_split_rows_under_our_own_class(work, kind):
    plain = make(work / "a", weights("phi4mini-tiny"), "phi4mini-tiny")
    model = make(work / "b", split(weights("phi4mini-tiny"), key=128), "phi4mini-tiny")
    assert same_as_plain(work, model, plain, kind) == []


def test_some_rows_missing(folder):
    tensors = split(weights())
    del tensors["model.layers.2.self_attn.k_proj.weight"]
    side_files(folder, "phi35-tiny")
    write_safetensors(folder / "model.safetensors", tensors)
    refused_by_both(folder, 3, "missing tensor 'model.layers.2.self_attn.k_proj.weight'")


def test_both_whole_and_split_rows(folder):
    tensors = weights() | split(weights())
    side_files(folder, "phi35-tiny")
    write_safetensors(folder / "model.safetensors", tensors)
    refused_by_both(folder, 3, "20 tensors without a role", "q_proj")


@pytest.mark.parametrize("updates, code, needle", [
    ({"attention_bias": True}, 6, "attention_bias true"),
    ({"mlp_bias": True}, 6, "mlp_bias true"),
    ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 6, "rope scaling type"),
    ({"rope_scaling": {"rope_type": "linear", "factor": 8.0}}, 6, "rope scaling type"),
    ({"partial_rotary_factor": 0.5}, 6, "partial rotation"),
    ({"head_dim": 128}, 3, "head_dim"),
    ({"hidden_act": "gelu"}, 6, "hidden_act"),
])
def test_another_function_of_a_llama(folder, updates, code, needle):
    side_files(folder, "phi35-tiny", {"architectures": ["LlamaForCausalLM"], "model_type": "llama",
                                      **NO_ROPE_SCALING, **updates}, NO_ORIGINAL)
    write_safetensors(folder / "model.safetensors", split(weights()))
    refused_by_both(folder, code, needle)


def test_a_bias_of_a_llama(folder):
    side_files(folder, "phi35-tiny", {"architectures": ["LlamaForCausalLM"], "model_type": "llama",
                                      **NO_ROPE_SCALING}, NO_ORIGINAL)
    tensors = split(weights()) | {"model.layers.0.self_attn.q_proj.bias": ("BF16", [256], bytes(512))}
    write_safetensors(folder / "model.safetensors", tensors)
    refused_by_both(folder, 3, "without a role", "q_proj.bias")


def renamed(change):
    return {change(name): tensor for name, tensor in weights().items()}


@pytest.mark.parametrize("change, said", [
    (lambda name: "_orig_mod." + name, "begin with '_orig_mod.'"),
    (lambda name: "module." + name, "begin with 'module.'"),
    (lambda name: "base_model.model." + name, "begin with 'base_model.model.'"),
    (lambda name: "language_model." + name, "begin with 'language_model.'"),
    (lambda name: "module.module." + name, "begin with 'module.module.'"),
    (lambda name: name.replace(".self_attn.", "._fsdp_wrapped_module.self_attn."), "have '_fsdp_wrapped_module.' within"),
    (lambda name: name.replace("model.layers.", "model._orig_mod.layers."), "have '_orig_mod.' within"),
    (lambda name: "_orig_mod." + name if "layers.1." in name else name, "have '_orig_mod.' within"),
    (lambda name: name.replace("model.", "model.language_model.", 1), "begin with 'model.language_model.' instead of 'model.'"),
    (lambda name: name.removeprefix("model."), "lack 'model.'"),
    (lambda name: "_orig_mod." + name.removeprefix("model."), "begin with '_orig_mod.' instead of 'model.'"),
])
def test_something_before_every_name(work, change, said):
    plain = make(work / "a", weights())
    model = make(work / "b", renamed(change))
    texts = same_as_plain(work, model, plain, "openvino")
    assert len(texts) == 1 and said in texts[0], texts


@pytest.mark.parametrize("value", [None, "absent"])
def test_architectures_absent(work, value):
    plain = make(work / "a", weights())
    model = (make(work / "b", weights(), remove=("architectures",)) if value == "absent"
             else make(work / "b", weights(), updates={"architectures": None}))
    texts = same_as_plain(work, model, plain, "mlx")
    assert len(texts) == 1 and "'architectures' is missing" in texts[0], texts


@pytest.mark.parametrize("architectures", [[], ["FSDPPhi3ForCausalLM"], ["Phi3Model"], ["PeftModelForCausalLM"],
                                           ["Phi3ForCausalLM", "PeftModelForCausalLM"], ["LlamaForCausalLM"]])
def test_model_type_decides_where_architectures_do_not(work, architectures):
    """AutoModelForCausalLM of transformers looks at model_type alone."""
    plain = make(work / "a", weights())
    model = make(work / "b", weights(), updates={"architectures": architectures})
    texts = same_as_plain(work, model, plain, "mlx")
    assert len(texts) == 1 and "model_type \"phi3\" stands for Phi3ForCausalLM" in texts[0], texts


def test_architectures_as_a_word(work):
    plain = make(work / "a", weights())
    model = make(work / "b", weights(), updates={"architectures": "Phi3ForCausalLM"})
    assert same_as_plain(work, model, plain, "openvino") == []


@pytest.mark.parametrize("architectures", [["Phi3ForSequenceClassification"], ["Phi3SmallForCausalLM"], ["X"], [7], 7])
def test_another_class_is_not_told_by_model_type(folder, architectures):
    side_files(folder, "phi35-tiny", {"architectures": architectures})
    write_safetensors(folder / "model.safetensors", weights())
    refused_by_both(folder, 6, "architecture", "is not supported")


def test_what_follows_from_the_configuration_is_passed_over(work):
    plain = make(work / "a", weights())
    beside = {f"model.{place}rotary_emb.{name}": ("F32", [32], bytes(128))
              for place in ("", "layers.0.self_attn.") for name in ("inv_freq", "original_inv_freq", "cos_cached")}
    model = make(work / "b", weights() | beside | {"empty": ("F32", [0], b"")})
    assert same_as_plain(work, model, plain, "gguf") == []


def test_an_adapter_left_in_the_checkpoint(folder):
    """To leave it out would take the training away."""
    names = {f"model.layers.0.self_attn.o_proj.lora_{letter}.default.weight": ("BF16", [8, 256], bytes(4096)) for letter in "AB"}
    side_files(folder, "phi35-tiny")
    write_safetensors(folder / "model.safetensors", weights() | names)
    line = refused_by_both(folder, 3, "2 tensors without a role", "lora_A", "an adapter that is not merged: merge it with PEFT")
    assert "--ignore-extra" not in line


def test_neither_architectures_nor_model_type(folder):
    side_files(folder, "phi35-tiny", {"architectures": None, "model_type": None})
    write_safetensors(folder / "model.safetensors", weights())
    refused_by_both(folder, 6, "architecture (none given) is not supported")


@pytest.mark.parametrize("kind", ["gguf", "mlx"])
def test_keys_left_to_the_class(work, kind):
    """1e-05 and 4096 are what Phi3Config of transformers has, and what the tiny model has."""
    plain = make(work / "a", weights())
    model = make(work / "b", weights(), remove=("rms_norm_eps", "max_position_embeddings"))
    texts = same_as_plain(work, model, plain, kind)
    assert texts == [f"{model}/config.json: missing, and taken from the defaults of Phi3ForCausalLM: "
                     "rms_norm_eps 1e-05, max_position_embeddings 4096"]


def test_a_head_that_is_the_embedding_too(work):
    plain = make(work / "a", weights("phi4mini-tiny"), "phi4mini-tiny")
    tensors = {("lm_head.weight" if "embed" in name else name): tensor
               for name, tensor in weights("phi4mini-tiny").items()}
    model = make(work / "b", tensors, "phi4mini-tiny")
    assert same_as_plain(work, model, plain, "gguf") == []


def test_text_of_a_model_that_sees(work):
    plain = make(work / "a", weights())
    eye = {"model.vision_embed_tokens.glb_GN": ("BF16", [1, 1, 8], bytes(16)),
           "model.vision_embed_tokens.img_projection.0.bias": ("BF16", [8], bytes(16))}
    model = make(work / "b", weights() | eye,
                 updates={"architectures": ["Phi3VForCausalLM"], "model_type": "phi3_v"})
    texts = same_as_plain(work, model, plain, "mlx")
    assert texts == [f"{model}: the image encoder (2 tensors): left out, the text model alone is read"]


def test_text_of_a_model_that_hears(work):
    plain = make(work / "a", weights("phi4mini-tiny"), "phi4mini-tiny")
    tensors = {}
    for name, tensor in weights("phi4mini-tiny").items():
        tensors[name.replace("_proj.weight", "_proj.base_layer.weight")] = tensor
        if name.endswith("o_proj.weight"):
            for letter in "AB":
                tensors[name.replace(".weight", f".lora_{letter}.vision.weight")] = ("BF16", [1], bytes(2))
    tensors["model.embed_tokens_extend.audio_embed.encoder.weight"] = ("BF16", [1], bytes(2))
    model = make(work / "b", tensors, "phi4mini-tiny",
                 updates={"architectures": ["Phi4MMForCausalLM"], "model_type": "phi4mm"})
    texts = same_as_plain(work, model, plain, "gguf")
    assert [text.split(": ", 1)[1] for text in texts] == [
        "the adapters for images and speech (8 tensors): left out, the text model alone is read",
        "the image and speech encoders (1 tensor): left out, the text model alone is read"]


@pytest.mark.parametrize("rope", [{"type": "su", "rope_type": "longrope"}, {"type": "longrope", "rope_type": "su"},
                                  {"type": "LongRope"}, {"attention_factor": (1 + np.log(8) / np.log(512)) ** 0.5},
                                  {"factor": 8.0}])
def test_rope_settings_that_mean_the_same(work, rope):
    scaling = json.loads((DATA / "phi35-tiny" / "config.json").read_text())["rope_scaling"]
    plain = make(work / "a", weights())
    model = make(work / "b", weights(), updates={"rope_scaling": scaling | rope})
    assert same_as_plain(work, model, plain, "gguf") == []


def test_attention_factor_of_its_own(work):
    """Every table of cosines is multiplied by it."""
    scaling = json.loads((DATA / "phi35-tiny" / "config.json").read_text())["rope_scaling"]
    model = make(work / "b", weights(), updates={"rope_scaling": scaling | {"attention_factor": 1.25}})
    out = work / "out.gguf"
    run(["quantize", model, "--type", "F32", "-o", out], cwd=work).ok()
    shown = dict(run(["inspect", out, "--json"], cwd=work).ok().json()["metadata"])
    assert float(shown["phi3.rope.scaling.attn_factor"]) == 1.25
    result = run(["plan", model, "--format", "mlx"], cwd=work)
    assert result.code == 6 and "attention_factor 1.25" in result.err


def test_scales_that_only_phimoe_knows(work):
    scaling = json.loads((DATA / "phi35-tiny" / "config.json").read_text())["rope_scaling"]
    plain = make(work / "a", weights())
    model = make(work / "b", weights(), updates={"rope_scaling": scaling | {"short_mscale": 1.5, "long_mscale": 1.25}})
    (text,) = same_as_plain(work, model, plain, "gguf")
    assert "short_mscale and long_mscale in rope_scaling are not used" in text


def test_yarn_is_read_in_two_ways(work):
    """0.1 ln 8 + 1, and sqrt(1 + ln 8 / ln 512)."""
    scaling = json.loads((DATA / "phi35-tiny" / "config.json").read_text())["rope_scaling"]
    model = make(work / "a", weights(), updates={"rope_scaling": scaling | {"type": "yarn"}})
    texts = warnings(run(["plan", model]).ok())
    assert any("multiplied by 1.208, as llama.cpp does; transformers 4.43 and later take 1.155" in t for t in texts)


def test_another_name_of_silu(work):
    plain = make(work / "a", weights())
    assert same_as_plain(work, make(work / "b", weights(), updates={"hidden_act": "swish"}), plain, "gguf") == []


def test_rope_scaling_goes_before_rope_parameters(work):
    """Whole, as in transformers 5: convert_rope_params_to_dict takes `rope_scaling or self.rope_parameters`."""
    plain = make(work / "a", weights())
    model = make(work / "b", weights(), updates={"rope_parameters": {"rope_type": "longrope", "rope_theta": 500.0}})
    for kind in ("gguf", "onnx"):
        texts = same_as_plain(work, model, plain, kind)
        assert texts == [f"{model}/config.json: rope_parameters is not used: rope_scaling goes before it, as in transformers"]


def test_the_original_length_of_the_top_level_counts(work):
    scaling = json.loads((DATA / "phi35-tiny" / "config.json").read_text())["rope_scaling"]
    plain = make(work / "a", weights())
    model = make(work / "b", weights(), updates={"rope_scaling": scaling | {"original_max_position_embeddings": 256}})
    texts = same_as_plain(work, model, plain, "gguf")
    assert len(texts) == 1 and "is 256 in rope_scaling and not used: the top level has 512" in texts[0], texts


def test_minus_one_is_no_token(work):
    plain = make(work / "a", weights(), remove=("bos_token_id",))
    model = make(work / "b", weights(), updates={"bos_token_id": -1})
    assert same_as_plain(work, model, plain, "gguf") == []


def test_a_factor_that_versions_read_differently(folder):
    scaling = json.loads((DATA / "phi35-tiny" / "config.json").read_text())["rope_scaling"]
    side_files(folder, "phi35-tiny", {"rope_scaling": scaling | {"factor": 4.0}})
    write_safetensors(folder / "model.safetensors", weights())
    refused_by_both(folder, 6, "rope 'factor' is 4.0", "is 8", "remove 'factor'")


# --- other encodings -------------------------------------------------------------------------

def e4m3(code):
    sign, exponent, fraction = (-1) ** (code >> 7), code >> 3 & 15, code & 7
    return sign * (fraction * 2.0 ** -9 if exponent == 0 else (8 + fraction) * 2.0 ** (exponent - 10))


def e5m2(code):
    sign, exponent, fraction = (-1) ** (code >> 7), code >> 2 & 31, code & 3
    return sign * (fraction * 2.0 ** -16 if exponent == 0 else (4 + fraction) * 2.0 ** (exponent - 17))


def as_float8(tensors, kind, scales_of, end):
    """o_proj and down_proj as 8-bit codes with scales, and the same in float32."""
    random = np.random.default_rng(3)
    decode = np.array([(e4m3 if kind == "F8_E4M3" else e5m2)(c) for c in range(256)])
    finite = [c for c in range(256) if (c & 0x7F) < (0x7F if kind == "F8_E4M3" else 0x7C)]
    coded, plain = dict(tensors), dict(tensors)
    for name, (_, shape, _) in tensors.items():
        if not name.endswith(("o_proj.weight", "down_proj.weight")):
            continue
        codes = random.choice(finite, size=shape).astype(np.uint8)
        scales, spread = scales_of(shape, random)
        coded[name] = (kind, shape, codes.tobytes())
        if scales is not None:
            coded[name.removesuffix(".weight") + end] = ("F32", scales.shape, scales.astype("<f4").tobytes())
        values = decode[codes].astype("<f4") * spread.astype("<f4")
        plain[name] = ("F32", shape, values.astype("<f4").tobytes())
    return coded, plain


def blocks(shape, random):
    scales = random.uniform(0.001, 0.002, (-(-shape[0] // 128), -(-shape[1] // 128))).astype("<f4")
    return scales, np.kron(scales, np.ones((128, 128), "<f4"))[:shape[0], :shape[1]]


def small_blocks(shape, random):
    scales = random.uniform(0.001, 0.002, (-(-shape[0] // 96), -(-shape[1] // 80))).astype("<f4")
    return scales, np.kron(scales, np.ones((96, 80), "<f4"))[:shape[0], :shape[1]]


def rows(shape, random):
    scales = random.uniform(0.001, 0.002, (shape[0], 1)).astype("<f4")
    return scales, scales


def one(shape, random):
    scales = np.array(random.uniform(0.001, 0.002), "<f4").reshape(())
    return scales, scales


def none(shape, random):
    return None, np.float32(1)


@pytest.mark.parametrize("kind, scales, end, quantization", [
    ("F8_E4M3", blocks, ".weight_scale_inv", {"quant_method": "fp8", "weight_block_size": [128, 128]}),
    ("F8_E4M3", small_blocks, ".weight_scale_inv", {"quant_method": "fp8", "weight_block_size": [96, 80]}),
    ("F8_E4M3", rows, ".weight_scale", {"quant_method": "compressed-tensors", "format": "float-quantized"}),
    ("F8_E4M3", one, ".weight_scale", {"quant_method": "fp8"}),
    ("F8_E5M2", rows, ".weight_scale", {"quant_method": "fbgemm_fp8"}),
    ("F8_E5M2", none, "", None),
])
def test_eight_bit_floats(work, kind, scales, end, quantization):
    coded, floats = as_float8(weights(), kind, scales, end)
    plain = make(work / "a", floats)
    model = make(work / "b", coded, updates={"quantization_config": quantization} if quantization else None)
    for format in ["gguf"] + ["openvino"] * bool(quantization):  # nothing of the packing is said in the output
        texts = same_as_plain(work, model, plain, format)
        # Any code of E5M2 may come: some are far beyond the median of their row.
        texts = [text for text in texts if "the median of" not in text]
        assert texts == [f"{model}: 8 tensors of 8-bit floats: what they lost before is lost"]


def test_scales_of_activations_are_passed_over(work):
    coded, floats = as_float8(weights(), "F8_E4M3", one, ".weight_scale")
    coded |= {name.removesuffix("_scale").removesuffix("weight") + "input_scale": tensor
              for name, tensor in coded.items() if name.endswith("weight_scale")}
    coded["model.layers.0.self_attn.k_scale"] = ("F32", [], bytes(4))
    same_as_plain(work, make(work / "b", coded), make(work / "a", floats), "gguf")


def test_scales_of_a_cache_beside_plain_weights(work):
    name = "model.layers.0.self_attn.qkv_proj"
    scales = {f"{name}.{letter}_scale": ("F32", [1], bytes(4)) for letter in "kv"}
    model = make(work / "b", weights() | scales, updates={"quantization_config": {"quant_method": "compressed-tensors"}})
    (text,) = same_as_plain(work, model, make(work / "a", weights()), "gguf")
    assert "the weights are plain floats" in text


def test_scales_of_a_shape_of_their_own(folder):
    coded, _ = as_float8(weights(), "F8_E4M3", rows, ".weight_scale")
    name = "model.layers.0.self_attn.o_proj.weight_scale"
    coded[name] = ("F32", [3], bytes(12))
    side_files(folder, "phi35-tiny")
    write_safetensors(folder / "model.safetensors", coded)
    refused_by_both(folder, 6, name, "scales of type F32, [3]")


@pytest.mark.parametrize("quantization, n_left, needle", [
    (None, 1, "which other weights have"),
    ({"quant_method": "fp8"}, 0, "which quantization_config wants"),
])
def test_a_scale_that_got_lost(folder, quantization, n_left, needle):
    coded, _ = as_float8(weights(), "F8_E4M3", rows, ".weight_scale")
    scales = [name for name in coded if name.endswith("weight_scale")]
    for name in scales[n_left:]:
        del coded[name]
    side_files(folder, "phi35-tiny", {"quantization_config": quantization} if quantization else None)
    write_safetensors(folder / "model.safetensors", coded)
    refused_by_both(folder, 3, "8-bit floats without a scale", needle)


def test_doubles(work):
    """A bfloat16 is the same number as a double, and what lies between float32 numbers is rounded."""
    plain, model = weights(), weights()
    for name in ("model.layers.1.mlp.down_proj.weight", "model.norm.weight"):
        _, shape, content = plain[name]
        floats = (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4").astype("<f8")
        doubles = floats * (1 + 2.0 ** -26)
        model[name] = ("F64", shape, doubles.astype("<f8").tobytes())
        plain[name] = ("F32", shape, floats.astype("<f4").tobytes())
    assert same_as_plain(work, make(work / "b", model), make(work / "a", plain), "gguf") == []


@pytest.mark.parametrize("name, quantization, tool", [
    ("qweight", None, "GPTQ or AWQ"),
    ("weight.absmax", {"quant_method": "bitsandbytes"}, "bitsandbytes"),
    ("weight.absmax", None, "bitsandbytes"),
    ("weight_packed", {"quant_method": "compressed-tensors", "format": "marlin-24"}, "compressed-tensors"),
    ("weight_packed", None, "compressed-tensors"),
    ("W_q", {"quant_method": "hqq"}, "HQQ"),
    ("codes", {"quant_method": "somebody"}, "'somebody'"),
])
def test_packed_weights(folder, name, quantization, tool):
    tensors = weights()
    packed = "model.layers.0.self_attn.qkv_proj.weight"
    del tensors[packed]
    tensors[packed.removesuffix("weight") + name] = ("I32", [4, 4], bytes(64))
    side_files(folder, "phi35-tiny", {"quantization_config": quantization} if quantization else None)
    write_safetensors(folder / "model.safetensors", tensors)
    refused_by_both(folder, 6, "already quantized by", tool, "convert the checkpoint they were made from")


@pytest.mark.parametrize("quantization, why", [
    ({"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": True},
     "GPTQ in the order of activations ('desc_act') is not read"),
    ({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemv"},
     "AWQ of another version than gemm is not read")])
def test_forms_of_quantized_folders_that_are_not_read(folder, quantization, why):
    tensors = weights()
    del tensors["model.layers.0.self_attn.qkv_proj.weight"]
    tensors["model.layers.0.self_attn.qkv_proj.qweight"] = ("I32", [4, 4], bytes(64))
    side_files(folder, "phi35-tiny", {"quantization_config": quantization})
    write_safetensors(folder / "model.safetensors", tensors)
    refused_by_both(folder, 6, why)


def test_packed_bytes_under_the_weights_name(folder):
    tensors = weights()
    tensors["model.layers.0.self_attn.qkv_proj.weight"] = ("U8", [98304, 1], bytes(98304))
    side_files(folder, "phi35-tiny", {"quantization_config": {"quant_method": "bitsandbytes"}})
    write_safetensors(folder / "model.safetensors", tensors)
    refused_by_both(folder, 6, "already quantized by bitsandbytes")


def test_a_quantization_config_over_plain_floats(work):
    plain = make(work / "a", weights())
    model = make(work / "b", weights(), updates={"quantization_config": {"quant_method": "bitsandbytes"}})
    texts = same_as_plain(work, model, plain, "openvino")
    assert texts == [f"{model}/config.json: quantization_config (bitsandbytes) is left out: the weights are "
                     "plain floats"]


@pytest.mark.parametrize("kind", ["mlx", "openvino"])
def test_a_quantization_of_mlx_over_plain_floats(work, kind):
    """mlx-lm would look for codes that are not there."""
    plain = make(work / "a", weights())
    model = make(work / "b", weights(), updates={"quantization": {"group_size": 64, "bits": 4}})
    (text,) = same_as_plain(work, model, plain, kind)
    assert "(MLX) is left out: the weights are plain floats" in text


# --- more rows -------------------------------------------------------------------------------

def resized(work, n_rows, tokens, base="phi35-tiny", copies=False):
    """`tokens` without rows, and the same with rows that are the mean of the others; `copies`: in the weights' own type."""
    plain, tensors = make(work / "a", weights(base), base), weights(base)
    size = tensors["model.embed_tokens.weight"][1][0]
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name not in tensors:
            continue  # tied
        _, (rows, columns), content = tensors[name]
        values = (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4").reshape(rows, columns)
        mean = values.astype("<f8").sum(0) / rows
        more = np.concatenate([values, np.repeat(mean.astype("<f4")[None], n_rows - rows, 0)])
        content = bf16(more) if copies else more.astype("<f4").tobytes()
        tensors[name] = ("BF16" if copies else "F32", [n_rows, columns], content)
    wanted = make(work / "b", tensors, base, updates={"vocab_size": n_rows})
    for folder in (plain, wanted):
        path = folder / "tokenizer.json"
        tokenizer = json.loads(path.read_text())
        tokenizer["added_tokens"] += [
            {"id": size + i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True} for i, token in enumerate(tokens)]
        path.write_text(json.dumps(tokenizer))
    return plain, wanted


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("base, n_rows", [("phi35-tiny", 2176), ("phi4mini-tiny", None)])
def test_rows_for_all_tokens(work, kind, base, n_rows):
    size = weights(base)["model.embed_tokens.weight"][1][0]
    n_rows = n_rows or (size + 2 + 63) // 64 * 64
    # PyTorch's folders have embedding and head as they are.
    model, resaved = resized(work, n_rows, ["<pad>", "<tool>"], base, copies=kind == "torch")
    _, wanted = write(resaved, work, kind)
    result, found = write(model, work, kind, "--pad-vocab", "64")
    assert found == wanted
    run(["verify", work / f"out-{kind}", "--against", model, "--pad-vocab", "64"], cwd=work).ok()
    assert run(["verify", work / f"out-{kind}", "--against", model], cwd=work).code == 1
    assert not any("cannot be given it" in text for text in warnings(result))


@pytest.mark.parametrize("kind", [kind for kind in OUTPUTS if kind in ("gguf", "onnx", "mlx")])
def test_a_heads_bias_becomes_longer_with_it(work, kind):
    model = make(work / "a", weights("phimoe-tiny"), "phimoe-tiny")
    tensors = weights("phimoe-tiny")
    for name in ("model.embed_tokens.weight", "lm_head.weight", "lm_head.bias"):
        _, shape, content = tensors[name]
        values = (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4").reshape(shape)
        mean = (values.astype("<f8").sum(0 if len(shape) == 2 else None) / shape[0]).astype("<f4")
        more = np.concatenate([values, np.repeat(mean[None], 64, 0)])
        tensors[name] = ("F32", list(more.shape), more.tobytes())
    size = shape[0] + 64
    resaved = make(work / "b", tensors, "phimoe-tiny", updates={"vocab_size": size})
    _, wanted = write(resaved, work, kind)
    result, found = write(model, work, kind, "--pad-vocab", str(size))
    assert found == wanted
    run(["verify", work / f"out-{kind}", "--against", model, "--pad-vocab", str(size)], cwd=work).ok()


def test_rows_are_the_same_for_any_threads_and_limit(work):
    model, _ = resized(work, 2176, ["<pad>"])
    outputs = [write(model, work, "gguf", "--pad-vocab", "64", *options)[1]
               for options in (["--threads", "1"], ["--threads", "7"], ["--memory-limit", "40M"])]
    assert outputs[0] == outputs[1] == outputs[2]


def test_a_vocabulary_that_is_padded_already_stays(work):
    plain = make(work / "a", weights())
    assert write(plain, work, "mlx", "--pad-vocab", "64")[1] == write(plain, work, "mlx")[1]
    assert write(plain, work, "mlx", "--pad-vocab", "1")[1] == write(plain, work, "mlx")[1]


@pytest.mark.parametrize("value", ["0", "x", "-1", "2000000"])
def test_rows_up_to_a_multiple_of_what(work, value):
    result = run(["plan", make(work / "a", weights()), "--pad-vocab", value])
    assert result.code == 2 and "--pad-vocab" in result.err


def test_an_end_of_text_without_a_row(work):
    model, _ = resized(work, 2176, ["<|eot|>"])
    config = json.loads((model / "config.json").read_text()) | {"eos_token_id": 2112}
    (model / "config.json").write_text(json.dumps(config))
    refused_by_both(model, 3, "'eos_token_id' is 2112", "--pad-vocab N adds rows")
    run(["plan", model, "--pad-vocab", "64"], cwd=work).ok()
