"""The folders hold what onnxruntime-genai's builder writes: the same weights, bit for bit, and the
same graph but for the differences that are listed here, each with its reason."""
import copy
import json
import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import listing
from outputs import OPTIONS, golden
from program import DATA, SOURCE

FLOAT, FLOAT16 = 1, 10

# The builds of tools/goldens_onnx.py, in both models but for these.
TIED_ONLY = {"int4-unshared", "int4-asym-unshared", "int4-gather-unshared"}
UNTIED_ONLY = {"int4-gather"}
# The builder writes folders that onnxruntime refuses; the listing says why. Ours load (test_runtimes).
FAILS_WHEN_TIED = {"int4-asym", "int4-asym-bs64", "int4-last-int8"}


def load(folder):
    return onnx.load(folder / "model.onnx")


# --- weights ---------------------------------------------------------------------------------

def test_the_listing_has_every_build(model, tied):
    builds = golden("weights", model)
    assert builds.keys() == OPTIONS.keys() - (UNTIED_ONLY if tied else TIED_ONLY)
    assert {name for name, build in builds.items() if "failure" in build} == (FAILS_WHEN_TIED if tied else set())


@pytest.mark.parametrize("build", OPTIONS)
def test_weights_are_the_builders(outputs, model, tied, build):
    if build in (UNTIED_ONLY if tied else TIED_ONLY) or (tied and build in FAILS_WHEN_TIED):
        return
    ours = load(outputs.of(*OPTIONS[build]))
    assert differences(listing.weights_of(ours), golden("weights", model)[build]["initializers"],
                       rotary_tables(ours)) == []


def test_fp16_on_cpu_has_the_weights_of_cuda(outputs, model):
    """The builder's own FP16 graph for the cpu is another one; the weights are the same."""
    ours = load(outputs.of("--type", "fp16"))
    wanted = golden("weights", model)["cuda-fp16"]["initializers"]
    assert differences(listing.weights_of(ours), wanted, rotary_tables(ours)) == []


def differences(ours, theirs, tables):
    """What differs in the names, types, dimensions and bytes of two sets of initializers; our rotary
    tables, which the builder keeps inside of an If, are compared elsewhere."""
    ours = {name: value for name, value in ours.items() if name not in tables}
    theirs = {name: value for name, value in theirs.items() if name not in tables}
    found = [f"{name}: only in one folder" for name in sorted(ours.keys() ^ theirs.keys())]
    for name in sorted(ours.keys() & theirs.keys()):
        if ours[name][:2] != theirs[name][:2]:
            found.append(f"{name}: type and dimensions {ours[name][:2]}, wanted {theirs[name][:2]}")
        elif ours[name] != theirs[name]:
            found.append(f"{name}: other bytes")
    return found


def test_a_changed_bit_is_a_difference(outputs, model):
    changed = load(outputs.of(*OPTIONS["int4"]))
    codes = next(tensor for tensor in changed.graph.initializer
                 if tensor.name == "model.layers.1.mlp.down_proj.MatMul.weight_Q4")
    codes.raw_data = codes.raw_data[:77] + bytes([codes.raw_data[77] ^ 16]) + codes.raw_data[78:]
    wanted = golden("weights", model)["int4"]["initializers"]
    assert differences(listing.weights_of(changed), wanted, rotary_tables(changed)) == [f"{codes.name}: other bytes"]


@pytest.mark.parametrize("build", ["int4", "int8-k_quant"])
def test_weights_are_those_of_a_builder_run_here(outputs, model, tmp_path, build):
    """The listing is of this builder: tools/goldens makes an environment that can run it."""
    # Not "torch", which is also the name of a folder of tests.
    pytest.importorskip("torch.nn", reason="the builder needs torch, which only tools/goldens installs")
    sys.path.append(str(SOURCE / "tools"))
    import goldens_onnx
    precision, provider, extra = goldens_onnx.WEIGHT_BUILDS[build]
    theirs = load(goldens_onnx.build(DATA / model, tmp_path / "builder", precision, provider, extra))
    ours = load(outputs.of(*OPTIONS[build]))
    assert differences(listing.weights_of(ours), listing.weights_of(theirs), rotary_tables(ours)) == []


