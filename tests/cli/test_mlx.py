"""MLX folders as the program writes them: files, config.json, exact sizes, the same bytes however they are made."""
import hashlib
import json
import re
import shutil

import numpy as np
import pytest

from harness import (DATA, PHIQ, RECORD, bf16, make_checkpoint, read_header, read_safetensors, refused, run,
                     snapshot, temporaries, tiny, warnings)

MODELS = ("phi35-tiny", "phi4mini-tiny")
MODEL = DATA / "phi35-tiny"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
COPIED = {"generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
          "added_tokens.json"}
MORE = {"phi35-tiny": {"tokenizer.model"}, "phi4mini-tiny": {"vocab.json", "merges.txt"}}
TYPES = ("F16", "8bit", "4bit", "mixed_4_6", "mxfp4", "nvfp4")
O_PROJ = "model.layers.0.self_attn.o_proj.weight"
STRACE = shutil.which("strace")


def quantize(model, out, *options):
    return run(["quantize", model, "--format", "mlx", "-o", out, "--no-fsync", *options])


def plan(model, *options):
    return run(["plan", model, "--format", "mlx", "--json", *options]).ok().json()


def verified(folder, checkpoint):
    return run(["verify", folder, "--against", checkpoint]).ok()


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def read_json(path):
    return json.loads(path.read_text())


def metadata(folder):
    return read_header(folder / WEIGHTS)[0]["__metadata__"]


def change_config(checkpoint, change):
    config = read_json(checkpoint / "config.json")
    change(config)
    (checkpoint / "config.json").write_text(json.dumps(config))
    return config


@pytest.fixture
def checkpoint(folder):
    return make_checkpoint(folder / "checkpoint")


# --- files and sizes -------------------------------------------------------------------------

@pytest.mark.parametrize("name", MODELS)
def test_the_folder_has_these_files(folder, name):
    quantize(DATA / name, folder / "out").ok()
    assert {path.name for path in (folder / "out").iterdir()} == {WEIGHTS, INDEX, "config.json", "README.md", RECORD,
                                                                  *COPIED, *MORE[name]}
    for copied in COPIED | MORE[name]:
        assert (folder / "out" / copied).read_bytes() == (DATA / name / copied).read_bytes()


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("name", MODELS)
def test_plan_says_the_exact_size(folder, name, type):
    planned = plan(DATA / name, "--type", type, "-o", folder / "out")
    quantize(DATA / name, folder / "out", "--type", type).ok()
    sizes = {str(path): path.stat().st_size for path in (folder / "out").iterdir()}
    assert {file["path"]: file["bytes"] for file in planned["files"]} == sizes
    assert planned["output_bytes"] == sum(sizes.values())
    verified(folder / "out", DATA / name)


@pytest.mark.parametrize("type", TYPES)
def test_bytes_hang_on_neither_threads_nor_memory(folder, type):
    quantize(MODEL, folder / "one", "--threads", "1", "--type", type).ok()
    quantize(MODEL, folder / "eight", "--threads", "8", "--memory-limit", "40MiB", "--type", type).ok()
    assert digests(folder / "one") == digests(folder / "eight")


def test_the_default_name(work):
    run(["quantize", MODEL, "--format", "mlx", "--no-fsync"], cwd=work).ok()
    run(["quantize", MODEL, "--format", "mlx", "--type", "MXFP4", "--no-fsync"], cwd=work).ok()
    run(["quantize", MODEL, "--profile", "apple", "--precision", "int8", "--no-fsync"], cwd=work).ok()
    assert {path.name for path in work.iterdir()} == {f"phi35-tiny-mlx-{type}" for type in ("4bit", "mxfp4", "8bit")}


@pytest.mark.parametrize("type", ["4bit", "mxfp4", "F16"])
def test_header_and_index(folder, type):
    quantize(MODEL, folder / "out", "--type", type).ok()
    tensors = read_safetensors(folder / "out" / WEIGHTS)
    assert metadata(folder / "out") == {"format": "mlx", "phiq.version": "0.1.0", "phiq.type": type}
    assert read_header(folder / "out" / WEIGHTS)[1] % 64 == 0
    parameters = sum(int(np.prod(shape)) for _, shape, _ in read_safetensors(MODEL / WEIGHTS).values())
    index = {"metadata": {"total_size": sum(len(content) for _, _, content in tensors.values()),
                          "total_parameters": parameters},
             "weight_map": {name: WEIGHTS for name in sorted(tensors)}}
    assert (folder / "out" / INDEX).read_text() == json.dumps(index, indent=4)


# --- tensors ---------------------------------------------------------------------------------

