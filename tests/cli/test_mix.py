"""Types chosen tensor by tensor for a size or a loss: what they are worth beside the formats' fixed recipes at the same
bytes, on text that neither the choice nor the codes have seen; sizes; what is said; what is refused."""
import json

import pytest
from harness import DATA, refused, run, warnings
from test_checkpoint_forms import make, split, weights

MODELS = ["phi35-tiny", "phi4mini-tiny"]
HELDOUT = (DATA / "heldout.txt").read_bytes()
# Bytes of heldout.txt: what is measured on when types are chosen, and what files are evaluated on.
CALIBRATION, EVALUATION = slice(0, 12000), slice(113430, 141620)
TEXT = ["--calibration-ctx", "256", "--calibration-tokens", "2048", "--method", "reference"]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    (folder / "calibration.txt").write_bytes(HELDOUT[CALIBRATION])
    (folder / "evaluation.txt").write_bytes(HELDOUT[EVALUATION])
    return folder


def quantize(out, model, *options):
    return run(["quantize", DATA / model, "-o", out, "--json", "--no-fsync", *options], timeout=300).ok().json()


def divergences(texts, against, *outs):
    report = run(["eval", *outs, "--against", against, "--text", texts / "evaluation.txt", "--ctx", "256",
                             "--protocol", "all", "--json"], timeout=300).ok().json()
    return [(model["kl"]["mean"], model["kl"]["standard_error"]) for model in report["models"]]


# One measurement serves every size; the files are within 0.5 % below the fixed recipe's, and lose at least 15 % less.
@pytest.mark.parametrize("model", MODELS)
def test_gguf_loses_less_than_the_recipes_at_their_bytes(work, texts, model):
    sensitivity = work / "sensitivity.json"
    pairs = []
    for recipe in ["Q3_K_M", "Q4_K_S", "Q4_K_M", "Q5_K_M"]:
        fixed = work / f"{recipe}.gguf"
        quantize(fixed, model, "--type", recipe)
        size = fixed.stat().st_size
        out = work / f"{recipe}-mix.gguf"
        report = quantize(out, model, "--target-size", str(size), "--calibrate", texts / "calibration.txt", *TEXT,
                          "--sensitivity", sensitivity)
        assert 0.995 * size <= out.stat().st_size <= size
        assert report["output_bytes"] == out.stat().st_size
        pairs.append((fixed, out))
    assert run(["verify", out, "--against", DATA / model]).ok()
    figures = divergences(texts, DATA / model, *[path for pair in pairs for path in pair])
    for (fixed, _), (mixed, _), (path, _) in zip(figures[::2], figures[1::2], pairs):
        assert mixed <= 0.85 * fixed, path.name


@pytest.mark.parametrize("model", MODELS)
def test_mlx_loses_less_than_the_recipes_at_their_bytes(work, texts, model):
    against = work / "bf16"  # mlx-lm's rotary factors are others than the checkpoint's
    quantize(against, model, "--format", "mlx", "--type", "BF16")
    outs = []
    for recipe in ["mixed_3_6", "mixed_4_6"]:
        size = quantize(work / recipe, model, "--format", "mlx", "--type", recipe)["output_bytes"]
        report = quantize(work / f"{recipe}-mix", model, "--format", "mlx", "--target-size", str(size), "--calibrate",
                          texts / "calibration.txt", *TEXT)
        assert 0.995 * size <= report["output_bytes"] <= size
        outs += [work / recipe, work / f"{recipe}-mix"]
    figures = divergences(texts, against, *outs)
    for (fixed, _), (mixed, _) in zip(figures[::2], figures[1::2]):
        assert mixed <= 0.9 * fixed


# The ratio's own choice is by the errors of weights; its bytes are never passed.
@pytest.mark.parametrize("model", MODELS)
def test_openvino_loses_less_than_its_ratio_at_its_bytes(work, texts, model):
    openvino = ["--format", "openvino", "--type", "INT4_SYM", "--group-size", "128"]
    size = quantize(work / "ratio", model, *openvino, "--ratio", "0.6")["output_bytes"]
    report = quantize(work / "mix", model, *openvino, "--target-size", str(size), "--calibrate",
                      texts / "calibration.txt", *TEXT)
    assert report["output_bytes"] <= size
    (fixed, _), (mixed, _) = divergences(texts, DATA / model, work / "ratio", work / "mix")
    assert mixed <= 0.9 * fixed


