"""Reads .litertlm and .tflite files by the public description of FlatBuffers: what stands at which byte,
so that tests can hold it against the checkpoint, and spoil it."""
import struct

import numpy as np

SECTION_TYPES = {3: "model", 4: "tokenizer.model", 5: "metadata", 6: "tokenizer.json"}
TYPES = {0: "FLOAT32", 1: "FLOAT16", 2: "INT32", 9: "INT8", 17: "INT4"}


class Table:
    def __init__(self, data, at):
        self.data, self.at = data, at
        self.vtable = at - struct.unpack_from("<i", data, at)[0]

    def place(self, field):
        """Where a field stands; None: it is left out."""
        (n_bytes,) = struct.unpack_from("<H", self.data, self.vtable)
        if 4 + 2 * field >= n_bytes:
            return None
        (offset,) = struct.unpack_from("<H", self.data, self.vtable + 4 + 2 * field)
        return self.at + offset if offset else None

    def number(self, field, form="<i", default=0):
        place = self.place(field)
        return default if place is None else struct.unpack_from(form, self.data, place)[0]

    def target(self, field):
        """Where an offset leads."""
        place = self.place(field)
        return None if place is None else place + struct.unpack_from("<I", self.data, place)[0]

    def table(self, field):
        target = self.target(field)
        return None if target is None else Table(self.data, target)

    def text(self, field):
        at = self.target(field)
        if at is None:
            return ""
        (n_bytes,) = struct.unpack_from("<I", self.data, at)
        return bytes(self.data[at + 4:at + 4 + n_bytes]).decode()

    def array(self, field, dtype="<i4"):
        at = self.target(field)
        if at is None:
            return np.array([], dtype)
        (n,) = struct.unpack_from("<I", self.data, at)
        return np.frombuffer(self.data, dtype, n, at + 4)

    def tables(self, field):
        at = self.target(field)
        if at is None:
            return []
        (n,) = struct.unpack_from("<I", self.data, at)
        places = [at + 4 + 4 * i for i in range(n)]
        return [Table(self.data, place + struct.unpack_from("<I", self.data, place)[0]) for place in places]


def root(data, begin=0):
    return Table(data, begin + struct.unpack_from("<I", data, begin)[0])


class Model:
    """Of the bytes of a .tflite file."""

    def __init__(self, data):
        self.data = data
        self.root = root(data)
        self.buffers = self.root.tables(4)
        self.graphs = {graph.text(4): graph for graph in self.root.tables(2)}
        self.metadata = {entry.text(0): bytes(self.content(entry.number(1, "<I"))) for entry in self.root.tables(6)}

    def content(self, index):
        buffer = self.buffers[index]
        inside = buffer.array(0, "u1")
        if len(inside):
            return inside
        return np.frombuffer(self.data, "u1", buffer.number(2, "<Q"), buffer.number(1, "<Q"))

    def tensors(self, graph="decode"):
        """Name -> tensor of the constants that lie behind the flatbuffer."""
        found = {}
        for tensor in self.graphs[graph].tables(0):
            if self.buffers[tensor.number(2, "<I")].number(2, "<Q"):
                found[tensor.text(3)] = tensor
        return found

    def weight(self, name):
        """The floats that a weight stands for: the formulas of docs/formats/litert.md."""
        tensors = self.graphs["decode"].tables(0)
        tensor = self.tensors()[name]
        shape, type = tensor.array(0), TYPES[tensor.number(1, "<b")]
        content = self.content(tensor.number(2, "<I"))
        if type == "FLOAT32":
            return content.view("<f4").reshape(shape)
        if type == "INT8":
            codes = content.view("i1")
        else:
            codes = np.stack([content & 15, content >> 4], axis=-1).reshape(-1).astype("i1")
            codes = np.where(codes > 7, codes - 16, codes)
        codes = codes.reshape(shape).astype("f4")
        quantization = tensor.table(4)
        if quantization.number(4, "<B") == 2:
            blocks = quantization.table(5)
            scales = self.content(tensors[blocks.number(0)].number(2, "<I")).view("<f2").astype("f4")
            scales = np.repeat(scales.reshape(shape[0], -1), blocks.number(2), axis=1)
        else:
            assert quantization.number(6) == 0 and not quantization.array(3, "<i8").any()
            scales = quantization.array(2, "<f4")[:, None]
        return codes * scales, codes, scales


def sections(data):
    """What a bundle holds: name -> (begin, end)."""
    assert data[:8] == b"LITERTLM" and struct.unpack_from("<III", data, 8) == (1, 7, 0)
    (end,) = struct.unpack_from("<Q", data, 24)
    header = root(bytes(data[:end]), 32)
    return {SECTION_TYPES[section.number(3, "<B")]: (section.number(1, "<Q"), section.number(2, "<Q"))
            for section in header.table(1).tables(0)}
