"""The examples in docs/examples do what they say: two checkpoints in one go, nothing made twice,
and a corrupt checkpoint fails alone with its own exit code."""
import contextlib
import os
import shutil
import signal
import subprocess
import time

import pytest

import harness

EXAMPLES = harness.SOURCE / "docs" / "examples"


@pytest.fixture
def models(tmp_path):
    """Two good checkpoints and between them one whose weights are cut short."""
    folders = [harness.tiny(tmp_path / "good-a"), harness.tiny(tmp_path / "corrupt"),
               harness.tiny(tmp_path / "good-b", base="phi4mini-tiny")]
    os.truncate(folders[1] / "model.safetensors", 100_000)
    return folders


def run(command, environment):
    environment = {**harness.clean_env(), "PHIQ": str(harness.PHIQ), "TYPE": "Q8_0", **environment}
    environment = {name: str(value) for name, value in environment.items() if value is not None}
    return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)


def make(out, models, *options, **environment):
    return run(["make", *options, "-f", EXAMPLES / "Makefile", f"OUT={out}", "MODELS=" + " ".join(map(str, models))],
               environment)


def convert(out, models, **environment):
    return run([EXAMPLES / "convert.sh", out, *models], environment)


def change(path, seconds_later):
    """As if written later; file systems with coarse times must see it too."""
    newer = path.stat().st_mtime_ns + seconds_later * 1_000_000_000
    os.utime(path, ns=(newer, newer))


def state(out):
    """Of what was converted; the examples' own notes are hidden."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.iterdir()
            if not path.name.startswith(".")}


GOOD = {"good-a-Q8_0.gguf", "good-b-Q8_0.gguf"}


def test_make_converts_the_good_ones_and_reports_the_corrupt_one(models, tmp_path):
    out = tmp_path / "out"
    done = make(out, models, "-k")
    assert done.returncode == 2, done.stdout  # make's own code for "a recipe failed"
    assert "corrupt-Q8_0.gguf] Error 3" in done.stdout
    assert set(state(out)) == GOOD


def test_make_makes_again_only_what_changed(models, tmp_path):
    out, good = tmp_path / "out", [models[0], models[2]]
    assert make(out, good).returncode == 0
    first = state(out)
    assert make(out, good, "-q").returncode == 0  # nothing to do
    assert make(out, good).returncode == 0
    assert state(out) == first

    change(models[2] / "config.json", 5)
    assert make(out, good, "-q").returncode == 1
    assert make(out, good).returncode == 0
    second = state(out)
    assert second["good-a-Q8_0.gguf"] == first["good-a-Q8_0.gguf"]
    assert second["good-b-Q8_0.gguf"] != first["good-b-Q8_0.gguf"]


def wait_for_end_of_group(group):
    """A shell that make waits for ends before what it runs, which still cleans up."""
    deadline = time.monotonic() + 30
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.01)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_make_that_was_killed_is_finished_by_the_next(tmp_path, how):
    out = tmp_path / "out"
    # Large enough that the conversion is still at work when it is killed.
    model = harness.tiny(tmp_path / "large", layers=16, intermediate=4096)
    command = ["make", "-f", EXAMPLES / "Makefile", f"OUT={out}", f"MODELS={model}",
               f"PHIQ={harness.PHIQ}", "TYPE=IQ4_XS", "OPTIONS=--threads 1"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             env=harness.clean_env(), start_new_session=True)
    while not (out.is_dir() and harness.temporaries(out)):
        assert first.poll() is None, "make ended before it was killed"
        time.sleep(0.001)
    os.killpg(first.pid, how)
    assert first.wait() != 0
    wait_for_end_of_group(first.pid)
    assert not list(out.glob("*.gguf"))

    assert subprocess.run(command, stdout=subprocess.DEVNULL, env=harness.clean_env()).returncode == 0
    assert set(state(out)) == {"large-IQ4_XS.gguf"}


def test_script_converts_the_good_ones_and_names_the_corrupt_one(models, tmp_path):
    out = tmp_path / "out"
    done = convert(out, models)
    assert done.returncode == 10, done.stdout
    assert f"{models[1]}: FAILED with exit code 3\n" in done.stdout
    assert set(state(out)) == GOOD


def test_script_converts_again_only_what_changed(models, tmp_path):
    out, good = tmp_path / "out", [models[0], models[2]]
    assert convert(out, good).returncode == 0
    first = state(out)
    again = convert(out, good)
    assert again.stdout == f"{good[0]}: up to date\n{good[1]}: up to date\n"
    assert state(out) == first

    change(models[0] / "model.safetensors", 5)
    assert convert(out, good).stdout == f"{good[0]}: done\n{good[1]}: up to date\n"


def test_script_gives_the_failures_code_when_all_fail(models, tmp_path):
    done = convert(tmp_path / "out", [models[1]])
    assert done.returncode == 3


def test_a_file_that_becomes_corrupt_leaves_the_old_output(models, tmp_path):
    out = tmp_path / "out"
    assert convert(out, models[:1]).returncode == 0
    first = state(out)
    shutil.copyfile(models[1] / "model.safetensors", models[0] / "model.safetensors")
    change(models[0] / "model.safetensors", 5)
    assert convert(out, models[:1]).returncode == 3
    assert state(out) == first


FOLDERS = {"onnx": "int8", "openvino": "INT8_SYM", "mlx": "8bit", "torch": "W8A8"}


@pytest.mark.parametrize("format", FOLDERS)
@pytest.mark.parametrize("convert_with", [make, convert])
def test_folders_are_made_once_too(models, tmp_path, convert_with, format):
    """Beside a GGUF of an earlier run, which is no output of these."""
    options = {"FORMAT": format, "TYPE": FOLDERS[format]}
    out, good = tmp_path / "out", [models[0], models[2]]
    assert convert_with(out, good).returncode == 0
    made = convert_with(out, good, **options)
    assert made.returncode == 0, made.stdout
    first = state(out)
    folders = {f"good-{x}-{format}-{FOLDERS[format]}" for x in "ab"}
    assert set(first) == folders | GOOD
    assert convert_with(out, good, **options).returncode == 0
    assert state(out) == first
    change(models[0] / "config.json", 5)
    assert convert_with(out, good, **options).returncode == 0
    assert {name for name in first if state(out)[name] != first[name]} == {f"good-a-{format}-{FOLDERS[format]}"}


@pytest.mark.parametrize("convert_with", [make, convert])
def test_every_format_has_a_default_type(models, tmp_path, convert_with):
    formats = [line.split()[0] for line in harness.run(["formats"]).ok().text.splitlines()[1:]]
    for format in formats:
        made = convert_with(tmp_path / "out", models[:1], FORMAT=format, TYPE=None)
        assert made.returncode == 0, made.stdout
    assert set(state(tmp_path / "out")) == {"good-a-Q4_K_M.gguf", "good-a-onnx-int4", "good-a-openvino-INT4_SYM",
                                            "good-a-mlx-4bit", "good-a-int4.litertlm", "good-a-torch-W4A16",
                                            "good-a-safetensors-as-is"}


@pytest.mark.parametrize("convert_with", [make, convert])
def test_an_unknown_format_is_an_error(models, tmp_path, convert_with):
    done = convert_with(tmp_path / "out", models[:1], FORMAT="tflite")
    assert done.returncode == 2 and "FORMAT=tflite: `phiq formats` lists those that are known" in done.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("convert_with", [make, convert])
def test_other_options_or_another_phiq_make_it_again(models, tmp_path, convert_with):
    out, good = tmp_path / "out", models[:1]
    assert convert_with(out, good).returncode == 0
    first = state(out)
    time.sleep(0.02)  # file systems with coarse times
    assert convert_with(out, good, OPTIONS="--threads 1").returncode == 0
    second = state(out)
    assert second != first
    assert convert_with(out, good, OPTIONS="--threads 1").returncode == 0
    assert state(out) == second
    other = tmp_path / "phiq-next"
    other.write_text(f"""#!/bin/sh
