"""The same input, options and version give the same bytes, however they are computed."""
import os
import pathlib

import pytest

import harness

# A build of the same sources with sanitizers; tools/test names it.
SANITIZED_PHIQ = os.environ.get("PHIQ_SANITIZED_PROGRAM")


def quantize(work, name, *options, program=None):
    out = work / f"{name}.gguf"
    harness.run(["quantize", harness.DATA / "phi35-tiny", "-o", out, *options], program=program, timeout=300).ok()
    return out.read_bytes()


@pytest.mark.parametrize("file_type", ["F16", "Q8_0", "Q4_K_M", "IQ4_XS", "Q2_K"])
def test_bytes_do_not_depend_on_the_number_of_threads(work, file_type):
    files = {n: quantize(work, f"t{n}", "--type", file_type, "--threads", n) for n in (1, 2, 7)}
    assert files[1] == files[2] == files[7]


def test_bytes_do_not_depend_on_the_memory_limit(work):
    """A small limit means other row chunks."""
    small = quantize(work, "small", "--type", "Q4_K_M", "--memory-limit", "64M")
    assert small == quantize(work, "large", "--type", "Q4_K_M")


@pytest.mark.skipif(not SANITIZED_PHIQ, reason="PHIQ_SANITIZED_PROGRAM is not set (tools/test sets it)")
@pytest.mark.parametrize("file_type", ["F16", "Q8_0", "Q4_K_M", "IQ4_XS", "Q3_K_M"])
def test_bytes_do_not_depend_on_the_build(work, file_type):
    sanitized = quantize(work, "sanitized", "--type", file_type, program=pathlib.Path(SANITIZED_PHIQ))
    assert sanitized == quantize(work, "plain", "--type", file_type)


# --- ONNX: every file of the folder ----------------------------------------------------------

ONNX = {"fp32": ["--type", "fp32"], "fp16": ["--type", "fp16"], "int8": ["--type", "int8"], "int4": ["--type", "int4"],
        "k_quant_mixed": ["--type", "k_quant_mixed"], "dynamic": ["--type", "int8", "--activations", "dynamic"],
        "dml": ["--type", "int4", "--ep", "dml"]}


def onnx_files(work, name, *options, model="phi35-tiny", program=None):
    out = work / name
    harness.run(["quantize", harness.DATA / model, "--format", "onnx", "-o", out, *options], program=program,
                timeout=300).ok()
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.mark.parametrize("model", ["phi35-tiny", "phi4mini-tiny"])
@pytest.mark.parametrize("case", ONNX)
def test_onnx_bytes_do_not_depend_on_threads_or_memory(work, case, model):
    one = onnx_files(work, "t1", *ONNX[case], "--threads", 1, model=model)
    for n in (2, 7):
        assert onnx_files(work, f"t{n}", *ONNX[case], "--threads", n, model=model) == one
    assert onnx_files(work, "small", *ONNX[case], "--memory-limit", "40M", model=model) == one


@pytest.mark.skipif(not SANITIZED_PHIQ, reason="PHIQ_SANITIZED_PROGRAM is not set (tools/test sets it)")
@pytest.mark.parametrize("case", ONNX)
def test_onnx_bytes_do_not_depend_on_the_build(work, case):
    sanitized = onnx_files(work, "sanitized", *ONNX[case], program=pathlib.Path(SANITIZED_PHIQ))
    assert sanitized == onnx_files(work, "plain", *ONNX[case])


def test_onnx_bytes_do_not_depend_on_where_they_go(work):
    here = onnx_files(work, "here", "--type", "int4")
    (work / "deep" / "er").mkdir(parents=True)
    assert onnx_files(work, "deep/er/there", "--type", "int4") == here
    assert str(work).encode() not in b"".join(here.values())


def test_different_types_give_different_bytes(work):
    assert quantize(work, "a", "--type", "Q4_0") != quantize(work, "b", "--type", "Q4_1")
