"""The F32 folder says what Hugging Face says, and mlx-lm measures what quantization costs. The table,
for quoting:
  tests/peers/mlx/run tests/peers/mlx/test_reference.py --model phi35-tiny -s
"""
import json

import numpy as np
import pytest

from program import DATA, HELDOUT, run_phiq
from quality import divergence
from runtime import N_WINDOWS, WINDOW, Session

# MLX sums in another order than torch: 3e-5 was seen, with room for other processors.
BOUND = 2e-4


@pytest.mark.parametrize("case", ["over_limit", "long"])
def test_logits_of_long_texts_are_hugging_faces(fp32, logit_cases, case):
    ids, positions, wanted = logit_cases[case]
    assert len(ids) > 512
    logits = fp32.logits(ids)[positions]
    assert np.abs(logits - wanted).max() < BOUND
    assert divergence(wanted, logits).mean() < 1e-8  # 3e-12 was seen


@pytest.mark.parametrize("case", ["short", "at_limit"])
def test_logits_of_short_texts_are_not(fp32, logit_cases, case):
    """mlx-lm has the long factors only; so the bound above sees which ones a network has."""
    ids, positions, wanted = logit_cases[case]
    assert len(ids) <= 512
    assert np.abs(fp32.logits(ids)[positions] - wanted).max() > 100 * BOUND


# --- what quantization costs -----------------------------------------------------------------

# Largest mean divergence from the F32 folder. mlx-lm's own folders have, over these windows:
# 0.00024, 0.039, 0.043 (phi35-tiny) and 0.00036, 0.057, 0.062 (phi4mini-tiny).
BOUNDS = {
    "phi35-tiny": {"8bit": 0.001, "4bit": 0.045, "nvfp4": 0.055},
    "phi4mini-tiny": {"8bit": 0.001, "4bit": 0.07, "nvfp4": 0.08},
}
BUILDS = list(BOUNDS["phi35-tiny"])


@pytest.mark.parametrize("build", BUILDS)
def test_divergence_is_within_bounds(measure, model, build):
    assert measure(build)["kl"] <= BOUNDS[model][build]


@pytest.mark.parametrize("build", ["8bit", "4bit"])
def test_logits_are_those_of_mlx_lms_own_folder(outputs, heldout_ids, build):
    """The same weights, so the same sums in the same order."""
    ids = heldout_ids[:600]
    assert np.array_equal(Session(outputs.of(build)).logits(ids), Session(outputs.of_mlx_lm(build)).logits(ids))


def evaluate(outputs, model, n_windows):
    """phiq's own figures of the same folders, {build: figures}, and its counts of tokens."""
    done = run_phiq("eval", *map(outputs.of, BUILDS), "--against", DATA / model, "--text", HELDOUT, "--json",
                    "--ctx", WINDOW, "--chunks", n_windows, "--protocol", "all")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["n_scored"] == n_windows * (WINDOW - 1)
    return dict(zip(BUILDS, report["models"])), report["n_tokens"]


def test_eval_finds_what_mlx_finds(outputs, model, measure, reference, heldout_ids):
    ours, n_tokens = evaluate(outputs, model, N_WINDOWS)
    assert n_tokens == reference["heldout_tokens"] == len(heldout_ids)
    for build in BUILDS:
        theirs = measure(build)
        # Two float32 programs on the same weights: 7e-6 and 8e-8 were seen.
        assert ours[build]["kl"]["mean"] == pytest.approx(theirs["kl"], rel=1e-4), build
        assert ours[build]["perplexity"]["value"] == pytest.approx(theirs["perplexity"], rel=5e-6), build
        # A position or two where two tokens are as likely.
        assert ours[build]["same_top"]["value"] == pytest.approx(theirs["same_top"], abs=0.001), build


def test_divergence_is_within_bounds_over_more_windows(outputs, model):
    """By phiq's figures, which the test above holds to MLX's."""
    figures, _ = evaluate(outputs, model, 16)
    for build in BUILDS:
        assert figures[build]["kl"]["mean"] <= BOUNDS[model][build], build
