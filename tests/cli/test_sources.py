"""Models of other formats as what `quantize` starts from, and the way back to a checkpoint.

What the formats' readers decode is their own tests' to say; here it is that a conversion gets it, whole and exact.
"""
import json
import re
import shutil

import numpy as np
import pytest

from gguf_file import read_gguf
from harness import (DATA, RECORD, read_safetensors, refused, run, side_files, snapshot, tiny_tensors, warnings,
                     write_safetensors)

UNTIED, TIED, EXPERTS = DATA / "phi35-tiny", DATA / "phi4mini-tiny", DATA / "phimoe-tiny"
LOST = "quality was lost before, and what is lost now comes on top of it"
FORMATS = ("gguf", "onnx", "openvino", "mlx", "litert", "torch", "safetensors")
# What a source is made by, and the types that the warning of it names; None: nothing was lost.
SOURCES = {
    "gguf F32": ("--type F32", None),
    "gguf F16": ("--type F16", None),
    "gguf BF16": ("--type BF16", None),
    "gguf Q8_0": ("--type Q8_0", "Q8_0, F32"),
    "gguf Q4_K_M": ("--type Q4_K_M", "Q4_K, Q6_K, F32"),
    "onnx fp32": ("--format onnx --precision fp32", None),
    "onnx int4": ("--format onnx --precision int4", "int4 g32, "),
    "openvino fp16": ("--format openvino --precision fp16", None),
    "openvino int8": ("--format openvino --precision int8", "int8"),
    "mlx F16": ("--format mlx --type F16", None),
    "mlx 4bit": ("--format mlx --type 4bit", "affine4 g64"),
    "litert int8": ("--format litert --precision int8", "int8"),
    "torch W4A16": ("--format torch --type W4A16", "int4 g128"),
    "torch W8A8": ("--format torch --type W8A8", "int8"),
    "torch GPTQ-Int4": ("--format torch --type GPTQ-Int4", "int4 g128"),
    "torch AWQ": ("--format torch --type AWQ", "int4 g128"),
}
ENDINGS = {"gguf": ".gguf", "litert": ".litertlm"}


def quantize(model, out, *options):
    return run(["quantize", model, *" ".join(options).split(), "-o", out, "--no-fsync"], timeout=120)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """made(source, model): its path, made once."""
    root, paths = tmp_path_factory.mktemp("sources"), {}

    def made(source, model=UNTIED, options=None):
        if (source, model) not in paths:
            path = root / f"{len(paths)}{ENDINGS.get(source.split()[0], '')}"
            quantize(model, path, options or SOURCES[source][0]).ok()
            paths[source, model] = path
        return paths[source, model]
    return made


def weights_of(path):
    """The tensors of a GGUF without what it says of itself."""
    return {name: (tensor.type, tensor.shape, tensor.content) for name, tensor in read_gguf(path)[1].items()}


def keys_of(path):
    return {key: value for key, value in read_gguf(path)[0].items()
            if not key.startswith(("phiq.", "general.name"))}


