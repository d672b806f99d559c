"""quantize and plan as a user runs them: every type, exact sizes, splits, pipes, memory, verify."""
import hashlib
import pathlib
import random
import re
import shutil

import pytest

import harness
from harness import DATA, refused, run, snapshot, tiny
from gguf_file import read_gguf
from test_numbers import TYPES

MODELS = ("phi35-tiny", "phi4mini-tiny")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("type", TYPES)
def test_plan_tells_the_exact_size_of_every_type(work, model, type):
    plan = run(["plan", DATA / model, "--type", type, "--json"]).ok().json()
    run(["quantize", DATA / model, "--type", type, "-o", work / "out.gguf", "--quiet"]).ok()
    assert plan["output_bytes"] == (work / "out.gguf").stat().st_size
    verified = run(["verify", work / "out.gguf", "--against", DATA / model])
    assert verified.code == 0, verified.text + verified.err


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("options,type", [(["--precision", "int4"], "Q4_K_M"), (["--profile", "iot"], "Q4_K_M"),
                                          (["--precision", "int8"], "Q8_0"), (["--precision", "fp16"], "F16"),
                                          (["--precision", "bf16"], "BF16"), (["--precision", "fp32"], "F32"),
                                          ([], "Q4_K_M")])
def test_a_precision_is_the_same_as_its_type(work, model, options, type):
    run(["quantize", DATA / model, *options], cwd=work).ok()
    named = work / f"{model}-{type}.gguf"
    run(["quantize", DATA / model, "--type", type, "-o", work / "by-type.gguf"]).ok()
    assert named.read_bytes() == (work / "by-type.gguf").read_bytes()


def test_a_rule_changes_the_tensors_it_matches(work):
    run(["quantize", DATA / "phi35-tiny", "--type", "Q4_0", "--tensor-type", "layers.1.*down=Q8_0",
         "--tensor-type", "lm_head=F16", "-o", work / "out.gguf"]).ok()
    _, tensors = read_gguf(work / "out.gguf")
    assert tensors["blk.1.ffn_down.weight"].type == "Q8_0"
    assert tensors["blk.0.ffn_down.weight"].type == "Q4_0"
    assert tensors["output.weight"].type == "F16"


def test_a_pipe_gets_the_bytes_of_the_file(work):
    """But for the checksums, which are known when the head is gone."""
    run(["quantize", DATA / "phi35-tiny", "--type", "Q5_K_M", "-o", work / "out.gguf"]).ok()
    piped = run(["quantize", DATA / "phi35-tiny", "--type", "Q5_K_M", "-o", "-", "--threads", "4"]).ok()
    checksum = re.compile(rb'(?<=")[0-9a-f]{32}(?=")')
    assert piped.out == checksum.sub(b"0" * 32, (work / "out.gguf").read_bytes()) != (work / "out.gguf").read_bytes()
    (work / "piped.gguf").write_bytes(piped.out)
    refused(run(["verify", work / "piped.gguf"]), 2, "has no recorded checksums", "--against MODEL")
    run(["verify", work / "piped.gguf", "--against", DATA / "phi35-tiny"]).ok()


@pytest.mark.parametrize("format", ["gguf", "onnx"])
def test_sha256_of_every_file_is_reported(work, format):
    args = ["quantize", DATA / "phi35-tiny", "--format", format, "--precision", "int8", "--no-fsync", "--sha256"]
    files = run([*args, "-o", work / "json", "--json"]).ok().json()["files"]
    assert {file["path"]: file["sha256"] for file in files} == {
        file["path"]: hashlib.sha256(pathlib.Path(file["path"]).read_bytes()).hexdigest() for file in files}
    text = run([*args, "-o", work / "text"]).ok().text
    assert all(file["sha256"] in text for file in files)
    refused(run(["quantize", DATA / "phi35-tiny", "-o", "-", "--sha256"]), 2, "--sha256", "cannot be read again")


