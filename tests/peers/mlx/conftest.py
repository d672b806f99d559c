"""mlx-lm runs the folders that phiq writes, and writes its own of the same checkpoints.

`run`, beside this file, starts pytest with the Python that has it. Expected values are those of
mx.quantize and mlx_lm.convert in the same run, and Hugging Face's (tests/data/MODEL/reference).
"""
import pytest

from program import require


def pytest_configure():
    require("mlx", "numpy", "mlx", "mlx_lm")


@pytest.fixture(scope="session")
def heldout_ids(model):
    """The held-out text, without special tokens, by the checkpoint's tokenizer in transformers."""
    import transformers
    from program import DATA, HELDOUT
    tokenizer = transformers.AutoTokenizer.from_pretrained(DATA / model)
    return tokenizer.encode(HELDOUT.read_text(), add_special_tokens=False)


@pytest.fixture(scope="session")
def fp32(outputs):
    from runtime import Session
    return Session(outputs.of("F32"))


@pytest.fixture(scope="session")
def checkpoints(model, tmp_path_factory):
    from outputs import Checkpoints
    return Checkpoints(model, tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="session")
def quality(fp32, heldout_ids):
    from quality import Quality
    from runtime import N_WINDOWS, WINDOW
    return Quality(heldout_ids, fp32, N_WINDOWS, WINDOW)
