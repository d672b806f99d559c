"""Rows 87 to 98 of docs/reliability.md: `inspect` and `verify` of broken ONNX folders."""
import os
import re
import resource
import struct

import pytest

from harness import limit, refused, run, snapshot, tiny
from onnx_file import (BFLOAT16, FLOAT, FLOAT16, INT4, INT8, UINT4, UINT8, attribute, blob, external, f32, graph,
                       model, node, number, tag, tensor, varint)


def inspect(folder, content, *options, **kwargs):
    path = folder / "x.onnx"
    path.write_bytes(content)
    return run(["inspect", path, *options], **kwargs)


def bad(folder, content, *needles, code=3, **kwargs):
    return refused(inspect(folder, content, **kwargs), code, "x.onnx", *needles, input_size=len(content))


def good(folder, content, *options):
    return inspect(folder, content, *options).ok()


def one(*initializers):
    return model(graph(initializers=initializers))


# --- wire format -----------------------------------------------------------------------------

def test_row_087_broken_protobuf(folder):
    start = number(1, 10)
    for broken in (tag(5, 0) + b"\xff" * 11 + b"\1", tag(5, 0) + b"\x80\x80", tag(5, 0), b"\x88" * 6 + b"\0",
                   tag(2, 2) + varint(5) + b"abcd", tag(2, 2) + varint(2**64 - 1) + b"abcd",
                   tag(100, 1) + bytes(7), tag(100, 5) + bytes(3), tag(0, 0) + b"\1", tag(1, 6), tag(1, 7),
                   tag(9, 4), tag(9, 3) + tag(8, 4), tag(9, 3)):
        line = bad(folder, start + broken, "protobuf", "at byte")
        assert int(line.split("at byte ")[1].split()[0]) in range(2, 2 + len(broken) + 1)
    bad(folder, blob(7, blob(5, blob(1, b"\1\x80"))), "protobuf", "at byte 4")  # packed dims
    whole = one(tensor("w", UINT8, [4], b"1234"))
    for n in range(len(whole)):
        assert inspect(folder, whole[:n]).code in (0, 3), n
    bad(folder, bytes(1000), "field number 0", "at byte 0")
    bad(folder, b"", "no graph")


def nested(levels):
    """Messages in messages: graph, node, attribute, graph, ..."""
    content = b""
    for level in range(levels, 0, -1):
        content = blob(7 if level == 1 else (6, 1, 5)[(level - 1) % 3], content)
    return content


def test_row_088_nesting(folder):
    small = limit(resource.RLIMIT_STACK, 256 << 10)
    inspect(folder, nested(100), preexec=small).ok()
    bad(folder, nested(101), "nested too deeply", preexec=small)
    bad(folder, nested(3000), "nested too deeply", preexec=small)
    bad(folder, tag(99, 3) * 1_000_000, "nested too deeply", preexec=small)
    # A million levels of graphs, whose lengths would take long to write: a length that reaches to the end.
    bad(folder, tag(7, 2) + varint(2**28) + bytes(100), "protobuf")


def test_row_089_fields_twice(folder):
    first = graph(initializers=[tensor("a", FLOAT, [1, 2], f32(1, 2))])
    # dims packed and not, the type and the data twice: the last one counts.
    second = blob(1, b"\1\3") + number(2, UINT8) + number(2, FLOAT) + blob(8, "b") + blob(9, "no") + \
        blob(9, f32(3, 4, 5))
    second = blob(5, second) + blob(1, node("Gather", "/a/Gather", ["a", "x"], ["y"])) + \
        blob(1, node("Gather", "/b/Gather", ["b", "y"], ["z"]))
    content = number(1, 3) + blob(7, first) + number(1, 10) + blob(7, second) + blob(2, "no") + blob(2, "last")
    found = good(folder, content, "--json").json()
    assert found["metadata"]["ir_version"] == "10" and found["metadata"]["producer"] == "last"
    assert {t["name"]: t["shape"] for t in found["tensors"]} == {"a.weight": [1, 2], "b.weight": [1, 3]}


# --- external data ---------------------------------------------------------------------------

def at(location, *entries):
    return one(external("w", UINT8, [4], ("location", location), *entries))


