"""`phiq eval` and `quantize --eval-text`: the figures against transformers and llama.cpp, and what
bad input does."""
import collections
import json
import re
import shutil
import struct

import numpy as np
import pytest

from gguf_file import read_gguf
from faults import needs_strace, run_under_strace
from harness import (DATA, MIB, SANITIZED, bf16, error_line, make_checkpoint, refused, run, snapshot,
                     temporaries, tiny, tiny_tensors, warnings)

MODELS = ["phi35-tiny", "phi4mini-tiny"]
HELDOUT = DATA / "heldout.txt"
TIMEOUT = 600


def evaluate(*args, **kwargs):
    return run(["eval", *args, "--json"], timeout=TIMEOUT, **kwargs).ok().json()


@pytest.fixture(scope="module", params=MODELS)
def name(request):
    return request.param


@pytest.fixture
def text(work):
    """A text of more than 64 and fewer than 256 tokens."""
    path = work / "text.txt"
    path.write_text(HELDOUT.read_text()[:500])
    return path


@pytest.fixture(scope="module")
def q4(tmp_path_factory):
    out = tmp_path_factory.mktemp("q4") / "q4.gguf"
    run(["quantize", DATA / "phi35-tiny", "--type", "Q4_0", "-o", out]).ok()
    return out


# --- figures ---------------------------------------------------------------------------------

@pytest.mark.skipif(SANITIZED, reason="minutes")
@pytest.mark.parametrize("protocol, key", [("all", "all_positions"), ("llama.cpp", "second_half")])
@pytest.mark.parametrize("ctx", ["256", "512", "1024"])
def test_perplexity_is_that_of_transformers(name, ctx, protocol, key):
    reference = json.loads((DATA / name / "reference" / "reference.json").read_text())
    expected = reference["perplexity"][ctx]
    report = evaluate(DATA / name, "--text", HELDOUT, "--ctx", ctx, "--protocol", protocol)
    assert report["n_tokens"] == reference["heldout_tokens"]
    assert report["n_windows"] == expected["windows"]
    # Two float32 programs: 1e-7 apart was seen, an id or a position that is wrong shows in the third
    # digit.
    assert report["models"][0]["perplexity"]["value"] == pytest.approx(expected[key], rel=5e-5)


@pytest.mark.skipif(SANITIZED, reason="minutes")
def test_divergence_is_that_of_llama_cpp_without_rounded_activations(name, work):
    """llama-perplexity's mean KL of the same files dequantized (golden/divergence_weights_only.json)."""
    golden = json.loads((DATA / "golden" / "divergence_weights_only.json").read_text())[name]
    files = [work / f"{type}.gguf" for type in golden]
    for type, file in zip(golden, files):
        run(["quantize", DATA / name, "--type", type, "-o", file]).ok()
    report = evaluate(*files, "--text", HELDOUT, "--against", DATA / name, "--ctx", "256", "--chunks", "64")
    assert report["n_scored"] == 64 * 127
    for (type, expected), model in zip(golden.items(), report["models"]):
        # llama.cpp stores the base's logits in 16 bits, and keys and values as halves: 2 % + 5e-6.
        assert model["kl"]["mean"] == pytest.approx(expected, rel=0.02, abs=5e-6), type
        assert model["types"].split(", ")[0].startswith(type[:4]), type
    kl = [model["kl"]["mean"] for model in report["models"]]
    assert kl[0] == min(kl) and kl[-1] == max(kl)


def test_float32_outputs_are_the_checkpoint(name, work):
    run(["quantize", DATA / name, "--type", "F32", "-o", work / "f32.gguf"]).ok()
    for format in ("onnx", "openvino", "litert"):
        run(["quantize", DATA / name, "--format", format, "--precision", "fp32", "-o", work / format]).ok()
    report = evaluate(work / "f32.gguf", work / "onnx", work / "openvino", work / "litert", "--text", HELDOUT,
                      "--against", DATA / name, "--ctx", "600", "--chunks", "2")  # long factors
    base = report["reference"]["perplexity"]["value"]
    assert [model["kind"] for model in report["models"]] == ["gguf", "onnx", "openvino", "litert"]
    for model in report["models"]:
        # The same weights through the same arithmetic; the ONNX folder's rotary tables come from
        # other float32 operations than the engine's only where they may (1 ulp).
        assert model["perplexity"]["value"] == pytest.approx(base, rel=1e-6)
        assert model["kl"]["mean"] < 1e-9
        assert model["same_top"]["value"] == 1.0
        assert model["bits_per_weight"] == 32.0


