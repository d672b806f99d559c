"""What the suites of all peers share. `--model` names the checkpoint of tests/data to run on."""
import json

import pytest

import program


def pytest_addoption(parser):
    parser.addoption("--model", choices=program.MODELS, default=program.MODELS[0])


def pytest_ignore_collect(collection_path, config):
    """PhiMoE has a file of its own in each suite, and no other."""
    if not collection_path.name.startswith("test_"):
        return None
    is_its_own = collection_path.name == "test_phimoe.py"
    return True if is_its_own != (config.getoption("--model") == "phimoe-tiny") else None


@pytest.fixture(scope="session")
def model(request):
    return request.config.getoption("--model")


@pytest.fixture(scope="session")
def outputs(model, tmp_path_factory):
    """What phiq writes for the checkpoint: each suite has its own outputs.py."""
    from outputs import Outputs
    return Outputs(model, tmp_path_factory.mktemp(model))


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


# --- what quantization costs: suites with a runtime.py whose Session computes logits ----------

@pytest.fixture(scope="session")
def quality(fp32, heldout_ids):
    from quality import Quality
    return Quality(heldout_ids, fp32)


@pytest.fixture(scope="session")
def table(model):
    """Collects the rows and prints them at the end (-s shows it)."""
    from outputs import Outputs
    rows = {}
    yield rows
    print(f"\n\n{model:24} mean KL   same top  perplexity  {Outputs.WEIGHTS}")
    for name, (figures, size) in rows.items():
        print(f"{name:24} {figures['kl']:.6f}  {figures['same_top']:.4f}    {figures['perplexity']:.4f}     {size:>11,}")


@pytest.fixture(scope="session")
def measure(outputs, quality, table):
    from runtime import Session

    def measure(name, *build, **arguments):
        """`build` is what Outputs.of takes, by default the name; `arguments` are Quality.measure's.
        Tests that ask for one name get one measurement."""
        if name not in table:
            folder = outputs.of(*(build or [name]))
            figures = quality.measure(Session(folder), **arguments)
            table[name] = figures, (folder / outputs.WEIGHTS).stat().st_size
        return table[name][0]
    return measure
