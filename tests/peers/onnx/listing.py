"""Lists what is in a folder: digests of the weights, and the graph as plain values.

tools/goldens_onnx.py writes such listings of the builder's folders, the tests make them of ours.
"""
import hashlib
import json

from onnx import AttributeProto, helper, numpy_helper


def bytes_of(tensor):
    return tensor.raw_data if tensor.HasField("raw_data") else numpy_helper.to_array(tensor).tobytes()


def digest_of(tensor):
    """[data type, dims, sha256 of the bytes as stored]"""
    return [tensor.data_type, list(tensor.dims), hashlib.sha256(bytes_of(tensor)).hexdigest()]


def weights_of(model):
    return {tensor.name: digest_of(tensor) for tensor in model.graph.initializer}


def attribute_of(attribute):
    if attribute.type == AttributeProto.TENSOR:
        tensor = attribute.t
        small = len(bytes_of(tensor)) <= 64
        return {"tensor": [tensor.data_type, list(tensor.dims), numpy_helper.to_array(tensor).tolist()] if small
                else digest_of(tensor)}
    if attribute.type == AttributeProto.GRAPH:
        return {"graph": graph_of(attribute.g)}
    value = helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else value


def value_of(value):
    """[name, data type, dims]; a symbolic dimension is its name."""
    tensor = value.type.tensor_type
    return [value.name, tensor.elem_type, [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]]


def graph_of(graph):
    return {
        "name": graph.name,
        "inputs": [value_of(value) for value in graph.input],
        "outputs": [value_of(value) for value in graph.output],
        "initializers": [[tensor.name, tensor.data_type, list(tensor.dims)] for tensor in graph.initializer],
        "nodes": [{"name": node.name, "op": node.op_type, "domain": node.domain, "inputs": list(node.input),
                   "outputs": list(node.output), "attributes": {a.name: attribute_of(a) for a in node.attribute}}
                  for node in graph.node],
    }


def listing_of(folder, model):
    return {"opset": {imported.domain: imported.version for imported in model.opset_import},
            "ir_version": model.ir_version, "graph": graph_of(model.graph),
            "genai_config": json.loads((folder / "genai_config.json").read_text())}
