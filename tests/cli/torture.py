"""A run that is killed, that the operating system refuses something, or that loses power: what may then stand under the
final names, and what the next run must make of it (docs/reliability.md). For the tests, and for tools/torture, where each
case goes on for long."""
import errno
import hashlib
import os
import random
import shutil
import signal
import subprocess
import time

import harness
from harness import PHIQ, SOURCE, run
from power_loss import Disk

MODEL = SOURCE / "tests" / "fuzz" / "seeds" / "model"
TEXT = "The quick brown fox jumps over the lazy dog. " * 20
FORMATS = [entry["name"] for entry in run(["formats", "--json"]).ok().json()["formats"]]
SEVERAL, SPLIT = "several formats", "gguf in parts"
CASES = [*FORMATS, SEVERAL, SPLIT]
# How a run stands to what is there: nothing, an output of other weights, or a run that may be gone on with.
WAYS = ["new", "force", "resume"]

OPTIONS = {"torch": ["--group-size", "32"], "mlx": ["--group-size", "32"], SPLIT: ["--type", "Q8_0", "--split-max-size", "16K"],
           SEVERAL: ["--type", "gguf=Q8_0", "--type", "torch=W8A8"]}
FORMAT = {SEVERAL: ",".join(name for name in FORMATS if name != "safetensors"), SPLIT: "gguf"}
CALIBRATED = [name for name in CASES if name not in ("safetensors", SPLIT)]

E = errno
ERRORS = {
    "pwrite": [E.ENOSPC, E.EIO, E.EDQUOT, E.EFBIG, "short"], "write": [E.ENOSPC, E.EIO, "short"],
    "pread": [E.EIO, "short"], "read": [E.EIO, "short"],
    "fallocate": [E.ENOSPC, E.EIO, E.EOPNOTSUPP], "ftruncate": [E.EIO], "fsync": [E.EIO, E.ENOSPC], "fdatasync": [E.EIO],
    "close": [E.EIO, E.ENOSPC], "open": [E.EIO, E.EMFILE], "openat": [E.EIO, E.ENOSPC, E.EMFILE], "mkdirat": [E.ENOSPC, E.EIO],
    "renameat2": [E.EIO, E.ENOSPC, E.EINVAL], "renameat": [E.EIO], "linkat": [E.EIO], "unlinkat": [E.EIO],
    "fchmod": [E.EPERM], "flock": [E.ENOLCK], "fstat": [E.EIO], "stat": [E.EIO], "lstat": [E.EIO], "fstatat": [E.EIO],
    "opendir": [E.EIO], "fdopendir": [E.EMFILE], "fcntl": [E.EMFILE]}
CHANGES = {"pwrite", "write", "fallocate", "ftruncate", "fsync", "fdatasync", "mkdirat", "renameat2", "renameat", "linkat", "fchmod"}
DONE_WITHOUT = {("fallocate", E.EOPNOTSUPP), ("renameat2", E.EINVAL), ("flock", E.ENOLCK)}


def build_library(folder):
    built = folder / "io_faults.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", built, SOURCE / "tests/cli/io_faults.c", "-ldl"], check=True)
    return built


def contents(path):
    """name -> digest or the same of a folder."""
    return {entry.name: contents(entry) if entry.is_dir() else digest(entry.read_bytes()) for entry in sorted(path.iterdir())}


def digest(tree):
    if isinstance(tree, dict):
        return {name: digest(inner) for name, inner in tree.items()}
    return hashlib.sha256(tree).hexdigest()


def codes_of(call, fault):
    """Exit codes that are right for it, when 0 means the bytes of an undisturbed run."""
    if fault == "short" or (call, fault) in DONE_WITHOUT:
        return {0}
    if fault == E.EMFILE:
        return {0, 7}
    # What a run does without: it asks whether something is there, or removes what it need not.
    return {5} if call in CHANGES else {0, 4, 5}


