"""A small GGUF reader for tests, written from the format's description (docs/formats/gguf.md)."""
import mmap
import struct
from dataclasses import dataclass

SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
# code -> (name, weights in a block, bytes of a block)
TYPES = {0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
         7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
         12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 20: ("IQ4_NL", 32, 18),
         23: ("IQ4_XS", 256, 136), 30: ("BF16", 1, 2)}


@dataclass
class Tensor:
    type: str
    shape: tuple      # rows first
    position: int     # of its bytes in the file
    content: bytes


def read_gguf(path):
    """(metadata: key -> value, tensors: name -> Tensor), both in file order."""
    with open(path, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    at = 0

    def take(form):
        nonlocal at
        value, = struct.unpack_from(form, data, at)
        at += struct.calcsize(form)
        return value

    def string():
        nonlocal at
        n = take("<Q")
        at += n
        return data[at - n:at].decode()

    def value(kind):
        if kind == 8:
            return string()
        if kind == 9:
            kind, n = take("<i"), take("<Q")
            return [value(kind) for _ in range(n)]
        return take(SCALARS[kind])

    assert data[:4] == b"GGUF"
    at = 4
    assert take("<I") == 3
    n_tensors, n_keys = take("<q"), take("<q")
    metadata = {}
    for _ in range(n_keys):
        key = string()
        metadata[key] = value(take("<i"))
    infos = []
    for _ in range(n_tensors):
        name = string()
        dims = [take("<q") for _ in range(take("<I"))]
        infos.append((name, dims, take("<i"), take("<Q")))
    start = (at + 31) // 32 * 32
    tensors = {}
    for name, dims, code, offset in infos:
        type, block, block_bytes = TYPES[code]
        n = 1
        for dim in dims:
            n *= dim
        size = n // block * block_bytes
        begin = start + offset
        tensors[name] = Tensor(type, tuple(reversed(dims)), begin, data[begin:begin + size])
    data.close()  # the functions above know each other: they would keep it
    return metadata, tensors
