"""OpenVINO folders as the program writes them: their files, exact sizes, the same bytes however they are made."""
import hashlib
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree

import pytest

from harness import DATA, RECORD, refused, run, tiny

FILES = {"openvino_model.xml", "openvino_model.bin", "openvino_tokenizer.xml", "openvino_tokenizer.bin",
         "openvino_detokenizer.xml", "openvino_detokenizer.bin", "config.json", "generation_config.json",
         "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", RECORD}
MORE = {"phi35-tiny": {"tokenizer.model"}, "phi4mini-tiny": {"vocab.json", "merges.txt"}}
ROWS = ["--type", "INT4_ASYM", "--ratio", "1", "--group-size", "row"]  # zero points share bytes between rows


def quantize(model, out, *options):
    return run(["quantize", model, "--format", "openvino", "-o", out, "--no-fsync", *options])


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("name", MORE)
def test_the_folder_has_these_files(folder, name):
    quantize(DATA / name, folder / "out").ok()
    assert {path.name for path in (folder / "out").iterdir()} == FILES | MORE[name]
    for copied in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (folder / "out" / copied).read_bytes() == (DATA / name / copied).read_bytes()


@pytest.mark.parametrize("options", [["--type", "F16"], ["--precision", "int8"], ["--precision", "int4"], ROWS])
def test_plan_says_the_exact_size(folder, options):
    plan = run(["plan", DATA / "phi4mini-tiny", "--format", "openvino", *options, "--json"]).ok().json()
    quantize(DATA / "phi4mini-tiny", folder / "out", *options).ok()
    sizes = sum(path.stat().st_size for path in (folder / "out").iterdir())
    assert f'"output_bytes": {sizes}' in json.dumps(plan)


@pytest.mark.parametrize("options", [["--precision", "int4"], ROWS])
def test_bytes_hang_on_neither_threads_nor_memory(folder, options):
    quantize(DATA / "phi35-tiny", folder / "one", "--threads", "1", *options).ok()
    quantize(DATA / "phi35-tiny", folder / "eight", "--threads", "8", "--memory-limit", "64MiB", *options).ok()
    assert digests(folder / "one") == digests(folder / "eight")


def test_bytes_are_the_same_beside_another_format(folder):
    """ONNX cuts gate and up apart: the weight is then read in other pieces."""
    quantize(DATA / "phi35-tiny", folder / "alone", "--precision", "int8").ok()
    run(["quantize", DATA / "phi35-tiny", "--format", "onnx,openvino", "--precision", "int8", "-o", folder / "both",
         "--no-fsync"]).ok()
    (beside,) = (folder / "both").glob("*openvino*")
    assert digests(folder / "alone") == digests(beside)


@pytest.mark.parametrize("threads", ["1", "8"])
def test_bytes_are_the_same_where_rows_of_two_pieces_share_one(folder, threads):
    """Of 97 rows of gate the last has its zero point in one byte with the first of up, which ONNX takes apart."""
    model = tiny(folder / "model", intermediate=97)
    options = ["--precision", "int4", "--asym", "--group-size", "256", "--threads", threads, "--no-fsync"]
    for format in ("onnx", "openvino"):
        run(["quantize", model, "--format", format, "-o", folder / format, *options]).ok()
    run(["quantize", model, "--format", "onnx,openvino", "-o", folder / "both", *options]).ok()
    for format in ("onnx", "openvino"):
        (beside,) = (folder / "both").glob(f"*{format}*")
        assert digests(folder / format) == digests(beside)


@pytest.fixture
def checkpoint(folder):
    return shutil.copytree(DATA / "phi35-tiny", folder / "checkpoint", ignore=shutil.ignore_patterns("reference"))


def test_a_turns_end_that_generation_config_lacks_is_added(checkpoint, folder):
    path = checkpoint / "generation_config.json"
    text = json.loads(path.read_text())
    path.write_text(json.dumps({**text, "eos_token_id": 2048}))
    quantize(checkpoint, folder / "out").ok()
    assert json.loads((folder / "out" / "generation_config.json").read_text()) == {**text, "eos_token_id": [2048, 2055]}
    run(["verify", folder / "out", "--against", checkpoint]).ok()


def test_a_missing_generation_config_is_made(checkpoint, folder):
    (checkpoint / "generation_config.json").unlink()
    quantize(checkpoint, folder / "out").ok()
    assert 2055 in json.loads((folder / "out" / "generation_config.json").read_text())["eos_token_id"]


