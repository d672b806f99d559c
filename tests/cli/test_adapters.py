"""LoRA adapters: merged with --adapter, never taken for a model, never left out without a word."""
import json
import shutil

import numpy as np
import pytest

from harness import (DATA, MIB, read_safetensors, refused, refused_by_both, run, warnings,
                     write_safetensors)

ADAPTERS = DATA / "golden" / "adapters"
MODEL = DATA / "phi35-tiny"


def floats(tensor):
    dtype, shape, content = tensor
    if dtype == "F32":
        return np.frombuffer(content, "<f4").reshape(shape)
    return (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4").reshape(shape)


def merged_by_hand(tensors, adapter):
    """The same formula in numpy, every operation in float32 and in the order of the rank."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    scale = np.float32(config["lora_alpha"] / config["r"])
    pairs = read_safetensors(adapter / "adapter_model.safetensors")
    result = dict(tensors)
    for name, tensor in pairs.items():
        if ".lora_A." not in name:
            continue
        a, b = floats(tensor), floats(pairs[name.replace("lora_A", "lora_B")])
        weight = name.removeprefix("base_model.model.").replace(".lora_A", "")
        sums = np.zeros((b.shape[0], a.shape[1]), "<f4")
        for k in range(a.shape[0]):
            sums += b[:, k:k + 1] * a[k:k + 1]
        result[weight] = ("F32", result[weight][1], (floats(result[weight]) + sums * scale).tobytes())
    return result


def without_names(result):
    return [text for text in warnings(result) if "general.name" not in text]


def copy(source, target, **changes):
    shutil.copytree(source, target)
    if changes:
        path = target / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return target


@pytest.mark.parametrize("form, type_name", [("gguf", "Q4_K_M"), ("onnx", "int4"), ("openvino", "INT4_SYM"),
                                             ("mlx", "4bit"), ("litert", "int4"), ("torch", "W4A16"), ("torch", "AWQ")])
def test_is_what_a_merged_checkpoint_gives(work, form, type_name):
    by_hand = work / "phi35-tiny"
    shutil.copytree(MODEL, by_hand)
    write_safetensors(by_hand / "model.safetensors",
                      merged_by_hand(read_safetensors(MODEL / "model.safetensors"), ADAPTERS / "plain"))
    wanted, found = work / "wanted", work / "found"
    run(["quantize", by_hand, "--format", form, "--type", type_name, "-o", wanted, "--no-fsync"]).ok()
    result = run(["quantize", MODEL, "--adapter", ADAPTERS / "plain", "--format", form, "--type", type_name,
                  "-o", found, "--no-fsync"]).ok()
    assert without_names(result) == []
    for path in sorted(wanted.rglob("*")) if wanted.is_dir() else [wanted]:
        assert (found / path.relative_to(wanted)).read_bytes() == path.read_bytes(), path
    run(["verify", found, "--against", MODEL, "--adapter", ADAPTERS / "plain"]).ok()
    assert run(["verify", found, "--against", MODEL]).code == 1


def test_several_in_a_row_and_a_small_limit(work):
    both = ["--adapter", ADAPTERS / "plain", "--adapter", ADAPTERS / "patterns"]
    outputs = []
    for options in (["--threads", "1"], ["--threads", "7"], ["--memory-limit", "40M"]):
        run(["quantize", MODEL, *both, "--type", "Q8_0", "-o", work / "out.gguf", "--force", *options]).ok()
        outputs.append((work / "out.gguf").read_bytes())
    assert outputs[0] == outputs[1] == outputs[2]
    run(["quantize", MODEL, *both[2:], *both[:2], "--type", "Q8_0", "-o", work / "other.gguf"]).ok()
    run(["quantize", MODEL, *both[:2], "--type", "Q8_0", "-o", work / "one.gguf"]).ok()
    assert (work / "one.gguf").read_bytes() != outputs[0]


def test_evaluation_and_comparison_merge_it_too(work):
    ids = work / "ids"
    ids.write_text(" ".join(str(i * 7 % 2000) for i in range(64)))
    out = work / "out.gguf"
    options = ["--adapter", ADAPTERS / "plain"]
    run(["quantize", MODEL, *options, "--type", "F32", "-o", out]).ok()
    result = run(["eval", out, "--against", MODEL, *options, "--ids", ids, "--ctx", "32", "--json"]).ok().json()
    assert result["models"][0]["kl"]["mean"] < 1e-6
    other = run(["eval", out, "--against", MODEL, "--ids", ids, "--ctx", "32", "--json"]).ok().json()
    assert other["models"][0]["kl"]["mean"] > 1e-3
    same = run(["compare", MODEL, out, *options, "--json"]).ok().json()
    assert same["relative_rmse"] == 0
    checked = run(["quantize", MODEL, *options, "--type", "F32", "-o", out, "--force", "--eval-text",
                   DATA / "heldout.txt", "--chunks", "1", "--max-kl", "0.000001"])
    checked.ok()


def test_a_whole_module_takes_the_place_of_the_models(work):
    adapter = copy(ADAPTERS / "plain", work / "adapter")
    tensors = read_safetensors(adapter / "adapter_model.safetensors")
    _, shape, content = read_safetensors(MODEL / "model.safetensors")["lm_head.weight"]
    head = (floats(("BF16", shape, content)) * np.float32(2)).astype("<f4")
    tensors["base_model.model.lm_head.weight"] = ("F32", shape, head.tobytes())
    write_safetensors(adapter / "adapter_model.safetensors", tensors)
    run(["quantize", MODEL, "--adapter", adapter, "--type", "F32", "-o", work / "out.gguf"]).ok()
    assert head.tobytes() in (work / "out.gguf").read_bytes()
    tensors["base_model.model.lm_head.weight"] = ("F32", (2113, 256), bytes(2113 * 256 * 4))
    write_safetensors(adapter / "adapter_model.safetensors", tensors)
    result = run(["plan", MODEL, "--adapter", adapter])
    refused(result, 3, "lm_head.weight", "shape [2113, 256], the model has [2112, 256]")


@pytest.mark.parametrize("changes, needle", [
    ({"use_dora": True}, "'use_dora' true"),
    ({"bias": "all"}, "'bias' 'all'"),
    ({"lora_bias": True}, "'lora_bias' true"),
    ({"fan_in_fan_out": True}, "'fan_in_fan_out' true"),
    ({"peft_type": "IA3"}, "peft_type 'IA3'"),
    ({"peft_type": None}, "peft_type ''"),
    ({"init_lora_weights": "pissa_niter_16"}, "pissa_niter_16"),
    ({"trainable_token_indices": [1, 2]}, "'trainable_token_indices'"),
    ({"alora_invocation_tokens": [1]}, "'alora_invocation_tokens'"),
    ({"rank_pattern": {"(q|k)_proj": 2}}, "the pattern '(q|k)_proj'"),
])
def test_other_adapters_are_refused_by_name(work, changes, needle):
    adapter = copy(ADAPTERS / "plain", work / "adapter", **changes)
    refused(run(["plan", MODEL, "--adapter", adapter]), 6, "adapter_config.json", needle, "merge it with PEFT")


@pytest.mark.parametrize("changes, needle", [
    ({"r": 5}, "shape [4, 768], expected shape [5, 768]"),
    ({"r": 0}, "'r' is 0"),
    ({"r": None}, "'r' is missing"),
    ({"lora_alpha": "8"}, "'lora_alpha' is \"8\""),
])
def test_a_configuration_that_is_not_of_these_matrices(work, changes, needle):
    adapter = copy(ADAPTERS / "plain", work / "adapter", **changes)
    refused(run(["plan", MODEL, "--adapter", adapter]), 3, needle)


def test_numbers_that_are_none_are_the_adapters_fault(work):
    adapter = copy(ADAPTERS / "plain", work / "adapter")
    tensors = read_safetensors(adapter / "adapter_model.safetensors")
    name = next(iter(tensors))
    dtype, shape, content = tensors[name]
    assert dtype == "F32"
    tensors[name] = (dtype, shape, np.float32(np.nan).tobytes() + content[4:])
    write_safetensors(adapter / "adapter_model.safetensors", tensors)
    for option in ([], ["--nan", "zero"]):
        result = run(["quantize", MODEL, "--adapter", adapter, "-o", work / "out.gguf", *option])
        refused(result, 9, "adapter_model.safetensors", name, "has NaN or Inf")


def test_an_adapter_in_doubles(work):
    adapter = copy(ADAPTERS / "plain", work / "adapter")
    tensors = {name: ("F64", shape, floats((dtype, shape, content)).astype("<f8").tobytes())
               for name, (dtype, shape, content) in
               read_safetensors(adapter / "adapter_model.safetensors").items()}
    write_safetensors(adapter / "adapter_model.safetensors", tensors)
    for name, which in (("single", ADAPTERS / "plain"), ("double", adapter)):
        run(["quantize", MODEL, "--adapter", which, "--type", "F32", "-o", work / name]).ok()
    assert (work / "single").read_bytes() == (work / "double").read_bytes()


def test_an_adapter_of_another_model(work):
    adapter = copy(ADAPTERS / "plain", work / "adapter")
    tensors = read_safetensors(adapter / "adapter_model.safetensors")
    name = "base_model.model.model.layers.0.self_attn.qkv_proj.lora_A.weight"
    moved = dict(tensors)
    moved[name.replace("layers.0.", "layers.9.")] = moved.pop(name)
    write_safetensors(adapter / "adapter_model.safetensors", moved)
    refused(run(["plan", MODEL, "--adapter", adapter]), 3, "layers.9.", "has no counterpart in the model",
            "'phi35-tiny'")
    del tensors[name]
    write_safetensors(adapter / "adapter_model.safetensors", tensors)
    refused(run(["plan", MODEL, "--adapter", adapter]), 3, "has one matrix of the two")


def test_the_embedding_of_a_tied_model(work):
    refused(run(["plan", DATA / "phi4mini-tiny", "--adapter", ADAPTERS / "patterns"]), 6,
            "embedding and head are one tensor")


def test_what_is_no_adapter(work):
    refused(run(["plan", MODEL, "--adapter", work / "none"]), 4, "none")
    refused(run(["plan", MODEL, "--adapter", MODEL]), 4, "adapter_config.json", "not found")
    adapter = copy(ADAPTERS / "plain", work / "adapter")
    (adapter / "adapter_model.safetensors").unlink()
    refused(run(["plan", MODEL, "--adapter", adapter]), 4, "adapter_model.safetensors", "not found")


def test_its_own_tokenizer_is_named(work):
    adapter = copy(ADAPTERS / "plain", work / "adapter")
    shutil.copyfile(MODEL / "tokenizer.json", adapter / "tokenizer.json")
    assert without_names(run(["plan", MODEL, "--adapter", adapter]).ok()) == []
    (adapter / "chat_template.jinja").write_text("other")
    texts = without_names(run(["plan", MODEL, "--adapter", adapter]).ok())
    assert texts == [f"{adapter}: chat_template.jinja of the adapter differs from the model's and is not used"]


# --- without the option ----------------------------------------------------------------------

def test_an_adapter_alone(folder):
    shutil.copytree(ADAPTERS / "plain", folder, dirs_exist_ok=True)
    refused_by_both(folder, 6, "is an adapter of phi35-tiny, not a model", f"--adapter {folder}")
    shutil.copyfile(MODEL / "config.json", folder / "config.json")
    refused_by_both(folder, 6, "is an adapter of phi35-tiny, not a model")


def test_an_adapter_beside_the_model(folder):
    shutil.copytree(MODEL, folder, dirs_exist_ok=True)
    plain = run(["quantize", folder, "--type", "Q8_0", "-o", folder.parent / "plain.gguf"]).ok()
    assert without_names(plain) == []
    shutil.copytree(ADAPTERS / "plain", folder, dirs_exist_ok=True)
    beside = run(["quantize", folder, "--type", "Q8_0", "-o", folder.parent / "beside.gguf"]).ok()
    assert without_names(beside) == [f"{folder}: the adapter beside the weights (of phi35-tiny) is not applied: "
                                     f"--adapter {folder} merges it"]
    assert (folder.parent / "beside.gguf").read_bytes() == (folder.parent / "plain.gguf").read_bytes()
    strict = run(["quantize", folder, "--type", "Q8_0", "-o", folder.parent / "strict.gguf", "--werror"])
    assert strict.code != 0 and not (folder.parent / "strict.gguf").exists()
    merged = run(["quantize", folder, "--adapter", folder, "--type", "Q8_0", "-o", folder.parent / "merged.gguf"]).ok()
    assert without_names(merged) == []
    assert (folder.parent / "merged.gguf").read_bytes() != (folder.parent / "plain.gguf").read_bytes()


def test_a_rank_takes_no_memory_that_was_not_planned(work):
    """Rank 512 of every matrix: more numbers than the model."""
    rank = 512
    shapes = {name: tensor[1] for name, tensor in read_safetensors(MODEL / "model.safetensors").items()
              if "proj" in name}
    tensors = {}
    for name, (rows, columns) in shapes.items():
        module = "base_model.model." + name.removesuffix(".weight")
        tensors[module + ".lora_A.weight"] = ("BF16", (rank, columns), bytes(2 * rank * columns))
        tensors[module + ".lora_B.weight"] = ("BF16", (rows, rank), bytes(2 * rank * rows))
    adapter = copy(ADAPTERS / "plain", work / "adapter", r=rank)
    write_safetensors(adapter / "adapter_model.safetensors", tensors)
    result = run(["quantize", MODEL, "--adapter", adapter, "--type", "F32", "-o", work / "out.gguf",
                  "--memory-limit", "64M", "--json"], timeout=120).ok().json()
    assert result["peak_memory_bytes"] < 64 * MIB
    plain = run(["quantize", MODEL, "--type", "F32", "-o", work / "plain.gguf"]).ok()
    assert plain.code == 0 and (work / "plain.gguf").read_bytes() == (work / "out.gguf").read_bytes()
