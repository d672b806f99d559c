"""LiteRT's interpreter and the LiteRT-LM engine run the files that phiq writes.

`run`, beside this file, starts pytest with the Python that has them. Expected values are Hugging
Face's (tests/data/MODEL/reference).
"""
import os

import pytest

from program import require

SLOW = os.environ.get("PHIQ_SLOW", "") not in ("", "0")


def pytest_configure(config):
    require("litert", "numpy", "ai_edge_litert", "litert_lm")
    config.addinivalue_line("markers", "slow: takes minutes; PHIQ_SLOW=1 runs it")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("slow") and not SLOW:
            item.add_marker(pytest.mark.skip(reason="takes minutes: PHIQ_SLOW=1 runs it"))


@pytest.fixture(scope="session")
def engine(outputs):
    """The engine with the float32 bundle whose cache is within the original context."""
    from engine import Engine
    return Engine(outputs.of("fp32"))


@pytest.fixture(scope="session")
def heldout_ids(engine):
    """The first held-out tokens, without special ones."""
    from program import HELDOUT
    return engine.encode(HELDOUT.read_text()[:4000])


@pytest.fixture(scope="session")
def fp32(outputs):
    from runtime import Session
    return Session(outputs.model_of("fp32"))
