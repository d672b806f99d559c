"""Names of a model's tensors stand in one place for each: the model's own file, and a table in each
format that has names of its own. Everything else asks by role.
"""
import pathlib
import re

# Where a checkpoint's or a runtime's names may stand.
PLACES = {
    "src/model/phi3.cpp",
    "src/model/phimoe.cpp",
    "src/formats/gguf/tensor_names.cpp",
    "src/formats/mlx/tensor_names.cpp",
    "src/formats/onnx/weight_names.cpp",
    "src/plan/tensor_rules.cpp",  # an example of a rule, in a hint
}

# Words of names that mean nothing else in this program.
WORDS = re.compile(r"\b(?:qkv|q|k|v|o|gate_up|gate|up|down)_proj\b|\bembed_tokens\b|\blm_head\b"
                   r"|\bself_attn\b|\binput_layernorm\b|\bpost_attention_layernorm\b"
                   r"|\btoken_embd\b|\battn_(?:norm|qkv|output)\b|\bffn_(?:norm|up|down)\b|\bblk\.")
STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
COMMENT = re.compile(r"//[^\n]*")


def strays(root):
    """Every string below src and include with a tensor's name outside the places: 'file: string'."""
    root = pathlib.Path(root)
    found = []
    for top in ("include", "src"):
        for path in sorted((root / top).rglob("*")):
            if path.suffix not in (".h", ".cpp") or path.relative_to(root).as_posix() in PLACES:
                continue
            for text in STRING.findall(COMMENT.sub("", path.read_text())):
                if WORDS.search(text):
                    found.append(f"{path.relative_to(root)}: {text}")
    return found
