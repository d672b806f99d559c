"""Faults of the operating system while phiq writes, kills, and runs that meet (docs/reliability.md).

The numbers in the names are rows of the project's fault table.
"""
import concurrent.futures
import contextlib
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

import harness
from faults import needs_mounts, needs_strace, quantize, run_under_strace, under_strace
from harness import PHIQ, error_line, refused, run, snapshot, temporaries, tiny

@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("faults") / "model")


@pytest.fixture(scope="module")
def wanted(model):
    """The bytes of an undisturbed run."""
    out = model.parent / "wanted.gguf"
    run(quantize(model, out)).ok()
    return out.read_bytes()


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory):
    """Large enough for a Q4_K conversion to be hit in its middle."""
    return tiny(tmp_path_factory.mktemp("slow") / "model", layers=6, intermediate=2048)


def run_in_shell(script, args, **kwargs):
    """Runs sh -c SCRIPT, in which "$@" is the program with its arguments."""
    return run(["-c", script, "sh", str(PHIQ), *args], program="/bin/sh", **kwargs)


# --- disks ------------------------------------------------------------------------------------

@needs_mounts
def test_row_124_too_little_space_is_known_at_the_start(model, work):
    disk = work / "disk"
    disk.mkdir()
    script = f'mount -t tmpfs -o size=1m tmpfs "{disk}" && "$@"; code=$?; ls -A "{disk}"; exit $code'
    result = run(["-m", "sh", "-c", script, "sh", str(PHIQ), *quantize(model, disk / "out.gguf")],
                 program=shutil.which("unshare"))
    line = refused(result, 5, "out.gguf", "needs", "free", folder=work)  # no stdout: the disk is empty
    needed, free = (int(n) for n in re.findall(r"\((\d+) bytes\)", line))
    assert needed > free and 0 < free <= 1 << 20


def test_row_124_the_size_that_is_needed_is_exact(model, wanted, work):
    # A file size limit one byte short fails, the exact size passes.
    for limit, code in ((len(wanted) - 1, 5), (len(wanted), 0)):
        result = run(quantize(model, work / "out.gguf"),
                     preexec=harness.limit(resource.RLIMIT_FSIZE, limit))
        assert result.code == code, result.err
    assert (work / "out.gguf").read_bytes() == wanted


@needs_strace
def test_row_125_disk_full_at_every_write(model, wanted, work):
    out = work / "out.gguf"
    for k in range(1, 1000):
        result = run_under_strace(quantize(model, out, "--threads", "1"), work / "log",
                                  f"pwrite64:error=ENOSPC:when={k}")
        if result.code == 0:
            break
        refused(result, 5, "out.gguf", "write error: No space left on device", folder=work, seconds=60)
        assert not out.exists(), f"write {k}"
    assert k > 3, "the fault was hardly ever injected"
    assert out.read_bytes() == wanted


@needs_mounts
def test_row_125_disk_full_on_a_small_disk(model, work):
    disk = work / "disk"
    disk.mkdir()
    script = f'mount -t tmpfs -o size=1m tmpfs "{disk}" && "$@"; code=$?; ls -A "{disk}"; exit $code'
    args = quantize(model, disk / "out.gguf", "--no-space-check")
    result = run(["-m", "sh", "-c", script, "sh", str(PHIQ), *args], program=shutil.which("unshare"))
    refused(result, 5, "out.gguf", "No space left on device")


@needs_strace
@pytest.mark.parametrize("error, text", [("EDQUOT", "Disk quota exceeded"),
                                         ("EFBIG", "File too large"),
                                         ("EIO", "Input/output error")])
def test_row_126_other_write_errors(model, work, error, text):
    result = run_under_strace(quantize(model, work / "out.gguf"), work / "log",
                              f"pwrite64:error={error}:when=2")
    refused(result, 5, "out.gguf", "write error: " + text, folder=work, seconds=60)
    assert not (work / "out.gguf").exists()


def test_row_126_file_size_limit_is_an_error_and_not_a_death(model, work):
    result = run(quantize(model, work / "out.gguf"),
                 preexec=harness.limit(resource.RLIMIT_FSIZE, 100 * 512))
    refused(result, 5, "out.gguf", "File too large", folder=work)
    assert not (work / "out.gguf").exists()


