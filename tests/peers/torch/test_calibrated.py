"""What a text is worth in transformers, in float32: codes and types chosen by one half of a text, measured on the other."""
import transformers

import calibrated
from program import DATA, HELDOUT
from quality import Quality
from runtime import Session

N_WINDOWS, WINDOW = 16, 256  # the last ones of the text: behind the half that was calibrated on


def test_each_method_serves_unseen_text_better_than_the_one_before(model, tmp_path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(DATA / model)
    ids = tokenizer.encode(HELDOUT.read_text(), add_special_tokens=False)
    quality = Quality(ids[-N_WINDOWS * WINDOW:], Session(DATA / model), N_WINDOWS, WINDOW)
    divergences = {}
    for method, folder in calibrated.files(model, tmp_path, "--format", "torch", "--type", "W4A16").items():
        figures = quality.measure(Session(folder))
        divergences[method] = figures["kl"], figures["kl_error"]
    calibrated.assert_each_serves_better(f"{model} W4A16", divergences)


# Half way between both types; what vLLM fuses (queries, keys and values; gate and up) is one matrix of a type in these models.
def test_types_chosen_for_a_size_serve(model, tmp_path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(DATA / model)
    ids = tokenizer.encode(HELDOUT.read_text(), add_special_tokens=False)
    quality = Quality(ids[-N_WINDOWS * WINDOW:], Session(DATA / model), N_WINDOWS, WINDOW)
    calibrated.assert_between_its_types(model, tmp_path, ("--format", "torch"), (("--type", "W4A16"), ("--type", "W8A16")),
                                        lambda folder: quality.measure(Session(folder))["kl"])
