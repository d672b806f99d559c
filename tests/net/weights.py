"""Takes an output apart into the bytes of its tensors and all the rest, by the formats' descriptions in
docs/formats; nothing here knows how phiq reads or writes.

digests(path) gives two hashes. The first is of the tensors: name and content, in the order of their names,
so that it holds wherever they stand and however the file describes them. The second is of every other byte
of every file, and of the names of the files of a folder. phiq's version and the checksums that a file says of itself
are taken out of it: a new version changes no line, and what tensors hold is the first hash's alone.
"""
import hashlib
import json
import pathlib
import re
import struct
import xml.etree.ElementTree

import gguf_file
import litert_file


def gguf_tensors(path):
    return [(name, tensor.position, len(tensor.content)) for name, tensor in gguf_file.read_gguf(path)[1].items()]


def safetensors_tensors(data):
    length, = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + length])
    return [(name, 8 + length + begin, end - begin)
            for name, (begin, end) in ((name, entry["data_offsets"]) for name, entry in header.items()
                                       if name != "__metadata__")]


def ir_weights(xml_text):
    """The constants of an OpenVINO model, by the name of their layer. Small ones (numbers, shapes) may share
    bytes; they belong to the graph."""
    small = 256
    constants = [(layer.get("name"), layer.find("data")) for layer in
                 xml.etree.ElementTree.fromstring(xml_text).iter("layer") if layer.get("type") == "Const"]
    return [(name, int(data.get("offset")), int(data.get("size"))) for name, data in constants
            if int(data.get("size")) > small]


def litert_tensors(data):
    """The constants behind the flatbuffer, and the scales of rows, which stand inside of it."""
    begin, end = litert_file.sections(data)["model"]
    model, found = litert_file.Model(data[begin:end]), []
    for name, tensor in model.tensors().items():
        buffer = model.buffers[tensor.number(2, "<I")]
        found.append((name, begin + buffer.number(1, "<Q"), buffer.number(2, "<Q")))
        if tensor.place(4) is not None and (scales := tensor.table(4).target(2)) is not None:
            found.append((f"{name}/row scales", begin + scales + 4, 4 * len(tensor.table(4).array(2))))
    return found


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(data):
    """(field number, value) of a protobuf message; a number, or the bytes of anything longer."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        else:
            length, at = {1: (8, at), 5: (4, at)}.get(key & 7) or varint(data, at)
            value, at = data[at:at + length], at + length
        yield key >> 3, value


def every(data, number):
    return [value for field, value in fields(data) if field == number]


def graph_weights(data):
    """The arrays of an ONNX model that stand in its data file, of inner graphs too (branches of If)."""
    found = []
    graphs = every(data, 7)  # ModelProto.graph
    while graphs:
        graph = graphs.pop()
        for tensor in every(graph, 5):  # initializer
            entries = {every(e, 1)[0].decode(): every(e, 2)[0].decode() for e in every(tensor, 13)}
            assert set(entries) == {"location", "offset", "length"} and entries["location"] == "model.onnx.data"
            found.append((every(tensor, 8)[0].decode(), int(entries["offset"]), int(entries["length"])))
        graphs += [graph for node in every(graph, 1) for attribute in every(node, 5)  # node, attribute
                   for graph in every(attribute, 6) + every(attribute, 11)]           # g, graphs
    return found


def tensors_of(files):
    """file -> its tensors as (name, position, length)."""
    found = {}
    for name, content in files.items():
        if name.endswith(".safetensors"):
            found[name] = safetensors_tensors(content)
        elif name == "model.onnx":
            found["model.onnx.data"] = graph_weights(content)
        elif name == "openvino_model.xml":
            found["openvino_model.bin"] = ir_weights(content)
    return found


def digests(paths, version):
    """(tensors, rest) of an output: its files, or the one folder that it is."""
    paths = [pathlib.Path(path) for path in paths]
    if paths[0].is_dir():
        files = {path.name: path.read_bytes() for path in sorted(paths[0].iterdir())}
        tensors = tensors_of(files)
    else:
        files = {f"part {i}": path.read_bytes() for i, path in enumerate(paths)}
        tensors = {f"part {i}": litert_tensors(files[f"part {i}"]) if path.suffix == ".litertlm" else gguf_tensors(path)
                   for i, path in enumerate(paths)}
    contents, rest = [], hashlib.sha256()
    for name, content in files.items():
        end, gaps = 0, []
        for tensor, begin, length in sorted(tensors.get(name, []), key=lambda entry: entry[1]):
            assert end <= begin and begin + length <= len(content), (name, tensor)
            contents.append((tensor, hashlib.sha256(content[begin:begin + length]).hexdigest()))
            gaps.append(content[end:begin])
            end = begin + length
        gap = b"|".join(gaps + [content[end:]]).replace(version.encode(), b"VERSION")
        gap = re.sub(rb'(?<=")[0-9a-f]{32}(?=")', b"CHECKSUM", gap)
        rest.update(f"{name} {len(gap)}\n".encode() + gap)
    assert contents and len(dict(contents)) == len(contents), sorted(contents)
    text = "".join(f"{name} {digest}\n" for name, digest in sorted(contents))
    return hashlib.sha256(text.encode()).hexdigest()[:16], rest.hexdigest()[:16]
