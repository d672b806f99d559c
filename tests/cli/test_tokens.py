"""Tokens and chat templates as in training: what fine-tunes look like, and what outputs say of it."""
import json
import resource

import pytest

from harness import MIB, SANITIZED, converted, limit, refused, run, tiny, warnings
from test_tokenizer import edit, strings_of

FORMATS = {"gguf": "Q8_0", "onnx": "int4", "openvino": "F16", "mlx": "4bit", "litert": "int8", "torch": "W8A16"}


def quantize(model, out, format):
    return run(["quantize", model, "--format", format, "--type", FORMATS[format], "-o", out])


def decisions(model, format):
    planned = run(["plan", model, "--format", format, "--type", FORMATS[format], "--json"]).ok().json()
    return planned.get("decisions", [])


def metadata(folder):
    return strings_of(converted(folder)[1])


def test_a_template_without_special_tokens_says_that_no_bos_is_added(folder):
    """As transformers 5 saves Phi-3: llama.cpp's default for this vocabulary is true."""
    tiny(folder)
    edit(folder, "tokenizer_config.json", lambda c: [c.pop(k) for k in ("add_bos_token", "add_eos_token")])
    keys = metadata(folder)
    assert keys["tokenizer.ggml.add_bos_token"] is False and keys["tokenizer.ggml.add_eos_token"] is False
    edit(folder, "tokenizer.json", lambda t: t.update(post_processor=None))
    assert metadata(folder)["tokenizer.ggml.add_bos_token"] is False


def test_a_tokenizer_that_prepends_nothing_says_so(folder):
    tiny(folder)
    assert "tokenizer.ggml.add_space_prefix" not in metadata(folder)  # llama.cpp's default is true
    edit(folder, "tokenizer.json", lambda t: t["normalizer"]["normalizers"].pop(0))
    assert metadata(folder)["tokenizer.ggml.add_space_prefix"] is False


def metaspace(folder, scheme):
    def change(tokenizer):
        tokenizer.update(normalizer=None, pre_tokenizer={"type": "Metaspace", "replacement": "\u2581",
                                                         "prepend_scheme": scheme, "split": False})
    tiny(folder)
    edit(folder, "tokenizer.json", change)


@pytest.mark.parametrize("scheme", ["first", "always", "never"])
@pytest.mark.parametrize("format", FORMATS)
def test_metaspace_is_taken_by_every_format(folder, scheme, format):
    metaspace(folder, scheme)
    out = folder.parent / ("out.gguf" if format == "gguf" else "out")
    quantize(folder, out, format).ok()
    text = folder.parent / "text"
    text.write_text("A text, long enough for one window.\n" * 4)
    result = run(["eval", out, "--against", folder, "--text", text, "--ctx", "32"]).ok()
    assert not [w for w in warnings(result) if "the ids of" in w], result.err
    said = [d["reason"] for d in decisions(folder, format) if "space before a text" in d["subject"]]
    assert len(said) == {"gguf": scheme != "never", "onnx": True}.get(format, False)