class Torture:
    """A case in one of the ways. Each method tries one thing and returns what was wrong, a line each."""

    def __init__(self, work, library, case, way, options=("--threads", "1")):
        self.case, self.way, self.library = case, way, library
        self.folder, self.before_folder = work / "out", work / "before"
        self.log, self.calls_file = work / "log", work / "calls"
        self.scratch = work / "state"
        (work / "text").write_text(TEXT)
        self.options = list(options) + {"new": [], "force": ["--force"], "resume": ["--resume"]}[way] + OPTIONS.get(case, [])
        if way == "resume" and case in CALIBRATED:
            self.options += ["--calibrate", work / "text", "--calibration-ctx", "16", "--calibration-tokens", "64"]
        self.before_folder.mkdir()
        if way == "force":
            other = shutil.copytree(MODEL, work / "other" / "model")
            with open(other / "model.safetensors", "r+b") as weights:
                weights.seek(-2, os.SEEK_END)
                weights.write(b"\0\0")
            run(self.command(other, self.before_folder)).ok()
        self.old = contents(self.before_folder)
        self.reset()
        self.seconds = run(self.command()).ok().seconds
        self.new = contents(self.folder)
        assert self.old != self.new and not any(name.startswith(".") for name in self.new)
        assert way != "force" or list(self.old) == list(self.new)

    def command(self, model=MODEL, folder=None):
        folder = self.folder if folder is None else folder
        out = folder / "out.gguf" if self.case == SPLIT else folder if self.case == SEVERAL else folder / "model"
        return ["quantize", model, "--format", FORMAT.get(self.case, self.case), "-o", out, *self.options]

    def reset(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.before_folder, self.folder)

    def preloaded(self, **environment):
        return {"LD_PRELOAD": self.library, **environment}

    def calls(self):
        """The names of an undisturbed run's calls, in their order."""
        self.reset()
        self.calls_file.unlink(missing_ok=True)
        run(self.command(), env=self.preloaded(PHIQ_IO_CALLS=self.calls_file)).ok()
        return self.calls_file.read_text().split()

    # --- what must hold -------------------------------------------------------------------------

    def wrong(self, found, is_done=False):
        """Of the final names in a folder's contents: each is absent, the old or the new; when it is done, the new."""
        lines = []
        for name, content in found.items():
            if not name.startswith(".") and content not in (self.old.get(name), self.new.get(name)):
                lines.append(f"{name} holds neither the old nor the new")
        if is_done and any(found.get(name) != self.new[name] for name in self.new):
            lines.append("exit 0, but not all is there")
        if self.case == SPLIT and (root := found.get(min(self.new))) is not None:
            of_root = [one for one in (self.old, self.new) if one.get(min(self.new)) == root]
            if not any(all(found.get(name) == one[name] for name in one) for one in of_root):
                lines.append("the first part stands beside parts of another run")
        return lines

    def after_next_run(self, folder=None):
        folder = self.folder if folder is None else folder
        result = run(self.command(folder=folder), timeout=60)
        stood = result.code == 5 and "exists" in result.err and self.way != "force"
        if result.code != 0 and not stood:
            return [f"the next run: exit {result.code}: {result.err.strip()}"]
        found = contents(folder)
        lines = [f"the next run left {name}" for name in found if name not in self.new]
        lines += [f"the next run: {name} is not as it should be" for name in self.new if found.get(name) != self.new[name]]
        return lines

    # --- what is tried --------------------------------------------------------------------------

    def kill_at(self, k, name=""):
        self.reset()
        result = run(self.command(), env=self.preloaded(PHIQ_IO_FAULT=f"{k}:kill"))
        lines = [] if result.code in (0, -signal.SIGKILL) else [f"exit {result.code}"]
        lines += self.wrong(contents(self.folder), result.code == 0) + self.after_next_run()
        return [f"killed at call {k} ({name}): {line}" for line in lines]

    def kill_after(self, seconds, delay_us=0):
        self.reset()
        environment = self.preloaded(PHIQ_IO_DELAY=delay_us) if delay_us else {}
        process = subprocess.Popen([PHIQ, *map(str, self.command())], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env=harness.clean_env(environment))
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        code = process.wait()
        lines = [] if code in (0, -signal.SIGKILL) else [f"exit {code}"]
        lines += self.wrong(contents(self.folder), code == 0) + self.after_next_run()
        return code != 0, [f"killed after {seconds:.4f} s: {line}" for line in lines]

    def fail_at(self, k, name, fault):
        self.reset()
        result = run(self.command(), env=self.preloaded(PHIQ_IO_FAULT=f"{k}:{fault}"))
        lines = [] if result.code in codes_of(name, fault) else [f"exit {result.code}: {result.err.strip()}"]
        found = contents(self.folder)
        lines += self.wrong(found, result.code == 0)
        if result.code != 0:
            n_lines = sum(line.startswith("phiq: error: ") for line in result.err.splitlines())
            if n_lines != 1 or result.out:
                lines.append(f"{n_lines} error lines: {result.err.strip()}")
            told = any(text in result.err for text in
                       ("not known durable", "could not be taken back", "what stood there remains"))
            changed = sorted(name for name in found.keys() | self.old.keys() if found.get(name) != self.old.get(name))
            if not told and changed:
                lines.append(f"changed, or left: {changed}")
        elif found != self.new and name != "unlinkat":
            lines.append(f"left: {sorted(found.keys() - self.new.keys())}")
        lines += self.after_next_run()
        return [f"call {k} ({name}) met {errno.errorcode.get(fault, fault)}: {line}" for line in lines]

    def fail_from(self, k, name, fault):
        """Everything that would change a file fails from there on."""
        self.reset()
        result = run(self.command(), env=self.preloaded(PHIQ_IO_FAULT=f"{k}+:{fault}"))
        lines = [] if result.code in (0, 5) else [f"exit {result.code}: {result.err.strip()}"]
        lines += self.wrong(contents(self.folder), result.code == 0)
        lines += self.after_next_run()
        return [f"from call {k} ({name}) on {errno.errorcode[fault]}: {line}" for line in lines]

    def lose_power(self, most=2000, most_next=100, seed=0):
        """(states, of these recovered by a next run, what was wrong)."""
        self.reset()
        disk = Disk(self.folder)
        self.log.unlink(missing_ok=True)
        run(self.command(), env=self.preloaded(PHIQ_IO_LOG=self.log)).ok()
        disk.read(self.log)
        whole = disk.tree(disk.after(len(disk.operations)))
        assert digest(whole) == self.new, "the log is not all that the run did"
        lines, distinct = [], {}
        for n, nodes in disk.states(most, seed):
            tree = disk.tree(nodes)
            found = digest(tree)
            key = repr(found)
            if key in distinct:
                continue
            distinct[key] = (n, nodes)
            lines += [f"power lost after {self._operation(disk, n)}: {line}" for line in self.wrong(found)]
        # What exit 0 promises is that none of it can be lost.
        n = len(disk.operations)
        for i in disk.pending(n):
            found = digest(disk.tree(disk.after(n, {i})))
            lines += [f"power lost after exit 0: {line}" for line in self.wrong(found, is_done=True)]
        chosen = list(distinct.values())
        if len(chosen) > most_next:
            chosen = random.Random(seed).sample(chosen, most_next)
        for n, nodes in chosen:
            shutil.rmtree(self.scratch, ignore_errors=True)
            disk.write(nodes, self.scratch)
            found = sorted(name for name in os.listdir(self.scratch))
            lines += [f"power lost after {self._operation(disk, n)}, on the disk {found}: {line}"
                      for line in self.after_next_run(self.scratch)]
        return len(distinct), len(chosen), lines

    @staticmethod
    def _operation(disk, n):
        if n == 0:
            return "nothing"
        operation = disk.operations[n - 1]
        words = [str(word) for word in operation.arguments if not isinstance(word, bytes)]
        return f"operation {n} ({' '.join([operation.kind, *words])})"
