"""openvino and openvino-genai run the folders that phiq writes.

`run`, beside this file, starts pytest with the Python that has them. Expected values are Hugging
Face's (tests/data/MODEL/reference) and NNCF's (tests/data/golden/openvino, by tools/goldens).
"""
import pytest

from program import require


def pytest_configure():
    require("openvino", "numpy", "openvino", "openvino_genai", "openvino_tokenizers")


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