def test_split_files_hold_the_same_tensors(work):
    run(["quantize", DATA / "phi35-tiny", "--type", "Q8_0", "-o", work / "whole.gguf"]).ok()
    plan = run(["plan", DATA / "phi35-tiny", "--type", "Q8_0", "--split-max-size", "2MB", "-o", work / "part.gguf",
                "--json"]).ok().json()
    run(["quantize", DATA / "phi35-tiny", "--type", "Q8_0", "--split-max-size", "2MB", "-o", work / "part.gguf"]).ok()
    parts = sorted(work.glob("part-*.gguf"))
    assert [p.name for p in parts] == [f"part-{i + 1:05d}-of-{len(parts):05d}.gguf" for i in range(len(parts))]
    assert len(parts) >= 3
    assert [file["bytes"] for file in plan["files"]] == [p.stat().st_size for p in parts]
    tensors = {}
    for part in parts:
        metadata, found = read_gguf(part)
        assert metadata["split.count"] == len(parts)
        tensors.update(found)
    _, whole = read_gguf(work / "whole.gguf")
    assert {n: t.content for n, t in tensors.items()} == {n: t.content for n, t in whole.items()}
    run(["verify", parts[0], "--against", DATA / "phi35-tiny"]).ok()
    run(["verify", parts[0]]).ok()
    parts[1].unlink()
    refused(run(["verify", parts[0], "--against", DATA / "phi35-tiny"]), 4, parts[1].name)


def test_memory_stays_below_the_plan_and_the_limit(work):
    def quantize(name, *options):
        report = run(["quantize", DATA / "phi4mini-tiny", "-o", work / name, "--json", *options]).ok().json()
        return report["peak_memory_bytes"]

    plan = run(["plan", DATA / "phi4mini-tiny", "--json"]).ok().json()
    peak = quantize("out.gguf")
    small_peak = quantize("small.gguf", "--memory-limit", "32M")
    if not harness.SANITIZED:
        assert 4 << 20 < peak <= plan["peak_memory_bytes"]
        assert small_peak <= 32 << 20
    assert (work / "small.gguf").read_bytes() == (work / "out.gguf").read_bytes()
    refused(run(["quantize", DATA / "phi4mini-tiny", "-o", work / "x.gguf", "--memory-limit", "1M"]), 7,
            "--memory-limit", "needs at least")


def test_verify_sees_changed_bytes(work):
    """Flips one bit of the tensor data at a time; those in scales must be seen."""
    model = DATA / "phi35-tiny"
    run(["quantize", model, "--type", "Q8_0", "-o", work / "out.gguf"]).ok()
    original = (work / "out.gguf").read_bytes()
    _, tensors = read_gguf(work / "out.gguf")
    rng = random.Random(1)
    quantized = [t for t in tensors.values() if t.type == "Q8_0"]
    for trial in range(20):
        tensor = rng.choice(quantized)
        block = rng.randrange(len(tensor.content) // 34)
        damaged = bytearray(original)
        damaged[tensor.position + 34 * block + 1] ^= 0x08  # an exponent bit of the block's scale
        (work / "out.gguf").write_bytes(damaged)
        result = run(["verify", work / "out.gguf", "--against", model])
        assert result.code == 1, f"trial {trial} was not seen"


def test_verify_wants_the_right_checkpoint(work):
    run(["quantize", DATA / "phi35-tiny", "--type", "Q8_0", "-o", work / "out.gguf"]).ok()
    tiny(work / "other", layers=4, intermediate=768)
    result = run(["verify", work / "out.gguf", "--against", work / "other"])
    assert result.code == 1 and "attn_qkv" in result.text


def test_the_same_weights_in_other_dtypes_and_shards_give_the_same_file(work):
    """Row 48: mixed dtypes whose values are equal; and any number of shards."""
    import numpy as np
    tensors = harness.tiny_tensors()
    tiny(work / "a")
    as_f32 = {}
    for name in ("model.norm.weight", "model.layers.0.mlp.down_proj.weight"):
        _, shape, content = tensors[name]
        values = (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4")
        as_f32[name] = ("F32", shape, values.tobytes())
    tiny(work / "b", tensors_update=as_f32, shards=3)
    outputs = []
    for name in ("a", "b"):
        shutil.move(work / name, work / "model")
        run(["quantize", work / "model", "--type", "Q4_K_M", "-o", work / f"{name}.gguf"]).ok()
        shutil.move(work / "model", work / name)
        outputs.append((work / f"{name}.gguf").read_bytes())
    assert outputs[0] == outputs[1]


def test_force_replaces_and_leaves_nothing_else(work):
    (work / "out.gguf").write_bytes(b"old")
    before = snapshot(work)
    refused(run(["quantize", DATA / "phi35-tiny", "-o", work / "out.gguf"]), 5, "exists", "--force", before=before,
            folder=work)
    run(["quantize", DATA / "phi35-tiny", "-o", work / "out.gguf", "--force"]).ok()
    assert [p.name for p in work.iterdir()] == ["out.gguf"]
    assert (work / "out.gguf").read_bytes()[:4] == b"GGUF"