@pytest.mark.parametrize("named", [None, -1, [], "missing"])
@pytest.mark.parametrize("config", [2055, [2055, 2049]])
def test_ends_that_only_config_json_names_are_written(checkpoint, folder, config, named):
    """openvino-genai takes the end of generation_config.json or else the tokenizer's one, 2048."""
    path = checkpoint / "generation_config.json"
    text = json.loads(path.read_text())
    del text["eos_token_id"]
    path.write_text(json.dumps(text if named == "missing" else {**text, "eos_token_id": named}))
    of_model = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**of_model, "eos_token_id": config}))
    planned = run(["plan", checkpoint, "--format", "openvino", "--type", "F16", "--json"]).ok().json()
    wanted = config if isinstance(config, list) else [config]
    (decision,) = planned["decisions"]
    assert decision["subject"] == "generation_config.json: eos_token_id"
    assert decision["value"] == f"[{', '.join(map(str, wanted))}]"
    quantize(checkpoint, folder / "out", "--type", "F16").ok()
    assert json.loads((folder / "out" / "generation_config.json").read_text()) == {**text, "eos_token_id": wanted}
    run(["verify", folder / "out", "--against", checkpoint]).ok()


# --- the tokenizer's graph -------------------------------------------------------------------

def text_constants(folder, stem):
    """The texts among the constants of a graph, without its lists of strings."""
    data = (folder / f"{stem}.bin").read_bytes()
    for layer in ElementTree.parse(folder / f"{stem}.xml").iter("layer"):
        place = layer.find("data")
        if layer.get("type") == "Const" and place.get("element_type") == "u8" and "/" not in layer.get("name"):
            first = int(place.get("offset"))
            yield data[first:first + int(place.get("size"))].decode()


def test_the_longest_of_several_added_tokens_is_found(checkpoint, folder):
    """Also where tokens that swallow white space and tokens that do not begin with one another."""
    path = checkpoint / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    flags = {"<+a+>b": True, "<+a": False, "<+a+>": False, "<+a+>bc": False, "<+": True, "z+": False}
    for i, (content, rstrip) in enumerate(flags.items()):
        tokenizer["added_tokens"].append({"id": 2100 + i, "content": content, "single_word": False, "lstrip": False,
                                          "rstrip": rstrip, "normalized": False, "special": True})
    path.write_text(json.dumps(tokenizer))
    quantize(checkpoint, folder / "out", "--type", "F16").ok()
    (expression,) = [text for text in text_constants(folder / "out", "openvino_tokenizer") if r"\<\+a" in text]
    expression = re.compile(expression.replace(r"\x{180E}", r"\u180E"))
    for content in flags:
        assert expression.match(content + "!").group() == content


def add_token(checkpoint, **flags):
    path = checkpoint / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["added_tokens"].append({"id": 2100, "content": "foo", "single_word": False, "lstrip": False,
                                      "rstrip": False, "normalized": False, "special": False, **flags})
    path.write_text(json.dumps(tokenizer))


def test_an_added_token_of_whole_words_is_refused(checkpoint, folder):
    add_token(checkpoint, single_word=True)
    refused(quantize(checkpoint, folder / "out"), 6, "tokenizer.json", 'single_word of added token "foo"')


def decisions(checkpoint):
    planned = run(["plan", checkpoint, "--format", "openvino", "--type", "F16", "--json"]).ok().json()
    return {decision["subject"]: decision["reason"] for decision in planned.get("decisions", [])}


def test_settings_that_the_graph_does_not_follow_are_in_the_plan(checkpoint):
    path = checkpoint / "tokenizer_config.json"
    config = json.loads(path.read_text())
    key = "clean_up_tokenization_spaces"
    reason = "it is true: transformers takes spaces before punctuation away, the graph keeps them"
    for value, wanted in [(False, {}), (True, {f"tokenizer_config.json: {key}": reason})]:
        path.write_text(json.dumps({**config, key: value}))
        assert decisions(checkpoint) == wanted


def test_a_normalized_added_token_is_in_the_plan(checkpoint):
    assert decisions(checkpoint) == {}
    add_token(checkpoint, normalized=True)
    assert decisions(checkpoint) == {"tokenizer.json: added_tokens": "'foo' normalized, so that transformers finds it "
                                                                     "behind the normalizer only"}


def test_without_tokenizer_json_there_is_no_folder(checkpoint, folder):
    (checkpoint / "tokenizer.json").unlink()
    refused(quantize(checkpoint, folder / "out"), 4, "tokenizer.json", "openvino-genai needs it")
    assert not (folder / "out").exists()


def test_a_step_without_an_operator_is_named(checkpoint, folder):
    path = checkpoint / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "normalizer": {"type": "NFKC"}}))
    refused(quantize(checkpoint, folder / "out"), 6, "tokenizer.json", 'normalizer {"type":"NFKC"}')
    assert not (folder / "out").exists()


def test_what_was_clamped_is_recorded_for_verify(checkpoint, folder):
    quantize(checkpoint, folder / "out", "--type", "F16", "--overflow", "clamp", "--nan", "zero").ok()
    shown = run(["inspect", folder / "out"]).ok().text
    assert "phiq.nan_policy" in shown and "phiq.overflow_policy" in shown
    run(["verify", folder / "out", "--against", checkpoint]).ok()
