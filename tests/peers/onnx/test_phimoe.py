"""PhiMoE in onnxruntime's CPU provider: sparsemixer in plain operators around its own of experts."""
import numpy as np
import pytest

import genai
from quality import divergence
from runtime import Session
from test_runtimes import logits_in

CASES = ["short", "at_limit", "over_limit", "long"]


@pytest.fixture(scope="session")
def folders(outputs):
    sessions = {}

    def folder(name):
        if name not in sessions:
            sessions[name] = Session(outputs.of("--type", name))
        return sessions[name]
    return folder


@pytest.mark.parametrize("case", CASES)
def test_fp32_logits_are_hugging_faces(folders, logit_cases, case):
    ids, positions, wanted = logit_cases[case]
    assert np.abs(folders("fp32").logits(ids)[positions] - wanted).max() < 1e-4  # 2e-5 was seen


# A near tie that goes the other way moves a logit by 2; what counts is how rare that is. Bounds are
# half again what onnxruntime-genai's own grid costs with the router in float32.
@pytest.mark.parametrize("name, bound", [("int8", 0.0015), ("int4", 0.009)])
def test_codes_cost_as_little_as_they_can(folders, logit_cases, name, bound):
    costs = {}
    for case in CASES:
        ids, positions, wanted = logit_cases[case]
        costs[case] = divergence(wanted, folders(name).logits(ids)[positions]).mean()
    assert max(costs.values()) < bound, costs
    assert min(costs.values()) > 0


def test_an_older_onnxruntime_computes_the_same(outputs, folders, logit_cases, tmp_path):
    ids, _, _ = logit_cases["over_limit"]
    for name in ("fp32", "int4"):
        theirs = logits_in("1.24.1", outputs.of("--type", name), ids, tmp_path)
        # By the order of sums; int4 has int8 activations in its other products, where a last bit counts.
        assert divergence(folders(name).logits(ids), theirs).mean() < (1e-9 if name == "fp32" else 1e-3), name


def test_genai_generates_the_reference_texts(outputs, reference):
    for name, least_margin in (("fp32", 0), ("int8", 0.1)):
        model = genai.Model(outputs.of("--type", name))
        for greedy in reference["greedy"]:
            if greedy["smallest_margin"] < least_margin:
                continue
            assert model.complete(greedy["prompt_ids"], len(greedy["ids"])) == greedy["ids"], (name, greedy["prompt"])
