"""What a text is worth in openvino, computed in float32."""
import calibrated
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
