"""Weights are NNCF's to the byte, and the plugin computes with them as they are stored."""
import hashlib
import json
import xml.etree.ElementTree as ElementTree

import pytest

from outputs import FLOATS, OPTIONS
from program import DATA
from runtime import Session, read_model

N_LAYERS = 4


def constants(folder):
    """Name -> attributes and bytes of every constant of the model."""
    data = (folder / "openvino_model.bin").read_bytes()
    found = {}
    for layer in ElementTree.parse(folder / "openvino_model.xml").iter("layer"):
        if layer.get("type") == "Const":
            place = layer.find("data").attrib
            first = int(place["offset"])
            found[layer.get("name")] = place, data[first:first + int(place["size"])]
    return found


@pytest.mark.parametrize("build", [build for build in OPTIONS if build not in FLOATS])
def test_constants_are_nncfs_to_the_byte(outputs, model, build):
    golden = json.loads((DATA / "golden" / "openvino" / "weights" / f"{model}.json").read_text())[build]
    found = constants(outputs.of(build))
    for name, wanted in golden["constants"].items():
        place, data = found[name]
        assert place["element_type"] == wanted["type"], name
        assert place["shape"] == ", ".join(map(str, wanted["shape"])), name
        assert hashlib.sha256(data).hexdigest() == wanted["sha256"], name
    # Nothing else is quantized.
    codes = {name for name, (place, _) in found.items() if place["element_type"] in ("u8", "i8", "u4", "i4")}
    assert codes == {name for name, wanted in golden["constants"].items()
                     if wanted["type"] in ("u8", "i8", "u4", "i4")}


# Where the plugin's own types of layers say that it took a part of the graph as a whole.
FUSED = {"ScaledDotProductAttention": N_LAYERS, "MemoryInput": 2 * N_LAYERS, "MemoryOutput": 2 * N_LAYERS,
         "RoPE": 2 * N_LAYERS, "RMS": 2 * N_LAYERS + 1, "FullyConnected": 4 * N_LAYERS + 1,
         "MatMul": 1, "Gather": 4, "Concatenation": 2, "Softmax": 0, "StridedSlice": 0}
WEIGHT_TYPES = {"fp32": {"f32"}, "fp16": {"f16"}, "bf16": {"bf16"}, "int8": {"u8"}, "int8-sym": {"i8", "u8"},
                "int4": {"u8", "i4"}, "int4-asym-r1": {"u8", "u4"}, "int4-row": {"u8", "i4"},
                "int4-asym-row": {"u8", "u4"}}


@pytest.mark.parametrize("build", WEIGHT_TYPES)
def test_the_plugin_fuses_the_graph_and_keeps_weights_as_stored(outputs, build):
    layers = Session(outputs.of(build)).layers()
    assert {name: len(layers[name]) for name in FUSED} == FUSED
    # Attention that holds its cache has three outputs.
    assert {len(node.outputs()) for node in layers["ScaledDotProductAttention"]} == {3}
    types = {node.input(1).get_element_type().get_type_name() for node in layers["FullyConnected"]}
    assert types <= WEIGHT_TYPES[build] and (build == "bf16" or types)
    # An embedding that is looked up as it is stored brings its scales along.
    n_inputs = sorted(len(node.inputs()) for node in layers["Gather"])
    assert n_inputs[-1] == (3 if build in FLOATS else 5 if build != "int8-sym" else n_inputs[-1])


@pytest.mark.parametrize("build", ["fp32", "fp16", "int8", "int4"])
def test_paged_attention_takes_the_graph(outputs, build):
    from openvino._offline_transformations import paged_attention_transformation
    model = read_model(outputs.of(build))
    paged_attention_transformation(model)
    types = [node.get_type_name() for node in model.get_ops()]
    assert types.count("PagedAttentionExtension") == N_LAYERS
    assert "ReadValue" not in types and "ScaledDotProductAttention" not in types
    # Two caches a layer; ids, positions and where the texts and their blocks are.
    names = {name for value in model.inputs for name in value.names}
    assert {"input_ids", "position_ids"} <= names and not names & {"attention_mask", "beam_idx"}
