"""Rows 65, 68-82 and 84-86 of docs/reliability.md: `inspect` and `verify` of broken GGUF files."""
import hashlib
import struct

import pytest

from gguf_file import read_gguf
from harness import refused, run, tiny, warnings


# --- files put together by hand --------------------------------------------------------------

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
SCALARS = {U8: "<B", U16: "<H", U32: "<I", I32: "<i", F32: "<f", U64: "<Q"}


def text(value):
    value = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(value)) + value


def record(key, kind, value):
    """`value`: a number, a string, or the bytes of the value themselves."""
    body = value if isinstance(value, bytes) else \
        text(value) if kind == STRING else struct.pack(SCALARS[kind], value)
    return text(key) + struct.pack("<i", kind) + body


def array(element, count, body=b""):
    return struct.pack("<iQ", element, count) + body


def info(name, ne=(2,), code=0, offset=0):
    return text(name) + struct.pack(f"<I{len(ne)}QiQ", len(ne), *ne, code, offset)


ARCHITECTURE = record("general.architecture", STRING, "phi3")


def gguf(records=(), infos=(), data=b"", n_records=None, n_tensors=None, version=3, magic=b"GGUF"):
    head = magic + struct.pack("<IQQ", version, len(infos) if n_tensors is None else n_tensors,
                               len(records) if n_records is None else n_records)
    body = head + b"".join(records) + b"".join(infos)
    return body + bytes(-len(body) % 32) + data


def inspect(folder, content, *options, name="x.gguf"):
    path = folder / name
    path.write_bytes(content)
    return run(["inspect", path, *options])


def bad(folder, content, *needles, code=3):
    return refused(inspect(folder, content), code, "x.gguf", *needles, input_size=len(content))


def good(folder, content):
    return inspect(folder, content).ok()


# --- metadata and container ------------------------------------------------------------------

def test_row_068_bad_magic_and_short_files(folder):
    whole = gguf([ARCHITECTURE])
    for i in range(4):
        # Another first byte is no GGUF file at all; phiq may then say what it is not instead.
        content = bytearray(whole)
        content[i] ^= 0x20
        line = refused(inspect(folder, bytes(content)), 3, "x.gguf")
        assert "magic" in line or "GGUF" in line
    for n in (3, 4, 8, 23):
        line = refused(inspect(folder, whole[:n]), 3, "x.gguf")
        assert "truncated" in line or "magic" in line


def test_row_069_version(folder):
    bad(folder, gguf(version=0), "version 0", code=3)
    bad(folder, gguf(version=1), "version 1", code=6)
    bad(folder, gguf(version=4), "version 4", code=6)
    bad(folder, gguf(version=0x03000000), "byte order", code=6)
    good(folder, gguf([ARCHITECTURE], version=2))


def test_row_070_counts(folder):
    for n in (2**64 - 1, 2**63, 65_537):
        bad(folder, gguf(n_tensors=n, data=bytes(100)), "tensor count", str(n), "65536")
        bad(folder, gguf(n_records=n, data=bytes(100)), "key/value count", str(n), "65536")
    bad(folder, gguf([ARCHITECTURE], n_records=2))
    bad(folder, gguf([ARCHITECTURE], [info("a")], bytes(32), n_tensors=2))


def test_row_071_keys(folder):
    bad(folder, gguf([record("", U32, 1)]), "key 0", "empty")
    bad(folder, gguf([struct.pack("<Q", 2**64 - 1) + bytes(20)]), "key 0", str(2**64 - 1))
    bad(folder, gguf([struct.pack("<Q", 60_000) + bytes(20)]), "key 0", "60000")
    bad(folder, gguf([record(b"a\0b", U32, 1)]), "key 0", r"a\x00b")
    bad(folder, gguf([record("a", U32, 1), record("a", U32, 1)]), "key 1", "duplicate", "'a'")


def test_row_072_value_types(folder):
    for code in (13, -1, -2**31):
        bad(folder, gguf([record("a", code, bytes(20))]), "'a'", f"type {code}")
        bad(folder, gguf([record("a", ARRAY, array(code, 1, bytes(20)))]), "'a'", f"type {code}")
    bad(folder, gguf([record("a", ARRAY, array(ARRAY, 1, array(U8, 1, b"x")))]), "'a'", "arrays of arrays")
    nested = array(ARRAY, 1) * 1_000_000
    bad(folder, gguf([record("a", ARRAY, nested)]), "'a'", "arrays of arrays")


def test_row_073_array_counts(folder):
    for element, count, n_bytes in ((U64, 2**61, 64), (U8, 2**30 + 1, 64), (U8, 2**30, 64), (I32, 17, 40),
                                    (STRING, 9, 40), (STRING, 2**61, 64)):
        bad(folder, gguf([record("a", ARRAY, array(element, count, bytes(n_bytes)))]), "'a'", f"count {count}")


