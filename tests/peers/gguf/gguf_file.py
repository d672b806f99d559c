"""Reads a GGUF file into records that can be changed, and writes it back. Knows GGUF version 3."""
import hashlib
import struct
from dataclasses import dataclass, field

ALIGNMENT = 32
STRING, ARRAY = 8, 9
SCALARS = {0: ("uint8", "<B"), 1: ("int8", "<b"), 2: ("uint16", "<H"), 3: ("int16", "<h"), 4: ("uint32", "<I"),
           5: ("int32", "<i"), 6: ("float32", "<f"), 7: ("bool", "<?"), 10: ("uint64", "<Q"), 11: ("int64", "<q"),
           12: ("float64", "<d")}


@dataclass
class Value:
    type: int
    raw: bytes                 # as stored, after the type
    value: object
    element_type: int = None   # of an array
    raw_elements: bytes = b""


@dataclass
class Tensor:
    dims: tuple                # fastest first
    type: int
    data: bytes                # with the padding that follows it


@dataclass
class GgufFile:
    metadata: dict = field(default_factory=dict)   # key -> Value
    tensors: dict = field(default_factory=dict)    # name -> Tensor

    def write(self, path):
        header = struct.pack("<4sIQQ", b"GGUF", 3, len(self.tensors), len(self.metadata))
        for key, value in self.metadata.items():
            header += _string(key) + struct.pack("<I", value.type) + value.raw
        offset = 0
        for name, tensor in self.tensors.items():
            header += _string(name) + struct.pack("<I", len(tensor.dims))
            header += struct.pack(f"<{len(tensor.dims)}QIQ", *tensor.dims, tensor.type, offset)
            offset += len(tensor.data)
        header += bytes(-len(header) % ALIGNMENT)
        path.write_bytes(header + b"".join(tensor.data for tensor in self.tensors.values()))
        return path

    def set_scalar(self, key, value):
        old = self.metadata[key]
        raw = struct.pack(SCALARS[old.type][1], value)
        self.metadata[key] = Value(old.type, raw, value)


def read(path):
    """The whole file, small ones only."""
    content = path.read_bytes()
    cursor = _Cursor(content)
    magic, version, n_tensors, n_metadata = cursor.unpack("<4sIQQ")
    assert (magic, version) == (b"GGUF", 3)
    file = GgufFile()
    for _ in range(n_metadata):
        key = cursor.string().decode()
        file.metadata[key] = cursor.typed_value()
    places = []
    for _ in range(n_tensors):
        name = cursor.string().decode()
        (n_dims,) = cursor.unpack("<I")
        dims = cursor.unpack(f"<{n_dims}Q")
        places.append((name, dims, *cursor.unpack("<IQ")))
    start = cursor.at + -cursor.at % ALIGNMENT
    # A tensor's bytes, padding included, reach to the next tensor or to the end of the file.
    ends = sorted(offset for *_, offset in places) + [len(content) - start]
    for name, dims, tensor_type, offset in places:
        end = next(e for e in ends if e > offset)
        file.tensors[name] = Tensor(dims, tensor_type, content[start + offset:start + end])
    return file


def listing(file):
    """Metadata in the form of tests/data/golden/gguf/*.json (tools/goldens_gguf.py); phiq's own keys left out."""
    metadata = {}
    for key, value in file.metadata.items():
        if key.startswith("phiq."):
            continue
        if value.type != ARRAY:
            name = "string" if value.type == STRING else SCALARS[value.type][0]
            metadata[key] = [name, value.value]
            continue
        name = "string" if value.element_type == STRING else SCALARS[value.element_type][0]
        shown = value.value
        if len(shown) > 64:
            shown = {"count": len(shown), "sha256": hashlib.sha256(value.raw_elements).hexdigest(),
                     "first": shown[:3], "last": shown[-3:]}
        metadata[key] = [f"[{name}]", shown]
    return metadata


class _Cursor:
    def __init__(self, content):
        self.content = content
        self.at = 0

    def unpack(self, layout):
        values = struct.unpack_from(layout, self.content, self.at)
        self.at += struct.calcsize(layout)
        return values

    def string(self):
        (length,) = self.unpack("<Q")
        self.at += length
        return self.content[self.at - length:self.at]

    def value(self, value_type):
        if value_type == STRING:
            return self.string().decode("utf-8", "replace")
        return self.unpack(SCALARS[value_type][1])[0]

    def typed_value(self):
        (value_type,) = self.unpack("<I")
        begin = self.at
        if value_type != ARRAY:
            value = self.value(value_type)
            return Value(value_type, self.content[begin:self.at], value)
        element_type, count = self.unpack("<IQ")
        first = self.at
        values = [self.value(element_type) for _ in range(count)]
        return Value(value_type, self.content[begin:self.at], values, element_type, self.content[first:self.at])


def _string(text):
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded
