"""Reads a safetensors file: {name: array}."""
import json
import struct

import numpy as np

TYPES = {"F32": np.float32, "I32": np.int32, "I64": np.int64}


def read(path):
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    return {name: np.frombuffer(data[8 + length:][slice(*entry["data_offsets"])],
                                TYPES[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in header.items()}
