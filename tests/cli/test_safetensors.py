"""hardening rows 1 to 27: broken safetensors files. One test a row, named after it."""
import json
import resource
import struct

import pytest

import harness as h

FILE = "model.safetensors"
UNIT = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}


@pytest.fixture
def shard(folder):
    """A sound small checkpoint; the test breaks the file whose path this is."""
    h.tiny(folder)
    return folder / FILE


def refused(shard, *needles, code=3, **kwargs):
    """Both commands refuse the checkpoint; the message begins with the path of its file."""
    line = h.refused_by_both(shard.parent, code, *needles, **kwargs)
    assert line.startswith(f"{shard.parent}/"), line
    return line


def refused_header(shard, header, *needles, data=b"\0", **kwargs):
    h.write_raw(shard, header, data)
    return refused(shard, *needles, **kwargs)


def test_row_001_empty_file(shard):
    shard.write_bytes(b"")
    refused(shard, FILE, "truncated", "0 bytes")


def test_row_002_shorter_than_the_length_field(shard):
    for n in range(1, 8):
        shard.write_bytes(b"\x02\0\0\0\0\0\0"[:n])
        refused(shard, "header length needs 8 bytes")


def test_row_003_header_length_below_two(shard):
    for n in (0, 1):
        h.write_raw(shard, "{}", n_header_bytes=n)
        refused(shard, f"header length {n}")


def test_row_004_header_length_over_the_limit(shard):
    for n in (100_000_001, 1 << 63, (1 << 64) - 1, (1 << 64) - 8):
        h.write_raw(shard, "{}", n_header_bytes=n)
        refused(shard, f"header length {n}", "limit", "100000000")


def test_row_005_header_past_the_end(shard):
    h.write_raw(shard, "{}  ", n_header_bytes=5)
    refused(shard, "truncated", "header length 5", "4 bytes")


def test_row_006_first_byte(shard):
    for first in (b" ", b"\xef\xbb\xbf", b"["):
        refused_header(shard, first + b"{}", "must begin with '{'", "at byte 8", data=b"")


def test_row_007_padding(shard):
    tensors = h.read_safetensors(shard)
    _, expected = h.converted(shard.parent)
    text = json.dumps(h.header_of(tensors)).encode()
    data = b"".join(content for _, _, content in tensors.values())
    h.write_raw(shard, text + b" " * 1000, data)
    _, content = h.converted(shard.parent)
    assert content == expected
    refused_header(shard, text + b"\0" * 8, f"NUL byte at byte {8 + len(text)}", data=data)
    refused_header(shard, text + b"\n" * 8, f"spaces at byte {8 + len(text) + 7}", data=data)


def test_row_008_not_utf8(shard):
    refused_header(shard, b'{"\xff":{}}', "UTF-8", "at byte 10")
    refused_header(shard, rb'{"\ud800":{}}', "UTF-8", "at byte 16")


def test_row_009_broken_json(shard):
    unit = json.dumps({"a": UNIT})
    for text in (unit[:-1], unit[:-1] + ",}", unit + "//", "{'a':1}", '{"a":NaN}', unit + "x"):
        refused_header(shard, text, "JSON", "at byte")


def test_row_010_duplicate_keys(shard):
    unit, next_unit = json.dumps(UNIT), json.dumps({**UNIT, "data_offsets": [1, 2]})
    refused_header(shard, f'{{"a":{unit},"a":{unit}}}', "duplicate key", "'a'")
    refused_header(shard, f'{{"a":{unit},"a":{next_unit}}}', "duplicate key", "'a'", data=b"\0\0")
    refused_header(shard, f'{{"a":{unit},"\\u0061":{next_unit}}}', "duplicate key", "'a'", data=b"\0\0")
    for field, value in UNIT.items():
        text = f'{{"a":{unit[:-1]},"{field}":{json.dumps(value)}}}}}'
        refused_header(shard, text, "duplicate key", f"'{field}'")
    refused_header(shard, '{"__metadata__":{},"__metadata__":{}}', "duplicate key", "'__metadata__'")
    refused_header(shard, '{"__metadata__":{"k":"1","k":"2"}}', "duplicate key", "'k'")


