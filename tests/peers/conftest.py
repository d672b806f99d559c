"""llama.cpp's own programs run the files that phiq writes.

Without llama.cpp (tools/setup test builds it) the suite is skipped, or fails where
PHIQ_REQUIRE_PEERS=1 demands it. `--model` names the checkpoint of tests/data to run on.
"""
import json
import os

import pytest

import llama
from outputs import DATA, PHIQ, Outputs

MODELS = ("phi35-tiny", "phi4mini-tiny")


def pytest_addoption(parser):
    parser.addoption("--model", choices=MODELS, default=MODELS[0])


def pytest_configure(config):
    if not llama.is_complete():
        required = os.environ.get("PHIQ_REQUIRE_PEERS", "") not in ("", "0")
        pytest.exit(f"no llama.cpp in {llama.FOLDER} (tools/setup test builds it)", 1 if required else 77)
    if not PHIQ.is_file():
        pytest.exit(f"{PHIQ} is not built (or set PHIQ)", 1)


@pytest.fixture(scope="session")
def model(request):
    return request.config.getoption("--model")


@pytest.fixture(scope="session")
def reference(model):
    """Hugging Face's figures for this checkpoint."""
    return json.loads((DATA / model / "reference" / "reference.json").read_text())


@pytest.fixture(scope="session")
def outputs(model, tmp_path_factory):
    return Outputs(model, tmp_path_factory.mktemp(model))