@pytest.mark.parametrize("location", [
    "/etc/passwd", "..", "../w", "a/..", "a/../w", "a/../../b", "a\\w", "..\\w", "C:/w", "c:w", b"w\0x", "", "a//b",
    "NUL", "con.data", "a/COM1", "x.onnx", "./x.onnx", b"\x1b[31m/.."])
def test_row_090_location(folder, location):
    before = snapshot(folder.parent)
    shown = "\\x1b[31m/.." if location == b"\x1b[31m/.." else "external data location"
    bad(folder, at(location), "'w'", "external data location", shown)
    (folder / "x.onnx").unlink()
    assert snapshot(folder.parent) == before


def test_row_090_location_inside_of_nodes(folder):
    inner = blob(1, "value") + blob(5, external("w", UINT8, [4], ("location", "../w"))) + number(20, 4)
    content = blob(2, "y") + blob(3, "c") + blob(4, "Constant") + blob(5, inner)
    bad(folder, model(blob(1, content)), "'w'", "external data location")


def test_row_091_links_that_leave(folder, work):
    secret = work / "secret"
    secret.write_bytes(b"1234")
    (folder / "w.data").symlink_to(secret)
    bad(folder, at("w.data"), "'w'", "outside the model directory")
    (folder / "d").symlink_to(work, target_is_directory=True)
    bad(folder, at("d/secret"), "'w'", "outside the model directory")
    (folder / "inside").write_bytes(b"1234")
    (folder / "near").symlink_to("inside")
    good(folder, at("near"))


def test_row_091_links_of_a_hub_cache(work):
    blobs, snapshot_folder = work / "blobs", work / "snapshots" / "0123"
    blobs.mkdir()
    snapshot_folder.mkdir(parents=True)
    (blobs / "aa").write_bytes(at("model.onnx.data"))
    (blobs / "bb").write_bytes(b"1234")
    (snapshot_folder / "model.onnx").symlink_to("../../blobs/aa")
    (snapshot_folder / "model.onnx.data").symlink_to("../../blobs/bb")
    run(["inspect", snapshot_folder]).ok()
    run(["inspect", snapshot_folder / "model.onnx"]).ok()


def test_row_092_hard_links(folder, work):
    victim = work / "victim"
    victim.write_bytes(b"1234")
    os.link(victim, folder / "w.data")
    before = snapshot(work)
    good(folder, at("w.data"))
    (folder / "x.onnx").unlink()
    assert snapshot(work) == before


def test_row_093_numbers(folder):
    (folder / "w.data").write_bytes(bytes(10))
    good(folder, at("w.data", ("offset", "6"), ("length", "4")))
    for number_text in ("-1", "0x10", "1e3", " 1", "", "18446744073709551616"):
        for key in ("offset", "length"):
            bad(folder, at("w.data", (key, number_text)), "'w'", key, f"'{number_text}'")
    for offset in ("7", "11", str(2**63), str(2**64 - 1), str(2**64 - 4)):
        bad(folder, at("w.data", ("offset", offset)), "'w'", f"offset {offset}", "length 4", "10 bytes")
    for length in ("0", "3", "5", str(2**64 - 1)):
        bad(folder, at("w.data", ("length", length)), "'w'", f"length {length}", "UINT8 x [4]", "4 bytes")


def test_row_094_unknown_keys(folder):
    (folder / "w.data").write_bytes(bytes(4))
    good(folder, at("w.data", ("__class__", "x"), ("checksum", "y")))
    bad(folder, at("w.data", *[("key", "x")] * 10_000), "'w'", "10001")


# --- tensors and operators -------------------------------------------------------------------

def test_row_095_data_in_two_places(folder):
    typed = blob(4, f32(1))
    for tail in (blob(9, "1234") + typed, typed + number(14, 1) + blob(13, blob(1, "location") + blob(2, "d")),
                 blob(9, "1234") + number(14, 1) + blob(13, blob(1, "location") + blob(2, "d"))):
        bad(folder, one(tensor("w", FLOAT, [1]) + tail), "'w'", "two places")
    for dims, n_bytes in (([2], 7), ([2], 9), ([2, 0], 4), ([], 8)):
        bad(folder, one(tensor("w", FLOAT, dims, bytes(n_bytes))), "'w'", f"{n_bytes} bytes")
    bad(folder, one(tensor("w", FLOAT, [2, -3], b"")), "'w'", "-3")
    bad(folder, one(tensor("w", FLOAT, [2**32, 2**32], b"")), "'w'", "overflow")
    bad(folder, one(tensor("w", FLOAT, [2**62, 4], b"")), "'w'", "overflow")
    bad(folder, one(tensor("w", 99, [1], b"1")), "'w'", "99", code=6)


