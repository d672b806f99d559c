"""ONNX folders as a user makes them: options, names, several formats, sizes, large weights."""
import json
import os
import shutil
import struct

import numpy as np
import pytest

import harness
from harness import DATA, bf16, refused, run, snapshot, temporaries, tiny, tiny_tensors, warnings

MODELS = ("phi35-tiny", "phi4mini-tiny")
TYPES = ("fp32", "fp16", "int8", "k_quant_mixed", "k_quant_last", "rtn_last", "int4")
MODEL = DATA / "phi35-tiny"
STRACE = shutil.which("strace")
FILES = {"model.onnx", "model.onnx.data", "genai_config.json", "tokenizer.json", "tokenizer_config.json",
         "tokenizer.model", "special_tokens_map.json", "added_tokens.json", harness.RECORD}


def quantize(*options, model=MODEL, **kwargs):
    return run(["quantize", model, *options], **kwargs)


def names(folder):
    return {path.name for path in folder.iterdir()}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def bytes_on_disk(folder):
    return sum(path.stat().st_size for path in folder.iterdir())


# --- one folder ------------------------------------------------------------------------------

@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("type", TYPES)
def test_plan_tells_the_exact_size_of_every_type(work, model, type):
    plan = run(["plan", DATA / model, "--format", "onnx", "--type", type, "-o", work / "out", "--json"]).ok().json()
    assert names(work) == set()
    quantize("--format", "onnx", "--type", type, "-o", work / "out", "--quiet", model=DATA / model).ok()
    assert plan["output_bytes"] == bytes_on_disk(work / "out")
    assert {file["path"]: file["bytes"] for file in plan["files"]} == \
        {str(path): path.stat().st_size for path in (work / "out").iterdir()}
    verified = run(["verify", work / "out", "--against", DATA / model])
    assert verified.code == 0, verified.text + verified.err


@pytest.mark.parametrize("options", [
    ["--type", "int8", "--activations", "dynamic"], ["--type", "int4", "--asym", "--group-size", "128"],
    ["--type", "int4", "--method", "rtn"], ["--type", "int4", "--method", "k_quant", "--group-size", "16"],
    ["--type", "int4", "--ep", "cuda"], ["--type", "fp16", "--ep", "dml"], ["--type", "int4", "--ep", "dml"],
    ["--type", "fp32", "--ep", "webgpu"], ["--type", "int4", "--min-onnxruntime", "1.20"],
    ["--type", "int4", "--tensor-type", "embed=int8", "--tensor-type", "layers.1=float"]], ids=" ".join)
@pytest.mark.parametrize("model", MODELS)
def test_options_are_planned_written_and_verified(work, model, options):
    plan = run(["plan", DATA / model, "--format", "onnx", *options, "--json"]).ok().json()
    quantize("--format", "onnx", *options, "-o", work / "out", model=DATA / model).ok()
    assert plan["output_bytes"] == bytes_on_disk(work / "out")
    verified = run(["verify", work / "out", "--against", DATA / model])
    assert verified.code == 0, verified.text + verified.err


def test_a_folder_has_a_name_of_its_own_without_o(work):
    quantize("--format", "onnx", cwd=work).ok()
    quantize("--format", "onnx", "--type", "K_QUANT_MIXED", cwd=work).ok()
    assert names(work) == {"phi35-tiny-onnx-int4", "phi35-tiny-onnx-k_quant_mixed"}
    assert names(work / "phi35-tiny-onnx-int4") == FILES


@pytest.mark.parametrize("precision,type", [("int4", "int4"), ("int8", "int8"), ("fp16", "fp16"), ("fp32", "fp32")])
def test_a_precision_is_the_same_as_its_type(work, precision, type):
    quantize("--format", "onnx", "--precision", precision, "-o", work / "a").ok()
    quantize("--format", "onnx", "--type", type, "-o", work / "b").ok()
    assert contents(work / "a") == contents(work / "b")