def test_row_074_string_lengths(folder):
    for length in (100, 2**30, 2**64 - 1):
        bad(folder, gguf([record("a", STRING, struct.pack("<Q", length) + bytes(8))]), "'a'", str(length))


def test_row_075_odd_bools_and_strings(folder):
    bad(folder, gguf([record("a", BOOL, b"\2")]), "'a'", "bool byte 2")
    result = good(folder, gguf([ARCHITECTURE, record("odd", STRING, text(b"\xff\x1b[31m"))]))
    assert r"\xff\x1b[31m" in result.text
    assert b"\x1b" not in result.out


def test_row_076_alignment(folder):
    for alignment in (0, 3, 13, 2**31):
        bad(folder, gguf([record("general.alignment", U32, alignment)]), "general.alignment", str(alignment))
    bad(folder, gguf([record("general.alignment", U64, 32)]), "general.alignment", "u64", "u32")


# --- tensors ---------------------------------------------------------------------------------

def test_row_077_tensor_names(folder):
    bad(folder, gguf(infos=[info("n" * 64)], data=bytes(64)), "name of tensor 0", "64")
    bad(folder, gguf(infos=[info("")], data=bytes(64)), "name of tensor 0", "empty")
    bad(folder, gguf(infos=[info("a"), info("a", offset=32)], data=bytes(64)), "'a'", "duplicate")
    bad(folder, gguf(infos=[info("n" * 63)])[:24 + 8 + 62], "truncated")


def test_row_078_dimensions(folder):
    for ne in ((1,) * 5, (4, 2**63), (2**32, 2**31), (2**62,), (2**32, 2**32)):
        bad(folder, gguf(infos=[info("a", ne)], data=bytes(64)), "'a'")
    bad(folder, gguf(infos=[text("a") + struct.pack("<I", 2**32 - 1) + bytes(64)]), "'a'", "4294967295")
    n = 2**61 - 16  # 2^63 - 64 bytes as F32
    bad(folder, gguf(infos=[info("a", (n,)), info("b", (n,), offset=n * 4)], data=bytes(64)), "'a'")


def test_row_079_tensor_types(folder):
    bad(folder, gguf(infos=[info("a", (33,), 8)], data=bytes(64)), "'a'", "Q8_0", "33")
    bad(folder, gguf(infos=[info("a", (128,), 12)], data=bytes(64)), "'a'", "Q4_K", "128")
    for code in (4, 5, 31, 32, 33, 36, 37, 38, 43, 2**31 - 1, -1):
        bad(folder, gguf(infos=[info("a", (256,), code)], data=bytes(1024)), "'a'", f"type {code}")
    bad(folder, gguf(infos=[info("a", (256,), 39)], data=bytes(1024)), "'a'", "MXFP4", code=6)


def test_row_080_offsets(folder):
    for offset in (1, 4, 64, 2**40, 2**64 - 32):
        bad(folder, gguf(infos=[info("a"), info("b", offset=offset)], data=bytes(128)),
            "'b'", f"offset {offset}", "expected 32")
    bad(folder, gguf(infos=[info("a"), info("b", offset=0)], data=bytes(128)), "'b'", "offset 0", "expected 32")
    bad(folder, gguf(infos=[info("a", offset=32)], data=bytes(128)), "'a'", "offset 32", "expected 0")


def test_row_081_region_smaller_than_its_shape(folder):
    # 36 floats are 144 bytes; the next tensor begins after 128.
    bad(folder, gguf(infos=[info("a", (36,)), info("b", offset=128)], data=bytes(4096)),
        "'a'", "needs 144", "128 are reserved")


def test_row_082_missing_data(folder):
    infos = [info("a"), info("b", (9,), offset=32)]  # 8 of 32 bytes, 36 of 64
    whole = gguf([ARCHITECTURE], infos, bytes(96))
    good(folder, whole)
    good(folder, whole[:-28])  # only the padding is missing
    bad(folder, whole[:-29], "truncated", "'b'")
    bad(folder, whole[:-64], "truncated", "'b'")
    bad(folder, whole[:-96], "truncated", "'a'")


# --- vocabulary and parts --------------------------------------------------------------------

def vocabulary(*more):
    tokens = record("tokenizer.ggml.tokens", ARRAY, array(STRING, 2, text("a") + text("b")))
    return gguf([ARCHITECTURE, record("tokenizer.ggml.model", STRING, "llama"), tokens, *more])


def test_row_084_vocabulary_arrays_that_do_not_fit(folder):
    scores = record("tokenizer.ggml.scores", ARRAY, array(F32, 2, bytes(8)))
    assert "tokenizer.ggml" not in good(folder, vocabulary(scores)).err

    def warned(*more):
        lines = [line for line in warnings(good(folder, vocabulary(*more))) if "tokenizer.ggml" in line]
        assert len(lines) == 1, lines
        return lines[0]

    line = warned(record("tokenizer.ggml.scores", ARRAY, array(F32, 3, bytes(12))))
    assert "tokenizer.ggml.scores" in line and "3" in line and "2" in line
    line = warned(scores, record("tokenizer.ggml.token_type", ARRAY, array(I32, 2, struct.pack("<2i", 1, 99))))
    assert "tokenizer.ggml.token_type" in line and "99" in line
    assert "tokenizer.ggml.scores" in warned()


