"""Codes chosen by a text: what that is worth on other text, the same bytes however they are computed,
what is said of it, and what is refused. Figures are measured by `phiq eval`."""
import json
import os
import re

import numpy as np
import pytest
from gguf_file import read_gguf
from harness import DATA, bf16, refused, run, snapshot, tiny, warnings

MODELS = ["phi35-tiny", "phi4mini-tiny"]
HELDOUT = (DATA / "heldout.txt").read_bytes()
# Bytes of heldout.txt: the first 36 windows of 256 tokens (32 are summed, 4 held back), and the windows 128 to 159.
CALIBRATION = {"phi35-tiny": slice(0, 30551), "phi4mini-tiny": slice(0, 32788)}
EVALUATION = {"phi35-tiny": slice(113430, 141620), "phi4mini-tiny": slice(119871, 150687)}
WINDOWS = ["--calibration-ctx", "256"]


def texts(work, model):
    """The text to calibrate on, and one that it has nothing of."""
    calibration, evaluation = work / "calibration.txt", work / "evaluation.txt"
    calibration.write_bytes(HELDOUT[CALIBRATION[model]])
    evaluation.write_bytes(HELDOUT[EVALUATION[model]])
    return calibration, evaluation


def quantize(work, name, model, *options, timeout=300):
    out = work / name
    return out, run(["quantize", DATA / model, "-o", out, *options], timeout=timeout).ok()


def rules(type, bits8):
    return ["--tensor-type", f".*={type}", "--tensor-type", f"lm_head={bits8}", "--tensor-type", f"embed_tokens={bits8}"]


# Embedding and head have 8 bits where the format has a type for that; OpenVINO's have by themselves.
FORMATS = {
    "onnx": ["--format", "onnx", "--type", "int4", "--tensor-type", "lm_head=int8", "--tensor-type", "embed_tokens=int8"],
    "openvino": ["--format", "openvino", "--type", "INT4_SYM", "--ratio", "1"],
    "mlx": ["--format", "mlx", "--type", "4bit"],
    "litert": ["--format", "litert", "--max-length", "512"],  # short rotary factors, as the texts have
    "Q4_K": ["--type", "Q4_K_S", *rules("Q4_K", "Q8_0")],
    "IQ4_XS": ["--type", "IQ4_XS", *rules("IQ4_XS", "Q8_0")],
}
# Mean KL x 1000 that a prototype in float32 reached, by model: reference, imatrix, feedback without and with correction.
# MLX's embedding and head have 4 bits here and 8 there, so that row has none.
FIGURES = {
    "onnx": {"phi35-tiny": (18.9, 16.9, 12.8, 11.6), "phi4mini-tiny": (24.9, 21.7, 14.4, 12.1)},
    "openvino": {"phi35-tiny": (27.3, 23.7, 18.8, 16.6), "phi4mini-tiny": (35.0, 30.7, 20.4, 17.7)},
    "Q4_K": {"phi35-tiny": (15.5, 12.5, 9.6, 8.6), "phi4mini-tiny": (20.5, 16.2, 10.7, 9.0)},
    "IQ4_XS": {"phi35-tiny": (16.1, 14.0, 10.7, 9.6), "phi4mini-tiny": (20.9, 18.3, 11.9, 10.2)},
}
METHODS = {
    "reference": [],
    "imatrix": ["--method", "imatrix"],
    "feedback": ["--method", "feedback", "--no-correction"],
    "corrected": ["--method", "feedback"],
}
# A corrected run takes twice as long: these in every run of the tests, all with PHIQ_SLOW=1.
CORRECTED = {("Q4_K", "phi35-tiny"), ("onnx", "phi4mini-tiny"), ("mlx", "phi4mini-tiny")}
IS_SLOW = os.environ.get("PHIQ_SLOW") == "1"
# Standard errors are 1.3 % of each figure: six of them.
ROOM = 1.08


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("format", FORMATS)
def test_each_method_serves_unseen_text_better_than_the_one_before(work, format, model):
    calibration, evaluation = texts(work, model)
    against = DATA / model
    if format == "mlx":  # whose rotary factors are others than the checkpoint's
        against, _ = quantize(work, "bf16", model, "--format", "mlx", "--type", "BF16")
    methods = [method for method in METHODS if method != "corrected" or IS_SLOW or (format, model) in CORRECTED]
    outs = []
    for method in methods:
        text = [] if method == "reference" else ["--calibrate", calibration, *WINDOWS]
        out, _ = quantize(work, method + ("" if "--format" in FORMATS[format] else ".gguf"), model, *FORMATS[format],
                          *METHODS[method], *text)
        outs.append(out)
        assert run(["verify", out, "--against", DATA / model], timeout=120).ok()
    sizes = {sum(path.stat().st_size for path in out.rglob("*.data")) for out in outs if out.is_dir()}
    assert len(sizes) <= 1
    report = run(["eval", *outs, "--against", against, "--text", evaluation, "--ctx", "256", "--protocol", "all", "--json"],
                 timeout=300).ok().json()
    kl = [found["kl"] for found in report["models"]]
    print(format, model, [round(1000 * one["mean"], 2) for one in kl])
    for before, after in zip(kl, kl[1:]):
        assert after["mean"] < before["mean"], methods
    # A search without correlations may gain less than the error of measurement.
    for before, after in zip(kl[1:], kl[2:]):
        assert after["mean"] + 2 * after["standard_error"] < before["mean"], methods
    for one, figure in zip(kl, FIGURES.get(format, {}).get(model, ())):
        assert 1000 * one["mean"] < ROOM * figure