def as_f32(tensor):
    dtype, shape, content = tensor
    if dtype == "BF16":
        return (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4").reshape(shape)
    return np.frombuffer(content, {"F32": "<f4", "F16": "<f2"}[dtype]).astype("<f4").reshape(shape)


# --- every source, every target --------------------------------------------------------------

@pytest.mark.parametrize("source", SOURCES)
def test_every_format_is_made_of_every_source(made, work, source):
    path, lost = made(source), SOURCES[source][1]
    before = snapshot(path) if path.is_dir() else path.read_bytes()
    # One run reads the source once for all of them.
    done = quantize(path, work / "out", "--format gguf,onnx,openvino,mlx,litert,torch --precision int8 --tokenizer",
                    str(UNTIED)).ok()
    assert len(list((work / "out").iterdir())) == 6
    told = [line for line in warnings(done) if LOST in line]
    assert len(told) == (lost is not None), done.err
    if lost:
        assert f"{path}: its weights are " in told[0] and lost in told[0], told[0]
    quantize(path, work / "back", "--format safetensors --tokenizer", str(UNTIED)).ok()
    run(["verify", work / "back", "--against", path, "--tokenizer", UNTIED]).ok()
    assert (snapshot(path) if path.is_dir() else path.read_bytes()) == before


@pytest.mark.parametrize("source", [source for source in SOURCES if source.split()[0] in ("mlx", "torch", "openvino")])
def test_a_folder_has_all_that_others_need(made, work, source):
    """No --tokenizer: the files are there."""
    quantize(made(source), work / "out", "--format onnx --precision int8").ok()
    run(["verify", work / "out", "--against", made(source)]).ok()


@pytest.mark.parametrize("format", [format for format in FORMATS if format not in ("gguf", "safetensors")])
def test_a_gguf_without_its_tokenizers_files_is_refused_in_one_line(made, work, format):
    source = made("gguf Q8_0")
    line = refused(quantize(source, work / "out", f"--format {format} --precision int8"), 4,
                   f"{source}/tokenizer.json: not found", "--tokenizer FOLDER")
    assert line.count("needs it") == 1
    assert not (work / "out").exists()


def test_an_onnx_folder_needs_the_numbers_of_its_rotary_tables(made, work):
    source = made("onnx int4")
    refused(quantize(source, work / "out.gguf", "--type Q8_0"), 4, f"{source}: has no config.json",
            "--tokenizer FOLDER: one of the model's")
    refused(quantize(source, work / "out.gguf", "--type Q8_0 --tokenizer", str(TIED)), 3,
            f"{TIED}/config.json", "'num_key_value_heads' is 2, the weights are of 4")


def test_the_plan_says_that_quality_was_lost(made):
    planned = run(["plan", made("gguf Q4_K_M"), "--type", "Q4_0", "--json"]).ok()
    assert planned.json()["decisions"][0] == {
        "subject": "source", "value": "Q4_K, Q6_K, F32",
        "reason": "quality was lost before, and what is lost here comes on top of it"}
    assert [LOST in line for line in warnings(planned)] == [True]
    planned = run(["plan", made("gguf F16"), "--type", "Q4_0", "--json"]).ok()
    assert "source" not in [decision["subject"] for decision in planned.json().get("decisions", [])]
    assert warnings(planned) == []


def test_a_warning_is_an_error_with_werror(made, work):
    refused(quantize(made("gguf Q8_0"), work / "out.gguf", "--type Q4_0 --werror"), 3, LOST)
    assert not (work / "out.gguf").exists()


# --- values ----------------------------------------------------------------------------------

@pytest.mark.parametrize("model", (UNTIED, TIED))
def test_gguf_to_mlx_and_back_gives_the_same_matrices(made, work, model):
    first = made("gguf F16", model)
    quantize(first, work / "mlx", "--format mlx --type F16 --tokenizer", str(model)).ok()
    quantize(work / "mlx", work / "again.gguf", "--type F16").ok()
    assert weights_of(work / "again.gguf") == weights_of(first)
    assert keys_of(work / "again.gguf") == keys_of(first)


@pytest.mark.parametrize("model", (UNTIED, TIED))
def test_a_gguf_is_requantized_without_any_folder(made, work, model):
    """Its own tokenizer goes into the new file."""
    quantize(made("gguf BF16", model), work / "again.gguf", "--type Q4_K_M").ok()
    quantize(model, work / "wanted.gguf", "--type Q4_K_M").ok()
    assert weights_of(work / "again.gguf") == weights_of(work / "wanted.gguf")
    assert keys_of(work / "again.gguf") == keys_of(work / "wanted.gguf")


@pytest.fixture(scope="module")
def decoded(made, tmp_path_factory):
    """The model of the Q8_0 file as a checkpoint in float32, decoded here and not by phiq."""
    folder = tmp_path_factory.mktemp("decoded") / "model"
    shutil.copytree(UNTIED, folder, ignore=shutil.ignore_patterns("reference", "model.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    del config["torch_dtype"]
    (folder / "config.json").write_text(json.dumps(config))
    names = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
             "attn_norm": "input_layernorm", "attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj",
             "ffn_norm": "post_attention_layernorm", "ffn_up": "mlp.gate_up_proj", "ffn_down": "mlp.down_proj"}
    tensors = {}
    for name, tensor in read_gguf(made("gguf Q8_0"))[1].items():
        if name.startswith("rope_factors"):
            continue
        if tensor.type == "Q8_0":  # blocks of 32: a scale in half floats, codes of a byte
            blocks = np.frombuffer(tensor.content, np.dtype([("scale", "<f2"), ("codes", "i1", 32)]))
            values = blocks["scale"].astype("<f4")[:, None] * blocks["codes"].astype("<f4")
        else:
            assert tensor.type == "F32"
            values = np.frombuffer(tensor.content, "<f4")
        layer, own = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.weight", name).groups()
        wanted = names[own] if layer is None else f"model.layers.{layer}.{names[own]}"
        tensors[wanted + ".weight"] = ("F32", tensor.shape, values.astype("<f4").tobytes())
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


@pytest.mark.parametrize("options, file", (("--format onnx --precision int8", "model.onnx.data"),
                                           ("--format onnx --precision int4", "model.onnx.data"),
                                           ("--format openvino --precision int8", "openvino_model.bin"),
                                           ("--format openvino --precision int4", "openvino_model.bin")))
def test_what_is_quantized_is_what_the_file_decodes_to(made, decoded, work, options, file):
    quantize(made("gguf Q8_0"), work / "out", options, "--tokenizer", str(UNTIED)).ok()
    quantize(decoded, work / "wanted", options).ok()
    assert (work / "out" / file).read_bytes() == (work / "wanted" / file).read_bytes()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (work / "out" / name).read_bytes() == (work / "wanted" / name).read_bytes()


@pytest.mark.parametrize("options", ("--format mlx --type 4bit", "--format torch --type W4A16",
                                     "--format safetensors --type as-is"))
def test_tensors_are_those_of_the_decoded_weights(made, decoded, work, options):
    quantize(made("gguf Q8_0"), work / "out", options, "--tokenizer", str(UNTIED)).ok()
    quantize(decoded, work / "wanted", options).ok()
    assert read_safetensors(work / "out/model.safetensors") == read_safetensors(work / "wanted/model.safetensors")


def test_a_text_chooses_codes_for_such_a_source_too(made, decoded, work):
    text = DATA / "heldout.txt"
    options = f"--type Q4_0 --calibrate {text} --calibration-tokens 1024 --calibration-ctx 128"
    quantize(made("gguf Q8_0"), work / "out.gguf", options, "--tokenizer", str(UNTIED)).ok()
    quantize(decoded, work / "wanted.gguf", options).ok()
    assert weights_of(work / "out.gguf") == weights_of(work / "wanted.gguf")


# --- folders of other tools ------------------------------------------------------------------

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # which number each place of a word has
SCHEME = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 64, "dynamic": False}
FOREIGN = {
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": 64, "sym": True, "desc_act": False,
             "checkpoint_format": "gptq"},
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True, "version": "gemm"},
    "compressed-tensors": {"quant_method": "compressed-tensors", "format": "pack-quantized",
                           "quantization_status": "compressed", "ignore": ["lm_head"],
                           "config_groups": {"group_0": {"targets": ["Linear"], "weights": SCHEME}}},
}


