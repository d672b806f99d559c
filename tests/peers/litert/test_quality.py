"""What quantization costs: KL divergence from our own float32 file over the first window of 256 held-out
tokens, run token by token. The CPU kernels quantize activations to 8 bits, which is part of it. The
table, for quoting:
  tests/peers/litert/run tests/peers/litert/test_quality.py --model phi35-tiny -s
"""
import os

import pytest

import calibrated
from quality import Quality

# Mean divergences of files that 150 lines of Python made by plain rounding to nearest, with the same
# graph. Ours round against the scale that is stored: within 5 %.
KL = {
    "phi4mini-tiny": {"int8": 0.00106, "int4": 0.0319, "int4-g64": 0.0392, "int4-g128": 0.0466, "int4-row": 0.0592,
                      "int4-all": 0.0545},
    "phi35-tiny": {"int8": 0.00123, "int4": 0.0243},
}
# Bytes of those files, which had two signatures; a further one costs at most 40 KB.
BYTES = {
    "phi4mini-tiny": {"fp32": 14_824_128, "int8": 4_062_400, "int4": 2_443_968, "int4-g128": 2_296_512,
                      "int4-g64": 2_345_664, "int4-row": 2_489_536, "int4-all": 2_156_928},
    "phi35-tiny": {"fp32": 18_028_672, "int8": 4_908_480, "int4": 3_150_784},
}


@pytest.fixture(scope="session")
def quality(fp32, heldout_ids):
    return Quality(heldout_ids, fp32, n_windows=1, window=256)


@pytest.fixture(scope="session")
def measure(outputs, quality, table):
    from runtime import Session

    def measure(build):
        if build not in table:
            file = outputs.model_of(build)
            table[build] = quality.measure(Session(file)), os.path.getsize(file)
        return table[build][0]
    return measure


@pytest.mark.parametrize("build", sorted(KL["phi4mini-tiny"]))
def test_divergence_is_that_of_plain_rounding(measure, model, build):
    if build not in KL[model]:
        pytest.skip("no figure for this checkpoint")
    assert measure(build)["kl"] == pytest.approx(KL[model][build], rel=0.05)


def test_more_bits_and_searched_scales_lose_less(measure):
    kl = {build: measure(build)["kl"] for build in ("int8", "int4-attention8", "int4", "int4-search")}
    assert kl["int8"] < kl["int4-attention8"] < kl["int4"]
    assert kl["int4-search"] < kl["int4"]


@pytest.mark.parametrize("build", sorted(BYTES["phi4mini-tiny"]))
def test_a_further_signature_costs_little(outputs, model, build):
    if build not in BYTES[model]:
        pytest.skip("no figure for this checkpoint")
    n_signatures = 3  # decode, prefill of 16 and 128
    most = BYTES[model][build] + (n_signatures - 2) * 40_000
    assert os.path.getsize(outputs.model_of(build)) < most


def test_types_chosen_for_a_size_serve(quality, model, tmp_path):
    from runtime import Session
    calibrated.assert_between_its_types(model, tmp_path, ("--format", "litert", "--max-length", 512), (("--type", "int4"), ("--type", "int8")),
                                        lambda file: quality.measure(Session(file))["kl"], suffix=".tflite")