# NNCF ranks by errors of weights; a text says better what keeps 8 bits, in no more bytes. Both as reference codes.
@pytest.mark.parametrize("model", MODELS)
def test_a_ratio_leaves_8_bits_by_measured_losses(work, texts, model):
    openvino = ["--format", "openvino", "--type", "INT4_SYM", "--group-size", "128", "--ratio", "0.6"]
    text = ["--calibrate", texts / "calibration.txt", *TEXT]
    fixed = quantize(work / "ratio", model, *openvino)
    own = quantize(work / "own", model, *openvino, *text)  # the reference's bytes are asked for, and so its ranking
    assert "types" not in own
    assert (work / "own/openvino_model.bin").read_bytes() == (work / "ratio/openvino_model.bin").read_bytes()
    report = quantize(work / "kl", model, *openvino, *text, "--sensitivity-metric", "kl")
    assert report["output_bytes"] <= fixed["output_bytes"]
    (fixed_kl, _), (kl, _) = divergences(texts, DATA / model, work / "ratio", work / "kl")
    assert kl <= 0.9 * fixed_kl
    rules = [word for rule in report["types"]["tensor_types"] for word in ("--tensor-type", rule)]
    again = quantize(work / "again", model, *openvino, *rules)
    assert again["output_bytes"] == report["output_bytes"]
    assert (work / "again/openvino_model.bin").read_bytes() == (work / "kl/openvino_model.bin").read_bytes()


# By default, with codes that the text chooses too.
def test_a_ratio_by_losses_is_the_default_with_a_text(work, texts):
    options = ["--format", "openvino", "--calibrate", texts / "calibration.txt", "--calibration-ctx", "256", "--calibration-tokens",
               "2048", "--no-correction"]
    report = quantize(work / "kl", "phi35-tiny", *options, "--sensitivity", work / "kept.json")
    ranked = quantize(work / "ranked", "phi35-tiny", *options, "--sensitivity-metric", "weight_quantization_error")
    assert report["output_bytes"] <= ranked["output_bytes"] and "types" not in ranked
    (kl, _), (ranked_kl, _) = divergences(texts, DATA / "phi35-tiny", work / "kl", work / "ranked")
    assert kl <= 0.9 * ranked_kl
    # What was measured serves other ratios and sizes, without a text too.
    kept = ["--sensitivity", work / "kept.json", "--format", "openvino", "--json"]
    plan = run(["plan", DATA / "phi35-tiny", *kept, "--ratio", "0.8"]).ok().json()
    assert plan["output_bytes"] < report["output_bytes"] and plan["types"]["estimated_s"] == 0
    assert run(["plan", DATA / "phi35-tiny", *kept, "--target-size", "3.3M"]).ok().json()["types"]["tensor_types"]
    own = run(["plan", DATA / "phi35-tiny", "--format", "openvino", "--calibrate", "self", "--json"]).ok().json()
    assert own["types"] == {"to_come": True} and own["output_bytes"] >= report["output_bytes"]


@pytest.mark.parametrize("options, code, text", [
    (["--sensitivity-metric", "kl"], 2, "--sensitivity-metric kl: needs a text"),
    (["--sensitivity-metric", "hawq"], 2, "is not one of kl, weight_quantization_error"),
    (["--sensitivity-metric", "kl", "--ratio", "1"], 2, "no layer has a choice"),
    (["--sensitivity-metric", "kl", "--type", "INT8_ASYM"], 2, "no layer has a choice"),
])
def test_metrics_that_have_nothing_to_say(work, options, code, text):
    refused(run(["quantize", DATA / "phi35-tiny", "-o", work / "x", "--format", "openvino", *options]), code, text)


# Calibrated codes of a mix beside calibrated codes of the recipe.
def test_what_is_chosen_serves_calibrated_codes_too(work, texts):
    model, text = "phi35-tiny", ["--calibrate", texts / "calibration.txt", "--calibration-ctx", "256", "--calibration-tokens",
                                 "2048", "--no-correction"]
    quantize(work / "fixed.gguf", model, "--type", "Q4_K_M", *text)
    size = (work / "fixed.gguf").stat().st_size
    quantize(work / "mix.gguf", model, "--target-size", str(size), *text)
    assert (work / "mix.gguf").stat().st_size <= size
    (fixed, _), (mixed, _) = divergences(texts, DATA / model, work / "fixed.gguf", work / "mix.gguf")
    assert mixed <= 0.85 * fixed


