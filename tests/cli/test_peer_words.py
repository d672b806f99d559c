"""What people type who come from other converters, or type nearly what phiq has: the words of
llama-quantize, convert_hf_to_gguf.py, mlx_lm.convert, optimum-cli, onnxruntime-genai's model builder
and auto-round get a hint, whole messages are compared. Nothing here converts."""
import re

import pytest
from harness import DATA, SOURCE, error_line, refused, run

MODEL = DATA / "phi35-tiny"
OPTIONS = "`phiq quantize --help` lists the options"
TYPES = "`phiq profiles --types` lists the types"


@pytest.mark.parametrize("option, hint", [
    ("--outfile", "here it is --output OUT"),
    ("--outtype", "here it is --type NAME"),
    ("--mlx-path", "here it is --output OUT, with --format mlx"),
    ("--q-bits", "here it is --precision int4 or int8, or --type 2bit ... 8bit with --format mlx"),
    ("--q-group-size", "here it is --group-size N"),
    ("--weight-format", "here it is --precision NAME, with --format openvino"),
    ("-p", "here it is --precision NAME"),
    ("-e", "here it is --ep NAME"),
    ("-m", "here it is the operand MODEL"),
    ("--bits", "here it is --precision int4 or int8, or --type NAME"),
    ("--output_dir", "here it is --output OUT"),
    ("--lora", "here it is --adapter DIR"),
    ("--dataset", "here it is --calibrate FILE, a text of your own, or --calibrate self"),
    ("--output-tensor-type", "here it is --tensor-type 'lm_head=TYPE'"),
])
@pytest.mark.parametrize("value", ["x", None])
def test_an_option_of_another_tool_is_answered_with_ours(option, hint, value, work):
    words = [option] if value is None else [option, value]
    line = refused(run(["quantize", MODEL, *words], cwd=work), 2)
    assert line == f"unknown option '{option}' ({hint}; {OPTIONS})"


def test_an_option_of_llama_perplexity_is_answered_in_eval(work):
    assert refused(run(["eval", "-f", "text.txt"], cwd=work), 2) == \
        "unknown option '-f' (here it is --text FILE; `phiq eval --help` lists the options)"
    assert refused(run(["inspect", "-f", "text.txt"], cwd=work), 2) == \
        "unknown option '-f' (`phiq inspect --help` lists the options)"


def test_every_option_that_a_hint_names_exists():
    source = (SOURCE / "tools/phiq/peer_words.cpp").read_text()
    known = set(re.findall(r"--[a-z][a-z-]+", run(["quantize", "--help"]).ok().text + run(["eval", "--help"]).ok().text))
    named = {option for hint in re.findall(r'{"-[^"]*", "([^"]*)"}', source) for option in re.findall(r"--[a-z-]+", hint)}
    assert "--precision" in named and named - known == set()


@pytest.mark.parametrize("word, ours", [("convert", "quantize"), ("export", "quantize"), ("perplexity", "eval"),
                                        ("info", "inspect"), ("types", "profiles --types")])
def test_a_command_of_another_tool_is_answered_with_ours(word, ours, work):
    for words in ([word, MODEL, "out.gguf"], ["help", word]):
        assert refused(run(words, cwd=work), 2) == \
            f"unknown command '{word}' (here it is `phiq {ours}`; `phiq --help` lists the commands)"
    run([*ours.split(), "--help"]).ok()


@pytest.mark.parametrize("word, ours", [("ov", "openvino"), ("llama.cpp", "gguf"), ("ORT", "onnx"), ("mlx-lm", "mlx"),
                                        ("vllm", "torch"), ("tflite", "litert")])
def test_a_runtime_is_answered_with_its_format(word, ours, work):
    assert refused(run(["plan", MODEL, "--format", word], cwd=work), 2) == \
        f"--format: unknown format '{word}', here it is {ours} (formats: gguf, onnx, openvino, mlx, litert, torch, safetensors)"


@pytest.mark.parametrize("operands, options", [
    (["out.gguf", "Q4_K_M"], "-o out.gguf --type Q4_K_M"),
    (["out.gguf", "q4_k_m", "8"], "-o out.gguf --type q4_k_m --threads 8"),
    (["Q8_0"], "--type Q8_0"),
    (["int4"], "--precision int4"),
    (["out/phi"], "-o out/phi"),
    (["out.gguf", "some", "words"], None),
    (["extra"], None),
])
def test_operands_in_the_order_of_llama_quantize(operands, options, work):
    hint = OPTIONS if options is None else f"here it is {options}; {OPTIONS}"
    assert refused(run(["quantize", MODEL, *operands], cwd=work), 2) == f"unexpected operand '{operands[0]}' ({hint})"


