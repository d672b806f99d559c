"""What is in an MLX folder, in short: tests/data/golden/mlx/listing has what mlx-lm writes
(tools/goldens_mlx.py), the tests list what phiq writes."""
import json
import re
import struct


def options_of(build):
    """phiq's options for a build of tools/goldens_mlx.py, "4bit" or "4bit-g32"."""
    kind, _, group_size = build.partition("-g")
    return ["--type", kind, *(["--group-size", group_size] if group_size else [])]


def header_of(path):
    """The header of a safetensors file: {name: entry}, with "__metadata__"."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length))


def tensors_of(folder):
    """{name: "U32 768x32"}, type and shape of every tensor."""
    found = {}
    for path in sorted(folder.glob("model*.safetensors")):
        for name, entry in header_of(path).items():
            if name != "__metadata__":
                assert name not in found, name
                found[name] = f"{entry['dtype']} {'x'.join(map(str, entry['shape']))}"
    return found


def by_layers(tensors):
    """One line for the same tensor of all layers: {"layers.*.up.weight": {"U32 768x32": [0, 1, 3], ...}}"""
    found = {}
    for name, kind in tensors.items():
        layer = re.search(r"(?<=layers\.)\d+", name)
        line = found.setdefault(name.replace(f"layers.{layer[0]}.", "layers.*.") if layer else name, {})
        line.setdefault(kind, []).extend([int(layer[0])] if layer else [])
    return {name: {kind: sorted(layers) for kind, layers in sorted(line.items())}
            for name, line in sorted(found.items())}


def metadata_of(folder):
    """The metadata of the safetensors files, which are the same in all of them."""
    (metadata,) = {json.dumps(header_of(path)["__metadata__"], sort_keys=True)
                   for path in folder.glob("model*.safetensors")}
    return json.loads(metadata)


def config_text(source, changes):
    """config.json as mlx-lm writes it: the checkpoint's values with changes, in mlx-lm's order. It has
    "quantization" twice."""
    config = {**source, **changes}
    if "quantization" in config:
        config["quantization_config"] = config["quantization"]
    return json.dumps(dict(sorted(config.items())), indent=4)


def index_text(metadata, weight_map):
    return json.dumps({"metadata": metadata, "weight_map": dict(sorted(weight_map.items()))}, indent=4)