# The report's rules and the same text make the same bytes.
@pytest.mark.parametrize("format, suffix, bits", [
    ("gguf", ".gguf", 4.6), ("onnx", "", 6), ("openvino", "", 6), ("mlx", "", 4.6), ("torch", "", 6), ("litert", ".litertlm", 6)])
def test_is_one_run_of_ordinary_quantize(work, texts, format, suffix, bits):
    text = ["--format", format, "--calibrate", texts / "calibration.txt", "--calibration-ctx", "256", "--calibration-tokens", "2048"]
    report = quantize(work / f"mix{suffix}", "phi35-tiny", "--target-bpw", str(bits), *text)
    assert 0.95 * bits < report["bits_per_weight"] <= bits
    rules = [word for rule in report["types"]["tensor_types"] for word in ("--tensor-type", rule)]
    quantize(work / f"again{suffix}", "phi35-tiny", *rules, *text)
    mixed, again = (sorted([path] if suffix else path.iterdir()) for path in (work / f"mix{suffix}", work / f"again{suffix}"))
    assert [path.name for path in mixed if path.suffix != suffix] == [path.name for path in again if path.suffix != suffix]
    for one, other in zip(mixed, again):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_a_loss_is_met_on_held_back_text(work, texts):
    report = quantize(work / "mix.gguf", "phi35-tiny", "--target-kl", "0.02", "--calibrate", texts / "calibration.txt", *TEXT)
    types = report["types"]
    assert 0.9 * 0.02 <= types["measured_kl"] <= 0.02
    larger = quantize(work / "larger.gguf", "phi35-tiny", "--target-kl", "0.005", "--calibrate",
                      texts / "calibration.txt", *TEXT)
    assert larger["types"]["measured_kl"] <= 0.005
    assert larger["output_bytes"] > report["output_bytes"]


@pytest.mark.parametrize("format, bits", [("onnx", 6), ("torch", 6), ("litert", 6)])
def test_every_format_with_several_types_has_it(work, texts, format, bits):
    report = quantize(work / "out", "phi4mini-tiny", "--format", format, "--target-bpw", str(bits), "--calibrate",
                      texts / "calibration.txt", *TEXT)
    assert report["bits_per_weight"] <= bits
    assert {rule.rsplit("=")[-1] for rule in report["types"]["tensor_types"]} != set()
    assert run(["verify", work / "out", "--against", DATA / "phi4mini-tiny"]).ok()


# vLLM, llama.cpp and openvino fuse queries, keys and values, and gate and up: one type each, also where the checkpoint has them
# apart.
@pytest.mark.parametrize("format", ["gguf", "torch", "openvino"])
def test_what_runtimes_fuse_has_one_type(work, texts, format):
    make(work, split(weights()))
    options = ["--format", format, "--target-bpw", "6", "--calibrate", texts / "calibration.txt", *TEXT, "--json"]
    plans = [run(["plan", model, *options]).ok().json() for model in (work / "phi35-tiny", DATA / "phi35-tiny")]
    types, of_the_plain = ([tensor["type"] for tensor in plan["tensors"]] for plan in plans)
    assert types == of_the_plain
    assert plans[0]["types"]["tensor_types"] == plans[1]["types"]["tensor_types"]


# A tied head has its embedding's type, in one tensor: forecast and file then mean the same.
def test_a_tied_head_is_its_embedding(work, texts):
    plan = run(["plan", DATA / "phi4mini-tiny", "--format", "onnx", "--target-bpw", "7", "--calibrate", texts / "calibration.txt", *TEXT,
                "--json"]).ok().json()
    assert "lm_head.weight" not in [tensor["name"] for tensor in plan["tensors"]]
    assert plan["types"]["predicted_kl"] == pytest.approx(plan["types"]["measured_kl"], rel=0.3)  # 0.9 to 1.3 (docs/mix.md)


