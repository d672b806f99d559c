"""Killed at a system call of writing and committing, in every format (row 160 of docs/reliability.md): the output's
name holds what it held or all of the new, and the next run leaves nothing else. PHIQ_SLOW=1: at every call."""
import hashlib
import os
import shutil
import signal

import pytest

from faults import needs_strace, run_under_strace
from harness import SOURCE, run

MODEL = SOURCE / "tests" / "fuzz" / "seeds" / "model"
FORMATS = [entry["name"] for entry in run(["formats", "--json"]).ok().json()["formats"]] + ["gguf,mlx"]
SLOW = bool(os.environ.get("PHIQ_SLOW"))
CALLS = ["fsync", "rename,renameat,renameat2", "unlink,unlinkat"] + SLOW * ["mkdir,mkdirat", "fallocate", "pwrite64", "fchmod", "close"]


def arguments(model, format, out):
    more = ["--group-size", "32"] if format == "torch" else []
    return ["quantize", model, "--format", format, "-o", out, "--threads", "1", "--force", *more]


def contents(path):
    if path.is_dir():
        return {entry.name: contents(entry) for entry in sorted(path.iterdir())}
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def places():
    """1, 2, 3, ..., or further and further apart."""
    k, step = 1, 1
    while True:
        yield k
        k, step = (k + 1, 1) if SLOW else (k + step, k)


@needs_strace
@pytest.mark.parametrize("format", FORMATS)
def test_row_160_killed_at_a_call_of_any_format(format, work):
    other = shutil.copytree(MODEL, work / "other" / "model")
    with open(other / "model.safetensors", "r+b") as weights:
        weights.seek(-2, os.SEEK_END)
        weights.write(b"\0\0")
    folder = work / "out"
    folder.mkdir()
    out = folder / ("several" if "," in format else "model")
    run(arguments(other, format, out)).ok()
    old = contents(folder)
    run(arguments(MODEL, format, out)).ok()
    new = contents(folder)
    assert old != new
    n_killed = 0
    for calls in CALLS:
        for k in places():
            run(arguments(other, format, out)).ok()
            assert contents(folder) == old, f"{calls} {k}"
            killed = run_under_strace(arguments(MODEL, format, out), work / "log", f"{calls}:signal=KILL:when={k}")
            if killed.code == 0:  # fewer such calls
                break
            assert killed.code == -signal.SIGKILL
            n_killed += 1
            if "," in format:
                stands = {name: contents(out / name) for name in old["several"]}
                assert all(stands[name] in (old["several"][name], new["several"][name]) for name in stands), f"{calls} {k}"
            else:
                assert contents(out) in (old["model"], new["model"]), f"{calls} {k}"
            run(arguments(MODEL, format, out)).ok()
            assert contents(folder) == new, f"{calls} {k}"
    assert n_killed >= 3
