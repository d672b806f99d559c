"""Runs the real program and makes the checkpoints it is run on.

Environment: PHIQ (the program; default build/dev/phiq), PHIQ_TEST_DATA (default tests/data),
PHIQ_SANITIZED=1 for a program built with sanitizers (slower, more memory: those bounds are
then loosened).
"""
import hashlib
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass

import numpy as np

SOURCE = pathlib.Path(__file__).resolve().parents[2]
PHIQ = pathlib.Path(os.environ.get("PHIQ", SOURCE / "build" / "dev" / "phiq")).resolve()
DATA = pathlib.Path(os.environ.get("PHIQ_TEST_DATA", SOURCE / "tests" / "data")).resolve()
SANITIZED = os.environ.get("PHIQ_SANITIZED", "") not in ("", "0")

MIB = 1 << 20


# --- running the program ---------------------------------------------------------------------

@dataclass
class Result:
    args: list
    code: int            # negative: died of that signal
    out: bytes
    err: str
    peak_rss_bytes: int
    seconds: float

    @property
    def text(self):
        return self.out.decode("utf-8")

    def json(self):
        return json.loads(self.out)

    def ok(self):
        assert self.code == 0, f"{self.args} exited with {self.code}:\n{self.err}"
        return self


def clean_env(extra=None):
    """What the program sees: nothing of the caller's hub cache, locale or colours."""
    env = {name: os.environ[name] for name in ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS")
           if name in os.environ}
    env.update(LC_ALL="C.UTF-8", HOME="/nonexistent", HF_HUB_CACHE="/nonexistent/hub")
    for name, value in (extra or {}).items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = str(value)
    return env


def _forget_own_peak():
    """A child's peak memory starts at its parent's (the kernel counts the image before exec), so
    ours is brought down to what we hold now."""
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def run(args, cwd=None, env=None, timeout=30, stdin=None, preexec=None, program=None):
    """Runs the program; `env` is added to clean_env() (None removes a name), `stdin` is bytes."""
    command = [str(program or PHIQ)] + [str(a) for a in args]
    _forget_own_peak()
    start = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        # stdin is closed by default: a program that reads it sees the end at once.
        process = subprocess.Popen(command, cwd=cwd, env=clean_env(env), stdout=out, stderr=err,
                                   stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                                   preexec_fn=preexec)
        timed_out = threading.Event()

        def kill():
            timed_out.set()
            process.send_signal(signal.SIGKILL)

        timer = threading.Timer(timeout, kill)
        timer.start()
        try:
            if stdin is not None:
                try:
                    process.stdin.write(stdin)
                    process.stdin.close()
                except BrokenPipeError:
                    pass
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - start
        out.seek(0)
        err.seek(0)
        result = Result(command, process.returncode, out.read(),
                        err.read().decode("utf-8", "backslashreplace"), usage.ru_maxrss * 1024, seconds)
    assert not timed_out.is_set(), f"{command} did not end within {timeout} s:\n{result.err}"
    return result


def limit(which, amount):
    """A preexec that sets a resource limit, e.g. limit(resource.RLIMIT_NOFILE, 8)."""
    return lambda: resource.setrlimit(which, (amount, amount))


# --- what must hold of a refusal -------------------------------------------------------------

def snapshot(folder):
    """name -> (kind, content hash or link target, inode, mtime) of all below `folder`."""
    state = {}
    for path in sorted(pathlib.Path(folder).rglob("*")):
        info = path.lstat()
        name = str(path.relative_to(folder))
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = _content_of(path, info)
        else:
            content = None
        state[name] = (info.st_mode, content, info.st_ino,
                       None if path.is_dir() else info.st_mtime_ns)
    return state


def _content_of(path, info):
    if info.st_size > 64 * MIB and info.st_blocks * 512 < info.st_size // 2:
        return ("sparse", info.st_size)  # hashing gigabytes of zeros tells nothing
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(MIB):
            digest.update(chunk)
    return digest.hexdigest()


def temporaries(folder):
    return [p for p in pathlib.Path(folder).rglob(".*") if ".phiq-tmp." in p.name or ".phiq-run." in p.name]


def input_bytes(folder):
    """Bytes of the files of a checkpoint, links followed."""
    return sum(p.stat().st_size for p in pathlib.Path(folder).rglob("*") if p.is_file())


def error_line(result):
    """The one 'error:' line, without its prefix."""
    lines = [line for line in result.err.split("\n") if "error:" in line]
    assert len(lines) == 1, f"wanted one error line, got {len(lines)}:\n{result.err}"
    prefix = "phiq: error: "
    assert lines[0].startswith(prefix), lines[0]
    return lines[0][len(prefix):]


