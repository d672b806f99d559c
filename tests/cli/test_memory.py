"""Memory that runs out ends with exit 7 and a line (row 153 of docs/reliability.md), at whatever allocation: one of
them fails, or all from one on. Each command, over its whole run."""
import os
import random
import shutil
import subprocess

import pytest

from harness import DATA, SANITIZED, SOURCE, error_line, run, snapshot, temporaries

pytestmark = [pytest.mark.skipif(SANITIZED, reason="sanitizers have an allocator of their own"),
              pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")]
MODEL = SOURCE / "tests" / "fuzz" / "seeds" / "model"
N_TRIES = 1000 if os.environ.get("PHIQ_SLOW") else 12  # a command, spread over its run


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    built = tmp_path_factory.mktemp("fail") / "fail_malloc.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", built, SOURCE / "tests/cli/fail_malloc.c", "-ldl"], check=True)
    return built


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    (folder / "text").write_text("The quick brown fox jumps over the lazy dog. " * 20)
    for format in ["gguf", "onnx", "openvino", "mlx", "litert"]:
        run(["quantize", MODEL, "--format", format, "-o", folder / f"x.{format}" if format == "gguf" else folder / format]).ok()
    return folder


COMMANDS = {
    "formats": ["formats"],
    "profiles": ["profiles", "--types"],
    "completion": ["completion", "bash"],
    "help": ["quantize", "--help"],
    "usage": ["quantize", "--thread", "1"],
    "plan": ["plan", MODEL, "--json"],
    "inspect": ["inspect", MODEL, "--check"],
    **{f"quantize {format}": ["quantize", MODEL, "--format", format, "-o", "out" + ending, "--threads", "2", "--no-fsync"]
       for format, ending in [("gguf", ".gguf"), ("onnx", ""), ("openvino", ""), ("mlx", ""), ("litert", ".litertlm")]},
    "quantize torch": ["quantize", MODEL, "--format", "torch", "--group-size", "32", "-o", "out", "--no-fsync"],
    "quantize two": ["quantize", MODEL, "--format", "gguf,mlx", "-o", "out", "--no-fsync"],
    "calibrate": ["quantize", MODEL, "--format", "mlx", "-o", "out", "--calibrate", "{outputs}/text", "--calibration-ctx",
                  "32", "--calibration-tokens", "128", "--no-fsync"],
    "verify": ["verify", "{outputs}/x.gguf", "--against", MODEL],
    "verify folder": ["verify", "{outputs}/onnx", "--against", MODEL],
    "compare": ["compare", "{outputs}/openvino", "{outputs}/mlx"],
    "eval": ["eval", "{outputs}/x.gguf", "--text", "{outputs}/text", "--ctx", "32", "--chunks", "2", "--against", MODEL],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_row_153_an_allocation_that_fails(name, library, outputs, work):
    command = [str(word).replace("{outputs}", str(outputs)) for word in COMMANDS[name]]

    def attempt(**environment):
        return run(command, cwd=work, env={"LD_PRELOAD": library, **environment}, timeout=60)
    code = attempt(PHIQ_COUNT_TO=work / "count").code
    n_calls = int((work / "count").read_text())
    assert code == (2 if name == "usage" else 0) and n_calls > 100
    for path in work.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    chosen = random.Random(name)
    for mode in ({}, {"PHIQ_FAIL_ON": 1}):
        for k in range(N_TRIES):
            at = 1 + int(n_calls * (k + chosen.random()) / N_TRIES)
            done = attempt(PHIQ_FAIL_AT=at, **mode)
            where = f"allocation {at} of {n_calls}, {mode}: exit {done.code}\n{done.err}"
            if done.code == code:  # one that can be done without, or behind the last
                for path in work.iterdir():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                continue
            assert done.code == 7, where
            assert "\n".join(line for line in done.err.splitlines() if "error" in line).count("\n") == 0, where
            assert "error" in done.err, where
            assert snapshot(work) == {}, where
