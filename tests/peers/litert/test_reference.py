"""Files of floats say what Hugging Face says, token by token and after every prefill, and the engine
writes its texts.

LiteRT sums in another order than torch, and float32 holds the tiny checkpoints' bfloat16 weights
exactly: the largest difference in these cases is 6e-5.
"""
import numpy as np
import pytest

from engine import Engine
from quality import divergence
from runtime import Session

BOUND = 1e-4
# The file whose factors a text of that length asks for.
CASES = {"short": "fp32", "at_limit": "fp32", "over_limit": "fp32-long", "long": "fp32-long"}


@pytest.mark.parametrize("case", CASES)
def test_logits_are_hugging_faces(outputs, logit_cases, case):
    ids, positions, wanted = logit_cases[case]
    logits = Session(outputs.model_of(CASES[case])).logits(ids.tolist(), positions)
    assert np.abs(logits - wanted).max() < BOUND
    assert divergence(wanted, logits).mean() < 1e-8


def test_the_other_rotary_factors_do_not_pass(outputs, logit_cases):
    """The plan says so: a file of long factors differs on short texts. And the bound above sees it."""
    ids, positions, wanted = logit_cases["short"]
    logits = Session(outputs.model_of("fp32-long")).logits(ids.tolist(), positions)
    assert np.abs(logits - wanted).max() > 100 * BOUND


def test_prefills_leave_what_single_steps_do(outputs, heldout_ids):
    """Each prefill that the file has, on top of the larger ones."""
    for build, lengths in ("fp32", [16, 128]), ("fp32-long", [16, 128, 1024]):
        session = Session(outputs.model_of(build))
        assert session.prefill_lengths == lengths
        ids = heldout_ids[:128 + 2 * 16 + 5]
        caches, n = session.prefill(ids)
        assert n == 128 + 2 * 16
        last = session.logits(ids, first=n, caches=caches)[-1]
        assert np.abs(last - session.logits(ids)[-1]).max() < BOUND, build


@pytest.mark.slow
def test_the_longest_prefill_leaves_what_single_steps_do(outputs, heldout_ids):
    session = Session(outputs.model_of("fp32-long"))
    ids = heldout_ids[:1024]
    caches, n = session.prefill(ids)
    assert n == 1024
    single = session.empty
    for i, token in enumerate(ids):
        single = session.step("decode", [token], i, single)
        single.pop("logits")
    for name, cache in caches.items():
        assert np.abs(cache - single[name]).max() < BOUND, name


# --- the engine ------------------------------------------------------------------------------

def test_the_engine_encodes_as_hugging_face(engine, reference):
    for case in reference["tokenization"]:
        if case["text"] and "\0" not in case["text"]:  # the interface takes C strings
            assert engine.encode(case["text"]) == case["ids"], case["text"]


def test_the_engine_writes_hugging_faces_text(engine, outputs, reference):
    """A prompt longer than the original context asks for the file of long factors."""
    longest = max(reference["greedy"], key=lambda case: len(case["prompt_ids"]))
    assert len(longest["prompt_ids"]) > 512
    for case in reference["greedy"]:
        runs = Engine(outputs.of("fp32-long")) if case is longest else engine
        assert runs.complete(case["prompt"], len(case["ids"])) == case["text"], case["prompt"][:60]