def matmul_nbits(k=32, n=2, bits=4, block_size=32, b=(2, 1, 16), scales=(2, 1), zero_points=None):
    def content(dims):
        size = 1
        for dim in dims:
            size *= dim
        return bytes(size)
    initializers = [tensor("B", UINT8, b, content(b)), tensor("S", FLOAT, scales, content(scales) * 4)]
    if zero_points is not None:
        initializers.append(tensor("Z", UINT8, zero_points, content(zero_points)))
    inputs = ["x", "B", "S"] + ([] if zero_points is None else ["Z"])
    return model(graph([node("MatMulNBits", "/lm_head/MatMul_Q4", inputs, ["y"], "com.microsoft", K=k, N=n, bits=bits,
                             block_size=block_size)], initializers))


def test_row_096_matmul_nbits(folder):
    good(folder, matmul_nbits())
    good(folder, matmul_nbits(zero_points=(2, 1)))
    name = "/lm_head/MatMul_Q4"
    for value in (0, -1, 2**31, 2**63 - 1):
        for key in ("k", "n", "bits", "block_size"):
            bad(folder, matmul_nbits(**{key: value}), name, str(value))
    for block_size in (1, 8, 33, 48, 2**20):
        bad(folder, matmul_nbits(block_size=block_size), name, str(block_size))
    bad(folder, matmul_nbits(bits=3), name, "bits 3")
    bad(folder, matmul_nbits(bits=2), name, "bits 2", code=6)
    bad(folder, matmul_nbits(k=33), name, "'B'", "[2, 2, 16]")
    bad(folder, matmul_nbits(b=(2, 1, 15)), name, "'B'", "[2, 1, 16]", "30 bytes")
    bad(folder, matmul_nbits(scales=(1, 1)), name, "'S'", "[2, 1]", "4 bytes")
    bad(folder, matmul_nbits(zero_points=(1, 1)), name, "'Z'", "[2, 1]", "1 bytes")
    bad(folder, matmul_nbits(zero_points=(4,)), name, "'Z'", "[2, 1]", "4 bytes")


# --- the graph -------------------------------------------------------------------------------

def check_finds(folder, content, *needles):
    good(folder, content)  # it can be read
    result = inspect(folder, content, "--check")
    assert result.code == 1, result.err
    for needle in needles:
        assert needle in result.text, needle


def test_row_097_graph(folder):
    w = tensor("w", FLOAT, [1, 1], f32(1))
    check_finds(folder, model(graph([node("Relu", "a", ["missing"], ["y"])])), "'missing'", "'a'")
    check_finds(folder, model(graph([node("MatMulNBits", "m", ["x", "B", "S"], ["y"], K=32, N=2, block_size=32)])),
                "'B'", "'S'")
    check_finds(folder, model(graph(outputs=["nothing"])), "'nothing'")
    check_finds(folder, one(w, w), "'w'")
    check_finds(folder, model(graph([node("Add", "a", ["x", "c"], ["b"]), node("Relu", "c", ["b"], ["c"])])), "cycle")
    inner = graph([node("Relu", "inner", ["lost"], ["z"])], inputs=(), outputs=["z"])
    check_finds(folder, model(graph([node("If", "i", ["x"], ["y"], then_branch=inner)])), "'lost'")


def test_row_097_verify(folder, work):
    checkpoint = tiny(work / "checkpoint")
    content = model(graph([node("Relu", "a", ["missing"], ["y"])]))
    (folder / "model.onnx").write_bytes(content)
    result = run(["verify", folder, "--against", checkpoint])
    assert result.code == 1, result.err
    assert "missing" in result.text + result.err