# --- rotary tables ---------------------------------------------------------------------------

def rotary_tables(model):
    """{name in the builder's branches: array} under our own names: the tables that the branches of
    the If read, or cos_cache and sin_cache where there is no If."""
    arrays = {tensor.name: tensor for tensor in model.graph.initializer}
    branches = [attribute.g for node in model.graph.node if node.op_type == "If" for attribute in node.attribute]
    if not branches:
        return {name: arrays[name] for name in ("cos_cache", "sin_cache")}
    return {node.input[0]: arrays[node.input[0]] for branch in branches for node in branch.node}


def tables_by_output(model):
    tables = rotary_tables(model)
    return {node.output[0]: numpy_helper.to_array(tables[node.input[0]]) for if_node in model.graph.node
            if if_node.op_type == "If" for branch in if_node.attribute for node in branch.g.node}


# The tables are computed in float32 from cosines that two C libraries round differently in the last
# bit: 2^-23 for values from 1 to 2, and as much again for the product with the attention factor.
# float16: one unit in the last place, where the float32 value lies near a tie.
TABLE_BOUNDS = {"fp32": 2 * 2.0**-23, "fp16": 2.0**-10}


@pytest.mark.parametrize("file_type", TABLE_BOUNDS)
def test_rotary_tables_are_the_builders(outputs, model, file_type):
    tables = tables_by_output(load(outputs.of("--type", file_type)))
    wanted = golden("rope", model)
    assert tables.keys() == wanted.keys() and len(wanted) == 4
    for name, table in wanted.items():
        assert list(tables[name].shape) == table["dims"]
        for row, values in table["rows"].items():
            difference = np.abs(tables[name][int(row)].astype(np.float64) - values).max()
            assert difference <= TABLE_BOUNDS[file_type], (name, row)


def test_dml_has_the_short_table_above_the_long_one(outputs):
    """There is no If: the graph adds the limit to the positions of a long text."""
    one = {tensor.name: numpy_helper.to_array(tensor) for tensor in load(
        outputs.of("--type", "fp16", "--ep", "dml")).graph.initializer if tensor.name in ("cos_cache", "sin_cache")}
    branches = tables_by_output(load(outputs.of("--type", "fp16")))
    for kind in ("cos", "sin"):
        both = np.concatenate([branches[f"{kind}_cache_small"], branches[f"{kind}_cache_large"]])
        assert np.array_equal(one[f"{kind}_cache"], both)


# --- graphs ----------------------------------------------------------------------------------

GRAPHS = sorted(path.stem.split("-tiny-")[1] for path in (DATA / "golden" / "onnx" / "graphs").glob("phi35-tiny-*"))


def opset_21(listed, config):
    """Opset 22 is refused by onnxruntime 1.20; no node needs it."""
    assert listed["opset"][""] == 22
    listed["opset"][""] = 21


def no_empty_inputs_at_the_end(listed, config):
    """GroupQueryAttention had fewer inputs before 1.24: those left empty are not written."""
    for node in nodes_of(listed, "GroupQueryAttention"):
        while node["inputs"][-1] == "":
            node["inputs"].pop()


def no_window_wider_than_the_context(listed, config):
    """The builder says -1, which is the default; windows have tests of their own."""
    for node in nodes_of(listed, "GroupQueryAttention"):
        assert node["attributes"].pop("local_window_size", -1) == -1


def head_size_in_the_cache(listed, config):
    """The builder names this dimension, for quantized caches. A number is accepted everywhere."""
    for name, _, dims in (*listed["graph"]["inputs"], *listed["graph"]["outputs"]):
        if name.startswith(("past_key_values", "present")):
            assert dims[3] == "kv_cache_dim"
            dims[3] = config["hidden_size"] // config["num_attention_heads"]


