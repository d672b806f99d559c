"""PhiMoE in OpenVINO: every expert for every token, the router in float32."""
import numpy as np
import pytest

from quality import divergence
from runtime import Session

CASES = ["short", "at_limit", "over_limit", "long"]


@pytest.mark.parametrize("build, bound", [("fp32", None), ("int8", 0.0015), ("int4", 0.009)])
def test_logits_are_hugging_faces(outputs, logit_cases, build, bound):
    session = Session(outputs.of(build))
    for case in CASES:
        ids, positions, wanted = logit_cases[case]
        logits = session.logits(ids)[positions]
        if bound is None:
            assert np.abs(logits - wanted).max() < 1e-4, case
        else:
            assert 0 < divergence(wanted, logits).mean() < bound, case