def test_a_folder_is_replaced_only_by_force(work):
    out = work / "out"
    quantize("--format", "onnx", "--type", "int8", "-o", out).ok()
    before = snapshot(work)
    refused(quantize("--format", "onnx", "-o", out), 5, "exists", "--force", before=before, folder=work)
    (out / "notes.md").write_text("mine")
    before = snapshot(work)
    line = refused(quantize("--format", "onnx", "-o", out, "--force"), 5, before=before, folder=work)
    assert line == f"{out}: not replaced: it holds files that do not belong to such an output: 'notes.md' (move them away, " \
                   "or choose another -o)"
    (out / "notes.md").unlink()
    quantize("--format", "onnx", "-o", out, "--force").ok()
    assert names(work) == {"out"} and names(out) == FILES
    quantize("--format", "onnx", "-o", work / "fresh").ok()
    assert contents(out) == contents(work / "fresh")


def test_a_folder_in_new_folders_needs_mkdir(work):
    line = refused(quantize("--format", "onnx", "-o", work / "a" / "b"), 5, before={}, folder=work)
    assert line == f"{work}/a/b: no folder to write into: No such file or directory (--mkdir creates it)"
    quantize("--format", "onnx", "-o", f"{work}/a/b/", "--mkdir").ok()
    assert names(work / "a" / "b") == FILES


@pytest.mark.parametrize("out", [".", "..", "new/.", "./"])
@pytest.mark.parametrize("options", [[], ["--force"]], ids=["", "force"])
def test_a_folder_needs_a_name(work, out, options):
    (work / "here").mkdir()
    before = snapshot(work)
    line = refused(quantize("--format", "onnx", "-o", out, *options, cwd=work / "here"), 2, before=before, folder=work)
    assert line == f"{out.removesuffix('/')}: a folder that is renamed into place needs a name of its own (give -o the name of a new " \
                   "folder)"


@pytest.mark.parametrize("out", ["model", "model/", "./model", "link"])
def test_the_output_is_not_the_input(work, folder, out):
    tiny(folder)
    (work / "link").symlink_to("model")
    before = snapshot(work)
    refused(quantize("--format", "onnx", "-o", out, "--force", model=folder, cwd=work), 2,
            "the output is the same folder as the input", before=before, folder=work)


def test_a_file_is_no_folder(work):
    (work / "out").write_text("mine")
    before = snapshot(work)
    assert refused(quantize("--format", "onnx", "-o", work / "out"), 5, before=before, folder=work) == \
        f"{work}/out: exists (--force replaces it)"
    assert refused(quantize("--format", "onnx", "-o", work / "out", "--force"), 5, before=before, folder=work) == \
        f"{work}/out: is not a folder"


REFUSED = [
    (["-o", "-"], 2, "-o -: only one output that is a file can go to standard output (with ONNX -o names a folder)"),
    (["--split-max-size", "1G"], 2, "--split-max-size: not an option of onnx; gguf has it"),
    (["--overflow", "f32"], 2, "--overflow f32: ONNX cannot keep one tensor in F32 (--overflow clamp, or a "
                               "precision that computes in float32)"),
    (["--sym", "--asym"], 2, "--sym: contradicts --asym"),
    (["--sym", "--method", "k_quant"], 2, "--sym: k_quant always has zero points"),
    (["--sym", "--type", "k_quant_last"], 2, "--sym: k_quant always has zero points"),
    (["--method", "rtn", "--type", "k_quant_last"], 2, "--method rtn contradicts type k_quant_last"),
    (["--group-size", "48"], 2, "--group-size 48: ONNX has 16, 32, 64, 128, 256"),
    (["--group-size", "32", "--type", "fp32"], 2, "--group-size: type fp32 has no integer codes"),
    (["--accuracy-level", "5"], 2, "--accuracy-level: '5' is not one of 0, 1, 2, 3, 4"),
    (["--accuracy-level", "-1"], 2, "--accuracy-level: '-1' is not one of 0, 1, 2, 3, 4 (did you mean '1'?)"),
    (["--max-length", "0"], 2, "--max-length: '0' is not a whole number from 1 to 1073741824"),
    (["--max-length", "4097"], 2, "--max-length 4097: the model's context is 4096"),
    (["--min-onnxruntime", "1.21"], 2, "--min-onnxruntime: '1.21' is not one of 1.20, 1.22, 1.24, current (did you "
                                       "mean '1.20'?)"),
    (["--min-onnxruntime", "1.20", "--type", "int8"], 6,
     "tensor 'model.layers.0.self_attn.qkv_proj.weight': 8-bit MatMulNBits needs onnxruntime 1.22, --min-onnxruntime "
     "says 1.20 (choose other types, or a newer --min-onnxruntime)"),
    (["--activations", "dynamic"], 2, "--activations dynamic: needs int8"),
    (["--activations", "static"], 2, "--activations: 'static' is not one of float, dynamic"),
    (["--ep", "cud"], 2, "--ep: 'cud' is not one of cpu, cuda, dml, webgpu (did you mean 'cuda'?)"),
    (["--ep", "cuda", "--type", "fp32"], 6, "fp32 for --ep cuda is not written: no onnxruntime has the attention "
                                            "operator for it (use fp16, int8 or int4)"),
    (["--type", "bf16"], 6, "type bf16 is not written: onnxruntime's CPU provider does not run it"),
    (["--precision", "bf16"], 2, "onnx has no precision bf16 (it has int4, int8, fp16, fp32)"),
    (["--tensor-type", "lm_head=Q8_0"], 2, "rule 'lm_head=Q8_0': unknown tensor type (the tensor types are float, "
                                           "int8, int4)"),
    (["--ratio", "0.5"], 2, "--ratio: not an option of onnx; openvino has it"),
]


