"""What every test of the program gets: a folder per test and a folder for the checkpoint in it."""
import pytest

import harness


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than a few seconds")


@pytest.fixture(scope="session", autouse=True)
def program():
    assert harness.PHIQ.is_file(), f"{harness.PHIQ} is not built (or set PHIQ)"
    return harness.PHIQ


@pytest.fixture
def work(tmp_path):
    """An empty folder to run in; outputs go here."""
    return tmp_path


@pytest.fixture
def folder(tmp_path):
    """Where a test makes its checkpoint: beside the outputs, not among them."""
    path = tmp_path / "model"
    path.mkdir()
    return path
