"""The program under test and the data that all peers' suites run it on."""
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess

SOURCE = pathlib.Path(__file__).resolve().parents[2]
PHIQ = pathlib.Path(os.environ.get("PHIQ", SOURCE / "build" / "dev" / "phiq")).resolve()
DATA = SOURCE / "tests" / "data"
HELDOUT = DATA / "heldout.txt"
MODELS = ("phi35-tiny", "phi4mini-tiny", "phimoe-tiny")
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "phiq"


def stop_without_peer(reason):
    """Skips the suite (ctest knows it by the 77), or fails it where that is demanded."""
    import pytest  # tools/goldens, which uses this file too, has none
    if os.environ.get("PHIQ_REQUIRE_PEERS", "") in ("", "0"):
        pytest.exit(f"SKIPPED: {reason}", 77)
    pytest.exit(reason, 1)


def require(suite, *modules):
    """For pytest_configure: stops when this Python has not what the suite runs folders in, or when
    there is no program."""
    import pytest
    for module in modules:
        if importlib.util.find_spec(module) is None:
            stop_without_peer(f"this Python has no {module} (tests/peers/{suite}/run chooses one that has)")
    if not PHIQ.is_file():
        pytest.exit(f"{PHIQ} is not built (or set PHIQ)", 1)


def config_of(model):
    return json.loads((DATA / model / "config.json").read_text())


def copy_checkpoint(model, copy, config):
    """A copy of a checkpoint of tests/data with this config.json."""
    shutil.copytree(DATA / model, copy, ignore=shutil.ignore_patterns("reference"))
    (copy / "config.json").write_text(json.dumps(config))
    return copy


def run_phiq(*arguments):
    return subprocess.run([PHIQ, *map(str, arguments)], capture_output=True, text=True)


def quantize(checkpoint, out, *options):
    """Quantizes a checkpoint into `out` and returns it."""
    done = run_phiq("quantize", checkpoint, "-o", out, "--no-fsync", *options)
    assert done.returncode == 0, done.stderr
    return out
