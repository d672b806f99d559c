"""transformers runs the folders that phiq writes, and compressed-tensors quantizes the same weights.

`run`, beside this file, starts pytest with the Python that has them. Expected values are those of
transformers on weights that are decoded here by the rules of the formats (boxes.py), and of
compressed-tensors' own functions in the same run.
"""
import pytest

from program import require


def pytest_configure():
    require("torch", "torch", "transformers", "compressed_tensors")


@pytest.fixture(scope="session")
def ids(reference):
    """600 tokens: longer than the original context, so that the long factors count too."""
    return reference["greedy"][-1]["prompt_ids"]


@pytest.fixture(scope="session")
def source(model):
    """The checkpoint's tensors."""
    import safetensors.torch
    from program import DATA
    return safetensors.torch.load_file(DATA / model / "model.safetensors")


@pytest.fixture(scope="session")
def plain(model):
    """The checkpoint in float32, to be given other weights."""
    from program import DATA
    from runtime import load
    return load(DATA / model)