def test_old_added_tokens_do_not_decide(folder):
    """transformers does not read added_tokens.json where tokenizer_config.json lists tokens."""
    tiny(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        path = folder / name
        path.write_text(path.read_text().replace("<|placeholder1|>", "<think>"))
    result, content = converted(folder)
    assert strings_of(content)["tokenizer.ggml.tokens"][2050] == b"<think>"
    assert any("added_tokens.json: is not used" in w for w in warnings(result))
    for format in ("onnx", "openvino", "mlx", "litert", "torch"):
        quantize(folder, folder.parent / format, format).ok()


@pytest.mark.parametrize("format", FORMATS)
def test_padding_that_cannot_be_is_left_out(folder, format):
    tiny(folder, config_updates={"pad_token_id": -1})
    (folder / "special_tokens_map.json").unlink()
    edit(folder, "generation_config.json", lambda g: g.pop("pad_token_id"))
    edit(folder, "tokenizer_config.json", lambda c: c.update(pad_token="[PAD]"))
    out = folder.parent / ("out.gguf" if format == "gguf" else "out")
    result = quantize(folder, out, format).ok()
    assert any("'pad_token_id' is -1" in w for w in warnings(result))
    assert any("'pad_token' is \"[PAD]\"" in w for w in warnings(result))
    run(["verify", out, "--against", folder]).ok()


def test_flags_of_tokenizer_config_win(folder):
    tiny(folder)

    def no_rstrip(config):
        for token in config["added_tokens_decoder"].values():
            token["rstrip"] = False

    edit(folder, "tokenizer_config.json", no_rstrip)
    one = folder.parent / "one"
    quantize(folder, one, "openvino").ok()
    assert b"phi3" not in metadata(folder)["general.name"].lower()
    (decision,) = [d for d in decisions(folder, "onnx") if "added_tokens" in d["subject"]]
    assert "not what tokenizer_config.json says" in decision["reason"]
    edit(folder, "tokenizer.json", lambda t: [a.update(rstrip=False) for a in t["added_tokens"]])
    two = folder.parent / "two"
    quantize(folder, two, "openvino").ok()
    name = "openvino_tokenizer.xml"
    assert (one / name).read_bytes() == (two / name).read_bytes()


@pytest.mark.parametrize("format", ["gguf", "onnx", "openvino"])
def test_a_normalized_token_is_in_the_plan_of_runtimes_that_find_it_earlier(folder, format):
    tiny(folder)
    assert not [d for d in decisions(folder, format) if "normalized" in d["reason"]]
    token = {"id": 2059, "content": "<tool>", "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": True, "special": False}
    edit(folder, "tokenizer.json", lambda t: t["added_tokens"].append(token))
    (decision,) = [d for d in decisions(folder, format) if "normalized" in d["reason"]]
    assert "<tool>" in decision["reason"]
    out = folder.parent / ("out.gguf" if format == "gguf" else "out")
    assert decision["reason"] in quantize(folder, out, format).ok().text
    verified = run(["verify", out, "--against", folder])
    assert decision["reason"] in verified.ok().text
    notes = run(["verify", out, "--against", folder, "--json"]).ok().json()["notes"]
    assert f"{decision['subject']}: {decision['value']} ({decision['reason']})" in notes


def test_a_token_without_a_row_is_left_out_of_gguf_with_a_warning(folder):
    tiny(folder)
    token = {"id": 2112, "content": "<pad>", "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
    edit(folder, "tokenizer.json", lambda t: t["added_tokens"].append(token))
    edit(folder, "tokenizer_config.json", lambda c: c.update(pad_token="<pad>"))
    result, content = converted(folder)
    keys = strings_of(content)
    assert len(keys["tokenizer.ggml.tokens"]) == 2112 and b"<pad>" not in keys["tokenizer.ggml.tokens"]
    assert any("'<pad>' has id 2112, but the embedding has 2112 rows" in w for w in warnings(result))
    for format in ("onnx", "openvino", "mlx", "torch"):
        out = folder.parent / format
        quantize(folder, out, format).ok()
        assert "<pad>" in (out / "tokenizer.json").read_text()
    edit(folder, "tokenizer_config.json", lambda c: c.update(eos_token="<pad>"))
    refused(run(["plan", folder]), 3, "'eos_token' is \"<pad>\" with id 2112, but the embedding has 2112 rows")


@pytest.mark.parametrize("format", FORMATS)
def test_a_template_with_windows_line_ends_is_written_as_jinja_reads_it(folder, format):
    tiny(folder)
    template = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    assert "\n" in template
    edit(folder, "tokenizer_config.json", lambda c: c.pop("chat_template"))
    (folder / "chat_template.jinja").write_bytes(template.replace("\n", "\r\n").encode())
    out = folder.parent / ("out.gguf" if format == "gguf" else "out")
    quantize(folder, out, format).ok()
    if format == "gguf":
        assert strings_of(out.read_bytes())["tokenizer.chat_template"] == template.encode()
        return
    if format == "litert":  # which reads contents in another way, line by line
        lines = [line for line in template.splitlines() if "content" not in line]
        assert all(line.encode() in out.read_bytes() for line in lines) and b"\r\n" not in out.read_bytes()[:32768]
        return
    assert (out / "chat_template.jinja").read_bytes() == template.encode()
    if format == "onnx":
        assert json.loads((out / "tokenizer_config.json").read_text())["chat_template"] == template
    if format == "openvino":
        assert "&#13;" not in (out / "openvino_tokenizer.xml").read_text()
    run(["verify", out, "--against", folder]).ok()


def test_additional_templates_go_into_gguf(folder):
    tiny(folder)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("{{ tools }}")
    template = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    (folder / "chat_template.jinja").write_text(template)
    keys = metadata(folder)
    assert keys["tokenizer.chat_templates"] == [b"tool_use"]
    assert keys["tokenizer.chat_template.tool_use"] == b"{{ tools }}"


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 499723\n"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
                                  "generation_config.json", "chat_template.jinja"])
