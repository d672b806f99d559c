"""onnxruntime and onnxruntime-genai run the folders that phiq writes; the builder says what is in them.

`run`, beside this file, starts pytest with the Python that has them. Expected values are Hugging
Face's (tests/data/MODEL/reference) and the builder's (tests/data/golden/onnx, by tools/goldens).
"""
import pytest

from program import config_of, require


def pytest_configure():
    require("onnx", "numpy", "onnx", "onnxruntime", "onnxruntime_genai")


@pytest.fixture(scope="session")
def tied(model):
    return config_of(model)["tie_word_embeddings"]


@pytest.fixture(scope="session")
def heldout_ids(outputs):
    """The held-out text, without special tokens. The tokenizer is onnxruntime-genai's; the
    perplexity of the FP32 folder shows that the ids are Hugging Face's."""
    import genai
    from program import HELDOUT
    return genai.Tokenizer(outputs.of("--type", "fp32")).encode(HELDOUT.read_text())


@pytest.fixture(scope="session")
def fp32(outputs):
    from runtime import Session
    return Session(outputs.of("--type", "fp32"))


@pytest.fixture(scope="session")
def fp16(outputs):
    from runtime import Session
    return Session(outputs.of("--type", "fp16"))
