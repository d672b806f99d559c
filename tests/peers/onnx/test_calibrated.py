"""What a text is worth in onnxruntime, whose products quantize activations to 8 bits at accuracy level 4.

Sums of pairs of products of 4 and 8 bits fit in 16 bits: this holds on processors without VNNI too.
"""
import onnx

import calibrated
from quality import WINDOW, Quality
from runtime import Session

N_WINDOWS = 16  # the last ones of the text: far behind the half that was calibrated on


def widths_and_levels(folder):
    """All (bits, accuracy level) of the graph's products with codes."""
    nodes = onnx.load(folder / "model.onnx", load_external_data=False).graph.node
    attributes = [{a.name: a.i for a in node.attribute} for node in nodes if node.op_type == "MatMulNBits"]
    return {(found["bits"], found["accuracy_level"]) for found in attributes}


def test_each_method_serves_unseen_text_better_than_the_one_before(model, heldout_ids, fp32, tmp_path):
    quality = Quality(heldout_ids[-N_WINDOWS * WINDOW:], fp32, N_WINDOWS)
    divergences = {}
    options = ("--format", "onnx", "--type", "int4", "--accuracy-level", "4")
    for method, folder in calibrated.files(model, tmp_path, *options).items():
        assert widths_and_levels(folder) == {(4, 4)}
        figures = quality.measure(Session(folder))
        divergences[method] = figures["kl"], figures["kl_error"]
    calibrated.assert_each_serves_better(f"{model} int4", divergences)


def test_types_chosen_for_a_size_serve(model, heldout_ids, fp32, tmp_path):
    quality = Quality(heldout_ids[-N_WINDOWS * WINDOW:], fp32, N_WINDOWS)

    def divergence(folder):
        return quality.measure(Session(folder))["kl"]
    types = [("--type", type, "--tensor-type", f"embed_tokens={type}") for type in ("int4", "int8")]
    calibrated.assert_between_its_types(model, tmp_path, ("--format", "onnx"), types, divergence)
    assert {bits for bits, _ in widths_and_levels(tmp_path / "mixed")} == {4, 8}
