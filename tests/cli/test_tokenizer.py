"""Rows 54 to 64, 66 and 67: tokenizer files and chat templates."""
import hashlib
import json
import math
import struct

import pytest

from harness import converted, refused, refused_by_both, run, tiny, warnings


def edit(folder, name, change):
    """Applies `change` to the JSON of a side file."""
    path = folder / name
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def set_vocab(folder, **ids):
    edit(folder, "tokenizer.json", lambda t: t["model"]["vocab"].update(ids))


def set_template(folder, template):
    edit(folder, "tokenizer_config.json", lambda c: c.update(chat_template=template))


def template_warnings(result):
    return [w for w in warnings(result) if "template" in w]


def strings_of(content):
    """The string values of a GGUF file's metadata, by key."""
    position = 24

    def take(fmt):
        nonlocal position
        value = struct.unpack_from("<" + fmt, content, position)[0]
        position += struct.calcsize(fmt)
        return value

    def text():
        nonlocal position
        n = take("Q")
        position += n
        return content[position - n:position]

    scalars = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

    def value(kind):
        if kind == 8:
            return text()
        if kind == 9:
            inner, n = take("I"), take("Q")
            return [value(inner) for _ in range(n)]
        return take(scalars[kind])

    return {text().decode(): value(take("I")) for _ in range(struct.unpack_from("<Q", content, 16)[0])}


# --- tokenizer.model as bytes ----------------------------------------------------------------

def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def piece(text, score, kind):
    return field(1, field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + varint(kind))


def top_fields(content):
    """(start, end) of each top-level field."""
    spans, position = [], 0
    while position < len(content):
        start = position
        position += 1
        length = shift = 0
        while True:
            byte = content[position]
            position += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        position += length
        spans.append((start, position))
    return spans


def plan_only(folder, code, *needles):
    return refused(run(["plan", folder, "--type", "Q8_0"], cwd=folder.parent), code, *needles)


def test_row_054_tokenizer_json_cut(folder):
    tiny(folder)
    path = folder / "tokenizer.json"
    whole = path.read_bytes()
    for n in range(1024, len(whole), 1024):
        path.write_bytes(whole[:n])
        plan_only(folder, 3, "tokenizer.json", " at byte ")
    path.write_bytes(b"")
    plan_only(folder, 3, "tokenizer.json", "is empty")


def test_row_054_tokenizer_model_cut(folder):
    tiny(folder)
    path = folder / "tokenizer.model"
    whole = path.read_bytes()
    borders = [start for start, _ in top_fields(whole)]
    # All borders of the first pieces and of the settings at the end, and some between.
    for border in borders[:12] + borders[12:-8:256] + borders[-8:]:
        for n in {max(border - 1, 1), max(border, 1), border + 1}:
            path.write_bytes(whole[:n])
            plan_only(folder, 3, "tokenizer.model", " at byte ")


@pytest.mark.parametrize("token, number", [
    ("!", -1), ("!", 2112), ("!", 2**31), ("!", "7"), ("\x1b[2J", -1)])
def test_row_055_bad_vocabulary_id(folder, token, number):
    tiny(folder, base="phi4mini-tiny")
    set_vocab(folder, **{token: number})
    refused_by_both(folder, 3, "tokenizer.json", f"'{token}'".replace("\x1b", "\\x1b"), json.dumps(number))


def test_row_055_two_tokens_with_one_id(folder):
    tiny(folder, base="phi4mini-tiny")
    set_vocab(folder, newcomer=100)
    refused_by_both(folder, 3, "newcomer", "both have id 100")


def test_row_055_gap_becomes_padding(folder):
    tiny(folder, base="phi4mini-tiny")
    set_vocab(folder, newcomer=2062)
    result, content = converted(folder)
    assert any("2 token ids have no text and become padding (the first is 2060)" in w for w in warnings(result))
    tokens = strings_of(content)["tokenizer.ggml.tokens"]
    assert tokens[2059:2064] == [b"<|tag|>", b"[PAD2060]", b"[PAD2061]", b"newcomer", b"[PAD2063]"]


def test_row_056_more_tokens_than_rows(folder):
    tiny(folder, base="phi4mini-tiny")
    set_vocab(folder, **{f"new{i}": 2060 + i for i in range(65)})
    refused_by_both(folder, 3, "2113 tokens", "2112 rows")


def test_row_056_fewer_tokens_than_rows(folder):
    tiny(folder)  # 2059 tokens, 2112 rows
    result, content = converted(folder)
    assert not any("padding" in w for w in warnings(result))
    tokens = strings_of(content)["tokenizer.ggml.tokens"]
    assert len(tokens) == 2112
    assert tokens[2058:2060] == [b"<|user|>", b"[PAD2059]"]


@pytest.mark.parametrize("token", ["<0x-1>", "<0x1G>", "<0x100>", "<0X41>"])
def test_row_057_bad_byte_token(folder, token):
    tiny(folder)
    (folder / "tokenizer.model").unlink()
    set_vocab(folder, **{token: 2060})
    refused_by_both(folder, 3, token, "byte token")


def test_row_057_two_tokens_for_one_byte(folder):
    tiny(folder)
    path = folder / "tokenizer.model"
    whole = path.read_bytes()
    start = top_fields(whole)[-2][0]  # before the settings
    path.write_bytes(whole[:start] + piece("<0x41>", 0, 6) + whole[start:])
    refused_by_both(folder, 3, "<0x41>", "but also id")