def test_row_011_nesting_bomb(shard):
    h.write_raw(shard, b'{"a":{"x":' + b"[" * 50_000_000)
    refused(shard, "nested too deeply", seconds=10)
    small_stack = h.limit(resource.RLIMIT_STACK, h.MIB)
    result = h.run(["plan", shard.parent], cwd=shard.parent, preexec=small_stack)
    h.refused(result, 3, "nested too deeply", input_size=50_000_000, seconds=10)


def test_row_012_header_for_ten_million_tensors(shard):
    with open(shard, "wb") as file:  # sparse: the file is as long as its header claims
        file.write(struct.pack("<Q", 600_000_000) + b'{"')
        file.truncate(600_000_008)
    refused(shard, "header length 600000000", "limit", input_size=0)


def test_row_013_too_many_tensors(shard):
    empty = json.dumps({"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}, separators=(",", ":"))
    text = "{" + ",".join(f'"{i}":{empty}' for i in range(65_537)) + "}"
    h.write_raw(shard, text)
    refused(shard, "65536 tensors", seconds=10)


@pytest.mark.parametrize("offsets", ["[2, 1]", "[-1, 1]", "[0, 1.0]", "[0, 1e3]", "[0, 9007199254740993]",
                                     "[0, 18446744073709551616]", '["0", "1"]', "[1]", "[0, 1, 2]", "[]"])
def test_row_014_offsets(shard, offsets):
    text = f'{{"the.tensor":{{"dtype":"U8","shape":[1],"data_offsets":{offsets}}}}}'
    line = refused_header(shard, text, "tensor 'the.tensor'", "data_offsets")
    if "9007199254740993" in offsets:
        assert "9007199254740993" in line  # a double would have made it ...992


@pytest.mark.parametrize("dtype, shape", [
    ("U8", "[-1]"), ("U8", "[1.0]"), ("U8", "[9223372036854775808]"), ("U8", "[18446744073709551616]"),
    ("U8", "[4294967296, 4294967296]"), ("U8", "[4294967296, 4294967296, 0]"),
    ("U64", "[288230376151711744]"), ("U8", "[1,1,1,1,1,1,1,1,1]"), ("U8", '"1"')])
def test_row_015_shape(shard, dtype, shape):
    text = f'{{"the.tensor":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,1]}}}}'
    refused_header(shard, text, "tensor 'the.tensor'", "shape")


def test_row_016_size_is_not_that_of_the_shape(shard):
    header = {"model.norm.weight": {"dtype": "BF16", "shape": [3072], "data_offsets": [0, 20]}}
    refused_header(shard, header, "tensor 'model.norm.weight'", "data_offsets [0, 20]",
                   "dtype BF16 x shape [3072] needs 6144 bytes", data=bytes(20))


def test_row_017_bits_that_are_no_bytes(shard):
    header = {"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 2]}}
    refused_header(shard, header, "tensor 'a'", "byte boundary", data=b"\0\0")


def test_row_018_overlap(shard):
    header = {"first": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
              "second": {"dtype": "U8", "shape": [4], "data_offsets": [3, 7]}}
    refused_header(shard, header, "'first'", "'second'", "overlap", data=bytes(7))
    header = {f"t{i}": {"dtype": "F32", "shape": [1 << 18], "data_offsets": [0, 1 << 20]} for i in range(10)}
    refused_header(shard, header, "'t0'", "'t1'", "overlap", data=bytes(1 << 20))


def test_row_019_hole(shard):
    first = {"a": {"dtype": "U8", "shape": [4], "data_offsets": [1, 5]}}
    refused_header(shard, first, "tensor 'a'", "not contiguous", data=bytes(5))
    middle = {"a": UNIT, "b": {"dtype": "U8", "shape": [1], "data_offsets": [2, 3]}}
    refused_header(shard, middle, "tensor 'b'", "not contiguous", data=bytes(3))


def test_row_020_trailing_bytes(shard):
    with open(shard, "ab") as file:
        file.write(b"PK\x05\x06" + bytes(18))
    refused(shard, "22 trailing bytes")


def test_row_021_truncated(shard):
    header, _ = h.read_header(shard)
    last = max(header.items(), key=lambda item: item[1].get("data_offsets", [0, 0])[1])[0]
    whole = shard.read_bytes()
    for size in (len(whole) - 1, len(whole) - 4096, (len(whole) - 1) & ~4095):
        shard.write_bytes(whole[:size])
        refused(shard, "truncated", f"tensor '{last}'", str(len(whole)), str(size), "incomplete download?")


def test_row_022_empty_and_scalar_tensors(folder):
    # The parser takes them; the model says which shape it wants instead.
    for shape in ((0, 256), ()):
        content = bytes(2) if shape == () else b""
        h.tiny(folder, tensors_update={"model.norm.weight": ("BF16", shape, content)})
        refused(folder / FILE, "tensor 'model.norm.weight'", "expected shape")


def test_row_023_dtypes(folder):
    h.tiny(folder)
    refused_header(folder / FILE, {"w": {**UNIT, "dtype": "BF17"}}, "tensor 'w'", "BF17", "F32 F16 BF16")
    for dtype in ("F8_E4M3FNUZ", "I64", "BOOL", "C64"):
        content = bytes(256 * h.DTYPE_BITS[dtype] // 8)
        h.tiny(folder, tensors_update={"model.norm.weight": (dtype, (256,), content)})
        refused(folder / FILE, "tensor 'model.norm.weight'", dtype, "F32", "F16", "BF16", code=6)


@pytest.mark.parametrize("metadata", ['{"k":1}', '{"k":{}}', "[]", '"text"',
                                      '{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'])
def test_row_024_metadata(shard, metadata):
    refused_header(shard, f'{{"__metadata__":{metadata}}}', "__metadata__")


def test_row_025_names(folder):
    h.tiny(folder)
    shard = folder / FILE
    refused_header(shard, {"": UNIT}, "tensor name", "empty")
    refused_header(shard, {"n" * 513: UNIT}, "tensor name", "513", "512")
    refused_header(shard, {"a\0b": UNIT}, "tensor name", "a\\x00b", "NUL")
    # Sound names, but of no tensor that the model has: shown escaped (checked in refused()).
    for name, shown in (("a\nb", "a\\x0ab"), ("\x1b[2J", "\\x1b[2J"), ("a\u202eb", "a\\u{202e}b"),
                        ("../x", "../x"), ("\n::error::x", "\\x0a::error::x")):
        h.tiny(folder, tensors_update={name: ("BF16", (1,), bytes(2))})
        h.refused_by_both(folder, 3, shown)


def test_row_026_other_files(shard):
    lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 4831838208\n"
    for content, what in ((lfs, "Git LFS pointer"), (b"<!DOCTYPE html><html></html>", "HTML"),
                          (b"<html><head></head></html>", "HTML"),
                          (b"PK\x03\x04\x14\0\0\0\x08\0" + bytes(50), "zip"),
                          (b"\x80\x02}q\0(X\x05\0\0\0model", "pickle")):
        shard.write_bytes(content)
        refused(shard, "looks like", what, "download")


def test_row_027_misaligned_data(shard):
    tensors = h.read_safetensors(shard)
    _, expected = h.converted(shard.parent)
    text = h.header_text(h.header_of(tensors), pad=8) + b" "
    assert len(text) % 2 == 1
    h.write_raw(shard, text, b"".join(content for _, _, content in tensors.values()))
    _, content = h.converted(shard.parent)
    assert content == expected
