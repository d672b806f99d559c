"""Runs that are killed, refused something by the operating system, or lose power (docs/reliability.md), in every format, in
several at once and in parts: a choice of each. PHIQ_SLOW=1: every call; tools/torture: random kills and more states."""
import errno
import os
import random
import shutil

import pytest

from harness import SANITIZED
from torture import CASES, CHANGES, ERRORS, SEVERAL, WAYS, Torture, build_library

pytestmark = pytest.mark.skipif(SANITIZED or shutil.which("cc") is None,
                                reason="needs a C compiler, and a program without sanitizers")
SLOW = bool(os.environ.get("PHIQ_SLOW"))


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build_library(tmp_path_factory.mktemp("io"))


PAIRS = [(case, way) for case in CASES for way in WAYS
         if SLOW or way == "force" or (case, way) in [("gguf", "new"), ("mlx", "resume"), (SEVERAL, "new")]]


@pytest.fixture(scope="module", params=PAIRS, ids=lambda pair: "-".join(pair).replace(" ", "_"))
def one(request, library, tmp_path_factory):
    return Torture(tmp_path_factory.mktemp("torture"), library, *request.param)


def chosen(calls, names, most):
    """(number, name) of calls of these names; the commit's last rename is among them."""
    places = [(k, name) for k, name in enumerate(calls, 1) if name in names]
    if SLOW or len(places) <= most:
        return places
    last = max(place for place in places if place[1].startswith("rename"))
    return sorted({last, *random.Random(len(calls)).sample(places, most)})


def test_row_160_killed_at_a_call(one):
    wrong = []
    for k, name in chosen(one.calls(), CHANGES | {"unlinkat", "close"}, 1):
        wrong += one.kill_at(k, name)
    assert wrong == []


def test_row_125_126_129_130_131_149_a_call_that_fails(one):
    wrong = []
    choice = random.Random(str(one.new))
    for k, name in chosen(one.calls(), ERRORS, 3):
        for fault in ERRORS[name] if SLOW else choice.sample(ERRORS[name], 1):
            wrong += one.fail_at(k, name, fault)
    assert wrong == []


def test_row_162_power_is_lost(one):
    n_states, n_next, wrong = one.lose_power(10000 if SLOW else 60, 1000 if SLOW else 1)
    assert n_states >= 20 and n_next >= 1
    assert wrong == []


def test_without_fsync_the_replay_finds_what_is_lost(library, work):
    *_, wrong = Torture(work, library, "gguf", "new", ["--no-fsync"]).lose_power(100, 0)
    assert any("holds neither the old nor the new" in line for line in wrong)
    assert any("power lost after exit 0" in line for line in wrong)


@pytest.fixture
def replaced(library, work):
    return Torture(work, library, "mlx", "force")


def test_what_the_system_does_not_say_is_not_taken_for_missing(replaced):
    """Of a side file it would be left out, without a word."""
    places = [k for k, name in enumerate(replaced.calls(), 1) if name == "lstat"]
    assert len(places) > 10
    wrong = []
    for k in places:
        wrong += replaced.fail_at(k, "lstat", errno.EIO)
    assert wrong == []


def test_what_was_replaced_and_cannot_be_removed_is_removed_by_the_next_run(replaced):
    calls = replaced.calls()
    behind = len(calls) - calls[::-1].index("renameat2")
    wrong, n_tried = [], 0
    for k, name in enumerate(calls[behind:], behind + 1):
        if name in ("unlinkat", "openat"):
            wrong += replaced.fail_at(k, name, errno.EIO) + replaced.fail_from(k, name, errno.EIO)
            n_tried += 1
    assert n_tried > 5
    assert wrong == []