@pytest.mark.parametrize("merge, needle", [
    ("\u0120the \u00ff\u00ff\u00ff", "merge 1792 needs token"), ("t", "merge 1792"), ("t h e", "merge 1792"),
    ("t h", "merge 1792 't h' is a duplicate"), (["t", "h"], "merge 1792")])
def test_row_058_bad_merge(folder, merge, needle):
    tiny(folder, base="phi4mini-tiny")
    edit(folder, "tokenizer.json", lambda t: t["model"]["merges"].append(merge))
    refused_by_both(folder, 3, "tokenizer.json", needle)


def test_row_059_token_too_long(folder):
    tiny(folder, base="phi4mini-tiny")
    set_vocab(folder, **{"x" * 65537: 2060})
    refused_by_both(folder, 3, "65537 bytes", "65536")


def test_row_059_odd_tokens_round_trip(folder):
    tiny(folder, base="phi4mini-tiny")
    not_utf8 = "\u00ff\u00fe"  # the byte alphabet's letters of FF FE
    set_vocab(folder, **{"x" * 65536: 2060, "a\0b": 2061, not_utf8: 2062})
    tokens = strings_of(converted(folder)[1])["tokenizer.ggml.tokens"]
    assert tokens[2060:2063] == [b"x" * 65536, b"a\0b", not_utf8.encode()]


@pytest.mark.parametrize("change, needle", [
    (lambda p: p + piece("new", math.nan, 1), "piece 2048 has score nan"),
    (lambda p: p + piece("new", math.inf, 1), "piece 2048 has score inf"),
    (lambda p: p + piece("new", 0, 99), "piece 2048 has unknown type 99"),
    (lambda p: p + piece("new", 0, 2), "pieces 0 and 2048"),
    (lambda p: p.replace(piece("<unk>", 0, 2), piece("<unk>", 0, 1)), "none of the 2048 pieces"),
])
def test_row_060_bad_piece(folder, change, needle):
    tiny(folder)
    path = folder / "tokenizer.model"
    whole = path.read_bytes()
    start = top_fields(whole)[-2][0]
    changed = change(whole[:start])
    assert changed != whole[:start]
    path.write_bytes(changed + whole[start:])
    refused_by_both(folder, 3, "tokenizer.model", needle)


def test_row_061_special_token_out_of_range_or_unknown(folder):
    tiny(folder, config_updates={"eos_token_id": 2112})
    refused_by_both(folder, 3, "'eos_token_id' is 2112")
    edit(folder, "config.json", lambda c: c.update(eos_token_id=2048))
    edit(folder, "tokenizer_config.json", lambda c: c.update(bos_token="<|nobody|>"))
    refused_by_both(folder, 3, "'bos_token'", "<|nobody|>")


def test_row_062_unknown_split_expression(folder):
    tiny(folder, base="phi4mini-tiny")
    pattern = "(a+)+$"

    def change(tokenizer):
        tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = pattern

    edit(folder, "tokenizer.json", change)
    refused_by_both(folder, 6, "pre_tokenizer", hashlib.sha256(pattern.encode()).hexdigest())


@pytest.mark.parametrize("template", ["x" * (2**20 + 1), "a\0b", 5, {"default": "x"}, ["x"]])
def test_row_063_template_that_is_no_text(folder, template):
    tiny(folder)
    set_template(folder, template)
    refused_by_both(folder, 3, "tokenizer_config.json", "chat_template")


def test_row_063_template_not_utf8(folder):
    tiny(folder)
    (folder / "chat_template.jinja").write_bytes(b"ab\xff")
    refused_by_both(folder, 3, "chat_template.jinja", "UTF-8")
    (folder / "chat_template.jinja").write_bytes(b"x" * (2**20 + 1))
    refused_by_both(folder, 3, "chat_template.jinja")


def test_row_063_list_of_templates_uses_default(folder):
    tiny(folder)
    set_template(folder, [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}])
    metadata = strings_of(converted(folder)[1])
    assert metadata["tokenizer.chat_template"] == b"D"


@pytest.mark.parametrize("template, construct", [
    ("{{ ''.__class__.__mro__ }}", "template uses __"),
    ("{{ cycler.__init__.__globals__ }}", "cycler"),
    ("{% import 'os' as os %}", "template uses import"),
    ("{% for i in range(10**9) %}{% endfor %}", "template uses a huge range")])
def test_row_064_hostile_template_is_copied(folder, template, construct):
    tiny(folder)
    set_template(folder, template)
    result, content = converted(folder)
    assert strings_of(content)["tokenizer.chat_template"] == template.encode()
    (warning,) = template_warnings(result)
    assert construct in warning


def test_row_066_unknown_template_is_noted(folder):
    tiny(folder)
    assert "not a known template" not in run(["inspect", folder]).ok().text
    template = "{{ messages }}"
    set_template(folder, template)
    converted(folder)
    text = run(["inspect", folder]).ok().text
    assert "not a known template" in text
    assert hashlib.sha256(template.encode()).hexdigest() in text


def test_row_067_two_templates_that_differ(folder):
    tiny(folder)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    result, content = converted(folder)
    assert strings_of(content)["tokenizer.chat_template"] == b"{{ messages }}"
    (warning,) = template_warnings(result)
    assert "chat_template.jinja" in warning and "tokenizer_config.json" in warning