# What floats lose cannot be measured; a size where everything may be one gave types by its noise.
def test_a_size_beyond_all_types_with_scales_loses_next_to_nothing(work, texts):
    plan = run(["plan", DATA / "phi35-tiny", "--target-size", "90M", "--calibrate", texts / "calibration.txt", *TEXT,
                "--json"]).ok().json()
    assert {tensor["type"] for tensor in plan["tensors"] if tensor["role"].startswith("mlp_") and
            not tensor["role"].endswith("norm")} == {"F16"}
    # Of bfloat16 weights halves lose bits only below 6e-5.
    assert plan["types"]["measured_kl"] < 1e-9
    # A model that knew nothing, all 2112 tokens alike, would have 7.7 at most.
    assert max(point["predicted_kl"] for point in plan["types"]["frontier"]) < 7.7


# A checkpoint whose weights are a type's already loses nothing in it, and much in a smaller one.
def test_weights_that_a_type_holds_exactly(work, texts):
    quantize(work / "q.gguf", "phi35-tiny", "--type", "Q8_0")
    run(["quantize", work / "q.gguf", "--tokenizer", DATA / "phi35-tiny", "--format", "safetensors", "--type", "F32", "-o",
         work / "source"]).ok()
    report = run(["plan", work / "source", "--target-bpw", "8.6", "--calibrate", texts / "calibration.txt", *TEXT,
                  "--json"]).ok().json()
    assert report["types"]["measured_kl"] == 0


def test_a_rule_goes_before_the_choice(work, texts):
    report = quantize(work / "mix.gguf", "phi35-tiny", "--target-bpw", "5", "--tensor-type", "lm_head=Q8_0", "--calibrate",
                      texts / "calibration.txt", *TEXT)
    assert report["bits_per_weight"] <= 5
    tensors = run(["inspect", work / "mix.gguf", "--json"]).ok().json()["tensors"]
    assert [tensor["type"] for tensor in tensors if tensor["name"] == "output.weight"] == ["Q8_0"]


def test_plan_shows_what_other_sizes_would_lose(work, texts):
    plan = run(["plan", DATA / "phi35-tiny", "--target-size", "2.5M", "--calibrate", texts / "calibration.txt",
                           *TEXT, "--json"]).ok().json()
    assert plan["types"]["estimated_s"] > 0
    frontier = plan["types"]["frontier"]
    (chosen,) = (point for point in frontier if point["chosen"])
    assert (chosen["predicted_kl"], chosen["measured_kl"]) == (plan["types"]["predicted_kl"], plan["types"]["measured_kl"])
    assert chosen["data_bytes"] == sum(tensor["bytes"] for tensor in plan["tensors"] if tensor["layer"] is not None
                                       or not tensor["name"].startswith("config:"))
    sizes = [point["data_bytes"] for point in frontier]
    losses = [point["predicted_kl"] for point in frontier]
    assert sizes == sorted(sizes) and losses == sorted(losses, reverse=True) and len(sizes) > 4
    assert 0.995 * 2.5 * 2**20 <= plan["output_bytes"] <= 2.5 * 2**20


# Without a size, the sizes that there are; of what was measured before, without a text.
def test_plan_shows_sizes_without_a_size(work, texts):
    kept = ["--sensitivity", work / "kept.json", "--json"]
    first = run(["plan", DATA / "phi35-tiny", *kept, "--calibrate", texts / "calibration.txt", *TEXT]).ok().json()
    second = run(["plan", DATA / "phi35-tiny", *kept]).ok().json()
    assert first["types"]["frontier"] == second["types"]["frontier"] and len(first["types"]["frontier"]) > 4
    assert first["types"]["tensor_types"] == [] and first["output_bytes"] == second["output_bytes"]
    text = run(["plan", DATA / "phi35-tiny", *kept[:2]]).ok().out.decode()
    assert "PREDICTED KL" in text and "what others would lose is above" in text


def test_the_page_shows_what_sizes_lose(work, texts):
    quantize(work / "mix.gguf", "phi35-tiny", "--target-size", "2.5M", "--calibrate", texts / "calibration.txt", *TEXT, "--html",
             work / "page.html")
    page = (work / "page.html").read_text()
    assert "What sizes lose" in page and "this output" in page and 'id="sizes"' in page


