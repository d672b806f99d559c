"""What plan says that llama.cpp needs beside the file."""
import json
import re

import pytest

import llama
from program import DATA, run_phiq

MIB = 2**20


# The log rounds to hundredths of a MiB.
@pytest.mark.parametrize("ctx", [512, 700, 4096])
def test_plan_says_what_llama_cpp_needs(outputs, model, tmp_path, ctx):
    device = json.loads(run_phiq("plan", DATA / model, "--type", "F16", "--ctx", ctx, "--json").stdout)["device"]
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("Once")
    log = llama.run("completion", "-m", outputs.of_phiq("F16"), "-f", prompt, "-n", 1, "-c", ctx, "-t", 1, "-nr", "-no-cnv", "-lv", 4)
    cache = sum(float(size) for size in re.findall(r"KV buffer size = +([0-9.]+) MiB", log))
    working = sum(float(size) for size in re.findall(r"compute buffer size = +([0-9.]+) MiB", log))
    assert cache == pytest.approx(device["cache_bytes"] / MIB, abs=0.005)
    assert 0 < working <= device["working_bytes"] / MIB
