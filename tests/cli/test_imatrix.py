"""Importance matrices that are broken, odd or another model's. The right ones: tests/peers/gguf."""
import struct

import pytest
from harness import DATA, refused, run, warnings

GOLDEN = DATA / "golden" / "imatrix" / "phi35-tiny.dat"


def entries():
    """[(name, chunks, values)] and the rest of the golden file."""
    content = GOLDEN.read_bytes()
    n, = struct.unpack_from("<i", content)
    at, found = 4, []
    for _ in range(n):
        length, = struct.unpack_from("<i", content, at)
        name = content[at + 4:at + 4 + length].decode()
        at += 4 + length
        chunks, n_values = struct.unpack_from("<ii", content, at)
        found.append((name, chunks, list(struct.unpack_from(f"<{n_values}f", content, at + 8))))
        at += 8 + 4 * n_values
    return found, content[at:]


def write(path, found, rest=b""):
    content = struct.pack("<i", len(found))
    for name, chunks, values in found:
        content += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", chunks, len(values))
        content += struct.pack(f"<{len(values)}f", *values)
    path.write_bytes(content + rest)
    return path


def command(out, matrix, *options):
    return ["quantize", DATA / "phi35-tiny", "--type", "Q4_0", "--imatrix", matrix, "-o", out, *options]


def test_the_copy_is_the_golden_file(work):
    assert write(work / "copy.dat", *entries()).read_bytes() == GOLDEN.read_bytes()


@pytest.mark.parametrize("value, code, says", [
    (float("nan"), 9, "column 3 has the mean square nan, allowed are 0 to 1e+30"),
    (float("inf"), 9, "column 3 has the mean square inf, allowed are 0 to 1e+30"),
    (-4.0, 3, "column 3 has the mean square -1, allowed are 0 to 1e+30"),
])
def test_row_122_a_value_that_is_no_mean_square(work, value, code, says):
    found, rest = entries()
    found[2][2][3] = value
    matrix = write(work / "broken.dat", found, rest)
    refused(run(command(work / "out.gguf", matrix)), code, f"broken.dat: tensor '{found[2][0]}': {says}")
    assert not (work / "out.gguf").exists()


def test_row_122_zeros_are_as_if_they_were_not_there(work):
    found, rest = entries()
    name, chunks, values = found[0]
    zeros = write(work / "zeros.dat", [(name, chunks, [0.0] * len(values)), *found[1:]], rest)
    missing = write(work / "missing.dat", found[1:], rest)
    of_zeros = run(command(work / "zeros.gguf", zeros)).ok()
    of_missing = run(command(work / "missing.gguf", missing)).ok()
    assert f"1 of its entries are all zeros, the first is '{name}': quantized as without it" in warnings(of_zeros)[0]
    assert f"has nothing of 1 of the weights, the first is '{name}': quantized as without it" in warnings(of_missing)[0]
    # What a file says of its making names the matrix; the weights are the same.
    run(["compare", work / "zeros.gguf", work / "missing.gguf"]).ok()
    tensors = run(["compare", work / "zeros.gguf", work / "missing.gguf", "--json"]).ok().json()
    assert all(tensor["rmse"] == 0 for tensor in tensors["tensors"])


def test_row_122_another_number_of_columns(work):
    found, rest = entries()
    found[1] = (found[1][0], found[1][1], found[1][2][:-1])
    refused(run(command(work / "out.gguf", write(work / "short.dat", found, rest))), 3,
            f"tensor '{found[1][0]}': has 255 values, the model's weight has 256 columns")


def test_row_122_an_entry_of_another_model(work):
    found, rest = entries()
    matrix = write(work / "more.dat", [*found, ("blk.40.ffn_down.weight", 4, [1.0, 2.0])], rest)
    said = warnings(run(command(work / "out.gguf", matrix)).ok())
    assert len(said) == 1
    assert "1 of its 17 entries are of no weight of this model, the first is 'blk.40.ffn_down.weight'" in said[0]


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF" + b"\xff" * 60, b"\xff\xff\xff\x7f" * 16, b"no matrix at all\n"])
def test_row_122_rubbish_takes_no_memory(work, content):
    (work / "rubbish").write_bytes(content)
    result = run(command(work / "out.gguf", work / "rubbish"))
    assert result.code in (3, 6), result.err
    refused(result, result.code, "rubbish", input_size=len(content))