# type: bits, group size, dtype of the scales, whether there are biases
ARRAYS = {"8bit": (8, 64, "BF16", True), "3bit": (3, 64, "BF16", True), "mxfp8": (8, 32, "U8", False),
          "mxfp4": (4, 32, "U8", False), "nvfp4": (4, 16, "U8", False)}


@pytest.mark.parametrize("type", ARRAYS)
@pytest.mark.parametrize("name", MODELS)
def test_names_types_and_shapes(folder, name, type):
    bits, group_size, scales, has_biases = ARRAYS[type]
    quantize(DATA / name, folder / "out", "--type", type).ok()
    expected = {}
    for tensor, (dtype, shape, _) in read_safetensors(DATA / name / WEIGHTS).items():
        if len(shape) == 1:
            expected[tensor] = ("BF16", shape)
            continue
        module, (rows, columns) = tensor.removesuffix(".weight"), shape
        expected[tensor] = ("U32", (rows, columns * bits // 32))
        for array in ("scales", "biases")[:1 + has_biases]:
            expected[f"{module}.{array}"] = (scales, (rows, columns // group_size))
    assert {tensor: (dtype, shape) for tensor, (dtype, shape, _)
            in read_safetensors(folder / "out" / WEIGHTS).items()} == expected


def test_group_sizes(folder):
    for group_size in (32, 64, 128):
        quantize(MODEL, folder / f"{group_size}", "--type", "4bit", "--group-size", group_size).ok()
        scales = read_safetensors(folder / f"{group_size}" / WEIGHTS)["lm_head.scales"]
        assert scales[1] == (2112, 256 // group_size)
        assert read_json(folder / f"{group_size}" / "config.json")["quantization"]["group_size"] == group_size


@pytest.mark.parametrize("torch_dtype, dtype", [("float16", "F16"), ("float32", "F32"), ("bfloat16", "BF16"),
                                                (None, "BF16")])
def test_floats_have_the_checkpoints_torch_dtype(checkpoint, folder, torch_dtype, dtype):
    change_config(checkpoint, lambda config: config.update(torch_dtype=torch_dtype))
    quantize(checkpoint, folder / "out").ok()
    tensors = read_safetensors(folder / "out" / WEIGHTS)
    assert {tensors[name][0] for name in tensors if not name.endswith(".weight") or "norm" in name} == {dtype}
    verified(folder / "out", checkpoint)


@pytest.mark.parametrize("type, dtype", [("F16", "float16"), ("BF16", "bfloat16"), ("F32", "float32")])
def test_unquantized_folders_say_their_type(checkpoint, folder, type, dtype):
    change_config(checkpoint, lambda config: config.update(dtype="bfloat16"))
    quantize(checkpoint, folder / "out", "--type", type).ok()
    config = read_json(folder / "out" / "config.json")
    assert (config["torch_dtype"], config["dtype"]) == (dtype, dtype)
    assert not {"quantization", "quantization_config"} & set(config)
    assert {tensor[0] for tensor in read_safetensors(folder / "out" / WEIGHTS).values()} == {type}


def test_a_dtype_that_the_tensors_do_not_have_is_corrected(checkpoint, folder):
    """mlx-lm looks at torch_dtype alone; without it tensors keep their types."""
    change_config(checkpoint, lambda config: config.update(dtype=config.pop("torch_dtype") and "float16"))
    quantize(checkpoint, folder / "out").ok()
    config = read_json(folder / "out" / "config.json")
    assert (config["torch_dtype"], config["dtype"]) == ("bfloat16", "bfloat16")
    assert read_safetensors(folder / "out" / WEIGHTS)["model.norm.weight"][0] == "BF16"


def test_a_tied_head_is_not_stored(folder):
    quantize(DATA / "phi4mini-tiny", folder / "out").ok()
    assert not [name for name in read_safetensors(folder / "out" / WEIGHTS) if name.startswith("lm_head")]


def test_a_head_that_a_tied_checkpoint_has_all_the_same_is_dropped(work):
    tiny(work / "without" / "model", base="phi4mini-tiny")
    embedding = read_safetensors(work / "without" / "model" / WEIGHTS)["model.embed_tokens.weight"]
    tiny(work / "with" / "model", base="phi4mini-tiny", tensors_update={"lm_head.weight": embedding})
    for name in ("with", "without"):
        quantize(work / name / "model", work / name / "out").ok()
    assert digests(work / "with" / "out") == digests(work / "without" / "out")


def test_rows_that_groups_do_not_fit_stay_floats(folder):
    down = "model.layers.0.mlp.down_proj"
    model = tiny(folder / "model", intermediate=320)
    result = quantize(model, folder / "out", "--group-size", "128").ok()
    assert warnings(result) == [f"tensor '{down}.weight': row of 320 is not a multiple of 128: affine4 g128 -> BF16"]
    tensors = read_safetensors(folder / "out" / WEIGHTS)
    assert tensors[f"{down}.weight"][:2] == ("BF16", (256, 320)) and f"{down}.scales" not in tensors
    verified(folder / "out", model)
    refused(quantize(model, folder / "out2", "--group-size", "128", "--strict-types"), 6, down, "multiple of 128")


def test_metal_rounds_otherwise(folder):
    for rounding in ("cpu", "metal"):
        for name, type in [("affine", "4bit"), ("floats", "mxfp4")]:
            out = folder / f"{name}-{rounding}"
            quantize(MODEL, out, "--type", type, "--mlx-rounding", rounding).ok()
            verified(out, MODEL)
    quantize(MODEL, folder / "default").ok()
    assert digests(folder / "default") == digests(folder / "affine-cpu")
    for name in ("affine", "floats"):
        cpu, metal = (digests(folder / f"{name}-{rounding}") for rounding in ("cpu", "metal"))
        assert {file for file in cpu if cpu[file] != metal[file]} == {WEIGHTS, RECORD}


# --- config.json -----------------------------------------------------------------------------

def affine(bits, group_size=64):
    return {"group_size": group_size, "bits": bits, "mode": "affine"}


def config_text(checkpoint, quantization=None, **changes):
    """config.json as mlx-lm's save_config writes it, with Python's own json."""
    config = {**read_json(checkpoint / "config.json"),
              "eos_token_id": read_json(checkpoint / "generation_config.json")["eos_token_id"], **changes}
    config.pop("_name_or_path", None)
    if quantization:
        config["quantization"] = config["quantization_config"] = quantization
    return json.dumps(dict(sorted(config.items())), indent=4)


COMMON = {"4bit": affine(4), "2bit": affine(2), "mxfp4": {"group_size": 32, "bits": 4, "mode": "mxfp4"},
          "mxfp8": {"group_size": 32, "bits": 8, "mode": "mxfp8"},
          "nvfp4": {"group_size": 16, "bits": 4, "mode": "nvfp4"}}


@pytest.mark.parametrize("type", COMMON)
@pytest.mark.parametrize("name", MODELS)
def test_config_json(folder, name, type):
    quantize(DATA / name, folder / "out", "--type", type).ok()
    text = (folder / "out" / "config.json").read_text()
    assert text == config_text(DATA / name, COMMON[type])
    assert json.loads(text)["eos_token_id"] == {"phi35-tiny": [2055, 2049, 2048], "phi4mini-tiny": [2051, 2048]}[name]


def test_config_json_keeps_what_it_does_not_know(checkpoint, folder):
    change_config(checkpoint, lambda config: config.update(
        _name_or_path="/home/someone", auto_map={"AutoConfig": "configuration_phi3.Phi3Config"}, zeta=[], Alpha={},
        note="sch\u00f6n \U0001f600 \"quoted\" \\ \x1f", small=1e-7, large=1e22))
    quantize(checkpoint, folder / "out").ok()
    text = (folder / "out" / "config.json").read_text()
    assert text == config_text(checkpoint, affine(4))
    assert "_name_or_path" not in text and "sch\\u00f6n \\ud83d\\ude00" in text


def recipe(checkpoint, low, high):
    """mixed_LOW_HIGH by the rule of mlx-lm's mixed_quant_predicate_builder, which finds "v_proj" in "qkv_proj"."""
    config = read_json(checkpoint / "config.json")
    n = config["num_hidden_layers"]

    def bits(module):
        i = int(module.split(".")[2]) if ".layers." in module else 0
        more = i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2
        favoured = "lm_head" in module or more and ("v_proj" in module or "down_proj" in module)
        return high if favoured else low

    modules = ["model.embed_tokens"]
    modules += [f"model.layers.{i}.{name}" for i in range(n)
                for name in ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")]
    modules += [] if config["tie_word_embeddings"] else ["lm_head"]
    return {module: bits(module) for module in modules}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("low, high", [(4, 6), (3, 6), (3, 4), (2, 6)])
def test_recipes_list_every_module(folder, name, low, high):
    quantize(DATA / name, folder / "out", "--type", f"mixed_{low}_{high}").ok()
    bits = recipe(DATA / name, low, high)
    assert set(bits.values()) == {low, high}
    # The values for all are mlx-lm's defaults, which no module takes.
    expected = {**affine(4), **{module: affine(bits[module]) for module in bits}}
    assert (folder / "out" / "config.json").read_text() == config_text(DATA / name, expected)
    tensors = read_safetensors(folder / "out" / WEIGHTS)
    for module in bits:
        # All K of the tiny checkpoints are multiples of 64: scales tell K.
        columns = tensors[f"{module}.scales"][1][1] * 64
        assert tensors[f"{module}.weight"][1][1] == columns * bits[module] // 32


def test_rules_become_entries(folder):
    quantize(MODEL, folder / "out", "--type", "4bit", "--tensor-type", "down_proj=8bit", "--tensor-type",
             r"layers\.1\.mlp\.down=mxfp4", "--tensor-type", "lm_head=BF16", "--tensor-type", "o_proj=4bit").ok()
    downs = {f"model.layers.{i}.mlp.down_proj": affine(8) if i != 1 else COMMON["mxfp4"] for i in range(4)}
    assert (folder / "out" / "config.json").read_text() == config_text(MODEL, {**affine(4), **downs})
    tensors = read_safetensors(folder / "out" / WEIGHTS)
    assert tensors["lm_head.weight"][0] == "BF16" and "lm_head.scales" not in tensors
    assert "model.layers.1.mlp.down_proj.biases" not in tensors
    verified(folder / "out", MODEL)


def test_a_rule_may_quantize_one_tensor_alone(folder):
    quantize(MODEL, folder / "out", "--type", "F16", "--tensor-type", "embed=6bit", "--group-size", "32").ok()
    assert (folder / "out" / "config.json").read_text() == config_text(MODEL, affine(6, 32), torch_dtype="float16")
    verified(folder / "out", MODEL)


# --- configurations that transformers 5 saved ------------------------------------------------

def newer(checkpoint):
    """Renames keys of config.json as transformers 5 does; returns the old ones."""
    old = {}

    def change(config):
        scaling = config.pop("rope_scaling")
        old.update(rope_scaling=scaling, partial_rotary_factor=config.pop("partial_rotary_factor", 1.0))
        old.update({key: config.pop(key) for key in ("rope_theta", "torch_dtype")})
        config["rope_parameters"] = {"rope_type": scaling["type"], "rope_theta": old["rope_theta"],
                                     "partial_rotary_factor": old["partial_rotary_factor"],
                                     "long_factor": scaling["long_factor"], "short_factor": scaling["short_factor"],
                                     "original_max_position_embeddings": config["original_max_position_embeddings"]}
        config["dtype"] = old["torch_dtype"]
    change_config(checkpoint, change)
    return old


@pytest.mark.parametrize("name", MODELS)
def test_old_rotary_keys_are_added(folder, name):
    checkpoint = make_checkpoint(folder / "checkpoint", base=name)
    old = newer(checkpoint)
    quantize(checkpoint, folder / "out").ok()
    config, source = read_json(folder / "out" / "config.json"), read_json(checkpoint / "config.json")
    assert {key: config[key] for key in old} == old
    assert {key: config[key] for key in source} == {**source, "eos_token_id": config["eos_token_id"]}
    assert set(config) == {*source, *old, "quantization", "quantization_config"}
    assert list(config) == sorted(config)
    (decision,) = [line for line in plan(checkpoint)["decisions"] if line["subject"] == "config.json"]
    assert set(decision["value"].split(", ")) == {f"+{key}" for key in old if key != "torch_dtype"}
    assert "newer names" in decision["reason"]
    # The weights are those of the older spelling.
    quantize(DATA / name, folder / "older").ok()
    assert (folder / "out" / WEIGHTS).read_bytes() == (folder / "older" / WEIGHTS).read_bytes()
    verified(folder / "out", checkpoint)


def test_nothing_is_added_to_older_configurations():
    for name in MODELS:
        assert [line["subject"] for line in plan(DATA / name)["decisions"]] == ["rotary factors"]


def test_a_newer_name_of_the_rope_type_alone(checkpoint, folder):
    def rename(config):
        config["rope_scaling"]["rope_type"] = config["rope_scaling"].pop("type")
    change_config(checkpoint, rename)
    quantize(checkpoint, folder / "out").ok()
    assert read_json(folder / "out" / "config.json")["rope_scaling"]["type"] == "longrope"
    assert "+rope_scaling.type" in [line["value"] for line in plan(checkpoint)["decisions"]]


@pytest.mark.parametrize("place", ["rope_scaling", "rope_parameters"])
def test_a_rope_type_of_default_is_null_for_mlx(checkpoint, folder, place):
    def plain(config):
        del config["rope_scaling"], config["rope_theta"]
        config[place] = {"rope_type": "default", "rope_theta": 250000.0}
    change_config(checkpoint, plain)
    quantize(checkpoint, folder / "out").ok()
    config = read_json(folder / "out" / "config.json")
    assert (config.get("rope_scaling"), config["rope_theta"]) == (None, 250000.0)
    verified(folder / "out", checkpoint)


def test_the_older_place_wins_where_both_are(checkpoint, folder):
    """Whole, as in transformers and in phiq's other formats."""
    quantize(checkpoint, folder / "plain").ok()
    rope = {"rope_type": "longrope", "rope_theta": 20000.0, "original_max_position_embeddings": 1024}
    change_config(checkpoint, lambda config: config.update(rope_parameters=rope))
    result = quantize(checkpoint, folder / "out").ok()
    assert any("rope_parameters is not used" in text for text in warnings(result))
    found, wanted = (read_json(folder / name / "config.json") for name in ("out", "plain"))
    assert found == {**wanted, "rope_parameters": rope}


def test_what_mlx_lm_computes_otherwise_is_refused(checkpoint, folder):
    change_config(checkpoint, lambda config: config["rope_scaling"].update(type="yarn"))
    refused(quantize(checkpoint, folder / "out"), 6, "config.json", "yarn is not in mlx-lm's phi3")


# --- the small files -------------------------------------------------------------------------

CARD = "---\nlanguage: en\n{}library_name: mlx\npipeline_tag: text-generation\ntags:\n- mlx\n---\n"


def test_the_model_card(checkpoint, folder):
    quantize(checkpoint, folder / "plain").ok()
    assert (folder / "plain" / "README.md").read_text() == CARD.format("")
    assert (folder / "plain" / "README.md").stat().st_size == 81
    license = "license: mit\nlicense_link: https://huggingface.co/microsoft/phi-4/resolve/main/LICENSE\n"
    (checkpoint / "README.md").write_text(f"---\n{license}language:\n- en\ntags:\n- nlp\n---\n\nlicense: text\n")
    quantize(checkpoint, folder / "licensed").ok()
    assert (folder / "licensed" / "README.md").read_text() == CARD.format(license)
    verified(folder / "licensed", checkpoint)


def test_the_card_of_a_checkpoint_in_the_hub_cache_names_it(work):
    snapshot = work / "cache" / "models--someone--tiny-phi" / "snapshots" / ("a" * 40)
    snapshot.parent.mkdir(parents=True)
    make_checkpoint(snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("a" * 40)
    run(["quantize", "someone/tiny-phi", "--format", "mlx", "--no-fsync"], cwd=work,
        env={"HF_HUB_CACHE": work / "cache"}).ok()
    card = (work / "tiny-phi-mlx-4bit" / "README.md").read_text()
    assert card == CARD.format("").replace("- mlx\n", "- mlx\nbase_model: someone/tiny-phi\n")
    # A copy of its files does not say where it comes from.
    shutil.copytree(snapshot, work / "copy")
    verified(work / "tiny-phi-mlx-4bit", work / "copy")
    run(["quantize", work / "copy", "--format", "mlx", "--no-fsync", "-o", work / "of-copy"]).ok()
    run(["verify", work / "of-copy", "--against", "someone/tiny-phi"], env={"HF_HUB_CACHE": work / "cache"}).ok()
    (work / "of-copy" / "README.md").write_text(card.replace("someone/tiny-phi", "another/model"))
    assert run(["verify", work / "of-copy", "--against", "someone/tiny-phi"],
               env={"HF_HUB_CACHE": work / "cache"}).code == 1


@pytest.mark.parametrize("card", ["", "license: mit\n", "---", "---\n", "---\nlicense: mit",
                                  "\n---\nlicense: mit\n---\n"])
def test_a_card_without_a_license_in_its_front_matter(checkpoint, folder, card):
    (checkpoint / "README.md").write_text(card)
    quantize(checkpoint, folder / "out").ok()
    assert (folder / "out" / "README.md").read_text() == CARD.format("")


def test_code_of_the_checkpoint_is_copied(checkpoint, folder):
    names = ("configuration_phi3.py", "modeling_phi3.py")
    for name in names:
        (checkpoint / name).write_text(f"raise SystemExit('{name} was run')\n")
    (checkpoint / "notes.txt").write_text("not copied")
    quantize(checkpoint, folder / "out").ok()
    for name in names:
        assert (folder / "out" / name).read_bytes() == (checkpoint / name).read_bytes()
    assert not (folder / "out" / "notes.txt").exists()
    verified(folder / "out", checkpoint)
    quantize(checkpoint, folder / "out", "--force").ok()


def test_a_turns_end_that_generation_config_lacks_is_added(checkpoint, folder):
    path = checkpoint / "generation_config.json"
    path.write_text(json.dumps({**read_json(path), "eos_token_id": 2048}))
    quantize(checkpoint, folder / "out").ok()
    for name in ("generation_config.json", "config.json"):
        assert read_json(folder / "out" / name)["eos_token_id"] == [2048, 2055]
    verified(folder / "out", checkpoint)


def test_a_missing_generation_config_is_made(checkpoint, folder):
    (checkpoint / "generation_config.json").unlink()
    quantize(checkpoint, folder / "out").ok()
    made = read_json(folder / "out" / "generation_config.json")["eos_token_id"]
    assert 2055 in made and read_json(folder / "out" / "config.json")["eos_token_id"] == made


# --- several formats -------------------------------------------------------------------------

FORMATS = ("gguf", "onnx", "openvino", "mlx")
NAMES = {"int4": {"gguf": "phi35-tiny-Q4_K_M.gguf", "onnx": "phi35-tiny-onnx-int4",
                  "openvino": "phi35-tiny-openvino-INT4_SYM", "mlx": "phi35-tiny-mlx-4bit"},
         "int8": {"gguf": "phi35-tiny-Q8_0.gguf", "onnx": "phi35-tiny-onnx-int8",
                  "openvino": "phi35-tiny-openvino-INT8_ASYM", "mlx": "phi35-tiny-mlx-8bit"}}


def weight_bytes():
    """(bytes of all tensors, bytes of the layers' matrices, where the tensors begin) of the checkpoint."""
    header, data = read_header(MODEL / WEIGHTS)
    header.pop("__metadata__")
    sizes = {name: entry["data_offsets"][1] - entry["data_offsets"][0] for name, entry in header.items()}
    return sum(sizes.values()), sum(size for name, size in sizes.items() if name.endswith("_proj.weight")), data


def content(path):
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else digests(path)


@pytest.mark.parametrize("precision", NAMES)
def test_four_formats_in_one_run(work, precision):
    report = run(["quantize", MODEL, "--format", ",".join(FORMATS), "--precision", precision, "-o", work / "all",
                  "--no-fsync", "--json"]).ok().json()
    assert [output["format"] for output in report["outputs"]] == list(FORMATS)
    assert {path.name for path in (work / "all").iterdir()} == set(NAMES[precision].values())
    for format, name in NAMES[precision].items():
        run(["quantize", MODEL, "--format", format, "--precision", precision, "-o", work / name, "--no-fsync"]).ok()
        assert content(work / "all" / name) == content(work / name)
        run(["verify", work / "all" / name, "--against", MODEL]).ok()
    # Each weight is read once for all formats, and before that once for OpenVINO's ranking of the layers.
    weights, ranked, _ = weight_bytes()
    assert report["source_bytes"] == weights + (ranked if precision == "int4" else 0)


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
@pytest.mark.parametrize("formats, precision", [("mlx", "int4"), ("gguf,onnx,openvino,mlx", "int8"),
                                                ("gguf,onnx,openvino,mlx", "int4")])
def test_weights_are_read_once(work, formats, precision):
    """What the kernel saw, whatever the report says; each thread has a file of its own, so calls are whole."""
    (work / "trace").mkdir()
    run(["-ff", "-qq", "-y", "-s", "0", "-e", "trace=pread64,read,mmap,readv,preadv,preadv2", "-o",
         work / "trace" / "t", PHIQ, "quantize", MODEL, "--format", formats, "--precision", precision, "-o",
         work / "out", "--no-fsync"], program=STRACE, timeout=60).ok()
    weights, ranked, data = weight_bytes()
    n_read = 0
    for line in "".join(path.read_text() for path in (work / "trace").iterdir()).splitlines():
        if f"<{MODEL / WEIGHTS}>" not in line:
            continue
        size, offset, result = re.fullmatch(r"pread64\(.*, (\d+), (\d+)\) = (\d+)", line).groups()
        assert size == result
        if int(offset) >= data:
            n_read += int(result)
        else:
            assert int(offset) + int(result) <= data
    assert n_read == weights + (ranked if "openvino" in formats and precision == "int4" else 0)


def test_a_folder_of_many_formats_is_named_after_them(work):
    planned = run(["plan", MODEL, "--format", "gguf,mlx", "--json", "-o", "out"]).ok().json()
    roots = {output["format"]: output["files"][0]["path"] for output in planned["outputs"]}
    assert roots == {"gguf": "out/phi35-tiny-Q4_K_M.gguf", "mlx": f"out/phi35-tiny-mlx-4bit/{WEIGHTS}"}


# --- replacing -------------------------------------------------------------------------------

@pytest.fixture
def old(work):
    """A folder of another type."""
    quantize(MODEL, work / "out", "--type", "2bit").ok()
    return work / "out"


def test_a_folder_is_replaced_only_by_force(old, work):
    before = snapshot(work)
    refused(quantize(MODEL, old), 5, "exists (--force replaces it)", before=before, folder=work)
    quantize(MODEL, old, "--force").ok()
    quantize(MODEL, work / "new").ok()
    assert digests(old) == digests(work / "new") and temporaries(work) == []


def test_shards_of_the_old_folder_go(old, work):
    for shard in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        shutil.copyfile(old / WEIGHTS, old / shard)
    (old / WEIGHTS).unlink()
    quantize(MODEL, old, "--force").ok()
    quantize(MODEL, work / "new").ok()
    assert digests(old) == digests(work / "new")


@pytest.mark.parametrize("name", ["notes.txt", "model.safetensors.bak", "model-1-of-2.safetensors", "mine.py",
                                  "adapters.safetensors", "model-00003-of-00002.safetensors"])
def test_a_folder_with_foreign_files_is_not_replaced(old, work, name):
    (old / name).write_text("mine")
    before = snapshot(work)
    refused(quantize(MODEL, old, "--force"), 5, "not replaced", f"'{name}'", before=before, folder=work)


def test_a_checkpoint_is_not_replaced_by_its_output(checkpoint):
    before = snapshot(checkpoint.parent)
    refused(quantize(checkpoint, checkpoint, "--force"), 2, "the output is the same folder as the input",
            before=before, folder=checkpoint.parent)


# --- policies and warnings -------------------------------------------------------------------

@pytest.fixture
def damaged(folder):
    """A checkpoint with one NaN, and one weight beyond half floats."""
    values = np.full((256, 256), 0.01)
    values[0, 0], values[1, 1] = np.nan, 1e6
    return tiny(folder / "damaged", tensors_update={O_PROJ: ("BF16", (256, 256), bf16(values))})


def test_nan_and_overflow_are_refused(damaged, folder):
    refused(quantize(damaged, folder / "out"), 9, O_PROJ, "1 NaN or Inf weight", "row 0, column 0")
    refused(quantize(damaged, folder / "out", "--type", "F16", "--nan", "zero"), 9, O_PROJ, "beyond the largest F16")
    assert not (folder / "out").exists()


@pytest.mark.parametrize("type, options, recorded", [
    ("4bit", ["--nan", "zero"], {"phiq.nan_policy": "zero"}),
    ("F16", ["--nan", "zero", "--overflow", "clamp"], {"phiq.nan_policy": "zero", "phiq.overflow_policy": "clamp"}),
])
def test_policies_are_recorded_for_verify(damaged, folder, type, options, recorded):
    out = folder / "out"
    report = quantize(damaged, out, "--type", type, *options, "--json").ok().json()
    assert (report["n_nan_zeroed"], report["n_clamped"]) == (1, 1 if type == "F16" else 0)
    assert {key: value for key, value in metadata(out).items() if "policy" in key} == recorded
    assert all(key in run(["inspect", out]).ok().text for key in recorded)
    verified(out, damaged)
    # Without the record there is no excuse for the changed weights.
    tensors = read_safetensors(out / WEIGHTS)
    header, data = read_header(out / WEIGHTS)
    text = json.dumps({**header, "__metadata__": {"format": "mlx"}}, separators=(",", ":")).encode()
    (out / WEIGHTS).write_bytes((data - 8).to_bytes(8, "little") + text.ljust(data - 8) +
                                (out / WEIGHTS).read_bytes()[data:])
    assert read_safetensors(out / WEIGHTS) == tensors
    result = run(["verify", out, "--against", damaged])
    assert result.code == 1 and f"problem: tensor '{O_PROJ}': NaN or Inf, in it or in the source" in result.text


def test_an_ignored_window_is_a_warning(folder):
    model = tiny(folder / "model", config_updates={"sliding_window": 128})
    text = (f"{model}/config.json: sliding_window 128 is below the context of 4096, and mlx-lm ignores it: "
            "texts longer than the window differ from the model's")
    assert warnings(quantize(model, folder / "out").ok()) == [text]
    assert text in refused(quantize(model, folder / "no", "--werror"), 3)
    assert not (folder / "no").exists()


# --- what was converted already (quantized folders: test_sources.py) --------------------------

def test_unquantized_folders_are_checkpoints(work):
    quantize(MODEL, work / "bf16", "--type", "BF16").ok()
    for format, name in NAMES["int8"].items():
        for model, out in ((work / "bf16", work / "again" / name), (MODEL, work / "once" / name)):
            run(["quantize", model, "--format", format, "--precision", "int8", "-o", out, "--mkdir", "--no-fsync"]).ok()
        assert (run(["compare", work / "again" / name, work / "once" / name, "--json"]).ok().json()["relative_rmse"]
                == 0), format
    assert ((work / "again" / NAMES["int8"]["mlx"] / WEIGHTS).read_bytes() ==
            (work / "once" / NAMES["int8"]["mlx"] / WEIGHTS).read_bytes())


# --- refusals --------------------------------------------------------------------------------

TENSOR_TYPES = "F32, F16, BF16, 8bit, mxfp8, 6bit, 5bit, 4bit, nvfp4, mxfp4, 3bit, 2bit"
REFUSED = [
    (["--group-size", "48"], 2, "--group-size 48: MLX has 32, 64 and 128"),
    (["--group-size", "16"], 2, "--group-size 16: MLX has 32, 64 and 128"),
    (["--group-size", "row"], 2, "--group-size row: MLX has 32, 64 and 128"),
    (["--type", "mxfp4", "--group-size", "64"], 2, "--group-size: type mxfp4 has groups of 32 only"),
    (["--type", "nvfp4", "--group-size", "32"], 2, "--group-size: type nvfp4 has groups of 16 only"),
    (["--type", "F16", "--group-size", "64"], 2, "--group-size: type F16 has no groups"),
    (["--sym"], 2, "--sym: not an option of mlx; onnx, openvino and torch have it"),
    (["--asym"], 2, "--asym: not an option of mlx; onnx, openvino and torch have it"),
    (["--method", "rtn"], 2, "--method rtn: not an option of mlx; onnx has it"),
    (["--ratio", "1"], 2, "--ratio: not an option of mlx; openvino has it"),
    (["--ep", "cpu"], 2, "--ep: not an option of mlx; onnx has it"),
    (["--max-length", "100"], 2, "--max-length: not an option of mlx; onnx and litert have it"),
    (["--split-max-size", "2G"], 2, "--split-max-size: not an option of mlx; gguf has it"),
    (["--mlx-rounding", "gpu"], 2, "--mlx-rounding: 'gpu' is not one of cpu, metal (did you mean 'cpu'?)"),
    (["--mlx-rounding", ""], 2, "--mlx-rounding: '' is not one of cpu, metal"),
    (["--type", "Q4_K_M"], 2,
     "'Q4_K_M' is no type of mlx, it is one of gguf (--format gguf; `phiq profiles --types` lists the types)"),
    (["--type", "7bit"], 2, "unknown type '7bit', did you mean '8bit'? (`phiq profiles --types` lists the types)"),
    (["--type", "mixed_4_8"], 2, "unknown type 'mixed_4_8', did you mean 'mixed_4_6'? (`phiq profiles --types` lists "
                                 "the types)"),
    (["--tensor-type", "down=mixed_4_6"], 2, "rule 'down=mixed_4_6': unknown tensor type (the tensor types are "
                                             f"{TENSOR_TYPES})"),
    (["--tensor-type", "nosuch=8bit"], 2, "rule 'nosuch=8bit' matches no tensor (`phiq plan` lists the names)"),
    (["--overflow", "f32"], 2, "--overflow f32: MLX cannot keep one tensor in F32 (--overflow clamp, or a "
                               "precision that computes in float32)"),
]


@pytest.mark.parametrize("options,code,message", REFUSED, ids=[" ".join(options) for options, _, _ in REFUSED])
@pytest.mark.parametrize("command", ["quantize", "plan"])
def test_refusals(work, command, options, code, message):
    before = snapshot(work)
    line = refused(run([command, MODEL, "--format", "mlx", *options], cwd=work), code, before=before, folder=work)
    assert line in (message, f"--type: {message}")


@pytest.mark.parametrize("format", ["gguf", "onnx", "openvino", "gguf,onnx"])
def test_the_rounding_is_an_option_of_mlx(work, format):
    refused(run(["quantize", MODEL, "--format", format, "--mlx-rounding", "metal"], cwd=work), 2,
            f"--mlx-rounding: not an option of {format.split(',')[0]}; mlx has it", before={}, folder=work)


def test_a_type_belongs_to_one_format(work):
    refused(run(["plan", MODEL, "--format", "gguf,mlx", "--type", "4bit"]), 2, "each format has types of its own")
    refused(run(["plan", MODEL, "--format", "mlx", "-o", "-"], cwd=work), 2, "only one output that is a file")


def test_types_and_precisions():
    for options, type in [([], "4bit"), (["--precision", "int4"], "4bit"), (["--precision", "int8"], "8bit"),
                          (["--precision", "fp16"], "F16"), (["--precision", "bf16"], "BF16"),
                          (["--precision", "fp32"], "F32"), (["--type", "NVFP4"], "nvfp4"),
                          (["--type", "Mixed_3_6"], "mixed_3_6"), (["--type", "bf16"], "BF16"),
                          (["--method", "reference"], "4bit")]:
        assert plan(MODEL, *options)["type"] == type
    listed = [entry["name"] for entry in run(["profiles", "--types", "--json"]).ok().json()["mlx"]]
    assert sorted(listed) == sorted([*TENSOR_TYPES.split(", "), "mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6"])


def test_without_a_tokenizer_there_is_no_folder(checkpoint, folder):
    for name in ("tokenizer.json", "tokenizer.model"):
        (checkpoint / name).unlink()
    result = quantize(checkpoint, folder / "out")
    refused(result, 4, "tokenizer")
    assert not (folder / "out").exists()