@pytest.mark.parametrize("options,code,message", REFUSED, ids=[" ".join(options) for options, _, _ in REFUSED])
def test_refusals(work, options, code, message):
    before = snapshot(work)
    assert refused(quantize("--format", "onnx", *options, cwd=work), code, before=before, folder=work) == message


@pytest.mark.parametrize("option", ["--ep", "--min-onnxruntime", "--activations", "--accuracy-level", "--max-length",
                                    "--group-size"])
def test_gguf_has_none_of_the_options(work, option):
    value = {"--ep": "cpu", "--min-onnxruntime": "1.24", "--activations": "float", "--accuracy-level": "4",
             "--max-length": "4096", "--group-size": "32"}[option]
    owners = "onnx and litert have it" if option == "--max-length" else "onnx has it"
    if option == "--group-size":
        owners = "onnx, openvino, mlx, litert and torch have it (in GGUF --type decides it)"
    assert refused(quantize(option, value, cwd=work), 2, before={}, folder=work) == \
        f"{option}: not an option of gguf; {owners}"


def test_a_tokenizer_that_the_runtime_cannot_read(folder, work):
    """tokenizer.model alone is enough for GGUF."""
    tiny(folder)
    (folder / "tokenizer.json").unlink()
    before = snapshot(work)
    line = refused(quantize("--format", "onnx", "-o", work / "out", model=folder), 4, before=before, folder=work)
    assert line == f"{folder}/tokenizer.json: not found, and onnxruntime-genai needs it (save the tokenizer with " \
                   "transformers, or fetch the file; --tokenizer FOLDER takes it from another folder)"


def test_patches_are_decisions(folder, work):
    tiny(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "TokenizersBackend", "model_max_length": int(1e30)}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").unlink()
    report = quantize("--format", "onnx", "-o", work / "out", "--json", model=folder).ok().json()
    decided = {decision["subject"]: decision["value"] for decision in report["decisions"]}
    assert decided["tokenizer_config.json: tokenizer_class"] == "LlamaTokenizer"
    assert decided["tokenizer_config.json: model_max_length"] == "4096"
    assert decided["genai_config.json: eos_token_id"] == "+2055"
    written = json.loads((work / "out" / "tokenizer_config.json").read_text())
    assert written == config | {"tokenizer_class": "LlamaTokenizer", "model_max_length": 4096}
    genai = json.loads((work / "out" / "genai_config.json").read_text())
    assert genai["model"]["eos_token_id"] == [2048, 2055]


# --- several formats -------------------------------------------------------------------------

def test_several_formats_stand_in_one_folder(work):
    report = quantize("--format", "gguf,onnx", "--precision", "int8", "-o", work / "both", "--json").ok().json()
    assert names(work / "both") == {"phi35-tiny-Q8_0.gguf", "phi35-tiny-onnx-int8"}
    # model.safetensors holds 4,491,520 weights of two bytes: read once for both.
    assert report["source_bytes"] == 2 * 4_491_520
    assert [output["format"] for output in report["outputs"]] == ["gguf", "onnx"]
    quantize("--type", "Q8_0", "-o", work / "one.gguf").ok()
    quantize("--format", "onnx", "--type", "int8", "-o", work / "one").ok()
    assert (work / "both" / "phi35-tiny-Q8_0.gguf").read_bytes() == (work / "one.gguf").read_bytes()
    assert contents(work / "both" / "phi35-tiny-onnx-int8") == contents(work / "one")


