"""What a text is worth in llama.cpp, whose products quantize activations to 8 bits."""
import re

import calibrated


def test_each_method_serves_unseen_text_better_than_the_one_before(outputs, model, tmp_path):
    text = tmp_path / "evaluation.txt"
    text.write_text(calibrated.halves()[1])
    divergences = {}
    for method, path in calibrated.files(model, tmp_path, "--type", "Q4_K_M", suffix=".gguf").items():
        found = re.search(r"Mean    KLD: +([0-9.]+) ± +([0-9.]+)", outputs.divergence(path, text))
        divergences[method] = float(found[1]), float(found[2])
    calibrated.assert_each_serves_better(f"{model} Q4_K_M", divergences)