def words(numbers, order=range(8)):
    """[..., 8 n] numbers of 4 bits -> [..., n] words, the lowest bits first."""
    in_words = numbers.astype("<u4").reshape(*numbers.shape[:-1], -1, 8)[..., list(order)]
    return np.ascontiguousarray((in_words << np.arange(0, 32, 4, dtype="<u4")).sum(axis=-1, dtype="<u4"))


def box(method, codes, zeros, scales):
    """The tensors of a matrix: codes [rows, columns], zeros and scales [rows, groups]."""
    def i32(array):
        return ("I32", array.shape, array.tobytes())

    def f16(array):
        return ("F16", array.shape, np.ascontiguousarray(array, "<f2").tobytes())
    n, k = codes.shape
    if method == "compressed-tensors":
        return {"weight_packed": i32(words(codes)), "weight_scale": f16(scales),
                "weight_shape": ("I64", (2,), np.array([n, k], "<i8").tobytes())}
    if method == "gptq":  # zero points are stored less 1
        return {"qweight": i32(np.ascontiguousarray(words(codes).T)), "scales": f16(scales.T),
                "qzeros": i32(words(np.ascontiguousarray(zeros.T) - 1)),
                "g_idx": i32((np.arange(k) // 64).astype("<i4"))}
    return {"qweight": i32(words(np.ascontiguousarray(codes.T), AWQ_ORDER)), "scales": f16(scales.T),
            "qzeros": i32(words(np.ascontiguousarray(zeros.T), AWQ_ORDER))}


@pytest.mark.parametrize("method", FOREIGN)
def test_folders_of_other_tools_are_decoded_by_the_rules_of_their_formats(folder, work, method):
    rng = np.random.default_rng(5)
    plain = tiny_tensors(layers=2)
    tensors, wanted = {}, {}
    for name, tensor in plain.items():
        if "_proj" not in name:
            tensors[name] = wanted[name] = tensor
            continue
        n, k = tensor[1]
        codes = rng.integers(0, 16, (n, k))
        scales = rng.uniform(0.001, 0.01, (n, k // 64)).astype("<f2")
        zeros = rng.integers(1, 15, scales.shape) if method == "awq" else np.full(scales.shape, 8)
        for part, content in box(method, codes, zeros, scales).items():
            tensors[f"{name.removesuffix('.weight')}.{part}"] = content
        each = [np.repeat(values, 64, axis=1).astype("<f4") for values in (zeros, scales)]
        wanted[name] = ("F32", (n, k), ((codes.astype("<f4") - each[0]) * each[1]).tobytes())
    side_files(folder, "phi35-tiny", {"num_hidden_layers": 2, "intermediate_size": 256,
                                      "quantization_config": FOREIGN[method]})
    write_safetensors(folder / "model.safetensors", tensors)
    done = quantize(folder, work / "out", "--format safetensors").ok()
    assert [LOST in line for line in warnings(done)] == [True]
    assert read_safetensors(work / "out/model.safetensors") == wanted
    assert "quantization_config" not in json.loads((work / "out/config.json").read_text())
    quantize(folder, work / "out.gguf", "--type Q8_0").ok()
    run(["verify", work / "out.gguf", "--against", folder]).ok()


def foreign(folder, method, change=lambda quantization: None, edit=lambda tensors: None):
    """A folder of `method` with codes of its own, changed."""
    rng = np.random.default_rng(5)
    tensors = {}
    for name, tensor in tiny_tensors(layers=2).items():
        if "_proj" not in name:
            tensors[name] = tensor
            continue
        n, k = tensor[1]
        zeros = np.full((n, k // 64), 8)
        for part, content in box(method, rng.integers(0, 16, (n, k)), zeros, rng.uniform(0.001, 0.01, zeros.shape)).items():
            tensors[f"{name.removesuffix('.weight')}.{part}"] = content
    edit(tensors)
    quantization = json.loads(json.dumps(FOREIGN[method]))
    change(quantization)
    side_files(folder, "phi35-tiny", {"num_hidden_layers": 2, "intermediate_size": 256, "quantization_config": quantization})
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def scheme_of(quantization):
    return quantization["config_groups"]["group_0"]["weights"]


@pytest.mark.parametrize("method, change, said", [
    ("compressed-tensors", lambda q: scheme_of(q).update(actorder="weight"), []),
    ("compressed-tensors", lambda q: scheme_of(q).update(actorder="static"), []),
    ("compressed-tensors", lambda q: scheme_of(q).pop("strategy"), []),
    ("compressed-tensors", lambda q: scheme_of(q).update(strategy="GROUP"), []),
    ("compressed-tensors", lambda q: q.update(quantization_status="frozen"), ["quantization_status is 'frozen'"]),
    ("awq", lambda q: q.update(modules_to_not_convert=["lm_head"]), []),
])
def test_folders_of_other_tools_in_other_words(folder, work, method, change, said):
    out = work / "out.gguf"
    assert LOST in str(warnings(quantize(foreign(folder, method), out, "--type Q8_0").ok()))
    wanted = weights_of(out)
    shutil.rmtree(folder)
    texts = warnings(quantize(foreign(folder, method, change), out, "--type Q8_0 --force").ok())
    assert weights_of(out) == wanted
    assert len(texts) == 1 + len(said) and all(any(word in text for text in texts) for word in said), texts


def test_another_order_of_activations(folder):
    refused(run(["plan", foreign(folder, "compressed-tensors", lambda q: scheme_of(q).update(actorder="group"))]), 3,
            "'actorder' \"group\"")


@pytest.mark.parametrize("part", ["g_idx", "qzeros"])
def test_constants_that_mean_other_weights(folder, work, part):
    """Nobody computes with codes whose order or middle is another than is read."""
    name = f"model.layers.0.mlp.down_proj.{part}"
    foreign(folder, "gptq", edit=lambda t: t.update({name: (*t[name][:2], b"\x01" + t[name][2][1:])}))
    ids = work / "ids"
    ids.write_text(" ".join(str(i) for i in range(16)))
    for args in (["plan", folder], ["quantize", folder, "-o", work / "out.gguf"], ["compare", folder, folder],
                 ["eval", folder, "--ids", ids, "--ctx", "8"]):
        refused(run(args), 3, f"tensor '{name}' does not hold what")
    assert run(["inspect", folder, "--check"]).code == 1


LOOKALIKES = {"Git LFS pointer": "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 499723\n",
              "HTML": "<!DOCTYPE html><html></html>", "the hub's error message": "Entry not found"}


@pytest.mark.parametrize("source, file", [
    ("gguf Q8_0", ""), ("litert int8", ""), ("onnx int4", "model.onnx"), ("onnx int4", "model.onnx.data"),
    ("openvino int8", "openvino_model.bin"), ("openvino int8", "openvino_model.xml"), ("mlx 4bit", "model.safetensors"),
    ("torch W4A16", "model.safetensors")])
def test_files_that_were_not_downloaded_are_named(made, work, source, file):
    copy = work / ("copy" + ENDINGS.get(source.split()[0], ""))
    (shutil.copytree if made(source).is_dir() else shutil.copyfile)(made(source), copy)
    for what, text in LOOKALIKES.items():
        (copy / file if file else copy).write_text(text)
        for args in (["plan", copy], ["inspect", copy], ["verify", copy, "--against", UNTIED]):
            refused(run(args), 3, file or copy.name, what)


# --- back to a checkpoint --------------------------------------------------------------------

@pytest.mark.parametrize("model", (UNTIED, TIED))
@pytest.mark.parametrize("source", ("gguf BF16", "mlx BF16", "openvino F32"))
def test_a_lossless_file_gives_the_checkpoint_back(made, work, source, model):
    options = {"gguf BF16": "--type BF16", "mlx BF16": "--format mlx --type BF16",
               "openvino F32": "--format openvino --precision fp32"}[source]
    path = made(source, model, options)
    quantize(path, work / "back", "--format safetensors --precision bf16 --tokenizer", str(model)).ok()
    assert read_safetensors(work / "back/model.safetensors") == dict(
        sorted(read_safetensors(model / "model.safetensors").items()))
    theirs, ours = (json.loads((folder / "config.json").read_text()) for folder in (model, work / "back"))
    for key in ("architectures", "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size",
                "num_attention_heads", "num_key_value_heads", "rms_norm_eps", "max_position_embeddings",
                "original_max_position_embeddings", "rope_theta", "rope_scaling", "sliding_window", "torch_dtype",
                "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id", "hidden_act"):
        if not (source == "mlx BF16" and key == "eos_token_id"):  # mlx-lm has all ends of text there
            assert ours[key] == theirs[key], key
    assert ours.get("partial_rotary_factor", 1.0) == theirs.get("partial_rotary_factor", 1.0)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (work / "back" / name).read_bytes() == (model / name).read_bytes()
    # It is a checkpoint as any other.
    quantize(work / "back", work / "again.gguf", "--type Q4_K_M").ok()
    quantize(model, work / "wanted.gguf", "--type Q4_K_M").ok()
    assert weights_of(work / "again.gguf") == weights_of(work / "wanted.gguf")
    assert keys_of(work / "again.gguf") == keys_of(work / "wanted.gguf")


def test_each_tensor_keeps_its_floats(made, work):
    quantize(made("gguf BF16"), work / "out", "--format safetensors --tokenizer", str(UNTIED)).ok()
    types = {name: dtype for name, (dtype, _, _) in read_safetensors(work / "out/model.safetensors").items()}
    assert {dtype for name, dtype in types.items() if "norm" in name} == {"F32"}  # as the GGUF has them
    assert {dtype for name, dtype in types.items() if "norm" not in name} == {"BF16"}
    assert json.loads((work / "out/config.json").read_text())["torch_dtype"] == "bfloat16"


@pytest.mark.parametrize("precision, dtype", (("fp32", "F32"), ("fp16", "F16"), ("bf16", "BF16")))
def test_a_precision_is_the_type_of_every_tensor(made, work, precision, dtype):
    quantize(made("gguf Q4_K_M"), work / "out", f"--format safetensors --precision {precision} --tokenizer",
             str(UNTIED)).ok()
    assert {tensor[0] for tensor in read_safetensors(work / "out/model.safetensors").values()} == {dtype}
    run(["verify", work / "out"]).ok()
    run(["inspect", work / "out", "--check"]).ok()
    run(["eval", work / "out", "--text", DATA / "heldout.txt", "--ctx", 64, "--chunks", 1]).ok()


def test_without_the_tokenizers_files_the_folder_says_what_it_lacks(made, work):
    done = quantize(made("gguf F16"), work / "out", "--format safetensors --json").ok()
    assert ["tokenizer", "missing"] in [[d["subject"], d["value"]] for d in done.json()["decisions"]]
    names = {path.name for path in (work / "out").iterdir()}
    assert names == {"README.md", "config.json", "generation_config.json", "model.safetensors", RECORD,
                     "chat_template.jinja"}
    assert (work / "out/chat_template.jinja").read_text() == read_gguf(made("gguf F16"))[0]["tokenizer.chat_template"]
    assert json.loads((work / "out/generation_config.json").read_text())["eos_token_id"]


# --- experts ---------------------------------------------------------------------------------

def test_what_was_changed_for_llama_cpp_is_undone(made, work):
    """The file's router is 2^-12 of the model's, its down projections are twice theirs and have columns of mean zero."""
    source = made("gguf F32", EXPERTS, "--type F32")
    quantize(source, work / "back", "--format safetensors --tokenizer", str(EXPERTS)).ok()
    theirs, ours = (read_safetensors(folder / "model.safetensors") for folder in (EXPERTS, work / "back"))
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        wanted, found = as_f32(tensor).astype("<f8"), as_f32(ours[name])
        if "embed_tokens" in name or name.endswith("o_proj.bias"):
            wanted = wanted - wanted.mean(axis=-1, keepdims=True)
        elif name.endswith(("o_proj.weight", "w2.weight")):
            wanted = wanted - wanted.mean(axis=0, keepdims=True)
        assert np.array_equal(found, wanted.astype("<f4")), name
    # The norms do not see the means: it is the same function.
    run(["eval", work / "back", "--against", EXPERTS, "--text", DATA / "heldout.txt", "--ctx", 128, "--chunks", 2,
         "--max-kl", "1e-6"]).ok()


def test_the_peers_bytes_give_the_experts_back(made, work):
    source = made("gguf reference", EXPERTS, "--type F32 --method reference")
    quantize(source, work / "back", "--format safetensors --precision bf16 --tokenizer", str(EXPERTS)).ok()
    assert read_safetensors(work / "back/model.safetensors") == dict(
        sorted(read_safetensors(EXPERTS / "model.safetensors").items()))


def test_experts_go_to_the_formats_that_have_them(made, work):
    source = made("gguf F32", EXPERTS, "--type F32")
    for format in ("onnx", "openvino", "mlx"):
        quantize(source, work / format, f"--format {format} --precision int8 --tokenizer", str(EXPERTS)).ok()
        run(["verify", work / format, "--against", source, "--tokenizer", EXPERTS]).ok()
    refused(quantize(source, work / "torch", "--format torch --precision int8 --tokenizer", str(EXPERTS)), 6,
            "Phi3ForCausalLM only")


# --- what is refused, and what an output says of its source ----------------------------------

@pytest.mark.parametrize("options", ("--pad-vocab 64", "--ignore-extra x"))
def test_what_only_checkpoints_have(made, work, options):
    refused(quantize(made("gguf Q8_0"), work / "out.gguf", options), 2, options.split()[0],
            "is GGUF, and only checkpoints have it")


def test_another_models_tokenizer_is_refused(made, work):
    refused(quantize(made("gguf Q8_0"), work / "out", "--format onnx --tokenizer", str(TIED)), 3,
            f"{TIED}: is the tokenizer of another model: token ")
    refused(quantize(made("gguf Q8_0"), work / "out", "--format onnx --tokenizer", str(work / "nowhere")), 4,
            "nowhere")


def test_a_source_is_never_its_own_output(made, work):
    source = work / "model.gguf"
    shutil.copyfile(made("gguf Q8_0"), source)
    refused(quantize(source, source, "--type Q4_0 --force"), 2, "the output is the same file as the input")


def test_a_checkpoint_takes_a_tokenizer_from_elsewhere(work, tmp_path):
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(UNTIED / name, folder / name)
    refused(quantize(folder, work / "out.gguf", "--type Q8_0"), 4, "tokenizer")
    quantize(folder, work / "out.gguf", "--type Q8_0 --tokenizer", str(UNTIED)).ok()
    quantize(UNTIED, work / "wanted.gguf", "--type Q8_0").ok()
    assert keys_of(work / "out.gguf") == keys_of(work / "wanted.gguf")


@pytest.mark.parametrize("lie", ("cut", "rows"))
def test_row_083_a_gguf_that_lies_of_its_sizes(made, work, lie):
    content = bytearray(made("gguf Q8_0").read_bytes())
    if lie == "cut":
        del content[len(content) // 2:]
    else:  # the last dimension of a matrix: behind its name, the number of dimensions and the first of them
        name = b"blk.0.ffn_down.weight"
        at = content.index(name) + len(name) + 4 + 8
        content[at:at + 8] = (1 << 20).to_bytes(8, "little")
    (work / "lies.gguf").write_bytes(content)
    for command in (["plan", work / "lies.gguf"], ["quantize", work / "lies.gguf", "-o", work / "out.gguf"]):
        refused(run(command), 3, "lies.gguf")
    assert not (work / "out.gguf").exists()


def test_an_output_names_its_source_and_is_encoded_again_from_it(made, work):
    source = made("gguf Q8_0")
    quantize(source, work / "out.gguf", "--type Q4_0").ok()
    told = read_gguf(work / "out.gguf")[0]["phiq.source"]
    assert re.fullmatch(r"gguf Q8_0, F32, record [0-9a-f]{32}", told)
    assert told[-32:] == json.loads(read_gguf(source)[0]["phiq.record"])["record"]
    verified = run(["verify", work / "out.gguf", "--against", source, "--json"]).ok().json()
    assert verified["encoded_again"] > 0 and verified["notes"] == []
    other = run(["verify", work / "out.gguf", "--against", UNTIED, "--json"])
    assert other.code == 1
    assert f"was made from {told}, and is compared with a checkpoint" in other.json()["notes"]
