"""The program as its users meet it: options, help, messages, exit codes, streams and signals.

What a bad checkpoint or a full disk does has its own files; here the checkpoint is good.
"""
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import termios
import time

import pytest
from harness import (DATA, PHIQ, SOURCE, clean_env, error_line, make_checkpoint, refused, run, snapshot,
                     temporaries, tiny, without_checksums)

PROFILES = ["mobile", "iot", "ai-pc", "ai-pc-intel", "ai-pc-nvidia", "apple", "mobile-litert", "pytorch"]
COMMANDS = ["quantize", "plan", "inspect", "verify", "eval", "compare", "formats", "profiles", "completion"]
MODEL = DATA / "phi35-tiny"


def on_terminal(args, cwd, env=None, columns=100):
    """Runs with standard error on a terminal; returns (exit code, what the terminal got)."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen([str(PHIQ), *map(str, args)], cwd=cwd, stdin=slave, stdout=subprocess.DEVNULL,
                               stderr=slave, env=clean_env({"TERM": "xterm", **(env or {})}))
    os.close(slave)
    seen = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # the last writer has closed it
            break
        if not piece:
            break
        seen += piece
    os.close(master)
    return process.wait(timeout=30), seen


# --- help and version ------------------------------------------------------------------------

def test_version():
    assert run(["--version"]).ok().text == "phiq 0.1.0\n"


def test_row_169_no_arguments_is_usage_on_stderr():
    result = run([])
    assert result.code == 2 and result.out == b""
    assert "Usage: phiq" in result.err


def test_row_169_help_is_on_stdout_and_lists_commands_and_exit_codes():
    result = run(["--help"]).ok()
    assert result.err == ""
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", result.text, re.M)
    for code in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 70]:
        assert re.search(rf"(^|  ) ?{code}  \S", result.text, re.M), code


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_examples_that_fits_a_terminal(command):
    result = run([command, "--help"]).ok()
    assert result.err == ""
    assert f"Usage: phiq {command}" in result.text and f"phiq {command}" in result.text.split("Examples:")[1]
    assert [line for line in result.text.split("\n") if len(line) > 110] == []


def test_help_wins_over_other_mistakes():
    run(["quantize", "--threads", "0", "--help"]).ok()
    run(["quantize", "--no-such-option", "--help"]).ok()


def long_options(command):
    return set(re.findall(r"--[a-z][a-z-]+", run([command, "--help"]).ok().text.split("Examples:")[0]))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_manual_page_has_every_option(command):
    manual = (SOURCE / "docs/man/phiq.1").read_text().replace("\\-", "-")
    assert [option for option in long_options(command) if option not in manual and option != "--help"] == []


# --- usage errors: row 168 -------------------------------------------------------------------

@pytest.mark.parametrize("args, needles", [
    (["--thread", "4"], ["unknown option '--thread'", "did you mean '--threads'?"]),
    (["--frobnicate"], ["unknown option '--frobnicate'"]),
    (["--typ=Q8_0"], ["unknown option '--typ'", "did you mean '--type'?"]),
    (["-x"], ["unknown option '-x'"]),
    (["--threads", "1", "--threads", "2"], ["--threads: given more than once"]),
    (["--force", "--force"], ["--force: given more than once"]),
    (["--quiet=yes"], ["--quiet: takes no value"]),
    (["--threads"], ["--threads: needs a value"]),
    (["-o"], ["--output: needs a value"]),
    (["--threads", "0"], ["--threads: '0'", "from 1 to 1024"]),
    (["--threads", "-1"], ["--threads: '-1'", "from 1 to 1024"]),
    (["--threads=-1"], ["--threads: '-1'", "from 1 to 1024"]),
    (["--threads", "1e3"], ["--threads: '1e3'", "from 1 to 1024"]),
    (["--threads", "1025"], ["--threads: '1025'", "from 1 to 1024"]),
    (["--threads", "99999999999999999999"], ["--threads", "from 1 to 1024"]),
    (["--threads", " 2"], ["--threads", "from 1 to 1024"]),
    (["--threads", ""], ["--threads", "from 1 to 1024"]),
    (["extra"], ["unexpected operand 'extra'"]),
    (["ex\x1b[31mtra"], ["unexpected operand 'ex\\x1b[31mtra'"]),
    (["--memory-limit", "lots"], ["--memory-limit: 'lots' is not a size"]),
    (["--split-max-size", "-1"], ["--split-max-size: '-1' is not a size"]),
    (["--nan", "ignore"], ["--nan: 'ignore' is not one of error, zero"]),
    (["--overflow", "clmp"], ["--overflow: 'clmp' is not one of error, clamp, f32", "did you mean 'clamp'?"]),
    (["--method", "fancy"], ["--method: 'fancy'", "reference, search, imatrix, feedback, rtn, k_quant"]),
    (["--precision", "int5"], ["--precision: unknown precision 'int5'", "int4, int8, fp16, bf16, fp32"]),
    (["--precision", "int8", "--type", "Q8_0"], ["--precision", "--type"]),
    (["--type", "Q4_K_N"], ["Q4_K_N", "did you mean 'Q4_K_M'?"]),
    (["--format", "gguff"], ["--format: unknown format 'gguff', did you mean 'gguf'?"]),
    (["--format", "gguf,gguf"], ["--format: 'gguf' is named twice"]),
    (["--profile", "iott"], ["--profile: unknown profile 'iott', did you mean 'iot'?"]),
    (["--tensor-type", "lm_head"], ["--tensor-type", "REGEX=TYPE"]),
    (["--group-size", "64"], ["--group-size", "not an option of gguf", "onnx, openvino, mlx, litert and torch have it"]),
    (["--sym"], ["--sym", "not an option of gguf", "onnx, openvino and torch have it"]),
    (["--asym"], ["--asym", "not an option of gguf", "onnx, openvino and torch have it"]),
    (["--ratio", "0.6"], ["--ratio", "not an option of gguf", "openvino has it"]),
    (["--mlx-rounding", "cpu"], ["--mlx-rounding", "not an option of gguf", "mlx has it"]),
    (["--quiet", "--verbose"], ["--quiet", "--verbose"]),
    (["-o", ""], ["--output"]),
])
@pytest.mark.parametrize("command", ["quantize", "plan"])
def test_row_168_usage_error(command, args, needles, work):
    before = snapshot(work)
    line = refused(run([command, MODEL, *args], cwd=work), 2, *needles, before=before, folder=work)
    if line.startswith(("unknown option", "unexpected")) or "needs a value" in line or "more than once" in line:
        assert f"`phiq {command} --help`" in line


@pytest.mark.parametrize("args, needles", [
    (["quantise"], ["unknown command 'quantise'", "did you mean 'quantize'?", "`phiq --help`"]),
    (["--verison"], ["unknown option '--verison'", "did you mean '--version'?"]),
    (["quantize"], ["MODEL is missing", "`phiq quantize --help`"]),
    (["verify"], ["OUT is missing"]),
    (["verify", "--against", "model"], ["OUT is missing"]),
    (["inspect"], ["PATH is missing"]),
    (["inspect", "a", "b"], ["unexpected operand 'b'"]),
    (["inspect", "a", "--threads", "0"], ["--threads"]),
    (["eval"], ["PATH is missing"]),
    (["compare", "a"], ["B is missing"]),
    (["compare", "a", "b", "c"], ["unexpected operand 'c'"]),
    (["compare", "a", "b", "--top", "0"], ["--top: '0' is not a whole number from 1 to"]),
    (["compare", "a", "b", "--top", "ten"], ["--top: 'ten'"]),
    (["compare", "a", "b", "--threads", "0"], ["--threads"]),
    (["completion"], ["SHELL is missing"]),
    (["completion", "tcsh"], ["unknown shell 'tcsh'", "bash, zsh and fish"]),
    (["profiles", "iott"], ["unknown profile 'iott'", "did you mean 'iot'?"]),
    (["profiles", "iot", "--types"], ["--types"]),
    (["profiles", "--type"], ["unknown option '--type'", "did you mean '--types'?"]),
])
def test_row_168_usage_error_of_other_commands(args, needles, work):
    refused(run(args, cwd=work), 2, *needles, before=snapshot(work), folder=work)


def test_a_usage_error_takes_no_time():
    fastest = min(run(["quantize", MODEL, "--threads", "0"]).seconds for _ in range(5))
    assert fastest < 0.05 or os.environ.get("PHIQ_SANITIZED")


def test_a_folder_may_be_called_like_a_command(work):
    make_checkpoint(work / "plan")
    run(["plan", "plan", "--type", "Q8_0"], cwd=work).ok()
    make_checkpoint(work / "-odd")
    run(["plan", "--type", "Q8_0", "--", "-odd"], cwd=work).ok()


# --- profiles, precisions, types -------------------------------------------------------------

GGUF_TYPES = {"int4": "Q4_K_M", "int8": "Q8_0", "fp16": "F16", "bf16": "BF16", "fp32": "F32"}


def planned(*options):
    return run(["plan", MODEL, "--json", *options]).ok().json()


def test_nothing_given_is_gguf_int4():
    plan = planned()
    assert (plan["format"], plan["type"]) == ("gguf", "Q4_K_M")


@pytest.mark.parametrize("precision", GGUF_TYPES)
def test_a_precision_means_its_gguf_type(precision):
    assert planned("--precision", precision)["type"] == GGUF_TYPES[precision]


def test_the_iot_profile():
    assert planned("--profile", "iot")["type"] == "Q4_K_M"
    assert planned("--profile", "iot", "--precision", "int4")["type"] == "Q4_K_M"
    assert planned("--profile", "iot", "--precision", "int8")["type"] == "Q8_0"
    assert planned("--profile", "iot", "--format", "gguf", "--type", "q6_k")["type"] == "Q6_K"
    for precision in ["fp16", "bf16", "fp32"]:
        refused(run(["plan", MODEL, "--profile", "iot", "--precision", precision]), 2,
                precision, "int4, int8")


def test_the_apple_profile():
    for options, type in [([], "4bit"), (["--precision", "int8"], "8bit"), (["--precision", "fp16"], "F16"),
                          (["--precision", "bf16"], "BF16"), (["--precision", "fp32"], "F32"),
                          (["--type", "MXFP4"], "mxfp4")]:
        plan = planned("--profile", "apple", *options)
        assert (plan["format"], plan["type"]) == ("mlx", type)
    assert run(["profiles", "apple", "--json"]).ok().json() == {
        "name": "apple", "description": "Apple silicon", "format": "mlx", "precision": "int4",
        "allow": ["int4", "int8", "fp16", "bf16", "fp32"]}


def test_profiles_lists_what_exists():
    lines = run(["profiles"]).ok().text.split("\n")
    assert [line.split()[0] for line in lines if line][1:] == PROFILES
    iot = run(["profiles", "--json"]).ok().json()["profiles"][1]
    assert (iot["name"], iot["format"], iot["precision"], iot["allow"]) == ("iot", "gguf", "int4", ["int4", "int8"])
    assert run(["profiles", "iot", "--json"]).ok().json() == iot
    assert json.loads(run(["profiles", "iot"]).ok().text) == iot


def test_a_printed_profile_is_a_profile_file(work):
    profile = json.loads(run(["profiles", "iot"]).ok().text)
    profile.update(name="board", precision="int8", allow=["int8", "fp16"])
    (work / "board.json").write_text(json.dumps(profile))
    assert planned("--profile", work / "board.json")["type"] == "Q8_0"
    assert planned("--profile", work / "board.json", "--precision", "fp16")["type"] == "F16"
    refused(run(["plan", MODEL, "--profile", work / "board.json", "--precision", "int4"]), 2, "int8, fp16")
    assert run(["profiles", work / "board.json", "--json"]).ok().json()["name"] == "board"


@pytest.mark.parametrize("text, code, needle", [
    ("{", 3, "JSON"),
    ("[]", 3, "object"),
    ('{"format": "gguf"}', 3, "precision"),
    ('{"format": "gguf", "precision": "int3"}', 3, "int3"),
    ('{"format": "tflite", "precision": "int4"}', 3, "unknown format 'tflite', here it is litert (formats: gguf, onnx, openvino, mlx, litert, torch, safetensors)"),
    ('{"format": "gguf", "precision": "int4", "colour": 1}', 3, "colour"),
    ('{"format": "torch", "precision": "fp16"}', 3, "'precision': torch has no precision fp16"),
    ('{"format": "torch", "precision": "int4", "allow": ["int4", "bf16"]}', 3, "'allow': torch has no precision bf16"),
    ('{"format": "onnx", "precision": "int4", "group-size": "sixty"}', 3, "'group-size': --group-size sixty"),
    ('{"format": "onnx", "precision": "int4", "max-length": 0}', 3, "'max-length': --max-length"),
    ('{"format": "onnx", "precision": "int4", "ep": "foo"}', 3, "'ep': --ep: 'foo'"),
])
def test_a_broken_profile_file_is_named(text, code, needle, work):
    (work / "mine.json").write_text(text)
    refused(run(["plan", MODEL, "--profile", "mine.json"], cwd=work), code, "mine.json", needle)


def test_a_missing_profile_file_is_input():
    refused(run(["plan", MODEL, "--profile", "no/such.json"]), 4, "no/such.json")


def test_formats_lists_what_scripts_need():
    rows = [line.split() for line in run(["formats"]).ok().text.splitlines()]
    assert [row[:3] for row in rows] == [
        ["FORMAT", "TYPE", "ENDING"], ["gguf", "Q4_K_M", ".gguf"], ["onnx", "int4", "/"], ["openvino", "INT4_SYM", "/"],
        ["mlx", "4bit", "/"], ["litert", "int4", ".litertlm"], ["torch", "W4A16", "/"],
        ["safetensors", "as-is", "/"]]
    assert run(["formats", "--json"]).ok().json()["formats"][1] == {
        "name": "onnx", "title": "ONNX", "type": "int4", "ending": "", "is_folder": True}


def test_types_lists_the_nineteen_names():
    types = [entry["name"] for entry in run(["profiles", "--types", "--json"]).ok().json()["gguf"]]
    assert sorted(types) == sorted("""F32 F16 BF16 Q8_0 Q6_K Q5_K_M Q5_K_S Q5_1 Q5_0 Q4_K_M Q4_K_S Q4_1 Q4_0
                                      IQ4_NL IQ4_XS Q3_K_L Q3_K_M Q3_K_S Q2_K""".split())
    text = run(["profiles", "--types"]).ok().text
    assert all(re.search(rf"^gguf +{name}( |$)", text, re.M) for name in types)


# --- plan and quantize -----------------------------------------------------------------------

def test_plan_prints_a_line_per_tensor_and_the_exact_size(work):
    plan = planned("--type", "Q8_0")
    text = run(["plan", MODEL, "--type", "Q8_0"]).ok().text
    for tensor in plan["tensors"]:
        line = next(line for line in text.split("\n") if line.startswith(tensor["name"] + " "))
        for part in [tensor["role"], tensor["source_type"], tensor["type"], f"{tensor['bytes']:,}", tensor["reason"]]:
            assert part in line
    assert f"{plan['output_bytes']:,} bytes" in text and "bits per weight" in text and "peak memory" in text
    run(["quantize", MODEL, "--type", "Q8_0", "-o", "out.gguf"], cwd=work).ok()
    assert (work / "out.gguf").stat().st_size == plan["output_bytes"]


def test_dry_run_is_plan_and_writes_nothing(work):
    for extra in [[], ["--json"]]:
        options = [MODEL, "--type", "Q6_K", *extra]
        assert (run(["quantize", *options, "--dry-run"], cwd=work).ok().out ==
                run(["plan", *options], cwd=work).ok().out)
    assert list(work.iterdir()) == []


def test_the_output_is_named_after_model_and_type(work):
    result = run(["quantize", MODEL, "--type", "q8_0"], cwd=work).ok()
    assert [p.name for p in work.iterdir()] == ["phi35-tiny-Q8_0.gguf"]
    assert result.text.startswith("phi35-tiny-Q8_0.gguf: ")


def test_the_report(work):
    result = run(["quantize", MODEL, "--type", "Q8_0", "-o", "out.gguf"], cwd=work).ok()
    assert result.err == ""
    for word in ["tensors", "weights", "bytes", "bits per weight", "weighted error", "time", "weights/s", "peak memory"]:
        assert word in result.text
    report = run(["quantize", MODEL, "--type", "Q8_0", "-o", "out2.gguf", "--json"], cwd=work).ok().json()
    plan = planned("--type", "Q8_0", "-o", "out2.gguf")
    for key in ["format", "type", "files", "output_bytes", "n_weights", "bits_per_weight"]:
        assert report[key] == plan[key]
    assert report["n_tensors"] == len(plan["tensors"])
    # Q8_0 rounds to 1/254 of a block's largest weight: uniform error over that step, and a normal
    # block of 32 has its largest at about 2 sigma.
    assert 0.003 < report["relative_rmse"] < 0.01
    assert report["elapsed_s"] > 0 and report["weights_per_second"] > 0
    assert 1 << 20 < report["peak_memory_bytes"] < 1 << 30
    weights = sum(t["bytes"] for t in run(["inspect", MODEL, "--json"]).ok().json()["tensors"])
    assert report["source_bytes"] == weights


def test_quiet_prints_nothing(work):
    for args in [["quantize", MODEL, "-o", "out.gguf"], ["plan", MODEL], ["inspect", MODEL],
                 ["verify", "out.gguf", "--against", MODEL]]:
        result = run([*args, "--quiet"], cwd=work).ok()
        assert (result.out, result.err) == (b"", "")


def test_verbose_says_what_was_decided():
    result = run(["plan", MODEL, "--type", "q6_k", "--threads", "2", "--verbose"]).ok()
    (line,) = result.err.splitlines()
    assert line.startswith("phiq: info: ") and "gguf Q6_K" in line and "2 threads" in line


def test_standard_output_carries_the_model_and_nothing_else(work):
    run(["quantize", MODEL, "--type", "Q8_0", "-o", "out.gguf"], cwd=work).ok()
    result = run(["quantize", MODEL, "--type", "Q8_0", "-o", "-"], cwd=work).ok()
    assert without_checksums(result.out) == without_checksums((work / "out.gguf").read_bytes())
    assert "peak memory" in result.err
    result = run(["quantize", MODEL, "--type", "Q8_0", "-o", "-", "--json"], cwd=work)
    assert result.code == 2 and result.json()["error"]["code"] == 2


def test_tensor_types_are_repeatable_and_the_last_match_wins():
    plan = planned("--type", "Q8_0", "--tensor-type", "mlp=F16", "--tensor-type", r"layers\.0\.mlp=F32")
    types = {tensor["name"]: tensor["type"] for tensor in plan["tensors"]}
    assert types["model.layers.0.mlp.down_proj.weight"] == "F32"
    assert types["model.layers.1.mlp.down_proj.weight"] == "F16"
    assert types["model.layers.1.self_attn.o_proj.weight"] == "Q8_0"


def test_inspect_and_verify_an_output(work):
    run(["quantize", MODEL, "--type", "Q8_0", "-o", "out.gguf"], cwd=work).ok()
    inspection = run(["inspect", "out.gguf", "--json"], cwd=work).ok().json()
    assert inspection["kind"] == "gguf" and inspection["problems"] == []
    assert inspection["metadata"]["general.architecture"] == "phi3"
    assert "token_embd.weight" in run(["inspect", "out.gguf"], cwd=work).ok().text
    verification = run(["verify", "out.gguf", "--against", MODEL, "--json"], cwd=work).ok().json()
    assert verification["ok"] and len(verification["tensors"]) == len(inspection["tensors"])


def test_verify_says_no_with_exit_1(work):
    run(["quantize", MODEL, "--type", "Q8_0", "-o", "out.gguf"], cwd=work).ok()
    other = tiny(work / "other", layers=2)
    result = run(["verify", "out.gguf", "--against", other], cwd=work)
    assert result.code == 1 and "problem: " in result.text
    assert error_line(result).startswith("out.gguf: does not match")
    result = run(["verify", "out.gguf", "--against", other, "--json"], cwd=work)
    assert result.code == 1 and not result.json()["ok"] and result.json()["problems"]


# --- errors as JSON --------------------------------------------------------------------------

def test_errors_as_json(work):
    folder = make_checkpoint(work / "model")
    os.truncate(folder / "model.safetensors", 5)
    for command in ["plan", "quantize", "inspect"]:
        result = run([command, folder, "--json"], cwd=work)
        error = result.json()["error"]
        assert result.code == error["code"] == 3 and error["class"] == "bad-data"
        assert error["path"].endswith("model.safetensors")
        assert error["message"] == error_line(result)
        assert set(error) == {"code", "class", "path", "offset", "tensor", "message"}


@pytest.mark.parametrize("args, code, name", [
    (["quantize", "--json", "--thread"], 2, "usage"),
    (["--json"], 2, "usage"),
    (["plan", "/no/such/model", "--json"], 4, "input"),
    (["plan", MODEL, "--format", "openvino", "--type", "NF4", "--json"], 6, "unsupported"),
])
def test_errors_as_json_before_any_work(args, code, name):
    result = run(args)
    assert (result.code, result.json()["error"]["code"], result.json()["error"]["class"]) == (code, code, name)
    assert result.json()["error"]["message"] == error_line(result)


# --- warnings --------------------------------------------------------------------------------

def test_werror_turns_a_warning_into_its_exit_code(work):
    # 96 is no multiple of 256: Q4_K falls back for down_proj's rows, which is a warning.
    folder = tiny(work / "model", intermediate=96)
    result = run(["plan", folder, "--type", "Q4_K_M"], cwd=work).ok()
    assert "phiq: warning: " in result.err
    assert "phiq: warning: " not in run(["plan", folder, "--type", "Q4_K_M", "--quiet"], cwd=work).ok().err
    before = snapshot(work)
    refused(run(["quantize", folder, "--type", "Q4_K_M", "--werror"], cwd=work), 3, before=before, folder=work)
    refused(run(["quantize", folder, "--type", "Q4_K_M", "--strict-types"], cwd=work), 6, before=before, folder=work)


# --- streams ---------------------------------------------------------------------------------

@pytest.mark.parametrize("args", [["--help"], ["--version"], ["profiles"], ["plan", MODEL], ["inspect", MODEL],
                                  ["plan", MODEL, "--json"], ["completion", "bash"],
                                  ["quantize", MODEL, "-o", "-"], ["quantize", MODEL, "-o", "out.gguf"]])
def test_row_134_a_full_standard_output_is_exit_5(args, work):
    with open("/dev/full", "wb") as full:
        result = subprocess.run([PHIQ, *args], cwd=work, stdout=full, stderr=subprocess.PIPE, env=clean_env(),
                                text=True, timeout=30)
    assert result.returncode == 5
    assert "phiq: error: " in result.stderr and "No space left on device" in result.stderr
    if "-" not in args:
        assert "write error" in result.stderr


@pytest.mark.parametrize("closing", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_row_135_closed_standard_streams(closing, work):
    reference, out = work / "reference.gguf", work / "out.gguf"
    run(["quantize", MODEL, "--type", "Q8_0", "-o", reference]).ok()
    shell = f'"$0" quantize "$1" --type Q8_0 -o "$2" {closing}'
    subprocess.run(["sh", "-c", shell, PHIQ, MODEL, out], env=clean_env(), check=True, timeout=30,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert out.read_bytes() == reference.read_bytes()


@pytest.mark.parametrize("args, name", [
    (["quantize", ""], "MODEL"), (["plan", ""], "MODEL"), (["inspect", ""], "PATH"), (["verify", ""], "OUT"),
    (["verify", MODEL, "--against", ""], "--against"), (["verify", MODEL, "--adapter", ""], "--adapter"),
    (["compare", "", MODEL], "A"), (["compare", MODEL, ""], "B"), (["compare", MODEL, MODEL, "--ignore-extra", ""], "--ignore-extra"),
    (["eval", MODEL, "", "--text", MODEL / "config.json"], "PATH"), (["profiles", ""], "NAME"),
    (["quantize", MODEL, "--adapter", ""], "--adapter"), (["quantize", MODEL, "--ignore-extra", ""], "--ignore-extra"),
    (["quantize", MODEL, "--calibrate", ""], "--calibrate"), (["quantize", MODEL, "--calibration-ids", ""], "--calibration-ids"),
    (["quantize", MODEL, "--output", ""], "--output")])
def test_a_name_is_not_empty(work, args, name):
    assert refused(run(args, cwd=work), 2).startswith(f"{name}: the name is empty")


def test_operands_behind_two_dashes_may_begin_with_one(work):
    shutil.copytree(MODEL, work / "-dash")
    run(["quantize", "--type", "Q8_0", "-o", "out.gguf", "--", "-dash"], cwd=work).ok()
    assert (work / "out.gguf").read_bytes()[:4] == b"GGUF"
    run(["compare", "--quiet", "--", "-dash", "out.gguf"], cwd=work).ok()
    refused(run(["quantize", "--", "--type"], cwd=work), 4, "./--type")
    refused(run(["quantize", "--"], cwd=work), 2, "MODEL is missing")
    refused(run(["--"], cwd=work), 2, "")


def test_json_with_a_value_has_its_error_as_json():
    result = run(["inspect", MODEL, "--json=1"])
    assert result.code == 2 and "--json: takes no value" in result.json()["error"]["message"]


@pytest.mark.parametrize("option", ["--calibration-out", "--imatrix-out"])
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_standard_output_takes_no_second_thing(work, option, more):
    (work / "text.txt").write_text("some text")
    args = ["quantize", MODEL, "--calibrate", work / "text.txt", "-o", work / "out.gguf", *more]
    for name in ("-", "/dev/stdout"):
        result = run([*args, option, name])
        assert result.code == 2 and f"{option}: standard output already carries the report" in result.err
        assert not (work / "out.gguf").exists()


def test_a_folder_is_no_calibration_text(work):
    (work / "out.gguf").write_text("mine")
    refused(run(["quantize", MODEL, "--calibrate", ".", "-o", "out.gguf", "--force"], cwd=work), 4, ".: ", "not a regular file")


@pytest.mark.parametrize("command", ["inspect", "plan"])
def test_row_136_a_reader_that_goes_away_ends_us_silently(command):
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run([PHIQ, command, MODEL], stdout=writer, stderr=subprocess.PIPE, env=clean_env(), timeout=30)
    os.close(writer)
    assert result.returncode == -signal.SIGPIPE and result.stderr == b""


def test_row_136_a_conversion_goes_on_when_nobody_reads_its_messages(work):
    folder = tiny(work / "model", intermediate=96)  # gives a warning
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run([PHIQ, "quantize", folder, "-o", "out.gguf"], cwd=work, stdout=subprocess.DEVNULL,
                            stderr=writer, env=clean_env(), timeout=30)
    os.close(writer)
    assert result.returncode == 0 and (work / "out.gguf").exists() and temporaries(work) == []


def test_row_170_on_a_terminal_there_is_a_bar_and_it_goes_away(work):
    code, seen = on_terminal(["quantize", MODEL, "-o", "out.gguf"], work)
    assert code == 0
    assert re.search(rb"\r\[=* *\] +\d+ %  [\d.]+ [MG] weights/s", seen)
    assert seen.endswith(b"\r") and b"\n" not in seen and b"\x1b" not in seen
    for line in seen.split(b"\r"):
        assert len(line) < 100


@pytest.mark.parametrize("args, env", [([], {"TERM": "dumb"}), ([], {"TERM": None}), (["--quiet"], {}), (["--json"], {}),
                                       (["--no-progress"], {})])
def test_row_170_no_bar_when_it_is_not_wanted(args, env, work):
    assert on_terminal(["quantize", MODEL, "-o", "out.gguf", *args], work, env) == (0, b"")


def test_row_170_no_colour_ever(work):
    for env in [{}, {"NO_COLOR": "1"}, {"CLICOLOR_FORCE": "1"}]:
        code, seen = on_terminal(["quantize", "/no/such"], work, env)
        assert code == 4 and seen.startswith(b"phiq: error: ") and b"\x1b" not in seen


def test_row_170_no_bar_and_no_question_without_a_terminal(work):
    result = run(["quantize", MODEL, "-o", "out.gguf"], cwd=work).ok()
    assert result.err == "" and b"\r" not in result.out
    refused(run(["quantize", MODEL, "-o", "out.gguf"], cwd=work), 5, "out.gguf", "--force")


@pytest.mark.parametrize("locale", ["C", "POSIX", "de_DE.UTF-8", "tr_TR.UTF-8"])
def test_row_182_numbers_do_not_depend_on_the_locale(locale, work):
    reference = run(["plan", MODEL, "--type", "Q8_0"]).ok().out
    assert run(["plan", MODEL, "--type", "Q8_0"], env={"LC_ALL": locale}).ok().out == reference
    for name, value in [("a", "C.UTF-8"), ("b", locale)]:
        run(["quantize", MODEL, "--type", "Q8_0", "-o", f"{name}.gguf"], cwd=work, env={"LC_ALL": value}).ok()
    assert (work / "a.gguf").read_bytes() == (work / "b.gguf").read_bytes()


# --- signals ---------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A checkpoint whose conversion by a slow method takes half a second: signals are looked for ten times in one."""
    return tiny(tmp_path_factory.mktemp("large") / "phi3-large", layers=8, intermediate=2048)