def test_several_formats_go_to_the_working_folder_without_o(work):
    quantize("--format", "onnx,gguf", cwd=work).ok()
    assert names(work) == {"phi35-tiny-Q4_K_M.gguf", "phi35-tiny-onnx-int4"}


def test_several_formats_replace_only_by_force(work):
    both = ["--format", "gguf,onnx", "-o", work]
    quantize(*both).ok()
    before = snapshot(work)
    refused(quantize(*both), 5, "phi35-tiny-Q4_K_M.gguf: exists", before=before, folder=work)
    (work / "phi35-tiny-Q4_K_M.gguf").unlink()
    before = snapshot(work)
    refused(quantize(*both), 5, "phi35-tiny-onnx-int4: exists", before=before, folder=work)
    quantize(*both, "--force").ok()
    assert temporaries(work) == []


def test_several_formats_need_a_folder(work):
    (work / "file").write_text("mine")
    before = snapshot(work)
    assert refused(quantize("--format", "gguf,onnx", "-o", work / "file", "--force"), 5, before=before, folder=work) \
        == f"{work}/file: is not a folder (with several formats -o names a folder)"
    assert refused(quantize("--format", "gguf,onnx", "-o", work / "a" / "b"), 5, before=before, folder=work) == \
        f"{work}/a/b: cannot be made: No such file or directory (--mkdir makes the folders above it, too)"
    quantize("--format", "gguf,onnx", "-o", f"{work}/a/b/", "--mkdir").ok()
    assert names(work / "a" / "b") == {"phi35-tiny-Q4_K_M.gguf", "phi35-tiny-onnx-int4"}


def test_several_formats_leave_nothing_when_one_fails(work, folder):
    """The folder for all of them would have been new, too."""
    weights = bf16(np.full((256, 256), np.nan))
    tiny(folder, tensors_update={"model.layers.0.mlp.down_proj.weight": ("BF16", (256, 256), weights)})
    before = snapshot(work)
    for out in ("new", "a/b/new"):
        refused(quantize("--format", "gguf,onnx", "-o", work / out, "--mkdir", model=folder), 9, "NaN", before=before,
                folder=work)


@pytest.mark.parametrize("options,code,message", [
    (["--type", "int4"], 2, "--type: each format has types of its own (use --precision, or --type gguf=NAME)"),
    (["-o", "-"], 2, "-o -: only one output that is a file can go to standard output (several go to a folder)"),
    (["--split-max-size", "1G"], 2, "--split-max-size: not an option of onnx; gguf has it (with several formats --OPTION "
                                    "FORMAT=VALUE gives an option to one of them)"),
    (["--format", "gguf,gguf"], 2, "--format: 'gguf' is named twice"),
    (["--format", "gguf,"], 2, "--format: unknown format '' (formats: gguf, onnx, openvino, mlx, litert, torch, safetensors)"),
], ids=str)
def test_refusals_of_several_formats(work, options, code, message):
    formats = [] if "--format" in options else ["--format", "gguf,onnx"]
    assert refused(quantize(*formats, *options, cwd=work), code, before={}, folder=work) == message


# --- JSON ------------------------------------------------------------------------------------

def test_json_of_one_format_is_an_object(work):
    plan = run(["plan", DATA / "phi4mini-tiny", "--format", "onnx", "--json"]).ok().json()
    assert plan["format"] == "onnx" and plan["type"] == "int4" and "outputs" not in plan
    assert plan["n_weights"] == 3_688_704  # embedding and head count once
    assert plan["tensors"][0] == {"name": "model.embed_tokens.weight", "role": "token_embedding", "layer": None,
                                  "shape": [2112, 256], "source_type": "BF16", "type": "int4 g32",
                                  "bytes": 2112 * 256 * 5 // 8, "reason": "tied: the output head too",
                                  "fallback": False}
    gate, up = (t for t in plan["tensors"] if t["name"].startswith("model.layers.2.mlp.gate_up_proj"))
    assert gate["name"].endswith("weight[gate]") and up["name"].endswith("weight[up]")
    assert gate["shape"] == up["shape"] == [768, 256]
    assert [t["name"] for t in plan["tensors"][-4:]] == ["config:cos_long", "config:sin_long", "config:cos_short",
                                                         "config:sin_short"]
    assert {d["subject"] for d in plan["decisions"]} == {"execution provider", "onnxruntime", "accuracy_level",
                                                         "search.max_length"}
    report = quantize("--format", "onnx", "-o", work / "out", "--json", model=DATA / "phi4mini-tiny").ok().json()
    assert report["output_bytes"] == plan["output_bytes"] == bytes_on_disk(work / "out")
    assert report["decisions"] == plan["decisions"]
    assert 0.05 < report["relative_rmse"] < 0.2