# Keys and values of every layer, each head of 4096 tokens (of LiteRT and ONNX: as many as the output reserves). What is
# worked in has bounds of its own: more than the logits of one token, less than ten times what the largest product of all
# tokens that run at once gives.
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("format, head_bytes", [
    ("gguf", lambda n: 2 * n), ("mlx", lambda n: 2 * n), ("torch", lambda n: 2 * n), ("onnx", lambda n: 4 * n),
    ("openvino", lambda n: n + 8), ("litert", lambda n: 4 * n)])
def test_plan_says_what_a_device_needs(model, format, head_bytes):
    config = json.loads((DATA / model / "config.json").read_text())
    n_heads, head = config["num_key_value_heads"], config["hidden_size"] // config["num_attention_heads"]
    for ctx in ([], ["--ctx", "1024"]):
        plan = run(["plan", DATA / model, "--format", format, *ctx, "--json"]).ok().json()
        device = plan["device"]
        assert device["n_ctx"] == (1024 if ctx else 4096)
        n_cached = 4096 if format in ("onnx", "litert") else device["n_ctx"]
        assert device["cache_bytes"] == n_cached * 2 * config["num_hidden_layers"] * n_heads * head_bytes(head)
        assert device["total_bytes"] == plan["output_bytes"] + device["cache_bytes"] + device["working_bytes"]
        assert 4 * config["vocab_size"] < device["working_bytes"]


def test_a_devices_memory_is_another_way_to_say_the_size(work, texts):
    text = ["--calibrate", texts / "calibration.txt", *TEXT]
    report = quantize(work / "mix.gguf", "phi35-tiny", "--device-memory", "17M", "--ctx", "1024", *text)
    device = report["device"]
    assert device["n_ctx"] == 1024
    assert 0.99 * 17 * 2**20 < device["total_bytes"] <= 17 * 2**20
    assert device["total_bytes"] == report["output_bytes"] + device["cache_bytes"] + device["working_bytes"]
    size = int(17 * 2**20) - device["cache_bytes"] - device["working_bytes"]
    same = quantize(work / "same.gguf", "phi35-tiny", "--target-size", str(size), *text)
    assert same["output_bytes"] == report["output_bytes"] and (work / "mix.gguf").read_bytes() == (work / "same.gguf").read_bytes()


@pytest.mark.parametrize("options, code, text", [
    (["--device-memory", "8M"], 1, "at a context of 4,096 tokens is"),
    (["--device-memory", "8M", "--format", "litert"], 1, "at a context of 4,096 tokens is"),
    (["--device-memory", "1G", "--ctx", "5000"], 2, "--ctx 5000: the model's context is 4096"),
    (["--device-memory", "1G", "--format", "onnx", "--max-length", "1024", "--ctx", "2048"], 2,
     "--ctx 2048: the output has room for 1024 tokens"),
    (["--device-memory", "1G", "--format", "safetensors"], 2, "tensors have one type"),
    (["--device-memory", "1G", "--target-bpw", "4"], 2, "give one of them"),
    (["--ctx", "64"], 2, "--eval-text"),
])
def test_devices_that_do_not_do(work, options, code, text):
    refused(run(["quantize", DATA / "phi35-tiny", "-o", work / "x", *options]), code, text)


# What is planned bounds what is taken, the measurement's included.
def test_memory_is_planned(work, texts):
    options = ["--target-bpw", "4.6", "--calibrate", texts / "calibration.txt", *TEXT]
    plan = run(["plan", DATA / "phi35-tiny", *options, "--json"]).ok().json()
    report = quantize(work / "mix.gguf", "phi35-tiny", *options)
    assert report["peak_memory_bytes"] <= plan["peak_memory_bytes"] < 2 * report["peak_memory_bytes"]


# The model's own text serves; what it is worth is kept, and a plan can use that.
def test_the_models_own_text_serves(work):
    own = ["--calibrate", "self", "--calibration-tokens", "1024", "--no-correction"]
    kept = ["--sensitivity", work / "kept.json"]
    refused(run(["plan", DATA / "phi35-tiny", "--target-size", "2.8M", *own]), 2, "before the model has written its text")
    report = quantize(work / "mix.gguf", "phi35-tiny", "--target-size", "2.8M", *own, *kept)
    assert 0.995 * 2.8 * 2**20 <= report["output_bytes"] <= 2.8 * 2**20
    plan = run(["plan", DATA / "phi35-tiny", "--target-size", "2.6M", *kept, "--json"]).ok().json()
    assert 0.995 * 2.6 * 2**20 <= plan["output_bytes"] <= 2.6 * 2**20
    assert plan["types"]["measured_kl"] is None


