"""llama.cpp's own programs run the files that phiq writes.

Without llama.cpp (tools/setup test builds it) the suite is skipped, or fails where
PHIQ_REQUIRE_PEERS=1 demands it.
"""
import pytest

import llama
from program import PHIQ, stop_without_peer


def pytest_configure():
    if not llama.is_complete():
        stop_without_peer(f"no llama.cpp in {llama.FOLDER} (tools/setup test builds it)")
    if not PHIQ.is_file():
        pytest.exit(f"{PHIQ} is not built (or set PHIQ)", 1)
