"""Types chosen tensor by tensor for a size or a loss: what they are worth beside the formats' fixed recipes at the same
bytes, on text that neither the choice nor the codes have seen; sizes; what is said; what is refused."""
import pytest
from harness import DATA, refused, run, warnings

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


# The report's rules make the same file.
def test_is_one_run_of_ordinary_quantize(work, texts):
    report = quantize(work / "mix.gguf", "phi35-tiny", "--target-bpw", "4.6", "--calibrate", texts / "calibration.txt", *TEXT)
    rules = [word for rule in report["types"]["tensor_types"] for word in ("--tensor-type", rule)]
    again = quantize(work / "again.gguf", "phi35-tiny", *rules)
    assert 4.55 < report["bits_per_weight"] <= 4.6
    assert again["bits_per_weight"] == report["bits_per_weight"]
    assert run(["compare", work / "mix.gguf", work / "again.gguf", "--json"]).ok()
    (mixed, _), (same, _) = divergences(texts, DATA / "phi35-tiny", work / "mix.gguf", work / "again.gguf")
    assert mixed == same


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


def test_a_rule_goes_before_the_choice(work, texts):
    report = quantize(work / "mix.gguf", "phi35-tiny", "--target-bpw", "5", "--tensor-type", "lm_head=Q8_0", "--calibrate",
                      texts / "calibration.txt", *TEXT)
    assert report["bits_per_weight"] <= 5
    tensors = run(["inspect", work / "mix.gguf", "--json"]).ok().json()["tensors"]
    assert [tensor["type"] for tensor in tensors if tensor["name"] == "output.weight"] == ["Q8_0"]


def test_plan_shows_what_other_sizes_would_lose(work, texts):
    plan = run(["plan", DATA / "phi35-tiny", "--target-size", "2.5M", "--calibrate", texts / "calibration.txt",
                           *TEXT, "--json"]).ok().json()
    frontier = plan["types"]["frontier"]
    sizes = [point["data_bytes"] for point in frontier]
    losses = [point["predicted_kl"] for point in frontier]
    assert sizes == sorted(sizes) and losses == sorted(losses, reverse=True) and len(sizes) > 4
    assert 0.995 * 2.5 * 2**20 <= plan["output_bytes"] <= 2.5 * 2**20


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