@needs_strace
def test_row_129_a_failed_fsync_is_not_tried_again(model, work):
    log = work / "log"
    result = run_under_strace(quantize(model, work / "out.gguf"), log, "fsync:error=EIO:when=1")
    refused(result, 5, "out.gguf", "fsync failed: Input/output error", folder=work, seconds=60)
    assert log.read_text().count("fsync(") == 1
    assert not (work / "out.gguf").exists()


@needs_strace
@pytest.mark.parametrize("error, text", [("EIO", "Input/output error"),
                                         ("ENOSPC", "No space left on device")])
def test_row_130_a_failed_close_is_noticed(model, work, error, text):
    # Only the temporary's descriptor gets its mode set; the close after that is the one that counts.
    log = work / "log"
    run_under_strace(quantize(model, work / "probe.gguf", "--threads", "1"), log,
                     trace="close,fchmod").ok()
    calls = [line.split(maxsplit=1) for line in log.read_text().splitlines()]
    main = calls[0][0]
    names = [call.split("(")[0] for pid, call in calls if pid == main]
    when = names[:names.index("fchmod")].count("close") + 1
    result = run_under_strace(quantize(model, work / "out.gguf", "--threads", "1"), log,
                              f"close:error={error}:when={when}")
    refused(result, 5, "out.gguf", "close failed: " + text, folder=work, seconds=60)
    assert not (work / "out.gguf").exists()


@needs_strace
@pytest.mark.parametrize("error, text", [("EXDEV", "Invalid cross-device link"),
                                         ("EACCES", "Permission denied"),
                                         ("ENOSPC", "No space left on device")])
@pytest.mark.parametrize("force", [False, True])
def test_row_131_a_failed_rename_leaves_the_old_state(model, work, error, text, force):
    out = work / "out.gguf"
    if force:
        out.write_text("old")
    result = run_under_strace(quantize(model, out, *["--force"] * force), work / "log",
                              f"rename,renameat,renameat2:error={error}",
                              trace="rename,renameat,renameat2")
    refused(result, 5, "out.gguf", "rename failed: " + text, folder=work, seconds=60)
    assert out.read_text() == "old" if force else not out.exists()


@needs_strace
def test_row_132_a_failed_fsync_of_the_folder_is_told(model, wanted, work):
    result = run_under_strace(quantize(model, work / "out.gguf"), work / "log",
                              "fsync:error=EIO:when=2")
    refused(result, 5, "out.gguf", "renamed but not known durable", folder=work, seconds=60)
    assert (work / "out.gguf").read_bytes() == wanted


@needs_strace
@pytest.mark.parametrize("rule", ["fallocate:error=EOPNOTSUPP", "fallocate:error=ENOSYS",
                                  "flock:error=ENOLCK", "flock:error=EOPNOTSUPP",
                                  "getrandom:error=ENOSYS", "renameat2:error=EINVAL",
                                  "renameat2:error=ENOSYS"])
def test_row_133_what_a_file_system_lacks_is_done_without(model, wanted, work, rule):
    run_under_strace(quantize(model, work / "out.gguf"), work / "log", rule).ok()
    assert (work / "out.gguf").read_bytes() == wanted
    assert temporaries(work) == []
    if rule.startswith("renameat2"):  # what replaces it does not replace files either
        refused(run_under_strace(quantize(model, work / "out.gguf"), work / "log", rule), 5, "exists",
                seconds=60)


# --- standard streams ---------------------------------------------------------------------------

@pytest.mark.parametrize("args", [["--help"], ["--version"], ["inspect"], ["quantize", "--type", "Q8_0", "-o", "-"]])
def test_row_134_standard_output_is_full(model, args):
    if args[0] in ("inspect", "quantize"):
        args = [args[0], model, *args[1:]]
    refused(run_in_shell('"$@" > /dev/full', args), 5, "write error", "No space left on device")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_row_135_closed_streams_are_not_taken_for_files(model, wanted, work, closed):
    result = run_in_shell(f'"$@" {closed}', quantize(model, work / "out.gguf"))
    assert result.code == 0, result.err
    assert (work / "out.gguf").read_bytes() == wanted
    assert [p.name for p in work.iterdir()] == ["out.gguf"]


@pytest.mark.parametrize("args", [["quantize", "MODEL", "--type", "Q8_0", "-o", "-"],
                                  ["quantize", "MODEL", "--type", "Q8_0", "-o", "OUT", "--json"],
                                  ["plan", "MODEL", "--json"], ["inspect", "MODEL", "--json"], ["inspect", "MODEL"],
                                  ["compare", "MODEL", "MODEL", "--json"], ["profiles"], ["--version"]])
