"""tools/bench: what it reports of the tiny checkpoint, and that it does not measure wrong bytes."""
import json
import pathlib
import shutil
import subprocess

import pytest

from harness import DATA, PHIQ, SANITIZED, SOURCE

pytestmark = pytest.mark.skipif(SANITIZED or not pathlib.Path("/usr/bin/time").exists(),
                                reason="measures, with time(1)")


def bench(work, phiq, only):
    return subprocess.run([SOURCE / "tools" / "bench", "--checkpoint", DATA / "phi35-tiny", "--phiq", phiq, "--rounds", "2",
                           "--only", only, "--work", work / "bench", "--json", work / "report.json"],
                          capture_output=True, text=True, timeout=300)


def test_reports_every_line_beside_cat(work):
    result = bench(work, PHIQ, "gguf Q8_0$|onnx int4")
    assert result.returncode == 0, result.stderr
    report = json.loads((work / "report.json").read_text())
    lines = {line["name"]: line for line in report["lines"]}
    assert {"cat", "gguf Q8_0", "onnx int4"} <= set(lines)
    assert lines["cat"]["written_bytes"] == report["read_bytes"]
    assert lines["cat"]["rate_of_cat"] == 1
    for line in lines.values():
        assert 0 < line["cpu_s"] <= line["cpu_s_median"]
        assert line["weights_per_cpu_s"] == pytest.approx(report["n_weights"] / line["cpu_s"])
    assert "gguf Q8_0" in result.stdout


def test_stops_at_bytes_that_change_from_round_to_round(work):
    program = work / "phiq"
    program.write_text(f'''#!/bin/bash
"{PHIQ}" "$@" || exit
[[ $1 == quantize ]] || exit 0
while [[ $1 != -o ]]; do shift; done
echo >> "{work}/runs"
printf "%b" "\\\\x0$(wc -l < "{work}/runs")" | dd of="$2" bs=1 seek=$(($(stat -c %s "$2") - 1)) conv=notrunc status=none
''')
    program.chmod(0o755)
    result = bench(work, program, "gguf Q8_0$")
    assert result.returncode != 0
    assert "gguf Q8_0: other " in result.stderr
    shutil.rmtree(work / "bench")