def test_figures_follow_from_each_other(name, work):
    """Of one run: the perplexity ratio, and windows that are added up in any grouping."""
    run(["quantize", DATA / name, "--type", "Q4_0", "-o", work / "q.gguf"]).ok()
    report = evaluate(work / "q.gguf", "--text", HELDOUT, "--against", DATA / name, "--ctx", "64",
                      "--chunks", "40", "--protocol", "all")
    model, reference = report["models"][0], report["reference"]
    assert report["n_scored"] == 40 * 63
    assert model["ppl_ratio"] == pytest.approx(
        model["perplexity"]["value"] / reference["perplexity"]["value"], rel=1e-9)
    assert np.log(model["ppl_ratio"]) == pytest.approx(model["log_ppl_ratio"]["value"], rel=1e-9)
    kl = model["kl"]
    assert 0 < kl["median"] < kl["p90"] < kl["p99"] < kl["p999"] < kl["max"]
    assert 0.5 < model["same_top"]["value"] < 1
    # What was paired is far surer than what was not.
    assert model["log_ppl_ratio"]["standard_error"] < \
        0.2 * reference["perplexity"]["standard_error"] / reference["perplexity"]["value"]
    assert len(model["hidden_error"]) == 4
    assert all(0 < error < 1 for error in model["hidden_error"])


def test_threads_do_not_change_a_digit(name, text, work):
    run(["quantize", DATA / name, "--type", "Q4_K_M", "-o", work / "q.gguf"]).ok()
    reports = [evaluate(work / "q.gguf", "--text", text, "--against", DATA / name, "--ctx", "32",
                        "--threads", n) for n in ("1", "2", "5")]
    for report in reports:
        for volatile in ("elapsed_s", "tokens_per_second", "peak_memory_bytes"):
            report.pop(volatile)
    assert reports[0] == reports[1] == reports[2]


def test_table_for_people(text, work):
    run(["quantize", DATA / "phi35-tiny", "--type", "Q8_0", "-o", work / "q8.gguf"]).ok()
    args = [work / "q8.gguf", "--text", text, "--ctx", "64"]
    alone = run(["eval", *args]).ok().text
    assert "PERPLEXITY" in alone and "MEAN KL" not in alone
    against = run(["eval", *args, "--against", DATA / "phi35-tiny"]).ok().text
    for word in ("MEAN KL", "SAME TOP", "(reference)", "q8.gguf", "Q8_0, F32", "peak memory"):
        assert word in against
    assert run(["eval", *args, "--quiet"]).ok().out == b""


def test_ids_instead_of_text(text, work):
    report = evaluate(DATA / "phi35-tiny", "--text", text, "--ctx", "64")
    ids = json.loads((DATA / "phi35-tiny" / "reference" / "reference.json").read_text())["greedy"][-1]
    key = next(key for key in ids if key.endswith("ids"))
    assert len(ids[key]) == 600
    files = []
    for i, content in enumerate([" ".join(map(str, ids[key])), json.dumps(ids[key])]):
        files.append(work / f"{i}.ids")
        files[-1].write_text(content)
    reports = [evaluate(DATA / "phi35-tiny", "--ids", file, "--ctx", "64") for file in files]
    assert reports[0]["models"] == reports[1]["models"]
    assert reports[0]["n_tokens"] == 600 and reports[0]["n_windows"] == 9
    assert reports[0]["models"][0]["perplexity"] != report["models"][0]["perplexity"]


def test_ids_of_a_model_without_a_tokenizer_that_phiq_does(folder, work):
    tiny(folder)
    ids = work / "x.ids"
    ids.write_text("1 2 3 4 5 6 7 8")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Lowercase"}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer.model").unlink()
    (work / "t.txt").write_text("In the beginning God created the heaven and the earth.")
    refused(run(["eval", folder, "--text", work / "t.txt", "--ctx", "8"]), 6, "Lowercase", "--ids")
    assert evaluate(folder, "--ids", ids, "--ctx", "8")["n_windows"] == 1


