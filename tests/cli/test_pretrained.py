"""--format safetensors: checkpoints as transformers saves them, here of checkpoints; of other formats: test_sources.py."""
import json
import shutil

import numpy as np
import pytest

from harness import DATA, RECORD, error_line, read_header, read_safetensors, refused, run, warnings

MODELS = ("phi35-tiny", "phi4mini-tiny", "phimoe-tiny")
WEIGHTS = "model.safetensors"


def quantize(model, out, options=""):
    return run(["quantize", model, "--format", "safetensors", *options.split(), "-o", out, "--no-fsync"])


def as_f32(tensor):
    dtype, shape, content = tensor
    if dtype == "BF16":
        return (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4").reshape(shape)
    return np.frombuffer(content, {"F32": "<f4", "F16": "<f2"}[dtype]).astype("<f4").reshape(shape)


@pytest.mark.parametrize("model", MODELS)
def test_a_checkpoint_stays_what_it_is(work, model):
    done = quantize(DATA / model, work / "out").ok()
    assert warnings(done) == []
    assert read_safetensors(work / "out" / WEIGHTS) == read_safetensors(DATA / model / WEIGHTS)
    theirs, ours = (json.loads((folder / "config.json").read_text()) for folder in (DATA / model, work / "out"))
    assert {**theirs, "torch_dtype": "bfloat16"} == ours
    for path in (DATA / model).glob("*token*.json"):
        assert (work / "out" / path.name).read_bytes() == path.read_bytes()
    assert RECORD in {path.name for path in (work / "out").iterdir()}
    verified = run(["verify", work / "out", "--against", DATA / model, "--json"]).ok().json()
    assert verified["encoded_again"] == verified["checksums"] == len(read_safetensors(work / "out" / WEIGHTS))
    run(["inspect", work / "out", "--check"]).ok()


@pytest.mark.parametrize("options, dtype", (("--precision fp32", "F32"), ("--precision fp16", "F16"),
                                            ("--precision bf16", "BF16"), ("--type f32", "F32"), ("--type as-is", "BF16")))
def test_types(work, options, dtype):
    quantize(DATA / "phi35-tiny", work / "out", options).ok()
    ours, theirs = read_safetensors(work / "out" / WEIGHTS), read_safetensors(DATA / "phi35-tiny" / WEIGHTS)
    assert {tensor[0] for tensor in ours.values()} == {dtype}
    for name, tensor in theirs.items():
        wanted = as_f32(tensor)
        if dtype == "F16":
            wanted = wanted.astype("<f2").astype("<f4")
        assert np.array_equal(as_f32(ours[name]), wanted), name
    named = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[dtype]
    assert json.loads((work / "out/config.json").read_text())["torch_dtype"] == named
    header, _ = read_header(work / "out" / WEIGHTS)
    assert header["__metadata__"]["format"] == "pt"  # transformers asks for it


def test_a_rule_gives_a_tensor_a_type_of_its_own(work):
    quantize(DATA / "phi35-tiny", work / "out", "--tensor-type lm_head=F32").ok()
    types = {name: tensor[0] for name, tensor in read_safetensors(work / "out" / WEIGHTS).items()}
    assert {name for name, dtype in types.items() if dtype == "F32"} == {"lm_head.weight"}
    refused(quantize(DATA / "phi35-tiny", work / "no", "--tensor-type lm_head=Q8_0"), 2, "Q8_0")


def test_codes_are_other_formats_matter(work):
    refused(quantize(DATA / "phi35-tiny", work / "out", "--precision int8"), 2,
            "safetensors has no precision int8 (it has fp16, bf16, fp32)")
    refused(quantize(DATA / "phi35-tiny", work / "out", "--type Q8_0"), 2, "'Q8_0' is no type of safetensors")


def test_code_of_the_checkpoints_own_is_not_asked_for(folder, work):
    shutil.copytree(DATA / "phi35-tiny", folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "configuration_phi3.Phi3Config"}
    (folder / "config.json").write_text(json.dumps(config))
    quantize(folder, work / "out").ok()
    assert "auto_map" not in json.loads((work / "out/config.json").read_text())


def test_a_flipped_bit_is_seen(work):
    quantize(DATA / "phi35-tiny", work / "out").ok()
    path = work / "out" / WEIGHTS
    content = bytearray(path.read_bytes())
    content[-5] ^= 4
    path.write_bytes(content)
    damaged = run(["verify", work / "out"])
    assert damaged.code == 1 and "damaged" in error_line(damaged)


def test_the_default_name(work):
    run(["quantize", DATA / "phi35-tiny", "--format", "safetensors", "--no-fsync"], cwd=work).ok()
    assert [path.name for path in work.iterdir()] == ["phi35-tiny-safetensors-as-is"]
