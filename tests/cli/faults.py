"""Runs the program with faults of the operating system: strace makes calls fail, tmpfs makes disks small."""
import shutil
import subprocess

import pytest

from harness import PHIQ, run

STRACE = shutil.which("strace")
needs_strace = pytest.mark.skipif(STRACE is None, reason="strace is not installed")


def can_mount():
    command = ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /mnt"]
    return shutil.which("unshare") and subprocess.run(command, capture_output=True).returncode == 0


needs_mounts = pytest.mark.skipif(not can_mount(), reason="no mount namespaces here")


def quantize(model, out, *options, type="Q8_0"):
    return ["quantize", model, "-o", out, "--type", type, *options]


def under_strace(log, *inject, trace=None):
    """What goes before the program; `inject` as strace's -e inject=."""
    rules = [part for rule in inject for part in ("-e", f"inject={rule}")]
    names = trace or ",".join(rule.split(":")[0] for rule in inject)
    return [STRACE, "-f", "-qq", "-o", str(log), "-e", f"trace={names}", *rules, str(PHIQ)]


def run_under_strace(args, log, *inject, trace=None, **kwargs):
    command = under_strace(log, *inject, trace=trace)
    return run(command[1:] + [str(a) for a in args], program=command[0], timeout=60, **kwargs)