@pytest.mark.parametrize("command", ["eval", "compare"])
def test_a_page_on_standard_output_is_alone_there(command, q4, text, work):
    args = ["eval", q4, "--text", text, "--ctx", "64"] if command == "eval" else ["compare", DATA / "phi35-tiny", q4]
    run([*args, "--html", work / "page.html"]).ok()
    result = run([*args, "--html", "-"]).ok()
    page = (work / "page.html").read_text()
    # eval's page says how long it took: its figures and plots are looked at in tests/browser.
    assert result.text == page if command == "compare" else result.text.endswith(page[-200:])
    assert ("PERPLEXITY" if command == "eval" else "bits per weight") in result.err
    assert run([*args, "--html", "-", "--quiet"]).ok().err == ""
    result = run([*args, "--html", "-", "--json"])
    assert result.code == 2 and result.json()["error"]["message"] == error_line(result) == \
        "--json: standard output already carries the page (give --html a file name)"


def test_html_reports(q4, text, work):
    """The pages themselves are tested in tests/tools and tests/browser."""
    page = work / "report.html"
    page.write_text("<!DOCTYPE html>\nan older report")
    run(["eval", q4, "--text", text, "--against", DATA / "phi35-tiny", "--ctx", "64", "--html", page]).ok()
    content = page.read_text()
    assert content.count('<svg class="plot') >= 3 and "q4.gguf" in content
    run(["compare", DATA / "phi35-tiny", q4, "--html", work / "compare.html"]).ok()
    content += (work / "compare.html").read_text()
    assert content.count("<html") == 2 and "model.layers.0.mlp.down_proj.weight" in content
    # Nothing is fetched: the only addresses are names of XML languages.
    assert re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)""", content) == []
    assert temporaries(work) == []


# --- thresholds ------------------------------------------------------------------------------

@pytest.mark.parametrize("option, met, unmet", [
    ("--max-kl", "0.5", "1e-6"), ("--max-kl-p999", "50", "1e-6"), ("--max-ppl-ratio", "2", "0.5"),
    ("--min-same-top", "0.5", "1")])
def test_thresholds(q4, text, option, met, unmet):
    args = ["eval", q4, "--text", text, "--against", DATA / "phi35-tiny", "--ctx", "64"]
    assert run([*args, option, met]).ok().err == ""
    result = run([*args, option, unmet])
    assert result.code == 1
    assert "q4.gguf" in error_line(result) and f"{option} {float(unmet):g}" in error_line(result)
    assert "MEAN KL" in result.text  # the figures are shown all the same
    report = run([*args, option, unmet, "--json"])
    assert report.code == 1
    assert report.json()["ok"] is False and option in report.json()["unmet"][0]


def test_a_bad_model_never_ships(text, work):
    checkpoint = DATA / "phi35-tiny"
    for options, out in [(["--type", "Q2_K"], "bad.gguf"), (["--format", "onnx"], "bad-onnx")]:
        args = ["quantize", checkpoint, "-o", work / out, *options, "--eval-text", text, "--ctx", "64"]
        result = run([*args, "--max-kl", "1e-6"])
        assert result.code == 1
        line = error_line(result)
        assert line.startswith(str(work / out)) and "--max-kl 1e-06" in line
        assert sorted(path.name for path in work.iterdir()) == ["text.txt"]
        report = run([*args, "--max-kl", "1", "--json"]).ok().json()
        assert report["evaluation"]["models"][0]["path"] == str(work / out)
        assert 1e-6 < report["evaluation"]["models"][0]["kl"]["mean"] < 1
        assert (work / out).exists() and temporaries(work) == []
        # What stood there stays when the new one is refused.
        before = snapshot(work)
        assert run([*args, "--force", "--max-kl", "1e-6"]).code == 1
        assert snapshot(work) == before
        shutil.rmtree(work / out) if (work / out).is_dir() else (work / out).unlink()


def test_gate_names_every_threshold_and_final_names_only(text, work, folder):
    """Also in a folder whose template would be warned of, and with tensors that have no role."""
    tiny(folder, tensors_update={"model.extra.weight": ("BF16", (2,), bf16(np.ones(2)))})
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = "{{ cycler('a') }}"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    result = run(["quantize", folder, "--format", "onnx", "-o", work / "x", "--ignore-extra", "*extra*",
                  "--eval-text", text, "--ctx", "64", "--max-kl", "1e-9", "--min-same-top", "1"])
    assert result.code == 1, result.err
    assert "--max-kl" in error_line(result) and "--min-same-top" in error_line(result)
    assert "phiq-tmp" not in result.err
    said = warnings(result)
    assert len(said) == len(set(said)) >= 1
    assert sorted(path.name for path in work.iterdir()) == ["model", "text.txt"]


def test_gate_on_several_outputs(text, work):
    report = run(["quantize", DATA / "phi35-tiny", "--format", "gguf,onnx", "--precision", "int8", "-o",
                  work / "out", "--eval-text", text, "--ctx", "64", "--max-kl", "0.1", "--json"]).ok().json()
    assert len(report["evaluation"]["models"]) == 2
    assert len(list((work / "out").iterdir())) == 2
    shown = run(["quantize", DATA / "phi35-tiny", "-o", work / "x.gguf", "--eval-text", text, "--ctx",
                 "64"]).ok().text
    assert "MEAN KL" in shown


@needs_strace
def test_gate_names_the_place_of_a_fault_under_the_final_name(text, work, folder):
    """Reads of the checkpoint and of what was written take turns; the last of the latter fails."""
    args = ["quantize", tiny(folder), "-o", work / "x.gguf", "--force", "--eval-text", text, "--ctx", "64", "--chunks", "1",
            "--threads", 1, "--json"]
    log = work.parent / "log"
    run_under_strace(args, log, trace="pread64").ok()
    reads_of_thread = collections.Counter(line.split()[0] for line in log.read_text().splitlines() if "pread64(" in line)
    for k in range(max(reads_of_thread.values()), 0, -1):  # strace counts them by thread
        result = run_under_strace(args, log, f"pread64:error=EIO:when={k}")
        if result.code != 0 and "x.gguf" in result.json()["error"]["message"]:
            break
    error = result.json()["error"]
    assert error["path"] == str(work / "x.gguf") and error["offset"] > 0 and "phiq-tmp" not in result.text


@pytest.mark.parametrize("options, needle", [
    (["--max-kl", "0.1"], "--eval-text"), (["--ctx", "64"], "--eval-text"),
    (["--eval-text", "TEXT", "-o", "-"], "--eval-text"), (["--eval-text", ""], "--eval-text"),
    (["--eval-text", "TEXT", "-o", "/dev/null"], "--eval-text"),
    (["--eval-text", "TEXT", "--nan", "zero"], "--nan zero"),
    (["--eval-text", "TEXT", "--split-max-size", "1M"], "--eval-text")])
def test_gate_options_that_do_not_go_together(text, work, options, needle):
    options = [text if option == "TEXT" else option for option in options]
    refused(run(["quantize", DATA / "phi35-tiny", *options], cwd=work), 2, needle)


def test_gate_refuses_a_bad_text_before_any_work(work):
    (work / "t.txt").write_text("short")
    refused(run(["quantize", DATA / "phi35-tiny", "-o", work / "x.gguf", "--eval-text", work / "t.txt"]),
            3, "t.txt", "one window needs 512")
    refused(run(["quantize", DATA / "phi35-tiny", "-o", work / "x.gguf", "--eval-text", work / "none"]),
            4, "none")
    assert not (work / "x.gguf").exists()


# --- bad input -------------------------------------------------------------------------------

@pytest.mark.parametrize("content, needles", [
    (b"", ["the text is empty"]),
    (b"In the beginning", ["one window needs 64", "--ctx"]),
    (b"In the\xff beginning", ["is not UTF-8", "0xFF", "byte 6"]),
    ("caf\u00e9".encode("latin-1"), ["is not UTF-8", "0xE9", "byte 3"]),
    (b"\xed\xa0\x80", ["is not UTF-8"])])
def test_texts_that_cannot_be_used(work, content, needles):
    path = work / "t.txt"
    path.write_bytes(content)
    refused(run(["eval", DATA / "phi35-tiny", "--text", path, "--ctx", "64"]), 3, "t.txt", *needles)


def test_nul_is_a_character(work):
    path = work / "t.txt"
    path.write_bytes(HELDOUT.read_bytes()[:300] + b"\0" * 100)
    for name in MODELS:
        report = evaluate(DATA / name, "--text", path, "--ctx", "32")
        assert report["n_tokens"] >= 150
        assert np.isfinite(report["models"][0]["perplexity"]["value"])


@pytest.mark.parametrize("content, code, needles", [
    ("", 3, ["holds no token ids"]), ("1 2 3 x", 3, ["'x' is no token id", "byte 6"]),
    ("1 2 -3", 3, ["'-3'"]), ("1 2.5 3", 3, ["'2.5'"]), ("99999999999", 3, ["'99999999999'"]),
    ("1 2 3 2112 " + "5 " * 60, 3, ["token id 2112 (number 3)", "2112 tokens"]),
    ("1 2 3", 3, ["has 3 tokens", "64"])])
def test_ids_that_cannot_be_used(work, content, code, needles):
    path = work / "t.ids"
    path.write_text(content)
    refused(run(["eval", DATA / "phi35-tiny", "--ids", path, "--ctx", "64"]), code, "t.ids", *needles)


@pytest.mark.parametrize("args, code, needle", [
    ([], 2, "PATH"), (["MODEL"], 2, "--text"), (["MODEL", "--text", "TEXT", "--ids", "TEXT"], 2, "--ids"),
    (["MODEL", "--text", "none.txt"], 4, "none.txt"), (["none", "--text", "TEXT"], 4, "none"),
    (["MODEL", "--text", "TEXT", "--ctx", "0"], 2, "--ctx"),
    (["MODEL", "--text", "TEXT", "--ctx", "x"], 2, "--ctx"),
    (["MODEL", "--text", "TEXT", "--ctx", "4097"], 2, "4096"),
    (["MODEL", "--text", "TEXT", "--chunks", "0"], 2, "--chunks"),
    (["MODEL", "--text", "TEXT", "--protocol", "hf"], 2, "llama.cpp, all"),
    (["MODEL", "--text", "TEXT", "--max-kl", "1"], 2, "--against"),
    (["MODEL", "--text", "TEXT", "--against", "MODEL", "--max-kl", "-1"], 2, "--max-kl"),
    (["MODEL", "--text", "TEXT", "--against", "MODEL", "--min-same-top", "99"], 2, "--min-same-top"),
    (["MODEL", "--text", "TEXT", "--against", "MODEL", "--max-kl", "nan"], 2, "--max-kl"),
    (["MODEL", "--text", "TEXT", "--against", "OTHER"], 3, "layers"),
    (["MODEL", "--text", "TEXT", "--html", "no/such/folder.html"], 5, "no/such"),
    (["MODEL", "--text", "TEXT", "--html", "TEXT"], 5, "this file is no report"),
    (["MODEL", "--text", "TEXT", "--html", "/dev/null"], 5, "is not a regular file"),
    (["MODEL", "--text", "TEXT", "--html", ""], 2, "--html"),
    (["MODEL", "--text", "TEXT", "--against", ""], 2, "--against"),
    (["MODEL", "--text", ""], 2, "--text"),
])
def test_wrong_command_lines(work, text, folder, args, code, needle):
    other = tiny(folder)
    names = {"MODEL": DATA / "phi35-tiny", "TEXT": text, "OTHER": other}
    refused(run(["eval", *[names.get(arg, arg) for arg in args]], cwd=work), code, needle)


def test_models_that_do_not_belong_together(work, text):
    short = tiny(work / "short")
    line = refused(run(["eval", DATA / "phi35-tiny", "--against", short, "--text", text, "--ctx", "64"]),
                   3, "has layers 4", "has 1")
    assert str(DATA / "phi35-tiny") in line


def test_overflow_names_the_layer(folder, text):
    """Weights that are finite, and hidden states that are not."""
    tensors = tiny_tensors(layers=3)
    name = "model.layers.1.mlp.down_proj.weight"
    shape = tensors[name][1]
    tiny(folder, layers=3, tensors_update={name: ("BF16", shape, bf16(np.full(shape, 3e38)))})
    refused(run(["eval", folder, "--text", text, "--ctx", "64"]), 9, str(folder),
            "NaN or Inf behind layer 1")


def test_overflow_in_the_head(folder, text):
    tensors = tiny_tensors()
    name = "lm_head.weight"
    shape = tensors[name][1]
    tiny(folder, tensors_update={name: ("BF16", shape, bf16(np.full(shape, 3e38)))})
    refused(run(["eval", folder, "--text", text, "--ctx", "64"]), 9, str(folder), "the logits have a NaN or Inf")


def test_nan_in_a_checkpoint(folder, text):
    tensors = tiny_tensors()
    name = "model.layers.0.self_attn.o_proj.weight"
    values = np.zeros(tensors[name][1])
    values[5, 7] = np.nan
    tiny(folder, tensors_update={name: ("BF16", values.shape, bf16(values))})
    refused(run(["eval", folder, "--text", text, "--ctx", "64"]), 9, name, "row 5, column 7")


def test_nan_in_a_row_that_the_text_does_not_have(folder, text):
    tensors = tiny_tensors()
    name = "model.embed_tokens.weight"
    shape = tensors[name][1]
    values = np.full(shape, 0.02)
    values[shape[0] - 1, 7] = np.nan  # of no token
    tiny(folder, tensors_update={name: ("BF16", shape, bf16(values))})
    refused(run(["eval", folder, "--text", text, "--ctx", "64"]), 9, name, f"row {shape[0] - 1}, column 7")


def test_a_text_larger_than_memory(work):
    """More than a million tokens, of which the first window is wanted, then all of them."""
    path = work / "text"
    path.write_text(HELDOUT.read_text() * (6 * MIB // HELDOUT.stat().st_size))
    small = run(["eval", DATA / "phi35-tiny", "--text", path, "--ctx", "64", "--chunks", "1", "--threads", "1",
                 "--memory-limit", "64M", "--json"], timeout=120).ok()
    assert small.json()["n_tokens"] > 1_000_000
    if not SANITIZED:
        assert small.json()["peak_memory_bytes"] <= 64 * MIB  # it was 25 times the text
    refused(run(["eval", DATA / "phi35-tiny", "--text", path, "--ctx", "64", "--memory-limit", "20M"], timeout=120), 7,
            "--memory-limit 20.00 MiB: the token ids alone take more than a quarter of it", "--chunks N", seconds=60)


@pytest.mark.skipif(SANITIZED, reason="sanitizers take memory of their own")
def test_the_memory_limit_holds_and_changes_no_figure(work):
    text = work / "text"
    text.write_text(HELDOUT.read_text()[:12_000])
    options = ["eval", DATA / "phi4mini-tiny", DATA / "phi4mini-tiny", "--against", DATA / "phi4mini-tiny", "--text", text,
               "--ctx", "256", "--threads", "8", "--json"]
    free, bound = (run([*options, "--memory-limit", limit]).ok() for limit in ("1G", "48M"))
    for key in ("models", "reference", "n_windows"):
        assert bound.json()[key] == free.json()[key]
    assert bound.json()["peak_memory_bytes"] <= 48 * MIB < free.json()["peak_memory_bytes"]
    refused(run([*options[:-1], "--memory-limit", "10M"]), 7, "--memory-limit 10.00 MiB: windows of 256 tokens of these models need at least")


def test_row_064_hostile_template_is_never_rendered(folder, text):
    """Text is scored as it is: eval renders no chat template, so a hostile one changes nothing."""
    tiny(folder)
    plain = evaluate(folder, "--text", text, "--ctx", "64")
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config["chat_template"] = "{% for i in range(10**9) %}{{ cycler.__init__.__globals__.os.popen('x') }}{% endfor %}"
    path.write_text(json.dumps(config))
    hostile = run(["eval", folder, "--text", text, "--ctx", "64", "--json"]).ok()
    assert hostile.json()["models"] == plain["models"]
    assert hostile.seconds < (20 if SANITIZED else 2)


def value_of(content, key):
    """Where the value of a metadata record begins, after its type."""
    at = content.index(struct.pack("<Q", len(key)) + key.encode())
    return at + 8 + len(key) + 4


def test_row_084_tokenizer_arrays_that_do_not_belong_together(folder, work, text):
    tiny(folder)
    out = work / "x.gguf"
    run(["quantize", folder, "--type", "Q8_0", "-o", out]).ok()
    whole = out.read_bytes()

    def said(content, *needles):
        out.write_bytes(content)
        assert warnings(run(["inspect", out]).ok()) != []
        refused(run(["eval", out, "--text", text, "--ctx", "64"]), 3, "x.gguf", *needles)
        # With ids nothing is asked of the tokenizer.
        (work / "x.ids").write_text("1 2 3 4 5 6 7 8")
        run(["eval", out, "--ids", work / "x.ids", "--ctx", "8"]).ok()

    scores = value_of(whole, "tokenizer.ggml.scores")
    element, count = struct.unpack_from("<iQ", whole, scores)
    assert (element, count) == (6, 2112)
    # Eight scores fewer are 32 bytes: what follows stays aligned.
    shorter = whole[:scores] + struct.pack("<iQ", 6, 2104) + whole[scores + 12 + 32:]
    said(shorter, "tokenizer.ggml.scores", "2104", "2112")
    types = value_of(whole, "tokenizer.ggml.token_type")
    said(whole[:types + 12] + struct.pack("<i", 99) + whole[types + 16:], "tokenizer.ggml.token_type", "99")
    said(whole.replace(b"tokenizer.ggml.scores", b"tokenizer.ggml.zcores"), "tokenizer.ggml.scores")


@pytest.mark.parametrize("type", ["Q8_0", "Q4_K_M", "F16"])
def test_row_086_scales_that_are_not_finite(folder, work, text, type):
    tiny(folder)
    out = work / "x.gguf"
    run(["quantize", folder, "--type", type, "-o", out]).ok()
    _, tensors = read_gguf(out)
    tensor = tensors["blk.0.ffn_up.weight"]
    block_bytes = {"Q8_0": 34, "Q4_K_M": 144, "F16": 2}[type]
    content = bytearray(out.read_bytes())
    struct.pack_into("<H", content, tensor.position + 3 * block_bytes, 0x7C00)
    out.write_bytes(content)
    needles = ["block 3"] if type != "F16" else ["row 0, column 3"]
    refused(run(["eval", out, "--text", text, "--ctx", "64"]), 9, "x.gguf", "blk.0.ffn_up.weight", *needles)


def test_row_086_onnx_value_that_is_not_finite(folder, work, text):
    tiny(folder)
    out = work / "onnx"
    run(["quantize", folder, "--format", "onnx", "--precision", "int4", "-o", out]).ok()
    data = out / "model.onnx.data"
    values = np.fromfile(data, "<f4")
    # The only 256 numbers near 1 in a row are those of a norm.
    near_one = ((values > 0.8) & (values < 1.2)).astype(int)
    first = int(np.flatnonzero(np.convolve(near_one, np.ones(256, int), "valid") == 256)[0])
    values[first + 9] = np.inf
    values.tofile(data)
    refused(run(["eval", out, "--text", text, "--ctx", "64"]), 9, "norm", "decodes to inf (row 0, column 9)")


def test_own_tokenizer_that_differs_is_said(folder, work, text):
    """The reference's ids are used, and a file with another vocabulary is told."""
    checkpoint = make_checkpoint(folder)
    out = work / "x.gguf"
    run(["quantize", checkpoint, "--type", "F32", "-o", out]).ok()
    same = run(["eval", out, "--text", text, "--against", checkpoint, "--ctx", "64"]).ok()
    assert warnings(same) == []
    content = bytearray(out.read_bytes())
    the = "▁the".encode()
    token = struct.pack("<Q", len(the)) + the
    at = content.index(token)
    content[at + 8:at + 8 + len(the)] = "▁xqz".encode()
    out.write_bytes(content)
    result = run(["eval", out, "--text", text, "--against", checkpoint, "--ctx", "64"]).ok()
    assert len(warnings(result)) == 1 and "its own tokenizer gives other ids" in warnings(result)[0]


def test_candidate_whose_tokenizer_cannot_be_used(work, text):
    run(["quantize", DATA / "phi35-tiny", "--type", "F32", "-o", work / "x.gguf"]).ok()
    content = (work / "x.gguf").read_bytes().replace(b"tokenizer.ggml.scores", b"tokenizer.ggml.zcores")
    (work / "x.gguf").write_bytes(content)
    result = run(["eval", work / "x.gguf", "--text", text, "--against", DATA / "phi35-tiny", "--ctx", "64"]).ok()
    assert any("its own tokenizer cannot be used" in line for line in warnings(result))


def test_input_that_changes_is_noticed_by_its_kind(work, text):
    """A cut file is told before anything runs."""
    run(["quantize", DATA / "phi35-tiny", "--type", "Q8_0", "-o", work / "x.gguf"]).ok()
    content = (work / "x.gguf").read_bytes()
    (work / "x.gguf").write_bytes(content[:-1000])
    refused(run(["eval", work / "x.gguf", "--text", text, "--ctx", "64"]), 3, "x.gguf")