def test_json_of_several_formats_is_a_list(work):
    plan = run(["plan", MODEL, "--format", "gguf,onnx", "--json", "-o", work / "x"]).ok().json()
    assert set(plan) == {"outputs", "threads", "peak_memory_bytes"}
    gguf, onnx = plan["outputs"]
    assert gguf["type"] == "Q4_K_M" and onnx["type"] == "int4"
    assert gguf["files"][0]["path"] == str(work / "x" / "phi35-tiny-Q4_K_M.gguf")
    assert str(work / "x" / "phi35-tiny-onnx-int4" / "model.onnx") in [file["path"] for file in onnx["files"]]
    assert names(work) == set()


# --- windows ---------------------------------------------------------------------------------

def test_a_small_window_is_in_the_graph_and_warned_of_in_gguf(folder, work):
    tiny(folder, config_updates={"sliding_window": 100})
    result = quantize("--format", "gguf,onnx", "-o", work / "out", model=folder).ok()
    lines = [line for line in warnings(result) if "sliding_window" in line]
    assert len(lines) == 1 and "100" in lines[0] and "llama.cpp" in lines[0]
    alone = quantize("--format", "onnx", "-o", work / "alone", "--json", model=folder).ok()
    assert warnings(alone) == []
    assert {"subject": "local_window_size", "value": "100", "reason": "the model attends to so many tokens"} in \
        alone.json()["decisions"]
    assert b"local_window_size" in (work / "alone" / "model.onnx").read_bytes()
    quantize("--format", "onnx", "-o", work / "wide").ok()  # 262144
    assert b"local_window_size" not in (work / "wide" / "model.onnx").read_bytes()


# --- numbers ---------------------------------------------------------------------------------

DOWN = "model.layers.0.mlp.down_proj.weight"


def with_down(folder, values):
    return tiny(folder, tensors_update={DOWN: ("BF16", (256, 256), bf16(values))})


@pytest.mark.parametrize("type", TYPES)
def test_row_108_one_nan_stops_every_type(folder, work, type):
    values = np.zeros((256, 256), "<f4")
    values[3, 232] = np.nan
    with_down(folder, values)
    before = snapshot(work)
    refused(quantize("--format", "onnx", "--type", type, "-o", work / "out", model=folder), 9, f"tensor '{DOWN}'",
            "index 1000 (row 3, column 232)", before=before, folder=work)
    result = quantize("--format", "onnx", "--type", type, "-o", work / "out", "--nan", "zero", model=folder).ok()
    assert any("1 NaN weights became 0" in line for line in warnings(result))
    run(["verify", work / "out", "--against", folder]).ok()


def test_row_113_what_a_half_cannot_hold(folder, work):
    values = np.zeros((256, 256), "<f4")
    values[2, 3] = -70144.0
    with_down(folder, values)
    before = snapshot(work)
    refused(quantize("--format", "onnx", "--type", "fp16", "-o", work / "out", model=folder), 9, f"tensor '{DOWN}'",
            "weight 515", "65504", "--overflow clamp", before=before, folder=work)
    quantize("--format", "onnx", "--type", "fp16", "-o", work / "out", "--overflow", "clamp", model=folder).ok()
    assert struct.pack("<e", -65504) in (work / "out" / "model.onnx.data").read_bytes()
    quantize("--format", "onnx", "--type", "fp32", "-o", work / "wide", model=folder).ok()


@pytest.mark.parametrize("type", ["int8", "int4"])
def test_row_114_a_scale_that_a_half_cannot_hold(folder, work, type):
    """m / 8 or m / 128, as cuda stores it, is beyond 65504."""
    values = np.zeros((256, 256), "<f4")
    values[4, 100] = {"int8": 128, "int4": 8}[type] * 66000.0
    with_down(folder, values)
    before = snapshot(work)
    refused(quantize("--format", "onnx", "--type", type, "--ep", "cuda", "-o", work / "out", model=folder), 9,
            f"tensor '{DOWN}'", before=before, folder=work)
    quantize("--format", "onnx", "--type", type, "-o", work / "out", model=folder).ok()


