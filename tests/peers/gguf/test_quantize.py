"""The quantized files are llama-quantize's: the same types, the same bytes, the same divergence."""
import json
import re

import pytest

import gguf_file
import llama
from program import DATA, run_phiq

FIGURES = json.loads((DATA / "golden" / "divergence.json").read_text())
FILE_TYPES = list(FIGURES["phi35-tiny"])


def test_there_are_nineteen_file_types():
    assert len(FILE_TYPES) == 19


@pytest.mark.parametrize("file_type", FILE_TYPES)
def test_file_is_llama_quantizes(outputs, model, file_type):
    ours, theirs = outputs.of_phiq(file_type), outputs.of_llama_quantize(file_type)
    assert differences(gguf_file.read(ours), gguf_file.read(theirs)) == []

    statistics = outputs.divergence(ours)
    assert statistics == outputs.divergence(theirs)
    mean = float(re.search(r"Mean    KLD: +(-?[0-9.]+)", statistics)[1])
    # The figures are another machine's: 1 %, and half of the last digit printed many times over.
    assert mean == pytest.approx(FIGURES[model][file_type], rel=0.01, abs=5e-6)


def differences(ours, theirs):
    """What differs in the tensors of two files, and in the metadata that says how they are coded."""
    found = [f"{name}: only in one file" for name in ours.tensors.keys() ^ theirs.tensors.keys()]
    for name in ours.tensors.keys() & theirs.tensors.keys():
        a, b = ours.tensors[name], theirs.tensors[name]
        if (a.dims, a.type) != (b.dims, b.type):
            found.append(f"{name}: {a.dims} type {a.type}, wanted {b.dims} type {b.type}")
        elif a.data != b.data:
            at = next(i for i, (x, y) in enumerate(zip(a.data, b.data)) if x != y)
            found.append(f"{name}: type {a.type} differs first at byte {at}")
    for key in (ours.metadata.keys() | theirs.metadata.keys()) - {"phiq.record"}:
        a, b = ours.metadata.get(key), theirs.metadata.get(key)
        if a != b:
            found.append(f"{key}: {a and a.value}, wanted {b and b.value}")
    return found


def test_a_changed_byte_is_a_difference(outputs):
    changed = gguf_file.read(outputs.of_phiq("Q4_0"))
    tensor = changed.tensors["blk.1.attn_qkv.weight"]
    tensor.data = tensor.data[:77] + bytes([tensor.data[77] ^ 1]) + tensor.data[78:]
    wanted = ["blk.1.attn_qkv.weight: type 2 differs first at byte 77"]
    assert differences(changed, gguf_file.read(outputs.of_phiq("Q4_0"))) == wanted


@pytest.mark.parametrize("options, file_type", [
    (("--precision", "int4"), "Q4_K_M"), (("--precision", "int8"), "Q8_0"), (("--precision", "fp16"), "F16"),
    (("--precision", "bf16"), "BF16"), (("--precision", "fp32"), "F32"), (("--profile", "iot"), "Q4_K_M"),
    ((), "Q4_K_M"),
])
def test_precision_and_profile_choose_the_type(outputs, options, file_type):
    assert outputs.run_phiq("chosen.gguf", "--force", *options).read_bytes() == outputs.of_phiq(file_type).read_bytes()


def test_a_split_file_is_the_whole_one_when_merged(outputs, tmp_path):
    """llama.cpp finds and accepts all parts."""
    whole = outputs.of_phiq("Q8_0")
    done = run_phiq("quantize", DATA / outputs.model, "--type", "Q8_0", "--split-max-size", "1M",
                    "-o", tmp_path / "part.gguf")
    assert done.returncode == 0, done.stderr
    parts = sorted(tmp_path.glob("part-*-of-*.gguf"))
    assert len(parts) > 2
    llama.run("gguf-split", "--merge", parts[0], tmp_path / "merged.gguf")
    merged, wanted = gguf_file.read(tmp_path / "merged.gguf"), gguf_file.read(whole)
    assert merged.tensors == wanted.tensors
