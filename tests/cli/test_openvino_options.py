"""What the options mean for OpenVINO: types, groups, ratio, contradictions."""
import numpy as np
import pytest

from harness import DATA, bf16, refused, run, snapshot, tiny, warnings

MODELS = ("phi35-tiny", "phi4mini-tiny")
MODEL = DATA / "phi35-tiny"


def plan(*options, model=MODEL):
    return run(["plan", model, "--format", "openvino", "--json", *options]).ok().json()


def matrices(planned):
    """{name: type} of the layers' matrices."""
    return {tensor["name"]: tensor["type"] for tensor in planned["tensors"]
            if len(tensor["shape"]) == 2 and tensor["layer"] is not None}


# --- types -----------------------------------------------------------------------------------

@pytest.mark.parametrize("options, type", [
    (["--precision", "int4"], "INT4_SYM"), (["--precision", "int4", "--sym"], "INT4_SYM"),
    (["--precision", "int4", "--asym"], "INT4_ASYM"), (["--precision", "int8"], "INT8_ASYM"),
    (["--precision", "int8", "--asym"], "INT8_ASYM"), (["--precision", "int8", "--sym"], "INT8_SYM"),
    (["--precision", "fp16"], "F16"), (["--precision", "bf16"], "BF16"), (["--precision", "fp32"], "F32"),
    (["--type", "int8_sym"], "INT8_SYM"), (["--type", "INT4_ASYM", "--asym"], "INT4_ASYM"), ([], "INT4_SYM"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_a_precision_means_a_type(options, type):
    assert plan(*options)["type"] == type


def test_the_profile():
    for options, type in [([], "INT8_ASYM"), (["--precision", "int4"], "INT4_SYM"), (["--sym"], "INT8_SYM"),
                          (["--precision", "fp16"], "F16"), (["--type", "BF16"], "BF16")]:
        planned = run(["plan", MODEL, "--profile", "ai-pc-intel", "--json", *options]).ok().json()
        assert (planned["format"], planned["type"]) == ("openvino", type)
    refused(run(["plan", MODEL, "--profile", "ai-pc-intel", "--precision", "bf16"]), 2,
            "profile 'ai-pc-intel' does not allow precision bf16 (it allows int4, int8, fp16, fp32)")


def test_the_type_is_in_the_default_name():
    assert "phi35-tiny-openvino-INT4_ASYM/" in plan("--precision", "int4", "--asym")["files"][0]["path"]


# --- groups and ratio ------------------------------------------------------------------------

def test_group_sizes():
    for value, name in [("64", "int4 g64"), ("row", "int4 row"), ("-1", "int4 row")]:
        planned = plan("--type", "INT4_SYM", "--ratio", "1", "--group-size", value)
        assert set(matrices(planned).values()) == {name}
    assert set(matrices(plan("--type", "INT4_SYM", "--ratio", "1")).values()) == {"int4 g128"}


@pytest.mark.parametrize("model", MODELS)
def test_the_plan_ranks_layers_and_says_so(model):
    planned = plan("--precision", "int4", model=DATA / model)
    types = matrices(planned)
    n_int4 = sum(type == "int4 g128" for type in types.values())
    assert (len(types), n_int4) == (16, {"phi35-tiny": 10, "phi4mini-tiny": 8}[model])  # NNCF's: tests/data/golden
    assert set(types.values()) == {"int4 g128", "int8 row asym"}
    (decision,) = planned["decisions"]
    assert (decision["subject"], decision["value"]) == ("ratio", "0.6")
    assert decision["reason"].startswith(f"{n_int4} of 16 matrices of the layers, ")
    assert decision["reason"].endswith(" of weights were read")
    assert plan("--precision", "int4", "--threads", 1, model=DATA / model)["tensors"] == planned["tensors"]
    assert plan("--precision", "int4", "--memory-limit", "40M", model=DATA / model)["tensors"] == planned["tensors"]


def test_a_ratio_of_one_reads_no_weights(folder):
    name = "model.layers.0.self_attn.o_proj.weight"
    tiny(folder, tensors_update={name: ("BF16", (256, 256), bf16(np.full((256, 256), np.nan)))})
    assert set(matrices(plan("--precision", "int4", "--ratio", "1", model=folder)).values()) == {"int4 g128"}
    refused(run(["plan", folder, "--format", "openvino"]), 9, name, "65536 NaN or Inf weights")
    assert len(matrices(plan("--precision", "int4", "--nan", "zero", model=folder))) == 4


def test_a_rule_makes_an_exception():
    types = matrices(plan("--precision", "int4", "--ratio", "1", "--tensor-type", r"layers\.1\..*down=INT8_SYM"))
    assert {name for name, type in types.items() if type != "int4 g128"} == {"model.layers.1.mlp.down_proj.weight"}
    planned = plan("--precision", "int8", "--tensor-type", "lm_head=F16", model=DATA / "phi4mini-tiny")
    (embedding,) = [tensor for tensor in planned["tensors"] if tensor["role"] == "token_embedding"]
    assert embedding["type"] == "F16" and embedding["reason"].endswith("tied: the output head too")


def test_rows_that_groups_do_not_fit_keep_8_bits(folder):
    tiny(folder, intermediate=320)
    result = run(["plan", folder, "--format", "openvino", "--ratio", "1", "--json"]).ok()
    types = {tensor["name"]: tensor for tensor in result.json()["tensors"]}
    down = types["model.layers.0.mlp.down_proj.weight"]
    assert (down["type"], down["fallback"]) == ("int8 row asym", True)
    (warning,) = warnings(result)
    assert warning == ("tensor 'model.layers.0.mlp.down_proj.weight': row of 320 is not a multiple of 128: "
                       "INT4_SYM -> INT8_ASYM")
    refused(run(["plan", folder, "--format", "openvino", "--ratio", "1", "--strict-types"]), 6,
            "row of 320 is not a multiple of 128", "--strict-types forbids fallbacks")


# --- quantize --------------------------------------------------------------------------------

def quantize(out, *options, model=MODEL):
    return run(["quantize", model, "--format", "openvino", "-o", out, *options])


def test_the_report_counts_what_the_ranking_reads(work):
    once = quantize(work / "one", "--ratio", "1", "--json").ok().json()["source_bytes"]
    twice = quantize(work / "two", "--json").ok().json()["source_bytes"]
    ranked = sum(np.prod(tensor["shape"]) for tensor in plan()["tensors"]
                 if len(tensor["shape"]) == 2 and tensor["layer"] is not None)
    assert twice - once == 2 * ranked  # bfloat16


@pytest.mark.parametrize("options", [["--precision", "int4"], ["--precision", "int8"],
                                     ["--type", "INT4_ASYM", "--group-size", "row"]], ids=" ".join)
@pytest.mark.parametrize("model", MODELS)
def test_bytes_do_not_depend_on_threads_or_memory(work, model, options):
    def files(name, *resources):
        quantize(work / name, *options, *resources, model=DATA / model).ok()
        return {path.name: path.read_bytes() for path in (work / name).iterdir()}
    one = files("one", "--threads", 1)
    assert files("seven", "--threads", 7) == one
    assert files("small", "--memory-limit", "40M") == one


# --- several formats -------------------------------------------------------------------------

def test_onnx_and_openvino_share_options():
    outputs = run(["plan", MODEL, "--format", "onnx,openvino", "--asym", "--group-size", "64", "--ratio", "openvino=1",
                   "--json"]).ok().json()["outputs"]
    assert [(output["format"], output["type"]) for output in outputs] == [("onnx", "int4"), ("openvino", "INT4_ASYM")]
    for output in outputs:
        assert "int4 g64 asym" in {tensor["type"] for tensor in output["tensors"]}


def test_an_option_is_given_to_one_format():
    outputs = run(["plan", MODEL, "--format", "onnx,openvino,mlx", "--group-size", "onnx=16", "--group-size", "mlx=32",
                   "--group-size", "64", "--ratio", "openvino=1", "--asym=onnx", "--json"]).ok().json()["outputs"]
    wanted = {"onnx": "int4 g16 asym", "openvino": "int4 g64", "mlx": "affine4 g32"}
    for output in outputs:
        assert wanted[output["format"]] in {tensor["type"] for tensor in output["tensors"]}


@pytest.mark.parametrize("formats, option, message", [
    ("openvino,onnx", ["--ratio", "1"], "--ratio: not an option of onnx; openvino has it"),
    ("gguf,onnx", ["--group-size", "64"], "--group-size: not an option of gguf; onnx, openvino, mlx, litert and torch have it (in GGUF "
                                          "--type decides it)"),
    ("onnx,mlx", ["--sym"], "--sym: not an option of mlx; onnx, openvino and torch have it"),
    ("gguf,onnx", ["--method", "rtn"], "--method rtn: not an option of gguf; onnx has it"),
    ("onnx,mlx", ["--group-size", "openvino=64"], "--group-size openvino=...: openvino is none of the formats that are "
                                                  "written"),
    ("onnx,mlx", ["--sym=nosuch"], "--sym nosuch=...: nosuch is none of the formats that are written"),
    ("onnx", ["--group-size", "64", "--group-size", "onnx=x"], "--group-size x: ONNX has 16, 32 (default), "
                                                               "64, 128, 256"),
], ids=str)
def test_an_option_that_one_of_the_formats_lacks_is_refused(work, formats, option, message):
    before = snapshot(work)
    line = refused(run(["plan", MODEL, "--format", formats, *option], cwd=work), 2, before=before, folder=work)
    assert line.startswith(message)


# --- refusals --------------------------------------------------------------------------------

GROUPS = "OpenVINO has 128 (default), even from 4, row (of 4-bit types)"
REFUSED = [
    (["--type", "INT4_SYM", "--asym"], 2, "--asym contradicts type INT4_SYM"),
    (["--type", "INT8_ASYM", "--sym"], 2, "--sym contradicts type INT8_ASYM"),
    (["--precision", "fp16", "--sym"], 2, "--sym: type F16 has no integer codes"),
    (["--type", "BF16", "--asym"], 2, "--sym, --asym: type BF16 has no integer codes"),
    (["--sym", "--asym"], 2, "--sym: contradicts --asym"),
    (["--group-size", "0"], 2, f"--group-size 0: {GROUPS}"),
    (["--group-size", "-2"], 2, f"--group-size -2: {GROUPS}"),
    (["--group-size", "rows"], 2, f"--group-size rows: {GROUPS}"),
    (["--group-size", "33"], 2, "--group-size 33: OpenVINO has even numbers from 4, and 'row'"),
    (["--precision", "int8", "--group-size", "64"], 2, "--group-size: type INT8_ASYM has no groups"),
    (["--precision", "fp32", "--group-size", "row"], 2, "--group-size: type F32 has no groups"),
    (["--ratio", "0"], 2, "--ratio: '0' is not a number above 0 and at most 1 (--precision int8 is what 0 would be)"),
    (["--ratio", "1.01"], 2, "--ratio: '1.01' is not a number above 0 and at most 1 (--precision int8 is what 0 would "
                             "be)"),
    *[(["--ratio", value], 2, f"--ratio: '{value}' is not a number above 0 and at most 1 (--precision int8 is what 0 "
                              "would be)") for value in ("-0.5", "nan", "inf", "1e400", "0,6", "60%", " 0.6", "")],
    (["--precision", "int8", "--ratio", "0.5"], 2, "--ratio: type INT8_ASYM has no 4-bit layers"),
    (["--type", "F16", "--ratio", "1"], 2, "--ratio: type F16 has no 4-bit layers"),
    (["--method", "rtn"], 2, "--method rtn: not an option of openvino; onnx has it"),
    (["--ep", "cpu"], 2, "--ep: not an option of openvino; onnx has it"),
    (["--max-length", "100"], 2, "--max-length: not an option of openvino; onnx and litert have it"),
    (["--type", "NF4"], 6, "type NF4 is not written: of NNCF's modes this version has the integer ones of 8 and 4 "
                           "bits (`phiq profiles --types` lists the types)"),
    (["--type", "int4"], 2, "'int4' is no type of openvino, it is a precision (--precision int4; `phiq profiles --types` "
                            "lists the types)"),
    (["--tensor-type", "down=int4"], 2, "rule 'down=int4': unknown tensor type, did you mean 'INT4_ASYM' or 'INT4_SYM'? (the "
                                        "tensor types are F32, F16, BF16, INT8_ASYM, INT8_SYM, INT4_ASYM, INT4_SYM)"),
    (["--overflow", "f32"], 2, "--overflow f32: OpenVINO cannot keep one tensor in F32 (--overflow clamp, or a "
                               "precision that computes in float32)"),
]


@pytest.mark.parametrize("options,code,message", REFUSED, ids=[" ".join(options) for options, _, _ in REFUSED])
@pytest.mark.parametrize("command", ["quantize", "plan"])
def test_refusals(work, command, options, code, message):
    before = snapshot(work)
    line = refused(run([command, MODEL, "--format", "openvino", *options], cwd=work), code, before=before, folder=work)
    assert line in (message, f"--type: {message}")


def test_a_row_is_no_group_of_onnx(work):
    refused(run(["plan", MODEL, "--format", "onnx", "--group-size", "row"]), 2,
            "--group-size row: ONNX has 16, 32, 64, 128, 256")