@pytest.mark.parametrize("words, message", [
    (["--type", "int4"], f"'int4' is no type of gguf, it is a precision (--precision int4; {TYPES})"),
    (["--type", "FP16"], f"'FP16' is no type of gguf, it is a precision (--precision fp16; {TYPES})"),
    (["--type", "Q4_K_M", "--format", "onnx"], f"'Q4_K_M' is no type of onnx, it is one of gguf (--format gguf; {TYPES})"),
    (["--type", "mxfp4"], f"'mxfp4' is no type of gguf, it is one of mlx (--format mlx; {TYPES})"),
    (["--type", "nvfp4"], f"'nvfp4' is no type of gguf, it is one of mlx (--format mlx; {TYPES})"),
    (["--type", "INT4_SYM"], f"'INT4_SYM' is no type of gguf, it is one of openvino (--format openvino; {TYPES})"),
    (["--type", "W4A16"], f"'W4A16' is no type of gguf, it is one of torch (--precision int4 may be meant; {TYPES})"),
    (["--type", "f16", "--format", "onnx"],
     f"'f16' is no type of onnx, it is one of gguf, openvino, mlx, safetensors (--precision fp16 may be meant; {TYPES})"),
    (["--type", "nvfp4", "--format", "gguf"],
     "type NVFP4 is not written: it is too new for most builds of llama.cpp and comes later (" + TYPES + ")"),
    (["--precision", "Q4_K_M"],
     "--precision: 'Q4_K_M' is no precision, it is a type of gguf (--type Q4_K_M; precisions: int4, int8, fp16, bf16, fp32)"),
    (["--precision", "bfloat16"],
     "--precision: unknown precision 'bfloat16', here it is bf16 (precisions: int4, int8, fp16, bf16, fp32)"),
])
def test_a_type_that_another_format_has_is_told_whose_it_is(words, message, work):
    code = 6 if "not written" in message else 2
    assert refused(run(["plan", MODEL, *words], cwd=work), code) == message


@pytest.mark.parametrize("words", [["--precision", "INT4"], ["--format", "GGUF"], ["--profile", "IoT"], ["--method", "Reference"],
                                   ["--nan", "Error"], ["--type", "q4_K_m"]])
def test_words_are_taken_in_any_case(words):
    assert run(["plan", MODEL, "--json", *words]).ok().json()["type"] == "Q4_K_M"


# --- before the command, and the words that stand for options ---------------------------------

def test_options_may_stand_before_the_command(work):
    plain = run(["plan", MODEL, "--json", "--type", "Q8_0"]).ok().out
    assert run(["--json", "plan", MODEL, "--type", "Q8_0"]).ok().out == plain
    assert run(["--json", "--type", "Q8_0", "plan", MODEL]).ok().out == plain
    assert run(["-q", "plan", MODEL]).ok().out == b""
    assert run(["-v", "plan", MODEL]).ok().err.startswith("phiq: info: ")
    error = run(["--json", "plan", "no/such/folder"])
    assert error.code == 4 and error.json()["error"]["message"] == error_line(error)
    assert refused(run(["--jso", "plan", MODEL], cwd=work), 2) == \
        "unknown option '--jso' (did you mean '--json'? `phiq plan --help` lists the options)"


@pytest.mark.parametrize("words, message", [
    (["--quiet"], "--quiet without a command (`phiq --help` lists the commands)"),
    (["-v"], "-v without a command (`phiq --help` lists the commands)"),
    (["help", "quantise"], "unknown command 'quantise' (did you mean 'quantize'? `phiq --help` lists the commands)"),
])
def test_no_command(words, message, work):
    assert refused(run(words, cwd=work), 2) == message


def test_help_and_version_as_words():
    assert run(["help", "quantize"]).ok().out == run(["quantize", "--help"]).ok().out
    assert run(["help"]).ok().out == run(["--help"]).ok().out
    for words in (["version"], ["-V"]):
        assert run(words).ok().out == run(["--version"]).ok().out


# --- names of outputs ------------------------------------------------------------------------

@pytest.mark.parametrize("words, message", [
    (["-o", "x.onnx"], "'x.onnx' is named like the graph in an ONNX folder, but gguf makes a GGUF file (--format onnx, or another name)"),
    (["-o", "X.SAFETENSORS"], "'X.SAFETENSORS' is named like the weights in a folder, but gguf makes a GGUF file (another name)"),
    (["-o", "y.gguf", "--format", "onnx"], "'y.gguf' is named like a GGUF file, but onnx makes a folder (--format gguf, or another name)"),
    (["-o", "y.onnx", "--format", "onnx"], "'y.onnx' is named like the graph in an ONNX folder, but onnx makes a folder (another name)"),
    (["-o", "y.gguf", "--format", "gguf,mlx"],
     "'y.gguf' is named like a GGUF file, but several formats make a folder (another name)"),
])
def test_a_name_that_says_another_format_is_refused(words, message, work):
    assert refused(run(["quantize", MODEL, *words], cwd=work), 2, folder=work) == f"--output: {message}"
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("name", ["x.GGUF", "x", "x.bin"])
def test_other_names_are_the_users_own(name, work):
    run(["quantize", MODEL, "--type", "Q8_0", "-o", name], cwd=work).ok()
    assert [path.name for path in work.iterdir()] == [name]