@pytest.mark.parametrize("type", TYPES)
def test_rows_117_and_119_zeros_denormals_and_constants(folder, work, type):
    values = np.zeros((256, 256), "<f4")
    values[1] = -0.0
    if not type.startswith("k_quant"):  # which loses constants: docs/quantization.md
        values[2] = 0.125
        values[3, :32] = -0.5
    values[4, :] = 1e-38
    values[5, ::2] = -1e-39
    with_down(folder, values)
    quantize("--format", "onnx", "--type", type, "-o", work / "out", model=folder).ok()
    run(["verify", work / "out", "--against", folder]).ok()


# --- files that others have ------------------------------------------------------------------

def test_row_092_an_old_data_file_is_never_written_through(work):
    """The old data file is a hard link, as snapshots of backups have: the other name keeps its bytes."""
    out = work / "out"
    quantize("--format", "onnx", "--type", "int8", "-o", out).ok()
    os.link(out / "model.onnx.data", work / "victim")
    os.link(out / "model.onnx", work / "victim.onnx")
    before = ((work / "victim").read_bytes(), (work / "victim.onnx").read_bytes())
    quantize("--format", "onnx", "--type", "int4", "-o", out, "--force").ok()
    assert ((work / "victim").read_bytes(), (work / "victim.onnx").read_bytes()) == before
    assert (out / "model.onnx.data").read_bytes() != before[0]
    assert (out / "model.onnx.data").stat().st_nlink == 1 and (work / "victim").stat().st_nlink == 1
    run(["verify", out, "--against", MODEL]).ok()


def test_a_folder_that_is_a_link_is_replaced_and_not_followed(work):
    quantize("--format", "onnx", "--type", "int8", "-o", work / "real").ok()
    before = snapshot(work / "real")
    (work / "link").symlink_to("real")
    refused(quantize("--format", "onnx", "-o", work / "link"), 5, "exists")
    quantize("--format", "onnx", "-o", work / "link", "--force").ok()
    assert not (work / "link").is_symlink() and names(work / "link") == FILES
    assert snapshot(work / "real") == before


# --- large weights ---------------------------------------------------------------------------

def sparse_model(folder, vocab, hidden=1024):
    """An untied float32 model of one layer with a large vocabulary; all weights are a hole that reads as zeros."""
    harness.side_files(folder, "phi35-tiny", {
        "num_hidden_layers": 1, "intermediate_size": 256, "vocab_size": vocab, "hidden_size": hidden,
        "num_attention_heads": hidden // 64, "num_key_value_heads": hidden // 64})
    layer = "model.layers.0."
    shapes = {"model.embed_tokens.weight": (vocab, hidden), layer + "input_layernorm.weight": (hidden,),
              layer + "self_attn.qkv_proj.weight": (3 * hidden, hidden),
              layer + "self_attn.o_proj.weight": (hidden, hidden),
              layer + "post_attention_layernorm.weight": (hidden,), layer + "mlp.gate_up_proj.weight": (512, hidden),
              layer + "mlp.down_proj.weight": (hidden, 256), "model.norm.weight": (hidden,),
              "lm_head.weight": (vocab, hidden)}
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape, dtype=np.int64))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    harness.write_raw(folder / "model.safetensors", header)
    os.truncate(folder / "model.safetensors", (folder / "model.safetensors").stat().st_size + end)
    return folder