def start(folder, work, prefix=(), **kwargs):
    return subprocess.Popen([*prefix, str(PHIQ), "quantize", str(folder), "--type", "IQ4_XS", "--method", "search",
                             "--threads", "1", "-o", "out.gguf"], cwd=work, env=clean_env(), stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, **kwargs)


def wait_for_temporary(work):
    deadline = time.monotonic() + 10
    while not temporaries(work):
        assert time.monotonic() < deadline, "no temporary appeared"
        time.sleep(0.001)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU])
@pytest.mark.parametrize("delay_s", [0, 0.01, 0.05])
def test_row_157_a_stop_signal_ends_us_by_that_signal_and_leaves_nothing(number, delay_s, large, work):
    process = start(large, work)
    wait_for_temporary(work)
    time.sleep(delay_s)
    process.send_signal(number)
    sent = time.monotonic()
    _, err = process.communicate(timeout=10)
    assert process.returncode == -number
    assert time.monotonic() - sent < 1 or os.environ.get("PHIQ_SANITIZED")
    assert list(work.iterdir()) == []
    assert err.count(b"\n") <= 1 and (err == b"" or b"interrupted" in err)


def test_row_158_two_interrupts(large, work):
    process = start(large, work)
    wait_for_temporary(work)
    process.send_signal(signal.SIGINT)
    time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == -signal.SIGINT
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_row_159_an_ignored_signal_stays_ignored(number, large, work):
    process = start(large, work, preexec_fn=lambda: signal.signal(number, signal.SIG_IGN))
    wait_for_temporary(work)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 0 and (work / "out.gguf").exists() and temporaries(work) == []


