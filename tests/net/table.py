"""The table tests/data/net.tsv: what phiq writes, in two hashes a line. Run as a program it writes it anew:

    PHIQ=build/release/phiq /usr/bin/python3 tests/net/table.py

Only a commit that means to change what phiq writes does that, and says why.
"""
import concurrent.futures
import os
import pathlib
import shutil
import sys
import tempfile
from dataclasses import dataclass

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cli"))

import harness  # noqa: E402
import cases  # noqa: E402
import weights  # noqa: E402

PATH = harness.DATA / "net.tsv"
ENDINGS = {"gguf": ".gguf", "litert": ".litertlm"}  # of the formats that are one file
COLUMNS = "checkpoint\toptions\tbytes\ttensors\trest\n"


@dataclass(frozen=True)
class Line:
    bytes: int       # as planned
    tensors: str     # digests of weights.py
    rest: str


def read():
    header, *lines = PATH.read_text().splitlines(keepends=True)
    assert header == COLUMNS
    found = {}
    for line in lines:
        checkpoint, options, size, tensors, rest = line.rstrip("\n").split("\t")
        found[(checkpoint, options)] = Line(int(size), tensors, rest)
    assert len(found) == len(lines)
    return found


def write(lines):
    PATH.write_text(COLUMNS + "".join(
        f"{checkpoint}\t{options}\t{line.bytes}\t{line.tensors}\t{line.rest}\n"
        for (checkpoint, options), line in lines.items()))


def version():
    return harness.run(["--version"]).ok().text.split()[1]


def convert(checkpoint, options, work, own_version):
    """One Line for each output of a run. `work` is made and removed again."""
    work.mkdir()
    several = "--format" in options and "," in options.split()[1]
    format = options.split()[1] if "--format" in options else "gguf"
    # (Under qemu a line takes a hundred times as long.)
    report = harness.run(["quantize", checkpoint, *options.split(), "-o", work / f"out{ENDINGS.get(format, '')}",
                          "--no-fsync", "--quiet", "--json", "--threads", 1], timeout=1200).ok().json()
    lines = []
    for output in report["outputs"] if several else [report]:
        paths = [pathlib.Path(file["path"]) for file in output["files"]]
        assert all(path.stat().st_size == file["bytes"] for path, file in zip(paths, output["files"])), output["files"]
        assert output["output_bytes"] == sum(file["bytes"] for file in output["files"])
        is_folder = output["format"] not in ENDINGS
        if is_folder:
            assert sorted(paths) == sorted(paths[0].parent.iterdir())
        lines.append((output["output_bytes"], [paths[0].parent] if is_folder else paths))
    found = [Line(size, *weights.digests(paths, own_version)) for size, paths in lines]
    shutil.rmtree(work)
    return found


def measure(lines, work, checkpoints):
    """(checkpoint, options) -> its Lines, by as many runs at once as there are processors, up to four."""
    own_version = version()

    def one(item):
        number, (checkpoint, options) = item
        return convert(checkpoints[checkpoint], options, work / str(number), own_version)

    with concurrent.futures.ThreadPoolExecutor(min(4, os.cpu_count())) as pool:
        return dict(zip(lines, pool.map(one, enumerate(lines))))


def main():
    lines = cases.all_cases()
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        found = measure(lines, work, cases.make_checkpoints(work / "checkpoints"))
    write({line: only for line, (only,) in found.items()})
    print(f"{PATH}: {len(found)} lines")


if __name__ == "__main__":
    main()