def part(no, count, n_tensors, tensor):
    return gguf(([ARCHITECTURE] if no == 0 else []) +
                [record("split.no", U16, no), record("split.count", U16, count),
                 record("split.tensors.count", I32, n_tensors)], [info(tensor)], bytes(32))


def test_row_085_split_files(folder):
    first, second = folder / "m-00001-of-00002.gguf", folder / "m-00002-of-00002.gguf"
    first.write_bytes(part(0, 2, 2, "a"))
    second.write_bytes(part(1, 2, 2, "b"))
    for path in (first, second):
        result = run(["inspect", path, "--json"]).ok()
        assert {tensor["name"] for tensor in result.json()["tensors"]} == {"a", "b"}
    second.unlink()
    refused(run(["inspect", first]), 4, second.name)
    for wrong in (part(0, 2, 2, "b"), part(1, 3, 2, "b"), part(1, 2, 3, "b"), part(1, 2, 2, "a")):
        second.write_bytes(wrong)
        refused(run(["inspect", first]), 3, second.name, "part 2")
    first.write_bytes(part(0, 2, 5, "a"))
    second.write_bytes(part(1, 2, 5, "b"))
    refused(run(["inspect", first]), 3, "split.tensors.count", "5", "2")


# --- against the checkpoint ------------------------------------------------------------------

@pytest.fixture
def converted(folder):
    """A function that converts a tiny checkpoint to a type: (path of the output, tensors)."""
    tiny(folder)

    def convert(type):
        out = folder.parent / f"{type}.gguf"
        run(["quantize", folder, "-o", out, "--type", type]).ok()
        return out, read_gguf(out)
    return convert


def test_row_065_template_that_was_changed(folder, converted):
    out, (metadata, _) = converted("Q8_0")
    run(["verify", out, "--against", folder]).ok()
    template = metadata["tokenizer.chat_template"].encode()
    content = out.read_bytes()
    at = content.index(template)
    changed = template[:5] + bytes([template[5] ^ 1]) + template[6:]
    out.write_bytes(content[:at] + changed + content[at + len(template):])
    result = run(["verify", out, "--against", folder])
    assert result.code == 1, result.err
    said = result.text + result.err
    for content in (template, changed):
        assert hashlib.sha256(content).hexdigest() in said


# type -> where the halves of its blocks' scales and mins stand, and the bytes of a block
SCALES = {"Q8_0": ([0], 34), "Q4_0": ([0], 18), "Q4_1": ([0, 2], 20), "Q5_0": ([0], 22), "Q5_1": ([0, 2], 24),
          "Q2_K": ([80, 82], 84), "Q3_K": ([108], 110), "Q4_K": ([0, 2], 144), "Q5_K": ([0, 2], 176),
          "Q6_K": ([208], 210), "IQ4_NL": ([0], 18), "IQ4_XS": ([0], 136)}
FILE_TYPES = {"Q3_K": "Q3_K_S", "Q4_K": "Q4_K_S", "Q5_K": "Q5_K_S"}


def check_finds(out, folder, name, needles):
    for args in (["inspect", out, "--check"], ["verify", out, "--against", folder]):
        result = run(args)
        assert result.code == 1, f"{args}: exit {result.code}\n{result.err}"
    said = run(["inspect", out, "--check"])
    for needle in (name, *needles):
        assert needle in said.text + said.err, needle


@pytest.mark.parametrize("type", SCALES)
def test_row_086_block_scale_not_finite(folder, converted, type):
    out, (_, tensors) = converted(FILE_TYPES.get(type, type))
    run(["inspect", out, "--check"]).ok()
    name = next(name for name, tensor in tensors.items() if tensor.type == type)
    offsets, block_bytes = SCALES[type]
    whole = out.read_bytes()
    for offset in offsets:
        for half in (0x7C00, 0x7E00):  # Inf, NaN
            content = bytearray(whole)
            for block in (3, 5):
                struct.pack_into("<H", content, tensors[name].position + block * block_bytes + offset, half)
            out.write_bytes(content)
            check_finds(out, folder, name, ["3", "2"])


@pytest.mark.parametrize("type, form, pattern", [("F32", "<I", 0x7FC00000), ("F16", "<H", 0x7E00),
                                                 ("BF16", "<H", 0x7FC0)])
def test_row_086_float_not_finite(folder, converted, type, form, pattern):
    out, (_, tensors) = converted(type)
    name = "blk.0.attn_qkv.weight"
    content = bytearray(out.read_bytes())
    struct.pack_into(form, content, tensors[name].position + 7 * struct.calcsize(form), pattern)
    out.write_bytes(content)
    check_finds(out, folder, name, ["7", "1"])