# --- completion ------------------------------------------------------------------------------

def completed(*words):
    """What bash offers at the end of `words`, with the script that we print."""
    script = f"""
        eval "$("{PHIQ}" completion bash)"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _phiq; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    result = subprocess.run(["bash", "-uc", script, "bash", *words], env=clean_env(), text=True, check=True,
                            capture_output=True, timeout=30)
    return result.stdout.split()


def test_bash_completes_commands_options_and_values():
    assert completed("phiq", "") == [*COMMANDS, "--help", "--version"]
    assert completed("phiq", "qu") == ["quantize"]
    assert completed("phiq", "quantize", "--thr") == ["--threads"]
    assert completed("phiq", "plan", "model", "--type", "Q4_K") == ["Q4_K_M", "Q4_K_S"]
    assert completed("phiq", "plan", "--type", "=", "Q8") == ["Q8_0"]
    assert completed("phiq", "plan", "--type", "=") == completed("phiq", "plan", "--type", "")
    assert completed("phiq", "quantize", "--precision", "") == ["int4", "int8", "fp16", "bf16", "fp32"]
    assert completed("phiq", "quantize", "--profile", "") == PROFILES
    assert completed("phiq", "quantize", "--format", "") == ["gguf", "onnx", "openvino", "mlx", "litert", "torch", "safetensors"]
    assert completed("phiq", "quantize", "--format", "gguf,o") == ["gguf,onnx", "gguf,openvino"]
    assert completed("phiq", "quantize", "--format", "mlx", "--type", "m") == ["mxfp8", "mixed_4_6", "mxfp4", "mixed_3_6", "mixed_3_4", "mixed_2_6"]
    assert completed("phiq", "quantize", "--format", "=", "onnx", "--type", "=", "i") == ["int8", "int4"]
    assert completed("phiq", "quantize", "--mlx-rounding", "") == ["cpu", "metal"]
    assert completed("phiq", "completion", "") == ["bash", "zsh", "fish"]
    assert completed("phiq", "inspect", "") == []  # bash then offers file names


def needs_shell(shell):
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")


@needs_shell("fish")
def test_fish_completes_the_types_of_the_format_and_several_formats():
    def offered(line):
        script = '$argv[1] completion fish | source; complete -C $argv[2]'
        result = subprocess.run(["fish", "--no-config", "-c", script, PHIQ, line], env=clean_env({"HOME": "/tmp"}), text=True,
                                check=True, capture_output=True, timeout=30)
        return sorted(entry.split("\t")[0] for entry in result.stdout.splitlines())

    assert offered("phiq quantize --format mlx --type m") == sorted(
        ["mxfp8", "mixed_4_6", "mxfp4", "mixed_3_6", "mixed_3_4", "mixed_2_6"])
    assert offered("phiq quantize --format=onnx --type i") == ["int4", "int8"]
    assert offered("phiq quantize --format litert --type Q") == []
    assert offered("phiq plan --type Q4_K") == ["Q4_K_M", "Q4_K_S"]
    assert offered("phiq plan --format gguf,o") == ["gguf,onnx", "gguf,openvino"]


@needs_shell("zsh")
@pytest.mark.parametrize("format, words", [("mlx", "8bit mxfp8"), ("onnx", "fp32 fp16"), ("", "F32 F16")])
def test_zsh_completes_the_types_of_the_format(format, words):
    script = """
        compdef() { :; }
        compadd() { print -r -- $types; }
        eval "$($1 completion zsh)"
        typeset -A opt_args=(--format "$2")
        _phiq_types
    """
    result = subprocess.run(["zsh", "-fc", script, "zsh", PHIQ, format], env=clean_env(), text=True, check=True,
                            capture_output=True, timeout=30)
    assert words in result.stdout
    assert ("Q4_K_M" in result.stdout) == (format == "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_knows_every_command_and_option(shell):
    script = run(["completion", shell]).ok().text
    for command in COMMANDS:
        assert command in script
        for option in long_options(command):
            assert (option in script) if shell != "fish" else (f"-l {option[2:]}" in script)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_parses(shell, work):
    if subprocess.run(["sh", "-c", f"command -v {shell}"], capture_output=True).returncode:
        pytest.skip(f"{shell} is not installed")
    (work / "script").write_bytes(run(["completion", shell]).ok().out)
    subprocess.run([shell, "-n", work / "script"], check=True)
