"""--resume: a run that is interrupted or killed, and one that goes on from what it has done."""
import os
import random
import shlex
import signal
import subprocess
import time

import harness
import numpy as np
import pytest
from harness import DATA, PHIQ, run, temporaries, tiny, warnings

HELDOUT = (DATA / "heldout.txt").read_bytes()
CALIBRATED = ["--calibration-ctx", "256", "--calibration-tokens", "2048"]


@pytest.fixture(scope="module")
def many_layers(tmp_path_factory):
    """Wide enough that a stage of the plain conversion takes some hundredths of a second."""
    return tiny(tmp_path_factory.mktemp("source") / "model", layers=16, intermediate=3072)


def args_of(case, many_layers, text, out):
    """(arguments without --resume, stages of an undisturbed run)."""
    text.write_bytes(HELDOUT[:60000])
    calibrated = ["--calibrate", text, *CALIBRATED]
    args, n_stages = {
        "plain": ([many_layers, "-o", out / "out.gguf", "--type", "Q4_K_M", "--threads", "1"], 17),
        # Tied: the head is written before the first layer; 4 bits in a folder of several files.
        "corrected": ([DATA / "phi4mini-tiny", "-o", out / "out", "--format", "onnx", "--type", "int4", *calibrated], 18),
        "two targets": ([DATA / "phi35-tiny", "-o", out, "--format", "gguf,mlx", "--precision", "int4", *calibrated,
                         "--imatrix-out", out / "m.gguf"], 18),
        # Rows that stand between others, and scales in a file's head.
        "bands": ([DATA / "phi35-tiny", "-o", out, "--format", "torch,litert", "--type", "torch=AWQ", "--type", "litert=int8",
                   *calibrated], 18),
    }[case]
    return ["quantize", *args, "--json"], n_stages


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def stages_noted(folder):
    return sum(path.read_text(errors="replace").count("\nstage ") for path in folder.glob(".phiq-run.*"))