def test_row_098_two_gigabytes(folder):
    path = folder / "x.onnx"
    path.write_bytes(one())
    os.truncate(path, 2**31)
    refused(run(["inspect", path]), 3, "2 GiB", input_size=0)


# --- what is right ---------------------------------------------------------------------------

def weights_folder(folder, scale=1.0, table=1.0, norm=1.0):
    """A norm, a packed matrix, a float matrix [K, N], an embedding and a table, in two files."""
    data = bytes(2 * 16) + f32(scale, 2) + f32(1, 2, 3, 4, 5, 6) + bytes(3 * 16) + struct.pack("<3e", 1, 1, 1)
    (folder / "model.onnx.data").write_bytes(data)

    def stored(name, type, dims, offset):
        return external(name, type, dims, ("location", "model.onnx.data"), ("offset", str(offset)))
    nodes = [
        node("GatherBlockQuantized", "/model/embed_tokens/Gather_Q4", ["E", "x", "ES"], ["e"], "com.microsoft", block_size=32),
        node("SimplifiedLayerNormalization", "/n", ["e", "model.norm.weight"], ["n"]),
        node("MatMulNBits", "/model/layers.0/mlp/up_proj/MatMul_Q4", ["n", "B", "S"], ["u"], "com.microsoft", K=32, N=2,
             bits=4, block_size=32),
        node("MatMul", "/lm_head/MatMul", ["u", "lm_head.MatMul.weight"], ["y"])]
    initializers = [tensor("model.norm.weight", FLOAT, [2], f32(norm, 1)), stored("B", UINT8, [2, 1, 16], 0),
                    stored("S", FLOAT, [2, 1], 32), stored("lm_head.MatMul.weight", FLOAT, [2, 3], 40),
                    stored("E", INT4, [3, 32], 64), stored("ES", FLOAT16, [3, 1], 112),
                    tensor("cos_cache", FLOAT, [1, 1], f32(table))]
    (folder / "model.onnx").write_bytes(model(graph(nodes, initializers, outputs=["y"]), blob(14, blob(1, "k") + blob(2, "v\x1b"))))
    (folder / "genai_config.json").write_text('{"model": {"type": "phi3", "context_length": 4096, "eos_token_id": [1, 2]},'
                                              ' "search": {"max_length": 512}}')
    return folder


def test_inspect_shows_weights(folder):
    found = run(["inspect", weights_folder(folder), "--check", "--json"]).ok().json()
    assert found["kind"] == "onnx"
    assert [(t["name"], t["type"], t["shape"], t["bytes"]) for t in found["tensors"]] == [
        ("model.embed_tokens.weight", "int4 g32", [3, 32], 48 + 6), ("model.norm.weight", "F32", [2], 8),
        ("model.layers.0.mlp.up_proj.MatMul.weight", "int4 g32", [2, 32], 32 + 8),
        ("lm_head.MatMul.weight", "F32", [3, 2], 24), ("cos_cache", "F32", [1, 1], 4)]
    assert found["n_weights"] == 96 + 2 + 64 + 6
    assert found["data_bytes"] == 54 + 8 + 40 + 24
    metadata = found["metadata"]
    assert metadata["ir_version"] == "10" and metadata["producer"] == "phiq tests"
    assert metadata["opset ai.onnx"] == "21" and metadata["k"] == r"v\x1b"
    assert metadata["model.type"] == "phi3" and metadata["model.context_length"] == "4096"
    assert metadata["model.eos_token_id"] == "[1,2]" and metadata["search.max_length"] == "512"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_inspect_check_finds_bad_numbers(folder, value):
    for change, name in (({"scale": value}, "model.layers.0.mlp.up_proj.MatMul.weight"),
                         ({"norm": value}, "model.norm.weight"), ({"table": value}, "cos_cache")):
        result = run(["inspect", weights_folder(folder, **change), "--check"])
        assert result.code == 1, result.err
        assert re.search(rf"tensor '{re.escape(name)}': \d+ NaN or Inf weights?, the first at index \d+ \(row 0,",
                         result.text)


def test_checkpoint_with_genai_config_is_a_checkpoint(folder):
    tiny(folder)
    (folder / "genai_config.json").write_text("{}")
    assert run(["inspect", folder, "--json"]).ok().json()["kind"] == "checkpoint"