def test_what_was_asked_of_a_closed_standard_output_is_missed(model, work, args):
    args = [{"MODEL": model, "OUT": work / "out.gguf"}.get(arg, arg) for arg in args]
    result = run_in_shell('"$@" >&-', args)
    assert result.code == 5, result.err
    assert "standard output" in result.err and "Bad file descriptor" in result.err


@contextlib.contextmanager
def broken_pipe():
    """The writing end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        yield writer
    finally:
        os.close(writer)


def test_row_136_a_reader_that_went_away_ends_inspect_silently(model):
    with broken_pipe() as writer:
        result = subprocess.run([PHIQ, "inspect", model], stdout=writer, stderr=subprocess.PIPE,
                                env=harness.clean_env(), timeout=30)
    assert result.returncode == -signal.SIGPIPE
    assert result.stderr == b""


def test_row_136_a_conversion_does_without_its_progress(model, wanted, work):
    with broken_pipe() as writer:
        result = subprocess.run([PHIQ, *quantize(model, work / "out.gguf")], stdout=writer,
                                stderr=writer, env=harness.clean_env(), timeout=30)
    assert (work / "out.gguf").read_bytes() == wanted
    assert temporaries(work) == []
    assert result.returncode in (0, 5)  # 5: the report on standard output could not be written


def test_row_136_a_model_is_written_to_a_pipe(model, wanted):
    result = run(quantize(model, "-")).ok()
    assert harness.without_checksums(result.out) == harness.without_checksums(wanted)


# --- names --------------------------------------------------------------------------------------

def test_row_137_an_existing_output_is_refused_before_any_reading(model, work):
    broken = work / "broken"
    shutil.copytree(model, broken)
    (broken / "model.safetensors").write_bytes(b"not a shard")
    (work / "out.gguf").write_text("old")
    before = snapshot(work)
    refused(run(quantize(broken, work / "out.gguf")), 5, "out.gguf: exists", "--force", before=before,
            folder=work, seconds=0.5)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name, why", [
    ("model/model.safetensors", "named like the weights"), ("model/./model.safetensors", "named like the weights"),
    ("link", "same file"), ("hard", "same file"), ("model/config.json", "same file"),
    ("model/./config.json", "same file")])
def test_row_138_the_output_is_an_input(model, work, name, why, force):
    shutil.copytree(model, work / "model")
    (work / "link").symlink_to("model/model.safetensors")
    os.link(work / "model/model.safetensors", work / "hard")
    before = snapshot(work)
    refused(run(quantize("model", name, *["--force"] * force), cwd=work), 2, why, before=before, folder=work)


def test_row_138_the_output_is_an_input_behind_the_hub_cache(model, work):
    """There blobs are called by their hashes."""
    snapshots, blobs = work / "snapshots", work / "blobs"
    snapshots.mkdir()
    blobs.mkdir()
    for i, path in enumerate(sorted(model.iterdir())):
        shutil.copyfile(path, blobs / f"{i:040x}")
        (snapshots / path.name).symlink_to(f"../blobs/{i:040x}")
    before = snapshot(work)
    weights = (snapshots / "model.safetensors").resolve()
    refused(run(quantize(snapshots, weights, "--force")), 2, "same file", before=before, folder=work)


@pytest.fixture
def public_folder():
    """A folder that other users can reach, unlike pytest's own, with a copy of the program."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="phiq-public-", dir="/tmp"))
    folder.chmod(0o755)
    shutil.copy(PHIQ, folder / "phiq")
    yield folder
    shutil.rmtree(folder)


def test_row_139_no_folder_or_not_a_folder(model, work):
    (work / "file").write_text("x")
    before = snapshot(work)
    refused(run(quantize(model, work / "none/out.gguf")), 5, "No such file or directory", "--mkdir",
            before=before, folder=work)
    for options in ([], ["--mkdir"]):
        refused(run(quantize(model, work / "file/out.gguf", *options)), 5, "Not a directory",
                before=before, folder=work)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")
