"""What the suites of all peers share. `--model` names the checkpoint of tests/data to run on."""
import json

import pytest

import program


def pytest_addoption(parser):
    parser.addoption("--model", choices=program.MODELS, default=program.MODELS[0])


@pytest.fixture(scope="session")
def model(request):
    return request.config.getoption("--model")


@pytest.fixture(scope="session")
def reference(model):
    """Hugging Face's figures for this checkpoint."""
    return json.loads((program.DATA / model / "reference" / "reference.json").read_text())


@pytest.fixture(scope="session")
def logit_cases(model):
    """Hugging Face's logits: {case: (ids, positions, logits at these positions)}."""
    import safetensors_file
    tensors = safetensors_file.read(program.DATA / model / "reference" / "logits.safetensors")
    return {name: tuple(tensors[f"{name}.{part}"] for part in ("ids", "positions", "logits"))
            for name in ("short", "at_limit", "over_limit", "long")}