# Boxes of PyTorch's folders: the first of each kind of codes in every run of the tests, all with PHIQ_SLOW=1.
PYTORCH_BOXES = ["W4A16", "W4A16 --group-size 32 --asym", "W8A16", "AWQ", "W4A16 --group-size 32", "W4A16 --group-size 64",
                 "W4A16 --group-size row", "W8A16 --group-size row", "W8A8"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("box", PYTORCH_BOXES[:None if IS_SLOW else 4])
def test_each_method_serves_better_in_pytorchs_boxes(work, box, model):
    calibration, evaluation = texts(work, model)
    outs = {}
    for method, options in {**METHODS, "search": ["--method", "search"]}.items():
        text = [] if method in ("reference", "search") else ["--calibrate", calibration, *WINDOWS]
        outs[method], _ = quantize(work, method, model, "--format", "torch", "--type", *box.split(), *options, *text)
        run(["verify", outs[method], "--against", DATA / model], timeout=120).ok()
    sizes = {(out / "model.safetensors").stat().st_size for out in outs.values()}
    assert len(sizes) == 1
    report = run(["eval", *outs.values(), "--against", DATA / model, "--text", evaluation, "--ctx", "256", "--protocol", "all",
                  "--json"], timeout=300).ok().json()
    kl = {method: found["kl"] for method, found in zip(outs, report["models"])}
    print(box, model, {method: round(1000 * one["mean"], 3) for method, one in kl.items()})
    assert kl["search"]["mean"] < kl["reference"]["mean"]  # of few weights a group, by less than the error of measurement
    # Errors are added as those of independent figures, which these are not: differences are known better than that.
    for worse, better in (("reference", "imatrix"), ("imatrix", "feedback"), ("feedback", "corrected")):
        room = 2 * (kl[worse]["standard_error"] ** 2 + kl[better]["standard_error"] ** 2) ** 0.5
        assert kl[better]["mean"] + room < kl[worse]["mean"], (worse, better)


@pytest.mark.parametrize("method", ["search", "imatrix", "feedback"])
@pytest.mark.parametrize("boxes", [["W4A16 --group-size 64", "GPTQ-Int4 --group-size 64", "AWQ --group-size 64 --sym"],
                                   ["W4A16 --group-size row --asym", "AWQ --group-size row"],
                                   ["W8A16 --group-size 32", "GPTQ-Int8 --group-size 32"],
                                   ["W8A16 --group-size row", "W8A8", "GPTQ-Int8 --group-size row"]], ids=" = ".join)
def test_a_method_gives_the_same_weights_in_all_boxes_that_hold_them(work, boxes, method):
    calibration, _ = texts(work, "phi35-tiny")
    text = [] if method == "search" else ["--calibrate", calibration, *WINDOWS, "--calibration-tokens", "1024"]
    outs = [quantize(work, f"out{i}", "phi35-tiny", "--format", "torch", "--type", *box.split(), "--method", method, *text)[0]
            for i, box in enumerate(boxes)]
    for out in outs[1:]:
        assert run(["compare", outs[0], out, "--json"]).ok().json()["max_error"] == 0
    plain, _ = quantize(work, "plain", "phi35-tiny", "--format", "torch", "--type", *boxes[0].split())
    assert run(["compare", plain, outs[0], "--json"]).ok().json()["max_error"] > 0


def contents(out):
    files = sorted(path for path in out.rglob("*") if path.is_file()) if out.is_dir() else [out]
    return {path.name if out.is_dir() else "": path.read_bytes() for path in files}


@pytest.mark.parametrize("format", [*FORMATS, "torch"])
def test_bytes_do_not_depend_on_the_number_of_threads(work, format):
    calibration, _ = texts(work, "phi35-tiny")
    files = []
    for n in (1, 2, 7):
        out, _ = quantize(work, f"t{n}", "phi35-tiny", *FORMATS.get(format, ("--format", format)), "--calibrate", calibration, *WINDOWS,
                          "--calibration-tokens", "1024", "--threads", n)
        files.append(contents(out))
    assert files[0] == files[1] == files[2]


TYPES = [*[("gguf", type) for type in ("Q2_K", "Q3_K_M", "Q5_K_M", "Q6_K", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL")],
         ("onnx", "int8"), ("onnx", "k_quant_mixed"), ("openvino", "INT4_ASYM"), ("openvino", "INT8_SYM"),
         ("openvino", "INT8_ASYM"), *[("mlx", type) for type in ("2bit", "3bit", "6bit", "8bit", "mxfp4", "mxfp8", "nvfp4")],
         ("litert", "int8"), ("litert", "int4"), ("litert", "int4_all"),
         *[("torch", type) for type in ("W4A16", "W8A16", "W8A8", "GPTQ-Int4", "GPTQ-Int8", "AWQ")]]


@pytest.mark.parametrize("method", ["imatrix", "feedback"])
@pytest.mark.parametrize("format, type", TYPES)
def test_every_type_with_a_scale_takes_a_text_and_passes_verify(work, format, type, method):
    calibration, _ = texts(work, "phi4mini-tiny")
    out, result = quantize(work, "out.gguf" if format == "gguf" else "out", "phi4mini-tiny", "--format", format, "--type", type,
                           "--calibrate", calibration, *WINDOWS, "--calibration-tokens", "1024", "--method", method, "--json")
    report = result.json()
    assert report["calibration"]["n_tokens"] == 1024
    errors = report["output_errors"]
    assert {error["role"] for error in errors} >= {"attention_qkv", "attention_output", "mlp_gate_up", "mlp_down"}
    # What feedback did not serve has another method, so nothing of note is worse than without.
    for error in errors:
        assert error["fallback"] or error["method"] == method
        if method == "feedback":
            assert error["error"] <= error["reference_error"]
    run(["verify", out, "--against", DATA / "phi4mini-tiny"]).ok()


def test_several_targets_share_one_text(work):
    calibration, _ = texts(work, "phi35-tiny")
    options = ["--calibrate", calibration, *WINDOWS, "--calibration-tokens", "2048"]
    together = work / "together"
    run(["quantize", DATA / "phi35-tiny", "--format", "gguf,onnx", "-o", together, *options], timeout=300).ok()
    alone, _ = quantize(work, "alone", "phi35-tiny", "--format", "onnx", *options)
    assert contents(together / "phi35-tiny-onnx-int4") == contents(alone)


def test_the_plan_and_the_file_say_how_it_was_made(work):
    calibration, _ = texts(work, "phi35-tiny")
    options = ["--calibrate", calibration, *WINDOWS, "--calibration-tokens", "2048"]
    plan = run(["plan", DATA / "phi35-tiny", *options, "--json"]).ok().json()
    assert plan["calibration"]["files"] == ["calibration.txt"] and plan["calibration"]["n_tokens"] == 2048
    assert plan["calibration"]["n_held_back"] == 256 and plan["calibration"]["estimated_s"] > 0
    assert {"subject": "method", "value": "feedback",
            "reason": "chooses the codes of 17 matrices; an embedding is looked up, not multiplied: search"} in plan["decisions"]
    out, _ = quantize(work, "out.gguf", "phi35-tiny", *options)
    text = run(["inspect", out, "--json"]).ok().text
    for key in ("phiq.method", "phiq.calibration_sha256", "quantize.imatrix.dataset", "quantize.imatrix.chunks_count"):
        assert key in text
    assert plan["calibration"]["sha256"] in text
    plain = run(["plan", DATA / "phi35-tiny", "--json"]).ok().json()
    assert [t["bytes"] for t in plan["tensors"]] == [t["bytes"] for t in plain["tensors"]]
    assert "calibration" not in plain


@pytest.mark.parametrize("model", MODELS)
def test_a_matrix_that_was_written_gives_the_same_codes_as_its_text(work, model):
    calibration, _ = texts(work, model)
    matrix = work / "matrix.gguf"
    by_text, _ = quantize(work, "text.gguf", model, "--calibrate", calibration, *WINDOWS, "--method", "imatrix",
                          "--imatrix-out", matrix)
    by_matrix, _ = quantize(work, "by-matrix.gguf", model, "--imatrix", matrix)
    rows = run(["compare", by_text, by_matrix, "--json"]).ok().json()["tensors"]
    other = {row["name"] for row in rows if row["max_error"] > 0}
    # The matrix says nothing of an embedding that is only looked up; a tied one is the head.
    assert other <= ({"model.embed_tokens.weight"} if model == "phi35-tiny" else set())


def test_few_tokens_say_nothing_of_correlations(work):
    calibration, _ = texts(work, "phi35-tiny")
    _, result = quantize(work, "out.gguf", "phi35-tiny", "--calibrate", calibration, *WINDOWS, "--calibration-tokens", "512",
                         "--json")
    assert "512 tokens are too few for correlations: imatrix instead of feedback" in result.json()["calibration"]["notes"]
    assert any("too few for correlations" in line for line in warnings(result))


def test_one_word_repeated_is_no_text(work):
    """Its codes are those of a search, which looks at no inputs."""
    (work / "word.txt").write_text(" ship" * 4000)
    out, result = quantize(work, "out.gguf", "phi35-tiny", "--calibrate", work / "word.txt", *WINDOWS,
                           "--calibration-tokens", "2048", "--json")
    assert "search instead of feedback: the text has too few distinct tokens" in result.json()["calibration"]["notes"]
    without, _ = quantize(work, "without.gguf", "phi35-tiny", "--method", "search")
    assert {name: tensor.content for name, tensor in read_gguf(out)[1].items()} == \
        {name: tensor.content for name, tensor in read_gguf(without)[1].items()}


def test_a_window_beyond_the_models_context_is_a_usage_error(work):
    """Whatever the memory, which would not bear it either."""
    calibration, _ = texts(work, "phi35-tiny")
    refused(run(["plan", DATA / "phi35-tiny", "--calibrate", calibration, "--calibration-ctx", "1000000000"], cwd=work), 2,
            "--calibration-ctx 1000000000", "the model's context has")


def test_evaluating_on_the_calibration_text_is_warned_of(work):
    calibration, evaluation = texts(work, "phi35-tiny")
    options = ["--calibrate", calibration, *WINDOWS, "--calibration-tokens", "1024", "--ctx", "64", "--chunks", "2"]
    _, same = quantize(work, "a.gguf", "phi35-tiny", *options, "--eval-text", calibration)
    _, other = quantize(work, "b.gguf", "phi35-tiny", *options, "--eval-text", evaluation)
    assert any("not those of unseen text" in line for line in warnings(same))
    assert not any("unseen text" in line for line in warnings(other))


# --- models with experts ---

MOE = DATA / "phimoe-tiny"
MOE_CALIBRATION, MOE_EVALUATION = slice(0, 30551), slice(113430, 141620)  # its tokenizer is phi35-tiny's
# Below so many tokens an expert takes what all tokens of its layer say.
LEAST_TOKENS = 256


def moe_texts(work):
    calibration, evaluation = work / "calibration.txt", work / "evaluation.txt"
    calibration.write_bytes(HELDOUT[MOE_CALIBRATION])
    evaluation.write_bytes(HELDOUT[MOE_EVALUATION])
    return calibration, evaluation


def quantize_moe(work, name, *options):
    out = work / name
    return out, run(["quantize", MOE, "-o", out, *options], timeout=300).ok()


@pytest.mark.parametrize("format", [format for format in FORMATS if format != "litert"])
def test_each_method_serves_experts_better_than_the_one_before(work, format):
    calibration, evaluation = moe_texts(work)
    against = MOE
    if not IS_SLOW and format not in ("Q4_K", "onnx"):
        pytest.skip("PHIQ_SLOW=1 runs every format")
    if format == "mlx":
        against, _ = quantize_moe(work, "bf16", "--format", "mlx", "--type", "BF16")
    outs = []
    for method in METHODS if IS_SLOW else ("reference", "imatrix", "corrected"):
        text = [] if method == "reference" else ["--calibrate", calibration, *WINDOWS]
        out, _ = quantize_moe(work, method + ("" if "--format" in FORMATS[format] else ".gguf"), *FORMATS[format],
                              *METHODS[method], *text)
        outs.append(out)
        assert run(["verify", out, "--against", MOE], timeout=120).ok()
    report = run(["eval", *outs, "--against", against, "--text", evaluation, "--ctx", "256", "--protocol", "all", "--json"],
                 timeout=300).ok().json()
    kl = [found["kl"] for found in report["models"]]
    print(format, [(round(1000 * one["mean"], 2), round(1000 * one["standard_error"], 2)) for one in kl])
    for before, after in zip(kl, kl[1:]):
        assert after["mean"] < before["mean"]
    assert kl[-1]["mean"] + 2 * kl[-1]["standard_error"] < kl[0]["mean"]


@pytest.mark.parametrize("format", ["Q4_K", "onnx", "openvino"])
def test_experts_have_the_same_bytes_for_any_number_of_threads(work, format):
    calibration, _ = moe_texts(work)
    files = []
    for n in (1, 7):
        out, _ = quantize_moe(work, f"t{n}", *FORMATS[format], "--calibrate", calibration, *WINDOWS,
                              "--calibration-tokens", "1024", "--threads", n)
        files.append(contents(out))
    assert files[0] == files[1]


def test_plan_and_report_say_what_experts_have(work):
    calibration, _ = moe_texts(work)
    options = ["--calibrate", calibration, *WINDOWS, "--calibration-tokens", "2048"]
    plan = run(["plan", MOE, *options, "--json"]).ok().json()
    assert any(f"fewer than {LEAST_TOKENS}" in note for note in plan["calibration"]["notes"])
    out, result = quantize_moe(work, "out.gguf", *options, "--json")
    report = result.json()
    experts = report["experts"]
    assert [(e["layer"], e["expert"]) for e in experts] == [(layer, e) for layer in range(2) for e in range(6)]
    for layer in range(2):  # two experts a token
        assert sum(e["n_tokens"] for e in experts if e["layer"] == layer) == 2 * 2048
    assert [e["own_statistics"] for e in experts] == [e["n_tokens"] >= LEAST_TOKENS for e in experts]
    assert {True, False} == {e["own_statistics"] for e in experts}
    errors = report["output_errors"]
    assert {(e["role"], e["expert"]) for e in errors if e["layer"] == 0} == \
        {(f"attention_{part}", None) for part in ("query", "key", "value", "output")} | \
        {(f"expert_{part}", e) for part in ("gate", "up", "down") for e in range(6)}
    assert report["peak_memory_bytes"] <= plan["peak_memory_bytes"]
    n_rare = sum(not e["own_statistics"] for e in experts)
    text = quantize_moe(work, "out.gguf", *options, "--force")[1].text
    assert f"{n_rare} of 12 experts see too few tokens" in text
    # What llama.cpp computes of the file is still the model's function.
    assert "re-expressed" in text


@pytest.mark.parametrize("ending", ["gguf", "dat"])
def test_a_matrix_has_an_entry_for_each_expert(work, ending):
    calibration, _ = moe_texts(work)
    matrix = work / f"matrix.{ending}"
    by_text, result = quantize_moe(work, "text.gguf", "--calibrate", calibration, *WINDOWS, "--calibration-tokens", "2048",
                                   "--method", "imatrix", "--imatrix-out", matrix, "--json")
    counts = [e["n_tokens"] for e in result.json()["experts"]]
    if ending == "gguf":
        tensors = read_gguf(matrix)[1]
        for name, columns in (("ffn_gate_exps", 256), ("ffn_up_exps", 256), ("ffn_down_exps", 256)):
            for layer in range(2):
                sums, n = (tensors[f"blk.{layer}.{name}.weight.{part}"] for part in ("in_sum2", "counts"))
                assert (list(sums.shape), list(n.shape)) == ([columns, 6], [1, 6])
                assert np.frombuffer(n.content, np.float32).tolist() == counts[6 * layer:6 * layer + 6]
    by_matrix, _ = quantize_moe(work, "by-matrix.gguf", "--imatrix", matrix)
    rows = run(["compare", by_text, by_matrix, "--json"]).ok().json()["tensors"]
    other = {row["name"].split(".")[-2] for row in rows if row["max_error"] > 0}
    # A matrix has of an expert with few tokens these alone.
    assert other <= {"embed_tokens", "w1", "w2", "w3"}, other
    run(["verify", by_matrix, "--against", MOE]).ok()


LONG = ["--calibrate", "self", "--calibration-tokens", "262144"]


@pytest.mark.parametrize("options, code, what", [
    (["--method", "feedback"], 2, "--method: feedback needs a text"),
    (["--method", "imatrix"], 2, "--method: imatrix needs a text or an importance matrix"),
    (["--calibration-tokens", "100"], 2, "--calibration-tokens: needs a text"),
    (["--imatrix-out", "m.gguf"], 2, "--imatrix-out: needs a text"),
    (["--calibration-out", "ids.txt"], 2, "--calibration-out: needs a text"),
    (["--no-correction"], 2, "--no-correction: needs a text"),
    (["--imatrix", "m.gguf", "--no-correction"], 2, "--no-correction: needs a text"),
    (["--calibrate", "TEXT", "--calibration-out", "x", "--imatrix-out", "x"], 2, "two outputs have this name"),
    (["--calibrate", "self", "--calibrate", "self"], 2, "--calibrate self is given twice"),
    # Told before the model writes, which would take minutes.
    ([*LONG, "--tensor-type", "lm_head=Q9"], 2, "Q9"),
    ([*LONG, "--calibrate", "missing.txt"], 4, "missing.txt"),
    ([*LONG, "--eval-text", "missing.txt"], 4, "missing.txt"),
    (["--calibrate", "./self"], 4, "./self"),
    (["--calibrate", "TEXT", "-o", "-"], 2, "-o -: with statistics of inputs"),
    (["--calibrate", "TEXT", "--nan", "zero"], 2, "--nan zero: a model that has NaN cannot be run"),
    (["--calibrate", "TEXT", "--imatrix", "m.gguf"], 2, "--imatrix and --calibrate exclude each other"),
    (["--calibrate", "TEXT", "--shrink", "2"], 2, "--shrink: '2' is not a number from 0 to 1"),
    (["--calibrate", "TEXT", "--format", "onnx", "--method", "rtn"], 2, "--method rtn: takes nothing from a text"),
    (["--calibrate", "TEXT", "--memory-limit", "32M"], 7, "calibrating this model needs at least"),
    (["--calibrate", "missing.txt"], 4, "missing.txt"),
    (["--calibrate", ""], 2, "--calibrate: the name is empty"),
    (["--calibration-ids", ""], 2, "--calibration-ids: the name is empty"),
    (["--html", "page.html"], 2, "--html: needs a text"),
    (["--imatrix", "m.gguf", "--html", "page.html"], 2, "--html: needs a text"),
    (["--calibrate", "TEXT", "-o", "x.html", "--html", "x.html"], 2, "two outputs have this name"),
    (["--calibrate", "TEXT", "-o", "-", "--html", "-"], 2, "--html: standard output already carries the model"),
])
def test_what_cannot_be_is_refused_in_one_line(work, options, code, what):
    calibration, _ = texts(work, "phi35-tiny")
    options = [calibration if option == "TEXT" else option for option in options]
    assert what in refused(run(["quantize", DATA / "phi35-tiny", *options], cwd=work), code)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("options", [["--calibrate", "TEXT", *WINDOWS], ["--calibrate", "self"], ["--type", "F16"],
                                     ["--calibrate", "TEXT", "--format", "onnx", "--method", "imatrix"]], ids=" ".join)
def test_the_limit_that_a_refusal_names_will_do(work, model, options):
    calibration, _ = texts(work, model)
    options = [calibration if option == "TEXT" else option for option in options]
    line = refused(run(["plan", DATA / model, *options, "--memory-limit", "20M"], cwd=work), 7, "needs at least")
    limit = re.search(r"--memory-limit (\d+M)", line)[1]
    plan = run(["plan", DATA / model, *options, "--memory-limit", limit, "--json"]).ok().json()
    assert plan["peak_memory_bytes"] <= int(limit[:-1]) << 20


def norm_of_mlp(values):
    return {"model.layers.0.post_attention_layernorm.weight": ("BF16", (256,), bf16(values))}


def column(value, n=1):
    """Norm weights of 1, of the first n columns another one."""
    values = np.ones(256)
    values[:n] = value
    return values


@pytest.mark.parametrize("format, type", [("gguf", "Q4_K_S"), ("gguf", "IQ4_XS"), ("onnx", "int4"), ("openvino", "INT4_SYM"),
                                          ("mlx", "4bit"), ("litert", "int4"), ("torch", "W4A16"), ("torch", "AWQ")])
@pytest.mark.parametrize("changed", [
    norm_of_mlp(column(0.0)),                # a column without input
    norm_of_mlp(column(0.0, n=256)),         # no input at all
    norm_of_mlp(column(3000.0)),             # one that is everything
])
def test_odd_inputs_leave_a_file_that_is_no_worse(work, format, type, changed):
    model = tiny(work / "model", tensors_update=changed)
    calibration, _ = texts(work, "phi35-tiny")
    out = work / ("out.gguf" if format == "gguf" else "out")
    report = run(["quantize", model, "--format", format, "--type", type, "-o", out, "--calibrate", calibration, *WINDOWS,
                  "--calibration-tokens", "2048", "--json"], timeout=120).ok().json()
    for error in report["output_errors"]:
        assert error["fallback"] or error["error"] <= error["reference_error"]
    run(["verify", out, "--against", model]).ok()


# There is nothing to learn: no more is believed of such a text than that it is one.
@pytest.mark.parametrize("format, type", [("gguf", "Q4_K_S"), ("onnx", "int4"), ("openvino", "INT4_SYM"), ("mlx", "4bit")])
def test_one_word_repeated_is_not_believed(work, format, type):
    calibration, evaluation = texts(work, "phi35-tiny")
    calibration.write_bytes(b"word " * 20000)
    outs = []
    for name, text in [("reference", []), ("word", ["--calibrate", calibration, *WINDOWS, "--calibration-tokens", "2048"])]:
        outs.append(work / (name + (".gguf" if format == "gguf" else "")))
        result = run(["quantize", DATA / "phi35-tiny", "--format", format, "--type", type, "-o", outs[-1], *text, "--json"])
        report = result.ok().json()
    assert {error["method"] for error in report["output_errors"]} == {"search"}
    assert any("distinct" in warning for warning in warnings(result))
    reference, word = [model["kl"]["mean"] for model in run(
        ["eval", *outs, "--against", DATA / "phi35-tiny", "--text", evaluation, "--ctx", "256", "--chunks", "8", "--json"],
        timeout=120).ok().json()["models"]]
    assert word <= reference


def test_activations_that_overflow_name_their_layer(work):
    weights = {"model.layers.0.mlp.down_proj.weight": ("BF16", (256, 256), bf16(np.full((256, 256), 3e38)))}
    model = tiny(work / "model", tensors_update=weights)
    calibration, _ = texts(work, "phi35-tiny")
    refused(run(["quantize", model, "--type", "F32", "--calibrate", calibration, *WINDOWS], cwd=work), 9, "behind layer 0",
            seconds=20)
    weights = norm_of_mlp(column(1e17))
    model = tiny(work / "other", tensors_update=weights)
    refused(run(["quantize", model, "--calibrate", calibration, *WINDOWS], cwd=work), 9,
            "the input of layer 0's mlp_gate_up: column 0 has a mean square of", seconds=20)


def test_hidden_states_go_to_the_disk_where_memory_is_short(work):
    """And come back as they were; nothing of it is left."""
    calibration, _ = texts(work, "phi4mini-tiny")
    options = [*FORMATS["Q4_K"], "--calibrate", calibration, *WINDOWS, "--calibration-tokens", "2048"]
    short = "90M"

    def planned(*more):
        plan = run(["plan", DATA / "phi4mini-tiny", *options, *more, "--json"]).ok().json()
        return plan["calibration"]["scratch_bytes"], plan["calibration"]["n_corrected"], plan["peak_memory_bytes"]

    in_memory, on_disk = planned(), planned("--memory-limit", short)
    # Of 2304 tokens, in two streams, the hidden state of 256 floats and the widest input, of 768.
    assert in_memory[:2] == (0, 1) and on_disk[:2] == (2 * 2304 * (256 + 768) * 4, 1)
    assert on_disk[2] < in_memory[2] - on_disk[0] + (1 << 20)
    assert planned("--memory-limit", "78M", "--no-correction")[:2] == (2304 * (256 + 768) * 4, 0)
    plan = run(["plan", DATA / "phi4mini-tiny", *options, "--memory-limit", short]).ok().text
    assert "calibration: with correction: beside the text's hidden states those of 1 output\n" in plan
    assert "calibration: hidden states, 18.00 MiB, in files beside the output\n" in plan
    files = []
    for n, more in ((1, ()), (2, ("--memory-limit", short, "--threads", "7"))):
        (work / f"{n}").mkdir()
        out, result = quantize(work, f"{n}/out.gguf", "phi4mini-tiny", *options, *more, "--json")
        assert result.json()["calibration"]["scratch_bytes"] == (on_disk[0] if more else 0)
        assert [path.name for path in (work / f"{n}").iterdir()] == ["out.gguf"]
        files.append(contents(out))
    assert files[0] == files[1]


def test_the_report_lists_what_was_corrected(work):
    """An input is corrected where that helps on held-back text; every one is named."""
    calibration, _ = texts(work, "phi35-tiny")
    options = ["--calibrate", calibration, *WINDOWS, "--calibration-tokens", "1024"]
    out, result = quantize(work, "out.gguf", "phi35-tiny", *options, "--json")
    inputs = result.json()["corrections"]
    roles = ["attention_qkv", "attention_output", "mlp_gate_up", "mlp_down"]
    assert [(i["role"], i["layer"]) for i in inputs] == \
        [(role, layer) for layer in range(4) for role in roles] + [("output_head", None)]
    assert all(i["used"] == (i["error_with"] < i["error_without"]) for i in inputs)
    assert any(i["used"] for i in inputs)
    n_used = sum(i["used"] for i in inputs)
    _, again = quantize(work, "out.gguf", "phi35-tiny", *options, "--force")
    assert f"  correction       of {n_used} of 17 inputs" in again.text
    assert "phiq.calibration_correction" in run(["inspect", out, "--json"]).ok().text
    out, result = quantize(work, "one-pass.gguf", "phi35-tiny", *options, "--no-correction", "--json")
    assert "corrections" not in result.json() and result.json()["calibration"]["n_corrected"] == 0
    assert "correction" not in run(["inspect", out, "--json"]).ok().text


# --- text that the model writes itself ---

# Mean KL x 1000 of ONNX int4 that a prototype reached with 8192 tokens of the model's own: imatrix, corrected feedback.
OWN_FIGURES = {"phi35-tiny": (16.6, 9.8), "phi4mini-tiny": (21.9, 10.8)}


@pytest.mark.parametrize("model", MODELS)
def test_own_text_serves_unseen_text_better_than_the_text_of_the_book(work, model):
    calibration, evaluation = texts(work, model)
    variants = [["--calibrate", calibration, *WINDOWS], ["--calibrate", "self", "--method", "imatrix"], ["--calibrate", "self"]]
    outs = [quantize(work, f"out{i}", model, *FORMATS["onnx"], *options)[0] for i, options in enumerate(variants)]
    report = run(["eval", *outs, "--against", DATA / model, "--text", evaluation, "--ctx", "256", "--protocol", "all", "--json"],
                 timeout=300).ok().json()
    book, imatrix, feedback = (1000 * found["kl"]["mean"] for found in report["models"])
    print(model, book, imatrix, feedback)
    assert imatrix < ROOM * OWN_FIGURES[model][0]
    assert feedback < ROOM * OWN_FIGURES[model][1]
    assert feedback < book < imatrix


def report_of(result):
    return result.json()["calibration"]


@pytest.mark.parametrize("beside", [False, True])
def test_own_text_is_the_same_for_any_threads_and_when_read_again(work, beside):
    calibration, _ = texts(work, "phi35-tiny")
    options = ["--calibration-tokens", "2048", "--json"]
    own = ["--calibrate", "self", *(["--calibrate", calibration] if beside else [])]
    files, ids, reports = [], [], []
    for n in (1, 2, 7):
        kept = work / f"kept{n}"
        out, result = quantize(work, f"{n}.gguf", "phi35-tiny", *own, *options, "--threads", n,
                               "--calibration-out", kept)
        files.append(contents(out))
        ids.append(kept.read_text())
        reports.append(report_of(result))
    assert files[0] == files[1] == files[2] and ids[0] == ids[1] == ids[2]
    assert reports[0]["own_text"]["windows_at_once"] == reports[0]["own_text"]["n_windows"] == (4 if beside else 9)
    windows = [[int(id) for id in line.split()] for line in ids[0].splitlines()]
    assert [len(window) for window in windows] == 9 * [256]
    # The names of texts are in the file, so the ids stand under the name that the text had.
    again = work / "again" / ("self, calibration.txt" if beside else "self")
    again.parent.mkdir()
    again.write_text(ids[0])
    out, result = quantize(work, "again.gguf", "phi35-tiny", "--calibration-ids", again, *WINDOWS, *options)
    assert report_of(result)["sha256"] == reports[0]["sha256"]
    rows = run(["compare", work / "1.gguf", out, "--json"]).ok().json()["tensors"]
    assert max(row["max_error"] for row in rows) == 0
    if not beside:
        assert contents(out) == files[0]


def test_the_plan_says_what_writing_takes_and_writes_nothing(work):
    # A quarter of a million tokens would take minutes.
    plan = run(["plan", DATA / "phi35-tiny", "--calibrate", "self", "--calibration-tokens", "262144", "--json"],
               timeout=30).ok().json()["calibration"]
    own = plan["own_text"]
    assert plan["sha256"] is None and plan["files"] == ["self"] and plan["n_ctx"] == 256
    assert own["n_windows"] * 256 == plan["n_tokens"] + plan["n_held_back"] and plan["n_tokens"] == 262144
    rounds = -(-own["n_windows"] // own["windows_at_once"])
    assert own["weight_readings"] == 255 * rounds
    options = ["--calibrate", "self", "--calibration-tokens", "1024"]
    plan = run(["plan", DATA / "phi35-tiny", *options, "--json"]).ok().json()
    out, result = quantize(work, "out.gguf", "phi35-tiny", *options, "--json")
    assert plan["output_bytes"] == out.stat().st_size
    assert report_of(result)["sha256"] in run(["inspect", out, "--json"]).ok().text
    text = run(["plan", DATA / "phi35-tiny", *options]).ok().text
    assert "calibration: the model writes 5 windows of it, 5 at once: 255 readings of its weights" in text


def edit_tokenizer(model, change):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        path = model / name
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))


def test_a_tokenizer_without_words_among_its_merges_is_refused(work):
    model = tiny(work / "model", base="phi4mini-tiny")
    edit_tokenizer(model, lambda document: document.get("model", {}).update(merges=[]))
    (model / "merges.txt").unlink(missing_ok=True)
    for command in ("plan", "quantize"):
        refused(run([command, model, "--calibrate", "self"], cwd=work), 6, "no words among its first merges")


def test_a_chat_template_that_cannot_be_rendered_is_left_out_with_a_warning(work):
    model = tiny(work / "model")
    result = run(["plan", model, "--calibrate", "self", "--calibration-tokens", "1024"]).ok()
    assert not any("chats are left out" in line for line in warnings(result))
    edit_tokenizer(model, lambda document: "chat_template" in document and document.update(
        chat_template="{% macro m() %}{% endmacro %}"))
    result = run(["plan", model, "--calibrate", "self", "--calibration-tokens", "1024"]).ok()
    assert any("chats are left out" in line for line in warnings(result))


def test_too_little_memory_to_write_one_window(work):
    model = tiny(work / "model", layers=24)  # keys and values of a window of 4096 tokens: 201 MB
    options = ["--calibrate", "self", "--calibration-tokens", "4096", "--memory-limit", "200M"]
    refused(run(["plan", model, *options, "--calibration-ctx", "4096"], cwd=work), 7,
            "to write its own text in windows of 4096 tokens")
    plan = run(["plan", model, *options, "--calibration-ctx", "2048", "--json"]).ok().json()
    assert plan["calibration"]["own_text"] == {"n_windows": 3, "windows_at_once": 1, "weight_readings": 3 * 2047}
    assert plan["peak_memory_bytes"] <= 200 << 20


@pytest.mark.parametrize("format, type", [("gguf", "Q4_0"), ("onnx", "int4"), ("openvino", "INT4_SYM"), ("mlx", "4bit"),
                                          ("litert", "int4")])
def test_codes_of_a_search_alone_pass_verify(work, format, type):
    out, _ = quantize(work, "out.gguf" if format == "gguf" else "out", "phi35-tiny", "--format", format, "--type", type,
                      "--method", "search")
    run(["verify", out, "--against", DATA / "phi35-tiny"]).ok()


def test_a_tensor_that_no_search_serves_has_the_references_codes(work):
    """Squares of such weights' errors are below the least float."""
    name = "model.layers.0.self_attn.qkv_proj.weight"
    folder = work / "tiny-weights"
    shape = (768, 256)
    tiny(folder, tensors_update={name: ("BF16", shape, bf16(1e-25 * np.random.default_rng(1).standard_normal(shape)))})
    calibration, _ = texts(work, "phi35-tiny")
    report = run(["quantize", folder, "-o", work / "out", "--format", "onnx", "--type", "int4", "--calibrate", calibration,
                  *WINDOWS, "--calibration-tokens", "2048", "--json"]).ok().json()
    for error in report["output_errors"]:
        assert error["error"] <= error["reference_error"], error


def test_a_text_that_nothing_takes_anything_from_is_named(work):
    calibration, _ = texts(work, "phi35-tiny")
    plain, _ = quantize(work, "plain.gguf", "phi35-tiny", "--type", "F16")
    for options, why in ((["--type", "F16"], "gguf F16: no tensor has a scale, so the calibration text is not used"),
                         (["--type", "Q4_0", "--method", "reference"],
                          "gguf Q4_0: method reference takes nothing from inputs, so the calibration text is not used")):
        out, result = quantize(work, "out.gguf", "phi35-tiny", *options, "--calibrate", calibration, *WINDOWS, "--force")
        assert any(why in line for line in warnings(result)), result.err
        if options[1] == "F16":
            assert out.read_bytes() == plain.read_bytes()


@pytest.mark.parametrize("options", [
    ["-o", "text.txt", "--calibrate", "text.txt"],
    ["-o", "ids", "--calibration-ids", "ids"],
    ["-o", "matrix.dat", "--imatrix", "matrix.dat"],
    ["-o", "text.txt", "--eval-text", "text.txt"],
    ["-o", "x.gguf", "--calibrate", "text.txt", "--imatrix-out", "text.txt"],
    ["-o", "x.gguf", "--calibrate", "text.txt", "--calibration-out", "link"],
    ["-o", "x.gguf", "--calibrate", "text.txt", "--imatrix-out", "model/model.safetensors"],
    ["-o", "x.gguf", "--calibrate", "text.txt", "--imatrix-out", "model/../x.gguf"],
], ids=" ".join)
def test_no_output_is_an_input_or_another_output(work, options):
    tiny(work / "model")
    (work / "text.txt").write_bytes(HELDOUT[:20000])
    (work / "ids").write_text(" ".join(["7"] * 3000))
    (work / "matrix.dat").write_bytes(b"x")
    (work / "link").symlink_to("text.txt")
    before = snapshot(work)
    refused(run(["quantize", "model", *options, "--force"], cwd=work), 2, "", before=before, folder=work)


def test_the_page_says_what_is_left_of_each_tensors_error(work):
    calibration, _ = texts(work, "phi35-tiny")
    options = ["--calibrate", calibration, *WINDOWS, "--calibration-tokens", "1024"]
    page = work / "page.html"
    page.write_text("<!DOCTYPE html>\nof another run")  # a page is replaced, whatever --force says
    _, result = quantize(work, "out.gguf", "phi35-tiny", *options, "--html", page, "--json")
    text = page.read_text()
    assert text.startswith("<!DOCTYPE html>") and "another run" not in text
    for error in result.json()["output_errors"]:
        assert f">{error['tensor']}</th>" in text
    _, result = quantize(work, "b.gguf", "phi35-tiny", *options, "--html", "-")
    assert result.text.startswith("<!DOCTYPE html>") and "output error" in result.err
    (work / "notes").write_text("mine")
    refused(run(["quantize", DATA / "phi35-tiny", "-o", work / "c.gguf", *options, "--html", work / "notes"]), 5,
            "this file is no report")
    assert not (work / "c.gguf").exists() and (work / "notes").read_text() == "mine"