def test_row_139_no_permission(model, public_folder):
    shutil.copytree(model, public_folder / "model")
    for path in (public_folder / "model").rglob("*"):
        path.chmod(0o644)
    (public_folder / "model").chmod(0o755)
    target = public_folder / "target"
    target.mkdir(mode=0o755)
    result = run(["--reuid=65534", "--regid=65534", "--clear-groups", public_folder / "phiq",
                  *quantize(public_folder / "model", target / "out.gguf")],
                 program=shutil.which("setpriv"))
    refused(result, 5, "out.gguf", "Permission denied")
    assert list(target.iterdir()) == []


@needs_mounts
def test_row_139_read_only_file_system(model, work):
    target = work / "target"
    target.mkdir()
    script = f'mount -o bind "{target}" "{target}" && mount -o remount,bind,ro "{target}" && exec "$@"'
    result = run(["-m", "sh", "-c", script, "sh", str(PHIQ), *quantize(model, target / "out.gguf")],
                 program=shutil.which("unshare"))
    refused(result, 5, "out.gguf", "Read-only file system", folder=work)
    assert list(target.iterdir()) == []


def test_row_143_mode_bits_follow_the_umask_or_the_old_file(model, work):
    out = work / "out.gguf"
    for mask, mode in ((0o000, 0o666), (0o077, 0o600), (0o027, 0o640)):
        run(quantize(model, out), preexec=lambda mask=mask: os.umask(mask)).ok()
        assert out.stat().st_mode & 0o7777 == mode
        out.unlink()
    out.touch()
    out.chmod(0o640)
    run(quantize(model, out, "--force")).ok()
    assert out.stat().st_mode & 0o7777 == 0o640


def test_row_147_no_file_descriptors_left(model, wanted, work):
    # Down from plenty until it fails; what fails must say so and leave nothing.
    codes = set()
    for n in range(16, 2, -1):
        result = run(quantize(model, work / "out.gguf"), preexec=harness.limit(resource.RLIMIT_NOFILE, n))
        codes.add(result.code)
        if result.code == 0:
            assert (work / "out.gguf").read_bytes() == wanted
            (work / "out.gguf").unlink()
        elif result.code == 7:
            assert "Too many open files" in error_line(result)
        else:  # the dynamic loader itself fails
            assert result.code == 127, result.err
        assert list(work.iterdir()) == []
    assert {0, 7} <= codes


@needs_strace
def test_row_148_threads_cannot_start(model, wanted, work):
    log, out = work / "log", work / "out.gguf"
    first = run_under_strace(quantize(model, out, "--threads", "4"), log,
                             "clone3,clone:error=EAGAIN", trace="clone3,clone")
    refused(first, 7, "cannot start a thread", folder=work, seconds=60)
    assert not out.exists()
    # Some threads are enough.
    run_under_strace(quantize(model, out, "--threads", "4"), log, "clone3,clone:error=EAGAIN:when=2+",
                     trace="clone3,clone").ok()
    assert out.read_bytes() == wanted


# --- signals ------------------------------------------------------------------------------------

def start(args):
    return subprocess.Popen([PHIQ, *(str(a) for a in args)], stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, env=harness.clean_env())


@pytest.fixture(scope="module")
def slow(slow_model):
    """(seconds, bytes) of an undisturbed slow conversion."""
    out = slow_model.parent / "slow.gguf"
    result = run(quantize(slow_model, out, "--threads", "1", type="Q4_K_M"), timeout=60).ok()
    return result.seconds, out.read_bytes()


def kill_at_random(model, folder, number, seconds, seed):
    """Signals a conversion at a random time; (exit code, seconds it then took to end, stderr)."""
    process = start(quantize(model, folder / "out.gguf", "--threads", "1", type="Q4_K_M"))
    time.sleep(random.Random(seed).uniform(0, seconds * 0.9))
    process.send_signal(number)
    asked = time.monotonic()
    _, err = process.communicate(timeout=60)
    return process.returncode, time.monotonic() - asked, err.decode()


