#!/usr/bin/env python3
"""Lists the token ids that the tokenizers library gives.

For each of five tokenizers writes OUT/token_ids/NAME.json: the ids of every text of
tests/data/tokenizers/texts.json, and number and SHA-256 of the ids (little-endian u32, one text
after the other) of tests/data/heldout.txt and of 2000 texts drawn from fragments.json.

The tokenizer.json of phi-4 and phi-4-mini are too large to keep: they are built from ranks.txt, the
byte-pair ranks in tiktoken's form, split.txt and tokenizer_config.json.

Needs a Python with tokenizers:
  VENV/bin/pip install tokenizers==0.23.3
  VENV/bin/python tools/goldens_tokenizers.py --out DIR
"""

import argparse
import base64
import hashlib
import json
import pathlib
import struct

import tokenizers

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data"
NAMES = ("phi35-tiny", "phi4mini-tiny", "phi-3-mini", "phi-4", "phi-4-mini")


def byte_alphabet():
    """The character that GPT-2's alphabet has for each byte."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in keep}
    others = (byte for byte in range(256) if byte not in letters)
    return letters | {byte: chr(256 + i) for i, byte in enumerate(others)}


def read_ranks(path):
    """Lines "! FIRST token token ...": base64 of the tokens' bytes, ranks from FIRST up."""
    ranks = {}
    for line in path.read_text(encoding="ascii").splitlines():
        fields = line.split()
        assert fields[0] == "!", path
        for i, token in enumerate(fields[2:]):
            ranks[base64.b64decode(token)] = int(fields[1]) + i
    return ranks


def merge_of(token, ranks):
    """The last merge that makes a token: what its bytes become by the merges of lower rank."""
    parts = [token[i:i + 1] for i in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(a + b, len(ranks) * 2) for a, b in zip(parts, parts[1:])]
        best = min(pairs)
        assert best < ranks[token], token
        at = pairs.index(best)
        parts[at:at + 2] = [parts[at] + parts[at + 1]]
    return parts


def build_from_ranks(folder):
    letters = byte_alphabet()
    spell = lambda token: "".join(letters[byte] for byte in token)
    ranks = read_ranks(folder / "ranks.txt")
    by_rank = sorted(ranks, key=ranks.get)
    vocab = {spell(token): ranks[token] for token in by_rank}
    merges = [[spell(part) for part in merge_of(token, ranks)] for token in by_rank if len(token) > 1]
    decoder = json.loads((folder / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    added = [{"id": int(key), **token} for key, token in decoder.items()]
    # The library ignores the id of an added token that the vocabulary lacks.
    vocab |= {token["content"]: token["id"] for token in added if token["content"] not in vocab}
    split = {"type": "Split", "pattern": {"Regex": (folder / "split.txt").read_text().rstrip("\n")},
             "behavior": "Removed", "invert": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": None, "post_processor": None, "decoder": byte_level,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False,
                  "ignore_merges": False, "vocab": vocab, "merges": merges},
    })


def load(name):
    tiny = DATA / name
    if tiny.is_dir():
        return tokenizers.Tokenizer.from_file(str(tiny / "tokenizer.json"))
    folder = DATA / "tokenizers" / name
    if (folder / "ranks.txt").exists():
        return tokenizers.Tokenizer.from_str(build_from_ranks(folder))
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def drawn_texts(fragments):
    """Texts of 1 to 24 fragments, by the generator that tests/model/token_ids_test.cpp has too."""
    state = 1

    def draw(n):
        nonlocal state
        state = state * 1664525 + 1013904223 & 0xFFFFFFFF
        return (state >> 8) % n

    for _ in range(2000):
        yield "".join(fragments[draw(len(fragments))] for _ in range(1 + draw(24)))


def digest(tokenizer, texts):
    ids = [i for text in texts for i in tokenizer.encode(text, add_special_tokens=False).ids]
    return {"n_ids": len(ids), "sha256": hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    out = parser.parse_args().out / "token_ids"
    out.mkdir(parents=True, exist_ok=True)
    texts = json.loads((DATA / "tokenizers" / "texts.json").read_text())
    fragments = json.loads((DATA / "tokenizers" / "fragments.json").read_text())
    heldout = (DATA / "heldout.txt").read_text()
    for name in NAMES:
        tokenizer = load(name)
        golden = {
            "heldout": digest(tokenizer, [heldout]),
            "drawn": digest(tokenizer, drawn_texts(fragments)),
            "texts": [{"text": text, "ids": tokenizer.encode(text, add_special_tokens=False).ids}
                      for text in texts],
        }
        lines = ",\n".join(json.dumps(entry) for entry in golden.pop("texts"))
        head = json.dumps(golden)[:-1]
        (out / f"{name}.json").write_text(f'{head}, "texts": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