[ "$1" = --version ] && echo 'phiq next' && exit
exec '{harness.PHIQ}' "$@"
""")
    other.chmod(0o755)
    time.sleep(0.02)
    assert convert_with(out, good, OPTIONS="--threads 1", PHIQ=other).returncode == 0
    assert state(out) != second


def test_the_script_takes_names_with_spaces(tmp_path):
    model = harness.tiny(tmp_path / "my models" / "a model")
    for expected in ["done", "up to date"]:
        assert convert(tmp_path / "out folder", [model]).stdout == f"{model}: {expected}\n"
    assert set(state(tmp_path / "out folder")) == {"a model-Q8_0.gguf"}


@pytest.mark.parametrize("format, type, name", [("gguf", "Q8_0", "a model-Q8_0.gguf"), ("mlx", "8bit", "a model-mlx-8bit")])
def test_make_takes_names_with_spaces(tmp_path, format, type, name):
    model = harness.tiny(tmp_path / "my models" / "a model")
    out, options = tmp_path / "out folder", {"FORMAT": format, "TYPE": type}
    other = harness.tiny(tmp_path / "other")
    names = [str(model).replace(" ", "\\ "), other]
    assert make(out, names, **options).returncode == 0
    first = state(out)
    assert set(first) == {name, name.replace("a model", "other")}
    assert make(out, names, "-q", **options).returncode == 0
    change(model / "config.json", 5)
    assert make(out, names, "-q", **options).returncode == 1
    assert make(out, names, **options).returncode == 0
    assert {one for one in first if state(out)[one] != first[one]} == {name}


@pytest.mark.parametrize("convert_with", [make, convert])
def test_two_checkpoints_of_the_same_name_are_refused(tmp_path, convert_with):
    a, b = (harness.tiny(tmp_path / parent / "phi") for parent in "ab")
    result = convert_with(tmp_path / "out", [a, b])
    assert result.returncode == 2 and "phi" in result.stdout, result.stdout
    assert not (tmp_path / "out" / "phi-Q8_0.gguf").exists()
    assert convert_with(tmp_path / "out", [a, a]).returncode == 0  # one and the same


@pytest.mark.parametrize("convert_with", [make, convert])
def test_a_name_in_the_hub_cache_is_never_up_to_date(tmp_path, convert_with):
    snapshot = tmp_path / "cache" / "models--someone--tiny-phi" / "snapshots" / ("0123456789" * 4)
    harness.tiny(snapshot)
    made = []
    for seed in (1, 2):
        harness.tiny(snapshot, seed=seed)
        result = convert_with(tmp_path / "out", ["someone/tiny-phi"], HF_HUB_CACHE=tmp_path / "cache")
        assert result.returncode == 0, result.stdout
        made.append((tmp_path / "out" / "tiny-phi-Q8_0.gguf").read_bytes())
    assert made[0] != made[1]