def refused(result, code, *needles, before=None, folder=None, input_size=0, seconds=2.0):
    """The invariant of a refusal: exit code, one line that holds `needles`, no output, bounded
    time and memory, and with `before` (a snapshot of `folder`) nothing changed on disk.

    Returns the error line. `input_size`: bytes of the files given, for the memory bound.
    """
    assert result.code == code, f"exit {result.code}, wanted {code}:\n{result.err}"
    line = error_line(result)
    for needle in needles:
        assert needle in line, f"{needle!r} is not in: {line}"
    assert result.out == b"", result.out[:500]
    # Nothing from a file reaches the terminal raw: no control byte but the line ends.
    assert all(c == "\n" or (c >= " " and c != "\x7f") for c in result.err), repr(result.err)
    if SANITIZED:
        assert result.seconds <= max(10.0, seconds)
    else:
        assert result.seconds <= seconds, f"took {result.seconds:.2f} s"
        bound = 256 * MIB + 2 * input_size
        assert result.peak_rss_bytes <= bound, f"peak {result.peak_rss_bytes} of {bound} bytes"
    if folder is not None:
        assert temporaries(folder) == []
        if before is not None:
            assert snapshot(folder) == before
    return line


def without_checksums(content):
    """An output's bytes apart from the checksums that it has of them: a stream has none."""
    return re.sub(rb'"[0-9a-f]{32}"', b'""', content)


def warnings(result):
    prefix = "phiq: warning: "
    return [line[len(prefix):] for line in result.err.split("\n") if line.startswith(prefix)]


def refused_by_both(folder, code, *needles, **kwargs):
    """`plan` and `quantize` of a bad checkpoint: both refuse it, alike, and write nothing.

    The output would stand beside `folder`, where an older file of that name is left alone.
    """
    work = pathlib.Path(folder).parent
    before = snapshot(work)
    kwargs.setdefault("input_size", input_bytes(folder))
    lines = [refused(run(["plan", folder, "--type", "Q8_0"], cwd=work), code, *needles,
                     before=before, folder=work, **kwargs),
             refused(run(["quantize", folder, "-o", work / "out.gguf", "--type", "Q8_0"], cwd=work),
                     code, *needles, before=before, folder=work, **kwargs)]
    assert lines[0] == lines[1]
    return lines[0]


def converted(folder, *options, type="Q8_0"):
    """`quantize` of a good checkpoint: exit 0 and the complete file. Returns (result, bytes)."""
    out = pathlib.Path(folder).parent / "out.gguf"
    result = run(["quantize", folder, "-o", out, "--type", type, *options], cwd=out.parent).ok()
    assert temporaries(out.parent) == []
    content = out.read_bytes()
    assert content[:4] == b"GGUF"
    out.unlink()
    return result, content


# --- safetensors -----------------------------------------------------------------------------

DTYPE_BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8,
              "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16,
              "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64,
              "I64": 64, "U64": 64}


def header_of(tensors, metadata=None):
    """The header object of name -> (dtype, shape, bytes), with offsets in the given order."""
    header = {} if metadata is None else {"__metadata__": metadata}
    begin = 0
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape),
                        "data_offsets": [begin, begin + len(content)]}
        begin += len(content)
    return header


def header_text(header, pad=8):
    text = json.dumps(header, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % pad)


def write_raw(path, header, data=b"", n_header_bytes=None):
    """A file of any header bytes; `n_header_bytes` is what its length field says."""
    if isinstance(header, dict):
        header = header_text(header)
    if isinstance(header, str):
        header = header.encode()
    length = len(header) if n_header_bytes is None else n_header_bytes
    pathlib.Path(path).write_bytes(struct.pack("<Q", length) + header + data)


def write_safetensors(path, tensors, metadata=None, header=None):
    """Tensors back to back in the order of the dict; `header` replaces the true header."""
    metadata = {"format": "pt"} if metadata is None else metadata
    header = header_of(tensors, metadata) if header is None else header
    write_raw(path, header, b"".join(content for _, _, content in tensors.values()))


def read_header(path):
    """(header, position of the data buffer)"""
    with open(path, "rb") as file:
        n_bytes = struct.unpack("<Q", file.read(8))[0]
        return json.loads(file.read(n_bytes)), 8 + n_bytes


def read_safetensors(path):
    """name -> (dtype, shape, bytes), in file order."""
    header, data = read_header(path)
    content = pathlib.Path(path).read_bytes()
    header.pop("__metadata__", None)
    entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    return {name: (entry["dtype"], tuple(entry["shape"]),
                   content[data + entry["data_offsets"][0]:data + entry["data_offsets"][1]])
            for name, entry in entries}