@pytest.mark.parametrize("format, suffix", [("gguf", ".gguf"), ("mlx", ""), ("openvino", "")])
def test_models_with_experts_have_it(work, texts, format, suffix):
    report = quantize(work / f"out{suffix}", "phimoe-tiny", "--format", format, "--target-bpw", "5.5", "--calibrate",
                      texts / "calibration.txt", *TEXT)
    assert report["bits_per_weight"] <= 5.5 and report["types"]["measured_kl"] > 0
    assert run(["verify", work / f"out{suffix}", "--against", DATA / "phimoe-tiny"]).ok()


@pytest.mark.parametrize("model", MODELS)
def test_the_same_types_for_any_threads_and_memory(work, texts, model):
    reports, outs = [], []
    for n, options in enumerate([["--threads", "1"], ["--threads", "2"], ["--threads", "7"],
                                 ["--memory-limit", "80M", "--threads", "2"]]):
        out = work / f"{n}.gguf"
        report = quantize(out, model, "--target-size", "2.2M", "--calibrate", texts / "calibration.txt", *TEXT, *options)
        assert report["types"].pop("estimated_s") > 0
        reports.append(report["types"])
        outs.append(out.read_bytes())
    assert outs[0] == outs[1] == outs[2] == outs[3]
    assert reports[0] == reports[1] == reports[2] == reports[3]  # all digits
    assert report["peak_memory_bytes"] < 80 << 20
    refused(run(["plan", DATA / model, "--target-size", "2.2M", "--calibrate", texts / "calibration.txt", *TEXT,
                 "--memory-limit", "45M"]), 7, "--memory-limit 45.00 MiB", "needs at least", seconds=20)


def test_without_a_text_the_largest_recipe_that_fits_is_taken(work):
    result = run(["quantize", DATA / "phi35-tiny", "-o", work / "q.gguf", "--target-size", "2933376", "--json"])
    report = result.ok().json()
    assert report["type"] == "Q4_K_M" and report["types"] == {"recipe": "Q4_K_M"}
    assert "without a text the recipe Q4_K_M is taken" in warnings(result)[0]


@pytest.mark.parametrize("options, code, text", [
    (["--target-size", "1M", "--calibrate", "TEXT"], 1, "the least that GGUF of this model takes is"),
    (["--target-size", "1M"], 1, "the least that GGUF of this model takes is"),
    (["--format", "mlx", "--target-kl", "1e-9", "--calibrate", "TEXT"], 1, "the least that MLX's types lose of this model is"),
    (["--target-kl", "0.01"], 2, "--target-kl: needs a text"),
    (["--target-size", "3M", "--target-bpw", "4"], 2, "give one of them"),
    (["--sensitivity", "x.json"], 2, "--sensitivity: needs something to reach"),
    # What runtimes and types have no room for.
    (["--format", "onnx", "--min-onnxruntime", "1.20", "--target-bpw", "6", "--calibrate", "TEXT"], 6,
     "8-bit MatMulNBits needs onnxruntime 1.22"),
    (["--format", "onnx", "--activations", "dynamic", "--target-bpw", "6", "--calibrate", "TEXT"], 2, "needs int8"),
    (["--format", "torch", "--type", "AWQ", "--target-bpw", "6", "--calibrate", "TEXT"], 2, "in AWQ all matrices have one type"),
    (["--target-size", "3M", "--sensitivity", "broken.json"], 3, "broken.json"),
    (["--target-size", "3M", "--sensitivity", "other.json"], 3, "has sensitivities of another model"),
])
def test_refusals(work, texts, options, code, text):
    (work / "broken.json").write_text('{"phiq": "sensitivities"}')
    if "other.json" in options:
        run(["plan", DATA / "phi4mini-tiny", "--target-size", "3M", "--calibrate", texts / "calibration.txt", *TEXT,
             "--sensitivity", work / "other.json"]).ok()
    method = TEXT if "TEXT" in options else []
    options = [texts / "calibration.txt" if option == "TEXT" else option for option in options]
    result = run(["quantize", DATA / "phi35-tiny", "-o", work / "x", *options, *method], cwd=work)
    refused(result, code, text, seconds=30)
    assert not (work / "x").exists()
