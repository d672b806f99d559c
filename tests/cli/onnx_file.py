"""Writes ONNX files for tests, from protobuf's wire format and the field numbers of onnx.proto."""
import struct

FLOAT, UINT8, INT8, INT64, FLOAT16, BFLOAT16, UINT4, INT4 = 1, 2, 3, 7, 10, 16, 21, 22


def varint(value):
    value &= 2**64 - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(field, wire_type):
    return varint(field << 3 | wire_type)


def number(field, value):
    return tag(field, 0) + varint(value)


def blob(field, content):
    """A string, bytes or a message."""
    content = content if isinstance(content, bytes) else content.encode()
    return tag(field, 2) + varint(len(content)) + content


def tensor(name, type, dims, content=None):
    """TensorProto; `content` is its raw_data."""
    out = b"".join(number(1, dim) for dim in dims) + number(2, type) + blob(8, name)
    return out if content is None else out + blob(9, content)


def external(name, type, dims, *entries):
    """TensorProto with external_data of (key, value) pairs."""
    return tensor(name, type, dims) + \
        b"".join(blob(13, blob(1, key) + blob(2, value)) for key, value in entries) + number(14, 1)


def attribute(name, value):
    """AttributeProto: an integer, a list of integers, or the bytes of a graph."""
    if isinstance(value, bytes):
        return blob(1, name) + blob(6, value) + number(20, 5)
    if isinstance(value, int):
        return blob(1, name) + number(3, value) + number(20, 2)
    return blob(1, name) + b"".join(number(8, v) for v in value) + number(20, 7)


def node(op, name, inputs, outputs, domain="", **attributes):
    return b"".join(blob(1, i) for i in inputs) + b"".join(blob(2, o) for o in outputs) + \
        blob(3, name) + blob(4, op) + (blob(7, domain) if domain else b"") + \
        b"".join(blob(5, attribute(key, value)) for key, value in attributes.items())


def graph(nodes=(), initializers=(), inputs=("x",), outputs=()):
    return b"".join(blob(1, n) for n in nodes) + blob(2, "main_graph") + \
        b"".join(blob(5, t) for t in initializers) + \
        b"".join(blob(11, blob(1, i)) for i in inputs) + b"".join(blob(12, blob(1, o)) for o in outputs)


def model(content, *more):
    """ModelProto of a graph's bytes, with further fields behind it."""
    return number(1, 10) + blob(2, "phiq tests") + blob(7, content) + blob(8, number(2, 21)) + b"".join(more)


def f32(*values):
    return struct.pack(f"<{len(values)}f", *values)
