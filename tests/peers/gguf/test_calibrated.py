"""What a text is worth in llama.cpp, whose products quantize activations to 8 bits, and beside what llama.cpp's own tools
make of it."""
import json
import os
import re

import pytest

import calibrated
import gguf_file
import llama
from program import DATA, HELDOUT, run_phiq


def test_each_method_serves_unseen_text_better_than_the_one_before(outputs, model, tmp_path):
    text = tmp_path / "evaluation.txt"
    text.write_text(calibrated.halves()[1])
    divergences = {}
    for method, path in calibrated.files(model, tmp_path, "--type", "Q4_K_M", suffix=".gguf").items():
        found = re.search(r"Mean    KLD: +([0-9.]+) ± +([0-9.]+)", outputs.divergence(path, text))
        divergences[method] = float(found[1]), float(found[2])
    calibrated.assert_each_serves_better(f"{model} Q4_K_M", divergences)


def test_types_chosen_for_a_size_serve_better_than_the_recipe(outputs, model, tmp_path):
    text = tmp_path / "evaluation.txt"
    text.write_text(calibrated.halves()[1])
    divergences = {}
    for name, path in calibrated.of_equal_size(model, tmp_path, "--type", "Q4_K_M", suffix=".gguf").items():
        found = re.search(r"Mean    KLD: +([0-9.]+) ± +([0-9.]+)", outputs.divergence(path, text))
        divergences[name] = float(found[1]), float(found[2])
    calibrated.assert_mixed_serves_better(f"{model} Q4_K_M", divergences)


# Bytes of heldout.txt: the first 36 windows of 256 tokens (of which phiq holds 4 back), and the windows 128 to 159.
CALIBRATION = {"phi35-tiny": slice(0, 30551), "phi4mini-tiny": slice(0, 32788)}
EVALUATION = {"phi35-tiny": slice(113430, 141620), "phi4mini-tiny": slice(119871, 150687)}
# A tenth above what a prototype of the three types reached.
MOST = {"phi35-tiny": 0.75, "phi4mini-tiny": 0.62}
SLOW = pytest.mark.skipif(os.environ.get("PHIQ_SLOW") != "1", reason="takes long: PHIQ_SLOW=1 runs it")


@pytest.mark.parametrize("file_type", ["Q4_K_M", pytest.param("IQ4_XS", marks=SLOW), pytest.param("Q3_K_M", marks=SLOW)])
def test_a_text_is_worth_more_than_its_importance_matrix_to_llama_quantize(outputs, model, tmp_path, file_type):
    calibration, evaluation, matrix = tmp_path / "calibration.txt", tmp_path / "evaluation.txt", tmp_path / "matrix.gguf"
    calibration.write_bytes(HELDOUT.read_bytes()[CALIBRATION[model]])
    evaluation.write_bytes(HELDOUT.read_bytes()[EVALUATION[model]])
    llama.run("imatrix", "-m", outputs.of_phiq("F32"), "-f", calibration, "-o", matrix, *llama.window(256),
              *llama.FLOAT_CACHES)
    theirs = tmp_path / "theirs.gguf"
    llama.run("quantize", "--imatrix", matrix, outputs.of_phiq("F32"), theirs, file_type, 1)
    ours = outputs.run_phiq(tmp_path / "ours.gguf", "--type", file_type, "--calibrate", calibration,
                            "--calibration-ctx", 256)
    done = run_phiq("eval", ours, theirs, "--against", DATA / model, "--text", evaluation, "--ctx", 256,
                    "--protocol", "all", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["models"]
    print(f"\n{model} {file_type}: " + " beside ".join(f"{1000 * one['kl']['mean']:.2f}" for one in found) + " (KL x 1000)")
    assert found[0]["kl"]["mean"] < MOST[model] * found[1]["kl"]["mean"]
    weights = [sum(len(tensor.data) for tensor in gguf_file.read(path).tensors.values()) for path in (ours, theirs)]
    assert weights[0] == weights[1]