def test_a_side_file_that_was_not_downloaded_is_named(folder, name):
    tiny(folder)
    for text, words in [(LFS, "Git LFS pointer"), ("Entry not found", "the hub's error message"),
                        ("Access to model microsoft/phi-4 is restricted.", "the hub's error message"),
                        ('{"error":"Invalid credentials"}', "the hub's error message"),
                        ("<!DOCTYPE html><html></html>", "HTML page"), ("", "is empty"),
                        (b"PK\x03\x04", "zip archive"), ("<<<<<<< HEAD\n{}", "merge conflict"),
                        (bytes(64), "filled with zeros"), ("\ufeff{}".encode("utf-16-le"), "UTF-16 text"),
                        ("\ufeff{}".encode("utf-16-be"), "UTF-16 text"), ("{}".encode("utf-16-le"), "UTF-16 text"),
                        ("{}".encode("utf-16-be"), "UTF-16 text")]:
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        refused(run(["plan", folder, "--format", "openvino"]), 3, name, words)


def test_auto_map_does_not_name_code_that_is_not_there(folder):
    tiny(folder, config_updates={"auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"}})
    (folder / "configuration_phi3.py").write_text("# code")
    out = folder.parent / "out"
    quantize(folder, out, "openvino").ok()
    assert "auto_map" not in json.loads((out / "config.json").read_text())
    assert any("auto_map" in d["subject"] for d in decisions(folder, "openvino"))
    run(["verify", out, "--against", folder]).ok()
    mlx = folder.parent / "mlx"
    quantize(folder, mlx, "mlx").ok()
    assert (mlx / "configuration_phi3.py").exists()


@pytest.mark.parametrize("name, key", [("config.json", "z_loss"), ("tokenizer_config.json", "model_max_length")])
def test_infinity_is_no_fault_where_it_is_not_used(folder, name, key):
    tiny(folder)
    path = folder / name
    text = json.loads(path.read_text())
    path.write_text(json.dumps({**text, key: float("inf"), "note": float("nan"), "large": "(large)"})
                    .replace('"(large)"', "1e999"))
    for format in FORMATS:
        out = folder.parent / ("out.gguf" if format == "gguf" else format)
        quantize(folder, out, format).ok()
        if format == "onnx":  # its reader knows the standard alone
            read = json.loads((out / "tokenizer_config.json").read_text(), parse_constant=pytest.fail)
            assert float("inf") not in read.values()
    edit(folder, "config.json", lambda c: c.update(rms_norm_eps=float("inf")))
    refused(run(["plan", folder]), 3, "'rms_norm_eps' is Infinity, needs a finite number above 0")


def with_rubbish(folder, item, n):
    """A tokenizer.json with many values under a key that nobody reads."""
    path = folder / "tokenizer.json"
    text = path.read_bytes()
    path.write_bytes(b'{"x":[' + b",".join([item] * n) + b"]," + text.lstrip()[1:])
    return path.stat().st_size


@pytest.mark.skipif(SANITIZED, reason="takes more memory by design")
def test_what_nobody_reads_takes_no_memory(folder):
    tiny(folder)
    size = with_rubbish(folder, b"[]", 10_000_000)
    # The program, the text and copies of it on the way; a tree of these values took 27 times the text. (A limit, as
    # the peak that is told of a child is its parent's where that is larger.)
    run(["plan", folder], preexec=limit(resource.RLIMIT_DATA, 64 * MIB + 3 * size)).ok()


@pytest.mark.skipif(SANITIZED, reason="needs its address space")
@pytest.mark.parametrize("mebibytes", [40, 60, 80, 100, 150, 200, 300])
def test_out_of_memory_while_a_file_is_read_is_an_error(folder, mebibytes):
    tiny(folder)
    with_rubbish(folder, b"[[[]]]", 3_000_000)
    result = run(["plan", folder], preexec=limit(resource.RLIMIT_AS, mebibytes * MIB))
    assert result.code in (0, 7, 127), result.err  # 127: not even the libraries fit
    if result.code == 7:
        assert result.err.count("\n") == 1 and "memory" in result.err
    result = run(["plan", folder, "--json"], preexec=limit(resource.RLIMIT_AS, mebibytes * MIB))
    assert result.code in (0, 7, 127), result.err
    if result.code == 7:
        error = result.json()["error"]
        assert (error["code"], error["class"], set(error)) == (
            7, "resources", {"code", "class", "path", "offset", "tensor", "message"})


