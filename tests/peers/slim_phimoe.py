"""A random PhiMoE in the shape of Phi-tiny-MoE: fewer attention columns than the width, plain rotary
embedding, a sliding window, rows that are no multiple of 256."""
import json
import shutil
import struct

import numpy as np

HIDDEN, INNER, HEADS, KEY_HEADS, HEAD_DIM, EXPERTS, LAYERS, VOCAB = 256, 96, 2, 1, 64, 6, 2, 2112
SIZES = {"hidden_size": HIDDEN, "intermediate_size": INNER, "num_attention_heads": HEADS,
         "num_key_value_heads": KEY_HEADS, "head_dim": HEAD_DIM, "num_local_experts": EXPERTS,
         "num_hidden_layers": LAYERS, "vocab_size": VOCAB}


def shapes(hidden, inner, heads, key_heads, head_dim, experts, layers, vocab):
    """name -> shape, of any PhiMoE with all biases."""
    result = {"model.embed_tokens.weight": [vocab, hidden]}
    for layer in range(layers):
        stem = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            result[f"{stem}{norm}.weight"] = result[f"{stem}{norm}.bias"] = [hidden]
        for name, rows in (("q", heads), ("k", key_heads), ("v", key_heads)):
            result[f"{stem}self_attn.{name}_proj.weight"] = [rows * head_dim, hidden]
            result[f"{stem}self_attn.{name}_proj.bias"] = [rows * head_dim]
        result[f"{stem}self_attn.o_proj.weight"] = [hidden, heads * head_dim]
        result[f"{stem}self_attn.o_proj.bias"] = [hidden]
        moe = f"{stem}block_sparse_moe."
        result[f"{moe}gate.weight"] = [experts, hidden]
        for expert in range(experts):
            for name, shape in (("w1", [inner, hidden]), ("w2", [hidden, inner]), ("w3", [inner, hidden])):
                result[f"{moe}experts.{expert}.{name}.weight"] = shape
    result["model.norm.weight"] = result["model.norm.bias"] = [hidden]
    result["lm_head.weight"], result["lm_head.bias"] = [vocab, hidden], [vocab]
    return result


def make(folder, tiny, seed=1):
    """Writes the checkpoint; `tiny` is tests/data/phimoe-tiny, whose tokenizer it has."""
    folder.mkdir()
    for file in tiny.iterdir():
        if file.suffix in (".json", ".model"):
            shutil.copyfile(file, folder / file.name)
    config = json.loads((tiny / "config.json").read_text())
    config.update(SIZES, rope_scaling=None, sliding_window=2047, max_position_embeddings=4096)
    del config["original_max_position_embeddings"]
    (folder / "config.json").write_text(json.dumps(config))
    random = np.random.default_rng(seed)
    header, blobs, offset = {}, [], 0
    for name, shape in shapes(HIDDEN, INNER, HEADS, KEY_HEADS, HEAD_DIM, EXPERTS, LAYERS, VOCAB).items():
        is_norm = "norm.weight" in name
        # A router of some size, so that few decisions nearly tie; the rest as freshly begun.
        size = 0.5 if "gate.weight" in name else 0.05
        values = (random.normal(1.0 if is_norm else 0.0, 0.1 if is_norm else size, shape)).astype("<f4")
        blobs.append(values.tobytes())
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))
    return folder