def test_row_099_weights_beyond_4_gib(folder, work):
    """model.onnx stays small, and all weights are beside it."""
    vocab = 530_000
    sparse_model(folder, vocab)
    assert (folder / "model.safetensors").stat().st_size > 2**32
    codes_and_scales = vocab * 1024 * 5 // 8  # of the embedding, and of the head
    try:
        report = quantize("--format", "onnx", "--type", "int4", "--tensor-type", "embed=int4", "-o", work / "out",
                          "--no-fsync", "--json", model=folder, timeout=300).ok().json()
        assert report["output_bytes"] == bytes_on_disk(work / "out")
        assert (work / "out" / "model.onnx").stat().st_size < 1 << 20
        data = (work / "out" / "model.onnx.data").stat().st_size
        assert 2 * codes_and_scales < data < 2 * codes_and_scales + (16 << 20)
        inspected = run(["inspect", work / "out", "--json"]).ok()
        weights = {t["name"]: (t["bytes"], os.path.basename(t["file"])) for t in inspected.json()["tensors"]}
        assert warnings(inspected) == []
        assert weights["model.embed_tokens.weight"][0] == weights["lm_head.MatMul.weight"][0] == codes_and_scales
        assert {file for _, file in weights.values()} == {"model.onnx.data"}
        if not harness.SANITIZED:
            assert report["peak_memory_bytes"] < 1 << 30
    finally:
        shutil.rmtree(work / "out", ignore_errors=True)


def test_memory_stays_below_the_limit_while_weights_are_clamped(folder, work):
    """A clamped chunk is a copy; these have a weight of 1e6 in every 65536."""
    sparse_model(folder, 60_000)
    header, start = harness.read_header(folder / "model.safetensors")
    begin, end = header["model.embed_tokens.weight"]["data_offsets"]
    with open(folder / "model.safetensors", "r+b") as file:
        for position in range(begin, end, 4 << 16):
            file.seek(start + position)
            file.write(struct.pack("<f", 1e6))
    options = ["--format", "onnx", "--type", "fp16", "--overflow", "clamp", "--memory-limit", "300M", "--json"]
    plan = run(["plan", folder, *options]).ok().json()
    report = quantize(*options, "-o", work / "out", "--no-fsync", model=folder, timeout=100).ok().json()
    shutil.rmtree(work / "out")
    assert report["n_clamped"] == (end - begin + (4 << 16) - 1) // (4 << 16)
    if not harness.SANITIZED:
        assert report["peak_memory_bytes"] <= plan["peak_memory_bytes"] <= 300 << 20


def test_row_099_a_data_file_beyond_4_gib_is_planned(folder):
    """float32 rows to look up: 4 GiB of them."""
    vocab = 1 << 20
    sparse_model(folder, vocab)
    plan = run(["plan", folder, "--format", "onnx", "--type", "int4", "--json"]).ok().json()
    sizes = {os.path.basename(file["path"]): file["bytes"] for file in plan["files"]}
    embedding, head = 2**32, (1 << 20) * 1024 * 5 // 8
    assert embedding + head < sizes["model.onnx.data"] < embedding + head + (16 << 20)
    assert sizes["model.onnx"] < 1 << 20


# --- matrices by columns -----------------------------------------------------------------------

def calls(work, name, file, *args):
    """How often the program makes the system call `name` on `file`."""
    trace = work / "trace"
    trace.mkdir(exist_ok=True)
    run(["-ff", "-qq", "-y", "-s", "0", "-e", f"trace={name}", "-o", trace / "t", harness.PHIQ, *args], program=STRACE,
        timeout=60).ok()
    lines = "".join(path.read_text() for path in trace.iterdir()).splitlines()
    shutil.rmtree(trace)
    return sum(f"/{file}>" in line for line in lines)


MOST_WRITTEN_AT_ONCE = 512 * 1024


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_matrices_by_columns_take_no_call_for_each_column(work):
    """Float matrices stand the other way round, so that a few rows are a few bytes of each column. They are written and
    read whole where they fit; row by row, as GGUF has them, no file needs fewer calls."""
    for format, type in (("gguf", "F16"), ("onnx", "fp16")):
        run(["quantize", MODEL, "--format", format, "--type", type, "-o", work / format, "--no-fsync"]).ok()
    sizes = [t["bytes"] for t in run(["inspect", work / "onnx", "--json"]).ok().json()["tensors"]]
    n_writes = sum(-(-size // MOST_WRITTEN_AT_ONCE) for size in sizes)
    options = ["--type", "fp16", "-o", work / "again", "--no-fsync"]
    assert calls(work, "pwrite64", "model.onnx.data", "quantize", MODEL, "--format", "onnx", *options) <= n_writes + 1
    by_rows = calls(work, "pread64", "gguf", "verify", work / "gguf", "--against", MODEL)
    assert calls(work, "pread64", "model.onnx.data", "verify", work / "onnx", "--against", MODEL) <= 2 * by_rows