# --- checkpoints -----------------------------------------------------------------------------

RECORD = "phiq.json"  # what a folder says of its own bytes
SIDE_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer.model",
              "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
              "vocab.json", "merges.txt")


def bf16(values):
    """The bytes of floats as bfloat16, rounded to nearest even."""
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return rounded.astype("<u2").tobytes()


def side_files(folder, base, config_updates=None, config_remove=()):
    """Copies the tokenizer files and the changed config.json of tests/data/`base`."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in SIDE_FILES:
        if (DATA / base / name).exists():
            shutil.copyfile(DATA / base / name, folder / name)
    if config_updates or config_remove:
        config = json.loads((folder / "config.json").read_text())
        config.update(config_updates or {})
        for key in config_remove:
            del config[key]
        (folder / "config.json").write_text(json.dumps(config, indent=2))
    return folder


def write_weights(folder, tensors, shards=1, index=True):
    """model.safetensors, or `shards` files of about equal tensor counts with their index."""
    folder = pathlib.Path(folder)
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors)
        return
    names = list(tensors)
    weight_map = {}
    for k in range(shards):
        part = names[k * len(names) // shards:(k + 1) * len(names) // shards]
        shard = f"model-{k + 1:05d}-of-{shards:05d}.safetensors"
        write_safetensors(folder / shard, {name: tensors[name] for name in part})
        weight_map.update({name: shard for name in part})
    if index:
        write_index(folder, weight_map, sum(len(content) for _, _, content in tensors.values()))


def write_index(folder, weight_map, total_size=None):
    index = {"metadata": {} if total_size is None else {"total_size": total_size},
             "weight_map": weight_map}
    (pathlib.Path(folder) / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))


def read_index(folder):
    return json.loads((pathlib.Path(folder) / "model.safetensors.index.json").read_text())


def make_checkpoint(folder, base="phi35-tiny", config_updates=None, config_remove=(),
                    tensors_update=None, drop=(), shards=1):
    """A copy of the trained tests/data/`base` with changes; `tensors_update` adds and replaces
    tensors, `drop` leaves some out. Returns the folder."""
    folder = side_files(folder, base, config_updates, config_remove)
    source = DATA / base / "model.safetensors"
    if not tensors_update and not drop and shards == 1:
        shutil.copyfile(source, folder / "model.safetensors")
        return folder
    tensors = {name: tensor for name, tensor in read_safetensors(source).items() if name not in drop}
    tensors.update(tensors_update or {})
    write_weights(folder, tensors, shards)
    return folder


def tiny_config(base="phi35-tiny", layers=1, intermediate=256):
    """What tiny() changes in the base's config.json."""
    return {"num_hidden_layers": layers, "intermediate_size": intermediate}


def tiny_tensors(base="phi35-tiny", layers=1, intermediate=256, vocab=2112, seed=1):
    """Random weights of the base's architecture: hidden 256, heads of 64, few layers."""
    config = json.loads((DATA / base / "config.json").read_text())
    hidden, kv = config["hidden_size"], config["num_key_value_heads"] * 64
    shapes = {"model.embed_tokens.weight": (vocab, hidden)}
    for i in range(layers):
        prefix = f"model.layers.{i}."
        shapes[prefix + "input_layernorm.weight"] = (hidden,)
        shapes[prefix + "self_attn.qkv_proj.weight"] = (hidden + 2 * kv, hidden)
        shapes[prefix + "self_attn.o_proj.weight"] = (hidden, hidden)
        shapes[prefix + "post_attention_layernorm.weight"] = (hidden,)
        shapes[prefix + "mlp.gate_up_proj.weight"] = (2 * intermediate, hidden)
        shapes[prefix + "mlp.down_proj.weight"] = (hidden, intermediate)
    shapes["model.norm.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (vocab, hidden)
    rng = np.random.default_rng(seed)
    return {name: ("BF16", shape, bf16(rng.normal(0.0, 0.02, shape) + ("norm" in name)))
            for name, shape in shapes.items()}


def tiny(folder, base="phi35-tiny", layers=1, intermediate=256, seed=1, config_updates=None,
         config_remove=(), tensors_update=None, drop=(), shards=1):
    """A small random checkpoint (about 3 MB) in `folder`; the same seed gives the same bytes."""
    updates = {**tiny_config(base, layers, intermediate), **(config_updates or {})}
    side_files(folder, base, updates, config_remove)
    tensors = {name: tensor for name, tensor in tiny_tensors(base, layers, intermediate, seed=seed).items()
               if name not in drop}
    tensors.update(tensors_update or {})
    write_weights(folder, tensors, shards)
    return pathlib.Path(folder)
