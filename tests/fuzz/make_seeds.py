"""Writes seeds/: the smallest checkpoint that phiq takes, and a SentencePiece tokenizer of that size. They are cut out of
the tiny checkpoints of tests/data. Files of other formats are made of them when the targets run.

    /usr/bin/python3 tests/fuzz/make_seeds.py
"""
import json
import pathlib
import struct

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE.parent / "data"
HIDDEN, VOCAB, N_MERGES = 32, 320, 24


def write(name, content):
    path = HERE / "seeds" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else
                     (json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n").encode())


def read(base, name):
    return json.loads((DATA / base / name).read_text())


def smaller_vocab(tokenizer, n_base):
    """The first tokens of the vocabulary, what `n_base` of them the first merges make, and the added tokens behind them."""
    model = tokenizer["model"]
    by_id = sorted(model["vocab"], key=model["vocab"].get)
    kept, merges = by_id[:n_base], []
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        if len(merges) < N_MERGES and {left, right} <= set(kept):
            merges.append(merge)
            if left + right not in kept:
                kept.append(left + right)
    model["vocab"], model["merges"] = {token: i for i, token in enumerate(kept)}, merges
    return kept


def renumber(added, kept):
    """Added tokens: those of the vocabulary have its ids, the others come behind it."""
    ids = {}
    for token in added:
        ids[token["content"]] = kept.index(token["content"]) if token["content"] in kept else len(kept) + sum(
            i >= len(kept) for i in ids.values())
        token["id"] = ids[token["content"]]
    return ids


def tokenizer_files(folder, base, n_base, wanted):
    tokenizer = read(base, "tokenizer.json")
    kept = smaller_vocab(tokenizer, n_base)
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["content"] in wanted]
    ids = renumber(tokenizer["added_tokens"], kept)
    write(f"{folder}/tokenizer.json", tokenizer)
    config = read(base, "tokenizer_config.json")
    config["added_tokens_decoder"] = {str(ids[token["content"]]): token for token in config["added_tokens_decoder"].values()
                                      if token["content"] in ids}
    write(f"{folder}/tokenizer_config.json", config)
    assert len(kept) + len(wanted) <= VOCAB
    return kept, ids


def config_of(base, ids, **updates):
    config = read(base, "config.json")
    config.update(hidden_size=HIDDEN, intermediate_size=HIDDEN, num_hidden_layers=1, num_attention_heads=1,
                  num_key_value_heads=1, vocab_size=VOCAB, max_position_embeddings=64, partial_rotary_factor=1.0,
                  eos_token_id=ids["<|endoftext|>"], pad_token_id=ids["<|endoftext|>"], **updates)
    config.update(original_max_position_embeddings=32)
    for kind in ("short_factor", "long_factor"):
        config["rope_scaling"][kind] = config["rope_scaling"][kind][:HIDDEN // 2]
    return config


def weights():
    shapes = {"model.embed_tokens.weight": (VOCAB, HIDDEN)}
    layer = "model.layers.0."
    shapes |= {layer + "input_layernorm.weight": (HIDDEN,), layer + "self_attn.qkv_proj.weight": (3 * HIDDEN, HIDDEN),
               layer + "self_attn.o_proj.weight": (HIDDEN, HIDDEN), layer + "post_attention_layernorm.weight": (HIDDEN,),
               layer + "mlp.gate_up_proj.weight": (2 * HIDDEN, HIDDEN), layer + "mlp.down_proj.weight": (HIDDEN, HIDDEN),
               "model.norm.weight": (HIDDEN,)}
    rng = np.random.default_rng(1)
    header, data = {}, b""
    for name, shape in shapes.items():
        values = rng.normal(0.0, 0.02, shape).astype(np.float32) + ("norm" in name)
        piece = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [len(data), len(data) + len(piece)]}
        data += piece
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def fields(message):
    """The fields of a protobuf message of length-delimited ones: (number, bytes of the whole field, content)."""
    at = 0

    def varint(at):
        value = shift = 0
        while True:
            byte = message[at]
            value |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return value, at
    while at < len(message):
        start = at
        tag, at = varint(at)
        assert tag & 7 == 2
        size, at = varint(at)
        at += size
        yield tag >> 3, message[start:at], message[at - size:at]


def pieces(kept):
    """tokenizer.model, with the pieces that the vocabulary keeps, in its order."""
    by_text, rest = {}, b""
    for number, whole, content in fields((DATA / "phi35-tiny/tokenizer.model").read_bytes()):
        if number == 1:
            by_text[content[2:2 + content[1]].decode()] = whole
        else:
            rest += whole
    return b"".join(by_text[token] for token in kept) + rest


def main():
    _, ids = tokenizer_files("model", "phi4mini-tiny", 256,
                             ["<|endoftext|>", "<|assistant|>", "<|end|>", "<|user|>", "<|system|>"])
    write("model/config.json", config_of("phi4mini-tiny", ids, bos_token_id=ids["<|endoftext|>"]))
    write("model/generation_config.json", {"bos_token_id": ids["<|endoftext|>"], "do_sample": True, "temperature": 0.7,
                                           "eos_token_id": [ids["<|end|>"], ids["<|endoftext|>"]], "top_k": 20, "top_p": 0.9})
    write("model/model.safetensors", weights())
    kept, _ = tokenizer_files("pieces", "phi35-tiny", 270,
                              ["<unk>", "<s>", "</s>", "<|endoftext|>", "<|assistant|>", "<|end|>", "<|user|>"])
    write("pieces/tokenizer.model", pieces(kept))


if __name__ == "__main__":
    main()
