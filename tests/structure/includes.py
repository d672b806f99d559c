"""The include rule: which room may include which, and the check of a source tree against it.

Rooms are the folders of src; a public header in include/phiq belongs to the room that implements
it. docs/architecture.md draws the rule.
"""
import pathlib
import re

# What a room may include besides itself.
BELOW = {
    "base": set(),
    "kernels": {"base"},
    "quantize": {"kernels", "base"},
    "io": {"base"},
    "checkpoint": {"io", "base"},
    "model": {"checkpoint", "io", "kernels", "base"},
    "stored": {"model", "checkpoint", "io", "kernels", "base"},
    "plan": {"model", "quantize", "checkpoint", "io", "kernels", "base"},
    "safetensors": {"checkpoint", "base"},
    # What the formats share stands in src/formats itself.
    "formats/gguf": {"formats", "stored", "plan", "model", "checkpoint", "io", "kernels", "base"},
    "formats/litert": {"formats", "stored", "plan", "model", "checkpoint", "io", "kernels", "base"},
    "formats/mlx": {"formats", "safetensors", "stored", "plan", "model", "checkpoint", "io", "kernels", "base"},
    "formats/onnx": {"formats", "stored", "plan", "model", "checkpoint", "io", "kernels", "base"},
    "formats/openvino": {"formats", "stored", "plan", "model", "checkpoint", "io", "kernels", "base"},
    "formats/torch": {"formats", "safetensors", "stored", "plan", "model", "checkpoint", "io", "kernels", "base"},
    "formats/pretrained": {"formats", "safetensors", "stored", "plan", "model", "checkpoint", "io", "kernels", "base"},
    "formats": {"safetensors", "stored", "plan", "model", "checkpoint", "io", "kernels", "base"},
    "engine": {"formats", "stored", "plan", "model", "checkpoint", "io", "kernels", "base"},
    "calibrate": {"engine", "stored", "quantize", "model", "checkpoint", "io", "kernels", "base"},
    "convert": {"calibrate", "engine", "formats", "stored", "plan", "model", "quantize", "checkpoint", "io", "kernels", "base"},
}

ROOM_OF_PUBLIC_HEADER = {
    "error.h": "base", "text.h": "base", "hooks.h": "base",
    "file.h": "io",
    "encoding.h": "kernels", "ggml_type.h": "kernels", "quantize.h": "quantize",
    "checkpoint.h": "checkpoint",
    "model.h": "model", "tokenizer.h": "model",
    "plan.h": "plan",
    "format.h": "formats", "profile.h": "formats",
    "calibration.h": "convert", "convert.h": "convert", "inspect.h": "convert",
    "divergence.h": "engine",
    "compare.h": "convert", "evaluate.h": "convert",
}

# Third parties that only the program may use; the library prints nothing.
ONLY_IN_TOOLS = ("CLI/", "spdlog/")

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.MULTILINE)


def room_of(path):
    """The room of a path below src ("formats/gguf/layout.h"), None outside every room."""
    return next((room for room in BELOW if path.startswith(room + "/")), None)


# Files in src/formats that may name formats: the list of them.
LISTS = ("list.cpp",)
# Words for people about inputs that are something else than a checkpoint.
NAMING = {"src/checkpoint/safetensors_header.cpp": ("gguf",), "src/model/config.cpp": ("mlx",),
          "src/checkpoint/diagnosis.cpp": ("gguf", "mlx", "onnx", "openvino"),
          "src/checkpoint/lookalike.cpp": ("gguf",), "src/model/find_weights.cpp": ("mlx",),
          "src/formats/torch/plan.cpp": ("mlx",),
          "tools/phiq/peer_words.cpp": ("mlx", "openvino")}
COMMENTS_AND_EXAMPLES = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"', re.DOTALL)


def formats_of(root):
    """The folders that define a format."""
    return sorted(path.parent.name for path in (pathlib.Path(root) / "src" / "formats").glob("*/format.cpp"))


def names_outside(root):
    """Every place but its folder and the list that names a format, as 'file: "name"'."""
    root = pathlib.Path(root)
    formats = formats_of(root)
    word = re.compile(rf"\b({'|'.join(formats)})\b", re.IGNORECASE)
    found = []
    for top in ("include", "src", "tools"):
        for path in sorted((root / top).rglob("*")):
            name = path.relative_to(root).as_posix()
            inside = [f for f in formats if name.startswith(f"src/formats/{f}/")]
            # Kernels and methods carry the names of those whose blocks they are.
            if path.suffix not in (".h", ".cpp") or name in [f"src/formats/{list_}" for list_ in LISTS] \
                    or name.startswith(("src/kernels/", "src/quantize/")):
                continue
            code = COMMENTS_AND_EXAMPLES.sub("", path.read_text())
            for match in sorted({match.lower() for match in word.findall(code)}):
                if match not in inside and match not in NAMING.get(name, ()):
                    found.append(f'{name}: "{match}"')
    return found


def violations(root):
    """Every include of the tree at `root` that the rule forbids, as 'file: "header": why'."""
    root = pathlib.Path(root)
    found = []
    for top in ("include", "src", "tools"):
        for path in sorted((root / top).rglob("*")):
            if path.suffix in (".h", ".cpp"):
                for quote, header in INCLUDE.findall(path.read_text()):
                    why = _objection(root, path, quote, header)
                    if why:
                        found.append(f'{path.relative_to(root)}: "{header}": {why}')
    return found


def _objection(root, path, quote, header):
    in_tools = path.is_relative_to(root / "tools")
    if quote == "<":
        if header.startswith("phiq/"):
            return "our own headers are included with quotes"
        if not in_tools and header.startswith(ONLY_IN_TOOLS):
            return "only tools may use this library"
        return None
    if in_tools:
        if header.startswith("phiq/") or (path.parent / header).is_file():
            return None
        return "tools may include only phiq/ and their own folder"

    public = path.is_relative_to(root / "include")
    if public:
        room = ROOM_OF_PUBLIC_HEADER.get(path.name)
        if room is None:
            return f"{path.name} belongs to no room"
        if not header.startswith("phiq/"):
            return "a public header may include only public headers"
    else:
        name = path.relative_to(root / "src").as_posix()
        room = room_of(name)
        if room is None:
            return "this file is in no room"
        if name in [f"formats/{list_}" for list_ in LISTS] and header.endswith("/format.h"):
            return None

    if header.startswith("phiq/"):
        other = ROOM_OF_PUBLIC_HEADER.get(header.removeprefix("phiq/"))
    elif not (root / "src" / header).is_file() and header.endswith(".pb.h"):
        other = room  # generated where it is used
    else:
        other = room_of(header)
    if other is None:
        return "names no room (write the path from src)"
    if other != room and other not in BELOW[room]:
        return f"{room} may not include {other}"
    return None
