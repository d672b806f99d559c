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
import hashlib
import json
import pathlib
import struct
import sys

import tokenizers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "peers"))
from rank_tokenizer import build_from_ranks  # noqa: E402

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data"
NAMES = ("phi35-tiny", "phi4mini-tiny", "phi-3-mini", "phi-4", "phi-4-mini")


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