def rotary_tables_in_the_data_file(listed, config):
    """Constants inside of a branch stand in model.onnx itself, 52 MB for Phi-3.5-mini. Each branch
    reads tables of the main graph with two Identity nodes."""
    for node in nodes_of(listed, "If"):
        for branch in node["attributes"].values():
            for constant in branch["graph"]["nodes"]:
                dtype, dims, _ = constant["attributes"].pop("value")["tensor"]
                name = "model.rope." + constant["outputs"][0]
                constant |= {"name": constant["name"].replace("Constant", "Identity"), "op": "Identity",
                             "inputs": [name], "attributes": {}}
                listed["graph"]["initializers"].append([name, dtype, dims])


def no_sliding_window_in_the_configuration(listed, config):
    """Runtimes refuse some of its keys and shapes; the graph has the window."""
    listed["genai_config"]["model"]["decoder"].pop("sliding_window", None)


def no_tool_call_tokens(listed, config):
    """Keys for tool calls that came with 0.18: to older runtimes an unknown key is an error."""
    for key in ("bot_token_id", "eot_token_id"):
        listed["genai_config"]["model"].pop(key, None)


def moderate_max_length(listed, config):
    """A cache of this many tokens is reserved at once: 103 GB for the context of Phi-3.5-mini. (The
    tiny models' context is no longer than our default.)"""
    search = listed["genai_config"]["search"]
    search["max_length"] = min(search["max_length"], 4096)


DIFFERENCES = [opset_21, no_empty_inputs_at_the_end, no_window_wider_than_the_context, head_size_in_the_cache,
               rotary_tables_in_the_data_file, no_sliding_window_in_the_configuration, no_tool_call_tokens,
               moderate_max_length]


def nodes_of(listed, op):
    return [node for node in listed["graph"]["nodes"] if node["op"] == op]


def by_name(listed):
    """The order of nodes, inputs and initializers means nothing: onnxruntime checks that a node
    comes after those it reads."""
    listed = copy.deepcopy(listed)
    graph = listed["graph"]
    for key in ("inputs", "outputs", "initializers"):
        graph[key] = {name: rest for name, *rest in graph[key]}
    nodes = {node["name"]: node for node in graph["nodes"]}
    assert len(nodes) == len(graph["nodes"])
    graph["nodes"] = nodes
    return listed


@pytest.mark.parametrize("graph", GRAPHS)
def test_graph_is_the_builders_but_for_the_differences_listed(outputs, model, graph):
    provider, file_type = graph.split("-")
    folder = outputs.of("--type", file_type, "--ep", provider)
    ours = by_name(listing.listing_of(folder, load(folder)))
    theirs = golden("graphs", f"{model}-{graph}")
    config = json.loads((DATA / model / "config.json").read_text())
    for difference in DIFFERENCES:
        difference(theirs, config)
    theirs = by_name(theirs)
    for key in ("inputs", "outputs", "initializers", "nodes"):
        a, b = ours["graph"].pop(key), theirs["graph"].pop(key)
        assert a.keys() == b.keys(), key
        for name in a:
            assert a[name] == b[name], name
    assert ours == theirs


def test_there_are_eleven_graphs():
    assert len(GRAPHS) == 11


def test_fp32_for_cuda_is_refused(outputs):
    """The builder writes a graph that onnxruntime refuses: there is no attention operator for it."""
    code, message = outputs.refusal("--type", "fp32", "--ep", "cuda")
    assert code == 6, message
    assert "fp32" in message and "cuda" in message


# --- the checker -----------------------------------------------------------------------------

@pytest.mark.parametrize("file_type", ["fp32", "fp16", "int8", "int4"])
def test_the_checker_accepts_the_folder(outputs, tmp_path, file_type):
    """A copy in which onnxruntime's SimplifiedLayerNormalization, which has no schema in ONNX, is the
    RMSNormalization of opset 23."""
    folder = outputs.of("--type", file_type)
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    norms = [node for node in model.graph.node if node.op_type == "SimplifiedLayerNormalization"]
    assert len(norms) == 1
    norms[0].op_type = "RMSNormalization"
    model.opset_import[0].version = 23
    model.ir_version = 11  # the first with opset 23
    onnx.save(model, tmp_path / "model.onnx")
    (tmp_path / "model.onnx.data").write_bytes((folder / "model.onnx.data").read_bytes())
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=False)