def kills_at_random(model, work, number, seconds, count):
    """`count` kills, a few at once, each in a folder of its own; yields (folder, result)."""
    folders = [work / str(i) for i in range(count)]
    for folder in folders:
        folder.mkdir()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        yield from zip(folders, pool.map(
            lambda i: kill_at_random(model, folders[i], number, seconds, i), range(count)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_row_157_a_stop_signal_at_any_time_leaves_nothing(slow_model, slow, work, number):
    seconds, content = slow
    n_died = 0
    for folder, (code, took, err) in kills_at_random(slow_model, work, number, seconds, 50):
        assert code in (-number, 0), err
        assert took < (20 if harness.SANITIZED else 2)  # promised: 1 s; the rest is a busy machine
        n_died += code != 0
        lines = [line for line in err.splitlines() if "warning" not in line]
        assert code == 0 or (len(lines) <= 1 and all("interrupted" in line for line in lines)), err
        # Complete when the signal came after the rename.
        assert [p.name for p in folder.iterdir()] in ([], ["out.gguf"])
        assert not (folder / "out.gguf").exists() or (folder / "out.gguf").read_bytes() == content
    assert n_died >= 25, "too few runs were hit in their middle"


@needs_strace
def test_row_158_a_second_signal_removes_the_temporaries_at_once(slow_model, work):
    # fsync takes two seconds, so that the first signal finds nobody who could react.
    log = work.parent / "strace-158.log"
    command = under_strace(log, "fsync:delay_enter=2000000:when=1")
    process = subprocess.Popen(command + [str(a) for a in quantize(slow_model, work / "out.gguf")],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               env=harness.clean_env())
    try:
        deadline = time.monotonic() + 30
        while not (log.exists() and "fsync(" in log.read_text()):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        pid = int(log.read_text().split()[0])
        os.kill(pid, signal.SIGINT)
        time.sleep(0.01)
        os.kill(pid, signal.SIGINT)
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGINT
    assert temporaries(work) == []


def test_row_159_signals_that_were_ignored_stay_ignored(slow_model, slow, work):
    seconds, content = slow
    args = quantize(slow_model, work / "out.gguf", "--threads", "1", type="Q4_K_M")
    script = "trap '' INT HUP; exec \"$@\""
    process = subprocess.Popen(["sh", "-c", script, "sh", str(PHIQ), *(str(a) for a in args)],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               env=harness.clean_env())
    time.sleep(seconds / 2)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert (work / "out.gguf").read_bytes() == content


def test_row_160_the_next_run_removes_what_a_killed_one_left(slow_model, slow, work):
    seconds, content = slow
    left = []
    for folder, (code, _, _) in kills_at_random(slow_model, work, signal.SIGKILL, seconds, 20):
        assert code in (-signal.SIGKILL, 0)
        # A temporary may stay; the final name is absent or complete.
        assert not (folder / "out.gguf").exists() or (folder / "out.gguf").read_bytes() == content
        left += [folder] * bool(temporaries(folder))
    assert left, "no kill left a temporary"
    for folder in left[:3]:
        run(quantize(slow_model, folder / "out.gguf", type="Q4_K_M"), timeout=60).ok()
        assert (folder / "out.gguf").read_bytes() == content
        assert temporaries(folder) == []


@needs_strace
@pytest.mark.parametrize("call", ["fallocate", "fsync", "fchmod", "renameat2"])
def test_row_160_killed_at_each_call_of_the_commit(model, wanted, work, call):
    out, log = work / "out.gguf", work.parent / "strace-160.log"
    for k in (1, 2):
        result = run_under_strace(quantize(model, out), log, f"{call}:signal=KILL:when={k}")
        if result.code == 0:  # fewer than k such calls
            break
        assert result.code == -signal.SIGKILL
        assert not out.exists() or out.read_bytes() == wanted
        out.unlink(missing_ok=True)
        run(quantize(model, out)).ok()
        assert out.read_bytes() == wanted
        assert [p.name for p in work.iterdir()] == ["out.gguf"]
        out.unlink()


# --- several runs -------------------------------------------------------------------------------

@pytest.mark.parametrize("force", [False, True])
def test_row_164_165_runs_that_write_the_same_output(model, wanted, work, force):
    out = work / "out.gguf"
    for n in range(2, 9):
        processes = [start(quantize(model, out, *["--force"] * force)) for _ in range(n)]
        results = [(p.communicate(timeout=60)[1].decode(), p.returncode) for p in processes]
        for err, code in results:
            assert code in ((0, 8) if force else (0, 5, 8)), err
            if code == 8:
                assert "locked by another run" in err
            if code == 5:
                assert "exists" in err
        n_done = [code for _, code in results].count(0)
        assert n_done >= 1 if force else n_done == 1
        assert out.read_bytes() == wanted
        assert [p.name for p in work.iterdir()] == ["out.gguf"]
        out.unlink()
