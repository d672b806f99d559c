"""Opens the report pages in headless Chromium.

Without chromium (tools/setup test installs it) the suite is skipped, or fails where
PHIQ_REQUIRE_PEERS=1 demands it.
"""
import os
import pathlib
import subprocess

import pytest

import chromium


def pytest_configure():
    if chromium.PROGRAM is None:
        reason = "no chromium (tools/setup test installs it)"
        if os.environ.get("PHIQ_REQUIRE_PEERS", "") in ("", "0"):
            pytest.exit(f"SKIPPED: {reason}", 77)
        pytest.exit(reason, 1)


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """A folder of pages that were made from invented numbers (tests/tools/write_sample_pages.cpp)."""
    folder = tmp_path_factory.mktemp("pages")
    program = os.environ.get("PHIQ_WRITE_SAMPLE_PAGES") or (
        pathlib.Path(__file__).resolve().parents[2] / "build/dev/tests/tools/phiq_write_sample_pages")
    subprocess.run([program, folder], check=True)
    return folder


@pytest.fixture(scope="session")
def browser():
    browser = chromium.Browser()
    yield browser
    browser.close()
