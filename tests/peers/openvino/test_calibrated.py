"""What a text is worth in openvino, computed in float32.

With PHIQ_NNCF=PYTHON, one that has nncf (tools/goldens says which versions), also beside what NNCF makes of the same text: a
minute a model.
"""
import os
import pathlib
import subprocess

import pytest

import calibrated
from program import DATA, quantize
from quality import WINDOW, Quality
from runtime import Session

N_WINDOWS = 16  # the last ones of the text: far behind the half that was calibrated on


def test_each_method_serves_unseen_text_better_than_the_one_before(model, heldout_ids, fp32, tmp_path):
    quality = Quality(heldout_ids[-N_WINDOWS * WINDOW:], fp32, N_WINDOWS)
    divergences = {}
    options = ("--format", "openvino", "--type", "INT4_SYM", "--ratio", "1")
    for method, folder in calibrated.files(model, tmp_path, *options).items():
        figures = quality.measure(Session(folder))
        divergences[method] = figures["kl"], figures["kl_error"]
    calibrated.assert_each_serves_better(f"{model} INT4_SYM", divergences)


def test_types_chosen_for_a_size_serve_better_than_the_ratio(model, heldout_ids, fp32, tmp_path):
    quality = Quality(heldout_ids[-N_WINDOWS * WINDOW:], fp32, N_WINDOWS)
    divergences = {}
    options = ("--format", "openvino", "--type", "INT4_SYM", "--ratio", "0.6")
    for name, folder in calibrated.of_equal_size(model, tmp_path, *options).items():
        figures = quality.measure(Session(folder))
        divergences[name] = figures["kl"], figures["kl_error"]
    calibrated.assert_mixed_serves_better(f"{model} INT4_SYM", divergences)


@pytest.mark.skipif("PHIQ_NNCF" not in os.environ, reason="PHIQ_NNCF=PYTHON names no Python that has nncf")
def test_serves_better_than_gptq_of_nncf_in_its_bytes(model, heldout_ids, fp32, outputs, tmp_path):
    text = tmp_path / "calibration.txt"
    text.write_text(calibrated.halves()[0])
    options = ("--format", "openvino", "--type", "INT4_SYM", "--calibrate", text, "--calibration-ctx", 256)
    quantize(DATA / model, tmp_path / "first", *options, "--calibration-out", tmp_path / "ids.txt", "--sensitivity",
             tmp_path / "sensitivity.json")
    subprocess.run([os.environ["PHIQ_NNCF"], pathlib.Path(__file__).with_name("nncf_gptq.py"), outputs.of("fp32"),
                    tmp_path / "ids.txt", tmp_path / "gptq"], check=True, capture_output=True)

    def size(folder):
        return (tmp_path / folder / "openvino_model.bin").stat().st_size

    beside = sum(path.stat().st_size for path in (tmp_path / "first").iterdir()) - size("first")
    quantize(DATA / model, tmp_path / "phiq", *options, "--target-size", size("gptq") + beside - 4096, "--sensitivity",
             tmp_path / "sensitivity.json")
    assert size("phiq") <= size("gptq")
    quality = Quality(heldout_ids[-N_WINDOWS * WINDOW:], fp32, N_WINDOWS)
    ours, theirs = (quality.measure(Session(tmp_path / name)) for name in ("phiq", "gptq"))
    print(f"\n{model}: NNCF's gptq {1000 * theirs['kl']:.1f} in {size('gptq')} bytes, phiq {1000 * ours['kl']:.1f} in "
          f"{size('phiq')} (KL x 1000)")
    assert ours["kl"] < 0.85 * theirs["kl"]
