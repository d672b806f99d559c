"""What the machine around phiq does changes neither bytes nor promises: short and interrupted reads and writes, read
errors, little stack, other file systems, memory that holds rubbish, a stop and go, no environment.

The numbers in the names are rows of the project's fault table (docs/reliability.md)."""
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

import harness
from faults import needs_strace, run_under_strace
from harness import DATA, PHIQ, SANITIZED, SOURCE, refused, run, temporaries
from torture import build_library

MODEL = SOURCE / "tests" / "fuzz" / "seeds" / "model"


def arguments(out, *options):
    return ["quantize", MODEL, "--type", "Q8_0", "-o", out, *options]


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    """The bytes of an undisturbed run."""
    out = tmp_path_factory.mktemp("wanted") / "out.gguf"
    run(arguments(out)).ok()
    return out.read_bytes()


@pytest.fixture(scope="module")
def short_io(tmp_path_factory):
    if SANITIZED or shutil.which("cc") is None:
        pytest.skip("needs a C compiler, and a program without sanitizers")
    return build_library(tmp_path_factory.mktemp("io"))


@pytest.mark.parametrize("n_bytes", [1, 100])
def test_row_127_128_150_short_and_interrupted_reads_and_writes(n_bytes, short_io, wanted, work):
    environment = {"LD_PRELOAD": short_io, "PHIQ_IO_BYTES": n_bytes}
    run(arguments(work / "out.gguf"), env=environment, timeout=120).ok()
    assert (work / "out.gguf").read_bytes() == wanted
    run(["verify", work / "out.gguf", "--against", MODEL], env=environment, timeout=120).ok()


@needs_strace
def test_row_149_a_read_error_at_any_read(wanted, work):
    # Threads count their own calls: with one, the k-th of the main one and of the worker.
    n_failed = 0
    for k in range(1, 1000):
        result = run_under_strace(arguments(work / "out.gguf", "--threads", "1"), work.parent / "log",
                                  f"pread64:error=EIO:when={k}")
        if result.code == 0:
            break
        if result.code == 127:  # the loader's own reads: phiq was not started
            continue
        refused(result, 4, "read error: Input/output error", "at byte", folder=work, seconds=60)
        assert list(work.iterdir()) == []
        n_failed += 1
    assert n_failed >= 5
    assert (work / "out.gguf").read_bytes() == wanted


@pytest.mark.skipif(not pathlib.Path("/dev/shm").is_dir(), reason="no file system in memory")
def test_row_140_another_file_system(wanted):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        run(arguments(pathlib.Path(folder) / "out.gguf"), env={"TMPDIR": "/no/such/folder"}).ok()
        assert (pathlib.Path(folder) / "out.gguf").read_bytes() == wanted
        assert os.listdir(folder) == ["out.gguf"]


@pytest.mark.parametrize("format", ["gguf", "onnx", "openvino", "mlx", "litert"])
def test_row_144_no_byte_is_what_memory_held_before(format, work):
    made = {}
    for fill in ("0", "165", "90"):
        out = work / f"{fill}"
        run(["quantize", MODEL, "--format", format, "-o", out], env={"MALLOC_PERTURB_": fill}).ok()
        made[fill] = {path.name if out.is_dir() else "": path.read_bytes() for path in (out.iterdir() if out.is_dir() else [out])}
    assert made["0"] == made["165"] == made["90"]


@pytest.mark.skipif(SANITIZED, reason="sanitizers take much stack")
def test_row_156_a_small_stack(wanted, work):
    small = harness.limit(resource.RLIMIT_STACK, 256 << 10)
    run(arguments(work / "out.gguf"), preexec=small).ok()
    assert (work / "out.gguf").read_bytes() == wanted
    nested = work / "nested"
    nested.mkdir()
    (nested / "config.json").write_text("[" * 1_000_000)
    shutil.copy(MODEL / "model.safetensors", nested)
    refused(run(["plan", nested], preexec=small), 3, "config.json", "nested", folder=nested, before=harness.snapshot(nested),
            input_size=1_000_000)


def test_row_161_stopped_and_going_on(work):
    large = harness.tiny(work / "large", layers=4, intermediate=2048)
    command = [str(PHIQ), "quantize", str(large), "-o", str(work / "out.gguf"), "--threads", "1"]
    process = subprocess.Popen(command, env=harness.clean_env(), stdout=subprocess.DEVNULL)
    while not temporaries(work) and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.5)
    process.send_signal(signal.SIGCONT)
    assert process.wait(timeout=120) == 0
    run(["verify", work / "out.gguf", "--against", large]).ok()


def test_row_183_no_environment_and_no_working_folder(wanted, work):
    gone = work / "gone"
    gone.mkdir()
    script = f'cd "{gone}" && rmdir "{gone}" && exec env -i "$@"'
    run(["-c", script, "sh", PHIQ, *arguments(work / "out.gguf")], program="/bin/sh").ok()
    assert (work / "out.gguf").read_bytes() == wanted


@pytest.mark.parametrize("mebibytes", [16, 32, 64, 128, 256, 512])
@pytest.mark.skipif(SANITIZED, reason="sanitizers reserve terabytes")
def test_row_154_a_ladder_of_address_space(mebibytes, wanted, work):
    result = run(arguments(work / "out.gguf"), preexec=harness.limit(resource.RLIMIT_AS, mebibytes << 20))
    if result.code == 0:
        assert (work / "out.gguf").read_bytes() == wanted
    elif result.code != 127:  # the libraries did not fit: phiq was never started
        refused(result, 7, folder=work)
        assert list(work.iterdir()) == []
    assert mebibytes < 512 or result.code == 0
