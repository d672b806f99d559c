"""What a text is worth in mlx-lm, computed in float32 on decoded weights.

mlx-lm's network has the long rotary factors at every length; so has the F32 folder that it is held to.
"""
import calibrated
from quality import Quality
from runtime import Session

N_WINDOWS, WINDOW = 4, 256  # the last ones of the text: far behind the half that was calibrated on


def test_each_method_serves_unseen_text_better_than_the_one_before(model, heldout_ids, fp32, tmp_path):
    quality = Quality(heldout_ids[-N_WINDOWS * WINDOW:], fp32, N_WINDOWS, WINDOW)
    divergences = {}
    for method, folder in calibrated.files(model, tmp_path, "--format", "mlx", "--type", "4bit").items():
        figures = quality.measure(Session(folder))
        divergences[method] = figures["kl"], figures["kl_error"]
    calibrated.assert_each_serves_better(f"{model} 4bit", divergences)


def test_types_chosen_for_a_size_serve_better_than_the_recipe(model, heldout_ids, fp32, tmp_path):
    quality = Quality(heldout_ids[-N_WINDOWS * WINDOW:], fp32, N_WINDOWS, WINDOW)
    divergences = {}
    for name, folder in calibrated.of_equal_size(model, tmp_path, "--format", "mlx", "--type", "mixed_4_6").items():
        figures = quality.measure(Session(folder))
        divergences[name] = figures["kl"], figures["kl_error"]
    calibrated.assert_mixed_serves_better(f"{model} mixed_4_6", divergences)
