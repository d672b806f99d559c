"""What phiq writes, for every type of every format: sizes and two hashes a line (tests/data/net.tsv).

The first hash is of the tensors, the second of all the rest. A change of the code that means to change neither
is held here; one that means to runs table.py and says why.
"""
import pytest

import cases
import table
import weights
from harness import run


@pytest.fixture(scope="session")
def expected():
    return table.read()


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    return cases.make_checkpoints(tmp_path_factory.mktemp("checkpoints"))


def test_every_type_is_in_the_net():
    assert {format: set(types) for format, types in cases.types_of_the_program().items()} == \
        {format: set(types) for format, types in cases.TYPES.items()}


def test_the_table_has_every_case_once(expected):
    assert list(expected) == cases.all_cases()


def test_nothing_that_is_written_changes(tmp_path, checkpoints, expected):
    changed = []
    for (checkpoint, options), (found,) in table.measure(list(expected), tmp_path, checkpoints).items():
        wanted = expected[checkpoint, options]
        kinds = [kind for kind in ("bytes", "tensors", "rest") if getattr(found, kind) != getattr(wanted, kind)]
        if kinds:
            changed.append(f"{checkpoint} {options}: {', '.join(kinds)}")
    assert not changed, f"{len(changed)} of {len(expected)} lines:\n" + "\n".join(changed)


@pytest.mark.parametrize("checkpoint", cases.TINY)
def test_formats_of_one_run_are_what_each_is_alone(tmp_path, checkpoints, expected, checkpoint):
    lines = [(checkpoint, options) for options in cases.TOGETHER]
    for (_, options), found in table.measure(lines, tmp_path, checkpoints).items():
        assert found == [expected[checkpoint, alone] for alone in cases.TOGETHER[options]], options


@pytest.mark.parametrize("format, file, in_tensors", [
    ("gguf", "out.gguf", ("out.gguf", -40)), ("onnx", "model.onnx", ("model.onnx.data", -40)),
    ("openvino", "openvino_model.xml", ("openvino_model.bin", -40)), ("mlx", "config.json", ("model.safetensors", -40)),
    ("torch", "config.json", ("model.safetensors", -40)), ("safetensors", "config.json", ("model.safetensors", -40)),
    ("litert", "out.litertlm", ("out.litertlm", -40))])
def test_each_hash_sees_its_own_bytes(tmp_path, checkpoints, format, file, in_tensors):
    def digests():
        return weights.digests([out], table.version())

    def flip(name, position):
        path = out if out.is_file() else out / name
        content = bytearray(path.read_bytes())
        content[position] ^= 1
        path.write_bytes(content)

    out = tmp_path / f"out{table.ENDINGS.get(format, '')}"
    precision = "bf16" if format == "safetensors" else "int8"
    run(["quantize", checkpoints["phi35-tiny"], "--format", format, "--precision", precision, "-o", out]).ok()
    before = digests()
    flip(*in_tensors)
    tensors, rest = digests()
    assert tensors != before[0] and rest == before[1]
    flip(*in_tensors)
    flip(file, out.read_bytes().index({"gguf": b"general.name", "litert": b"Authors"}[format]) if out.is_file() else 200)
    tensors, rest = digests()
    assert tensors == before[0] and rest != before[1]
