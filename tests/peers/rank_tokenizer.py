"""The tokenizer.json of Phi-4 and Phi-4-mini, which are too large to keep: built from ranks.txt, the
byte-pair ranks in tiktoken's form, split.txt and tokenizer_config.json."""
import base64
import json


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