# --- what runtimes do otherwise --------------------------------------------------------------

def said(folder, format):
    return [(line["subject"], line["value"]) for line in decisions(folder, format)]


BOS = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                                                {"Sequence": {"id": "A", "type_id": 0}}],
       "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
       "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}


@pytest.mark.parametrize("change, subject, value", [
    (lambda t: t["normalizer"]["normalizers"].insert(0, {"type": "NFC"}), "tokenizer.json: normalizer", "not followed"),
    (lambda t: t["normalizer"]["normalizers"].insert(0, {"type": "Strip", "strip_left": True, "strip_right": False}),
     "tokenizer.json: normalizer", "not followed"),
    (lambda t: t.update(post_processor=BOS), "tokenizer.json: post_processor", "not followed"),
    (lambda t: t["added_tokens"].append({"id": 2059, "content": "<x>", "single_word": True, "lstrip": True, "rstrip": False,
                                         "normalized": False, "special": True}),
     "tokenizer.json: added_tokens", "lstrip not followed"),
    (lambda t: t["added_tokens"].append({"id": 2059, "content": "<x>", "single_word": True, "lstrip": False, "rstrip": False,
                                         "normalized": False, "special": True}),
     "tokenizer.json: added_tokens", "single_word not followed"),
])
def test_what_onnxruntime_genai_does_not_follow_is_in_the_plan(folder, change, subject, value):
    """Seen by running onnxruntime-genai 0.18 on such folders: its ids were not the tokenizer's."""
    tiny(folder)
    edit(folder, "tokenizer_config.json", lambda c: [c.pop(key, None) for key in ("add_bos_token", "add_eos_token")])
    assert (subject, value) not in said(folder, "onnx")
    edit(folder, "tokenizer.json", change)
    assert (subject, value) in said(folder, "onnx")


def test_a_flag_that_tokenizer_json_does_not_follow_is_named(folder):
    tiny(folder)
    edit(folder, "tokenizer_config.json", lambda c: c.update(add_bos_token=True))
    (text,) = [t for t in warnings(run(["plan", folder]).ok()) if "add_bos_token" in t]
    assert "'add_bos_token' is true, but the post_processor of tokenizer.json adds none" in text


def test_ends_of_text_that_llama_cpp_does_not_know_are_in_the_plan(folder):
    tiny(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2048, 2055]}))
    edit(folder, "config.json", lambda c: c.update(eos_token_id=2048))
    assert "eos_token_id" not in dict(said(folder, "gguf"))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2048, 2055, 2050, 2051]}))
    assert ("eos_token_id", "without 2050 and 1 more") in said(folder, "gguf")


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_templates_that_are_left_out_are_in_the_plan(folder, format):
    tiny(folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    edit(folder, "tokenizer_config.json", lambda c: c.update(
        chat_template=[{"name": "default", "template": "a"}, {"name": "rag", "template": "b"}]))
    assert ("chat templates", "without 'rag'") in said(folder, format)
    assert "chat templates" not in dict(said(folder, "mlx"))  # which copies the list


def test_a_folder_of_templates_is_not_copied_for_mlx_and_named(folder):
    tiny(folder)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("b")
    assert ("chat templates", "without additional_chat_templates") in said(folder, "mlx")


def test_special_tokens_as_objects_become_texts_for_openvino(folder):
    """openvino-genai ends with a type error at an object (tests/peers/openvino runs it)."""
    tiny(folder)
    edit(folder, "tokenizer_config.json", lambda c: c.update(
        eos_token={"__type": "AddedToken", "content": "<|endoftext|>", "lstrip": False, "normalized": False,
                   "rstrip": False, "single_word": False}))
    out = folder.parent / "out"
    run(["quantize", folder, "--format", "openvino", "-o", out]).ok()
    assert json.loads((out / "tokenizer_config.json").read_text())["eos_token"] == "<|endoftext|>"
    run(["verify", out, "--against", folder]).ok()