def interrupt(args, folder, number, n_stages, delay):
    """Starts a run and ends it when so many stages are noted, one of its own at least, and some time later; its exit
    code and messages. (Before its first stage a slow start may not have come to the handling of signals.)"""
    n_stages = max(n_stages, stages_noted(folder) + 1)
    process = subprocess.Popen([PHIQ, *map(str, args)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               env=harness.clean_env(), text=True)
    while process.poll() is None and stages_noted(folder) < n_stages:
        time.sleep(0.002)
    time.sleep(delay)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


@pytest.mark.parametrize("case", ["plain", "corrected", "two targets", "bands"])
def test_a_run_that_was_ended_again_and_again_gives_the_bytes_of_an_undisturbed_one(work, many_layers, case):
    whole, out, text = work / "whole", work / "out", work / "text.txt"
    whole.mkdir()
    out.mkdir()
    args, n_stages = args_of(case, many_layers, text, whole)
    undisturbed = run(args, timeout=300).ok().json()
    args, _ = args_of(case, many_layers, text, out)
    args.append("--resume")
    seeded = random.Random(case)
    n_done, n_ended = 0, 0
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL, signal.SIGTERM):
        n_done = min(n_done + seeded.randrange(1, n_stages // 4), n_stages - 2)
        code, err = interrupt(args, out, number, n_done, seeded.uniform(0, 0.05))
        if code == 0:
            break  # it was done before the signal came
        assert code == -number, err
        if number != signal.SIGKILL:
            command = err.split("what is done is kept, and goes on with: ")[1].splitlines()[0].removesuffix(")")
            assert shlex.split(command) == [str(PHIQ), *map(str, args)]
        n_ended += 1
        assert stages_noted(out) >= n_done, "a stage that was done is done again"
        n_done = stages_noted(out)
    assert n_ended >= 2
    if code != 0:
        report = run(args, timeout=300).ok().json()
        assert report["resumed_at"]["stages_done"] == n_done and report["resumed_at"]["stages"] == n_stages
        # Of weights no more is read than is written.
        assert 0 < report["source_bytes"] < undisturbed["source_bytes"]
        assert 0 < report["resumed_at"]["tensors_done"]
        for key in ("relative_rmse", "output_errors", "corrections"):
            of = [one.get(key) for one in report.get("outputs", [report])]
            assert of == [one.get(key) for one in undisturbed.get("outputs", [undisturbed])], key
    assert contents(out) == contents(whole)


def test_what_is_not_gone_on_with_is_removed_with_a_line(work, many_layers):
    out, text = work / "out", work / "text.txt"
    out.mkdir()
    args, _ = args_of("plain", many_layers, text, out)
    whole = run(args, timeout=60).ok().json()
    assert whole["resumed_at"] is None
    wanted = contents(out)
    (out / "out.gguf").unlink()

    def leave():
        code, err = interrupt([*args, "--resume"], out, signal.SIGKILL, 3, 0)
        assert code == -signal.SIGKILL, err
        assert temporaries(out)

    leave()
    # A run of other outputs leaves it alone.
    run(["quantize", many_layers, "-o", out / "other.gguf", "--type", "Q8_0", "--resume"]).ok()
    (out / "other.gguf").unlink()
    assert temporaries(out)
    # Of other options, with --resume and without; of another source.
    other = [*args, "--resume"]
    other[other.index("Q4_K_M")] = "Q4_K_S"
    result = run(other, timeout=60).ok()
    assert any("of other options or of another phiq; it is removed" in line for line in warnings(result))
    assert result.json()["resumed_at"] is None and list(contents(out)) == list(wanted)
    (out / "out.gguf").unlink()
    leave()
    result = run(args, timeout=60).ok()
    assert any("is removed: --resume would have gone on with it" in line for line in warnings(result))
    assert contents(out) == wanted
    (out / "out.gguf").unlink()
    leave()
    weights = many_layers / "model.safetensors"
    os.utime(weights, ns=(1, 1))
    result = run([*args, "--resume"], timeout=60).ok()
    assert any("is of another source" in line for line in warnings(result))
    assert contents(out) == wanted


def test_notes_that_were_damaged_are_not_believed(work, many_layers):
    """A stage whose note is not whole is done again."""
    out, text = work / "out", work / "text.txt"
    out.mkdir()
    args, _ = args_of("plain", many_layers, text, out)
    run(args, timeout=60).ok()
    wanted = contents(out)
    (out / "out.gguf").unlink()
    code, err = interrupt([*args, "--resume"], out, signal.SIGKILL, 4, 0)
    assert code == -signal.SIGKILL, err
    journal, = out.glob(".phiq-run.*")
    lines = journal.read_text().splitlines(keepends=True)
    second = [i for i, line in enumerate(lines) if line.startswith("stage ")][1]
    lines[second] = lines[second][:-8] + "\n"
    journal.write_text("".join(lines))
    report = run([*args, "--resume"], timeout=60).ok().json()
    assert report["resumed_at"]["stages_done"] == 1
    assert contents(out) == wanted


def cut(file):
    os.truncate(file, file.stat().st_size // 3)


def flip(file):
    """A bit in every thousandth byte that is not 0, behind any header: of whatever stands there, some is hit."""
    content = np.frombuffer(file.read_bytes(), np.uint8).copy()
    at = np.flatnonzero(content)
    content[at[len(at) // 2::1000]] ^= 4
    file.write_bytes(content.tobytes())


@pytest.mark.parametrize("case, n_stages, victim, damage", [
    ("plain", 4, ".out.gguf.phiq-tmp.*", cut), ("plain", 4, ".out.gguf.phiq-tmp.*", flip),
    ("corrected", 3, ".out.phiq-tmp.*/*.data", flip), ("corrected", 3, ".out.phiq-tmp.*/*.data", os.unlink),
    ("corrected", 3, ".out.text0.phiq-tmp.*", flip), ("corrected", 3, ".out.text1.phiq-tmp.*", flip),
    ("corrected", 3, ".out.text0.phiq-tmp.*", cut), ("two targets", 3, ".*.sums.phiq-tmp.*", flip)])
def test_temporaries_that_were_damaged_are_not_believed(work, many_layers, case, n_stages, victim, damage):
    whole, out, text = work / "whole", work / "out", work / "text.txt"
    whole.mkdir()
    out.mkdir()
    args, _ = args_of(case, many_layers, text, whole)
    run(args, timeout=300).ok()
    args, _ = args_of(case, many_layers, text, out)
    args.append("--resume")
    code, err = interrupt(args, out, signal.SIGKILL, n_stages, 0)
    assert code == -signal.SIGKILL, err
    file, = out.glob(victim)
    damage(file)
    result = run(args, timeout=300).ok()
    assert any("is not what it noted of it; it is removed" in line for line in warnings(result)), result.err
    assert result.json()["resumed_at"] is None
    assert contents(out) == contents(whole)


def test_a_pipe_cannot_be_gone_on_with(many_layers):
    harness.refused(run(["quantize", many_layers, "-o", "-", "--resume"]), 2, "--resume: nothing of - can be gone on with")
