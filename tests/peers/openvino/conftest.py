"""openvino and openvino-genai run the folders that phiq writes.

`run`, beside this file, starts pytest with the Python that has them. Expected values are Hugging
Face's (tests/data/MODEL/reference) and NNCF's (tests/data/golden/openvino, by tools/goldens).
"""
import importlib.util

import pytest

from program import PHIQ, stop_without_peer


def pytest_configure():
    for module in ("numpy", "openvino", "openvino_genai", "openvino_tokenizers"):
        if importlib.util.find_spec(module) is None:
            stop_without_peer(f"this Python has no {module} (tests/peers/openvino/run chooses one that has)")
    if not PHIQ.is_file():
        pytest.exit(f"{PHIQ} is not built (or set PHIQ)", 1)


@pytest.fixture(scope="session")
def outputs(model, tmp_path_factory):
    from outputs import Outputs
    return Outputs(model, tmp_path_factory.mktemp(model))


@pytest.fixture(scope="session")
def heldout_ids(outputs):
    """The held-out text, without special tokens. The tokenizer is the folder's own; the perplexity of
    the FP32 folder shows that the ids are Hugging Face's."""
    import genai
    from program import HELDOUT
    return genai.Tokenizer(outputs.of("fp32")).encode(HELDOUT.read_text())


@pytest.fixture(scope="session")
def fp32(outputs):
    from runtime import Session
    return Session(outputs.of("fp32"))
