"""The tokenizer's graphs give Hugging Face's ids and texts, for the tiny checkpoints and the real ones."""
import json
import pathlib
import shutil
import subprocess

import pytest

import genai
from program import DATA, SOURCE, config_of, copy_checkpoint, quantize
from rank_tokenizer import build_from_ranks

# With byte fallback OpenVINO takes the text "<0x41>" for the byte that a token of that name stands for.
DIFFERS = {"<0x41>", "<0x0A><0xFF>"}


@pytest.fixture(scope="session")
def tokenizer(outputs):
    return genai.Tokenizer(outputs.of("fp32"))


def test_ids_are_hugging_faces(tokenizer, reference, model):
    assert len(reference["tokenization"]) == 50
    differs = {case["text"] for case in reference["tokenization"]
               if tokenizer.encode(case["text"]) != case["ids"]
               or tokenizer.encode(case["text"], specials=True) != case["ids_with_special"]}
    assert differs == ({"<0x41>"} if model == "phi35-tiny" else set())


def test_texts_are_hugging_faces(tokenizer, reference):
    for case in reference["tokenization"]:
        if case["ids"]:
            assert tokenizer.decode(case["ids"]) == case["decoded"], case["text"]


def test_special_tokens_can_be_left_out(tokenizer, reference):
    ids = reference["chat"]["ids"]
    assert "<|user|>" in tokenizer.decode(ids)
    assert "<|" not in tokenizer.decode(ids, skip_specials=True)
    assert "Moses" in tokenizer.decode(ids, skip_specials=True)


def test_the_chat_template_gives_hugging_faces_ids(tokenizer, reference):
    assert tokenizer.encode(reference["chat"]["rendered"]) == reference["chat"]["ids"]


# By the tokenizers library, of the tiny tokenizer with this pre_tokenizer in place of its normalizer.
METASPACE_TEXTS = ("Hello <|user|>\nhi  there", " lead", "<|end|> x\u2581y")
METASPACE_IDS = {
    "first": [[416, 580, 1995, 1990, 2058, 419, 1990, 386], [305, 932], [2055, 2040, 310]],
    "always": [[416, 580, 1995, 1990, 2058, 265, 1998, 1990, 386], [305, 932], [2055, 1990, 2040, 310]],
    "never": [[2029, 580, 1995, 1990, 2058, 419, 1990, 386], [305, 932], [2055, 2040, 310]],
}


def changed_folder(tmp_path, change, name):
    """What phiq writes of a checkpoint with one file changed."""
    checkpoint = copy_checkpoint("phi35-tiny", tmp_path / "in", config_of("phi35-tiny"))
    content = json.loads((checkpoint / name).read_text())
    change(content)
    (checkpoint / name).write_text(json.dumps(content))
    return quantize(checkpoint, tmp_path / "out", "--format", "openvino", "--precision", "fp32")


@pytest.mark.parametrize("scheme", METASPACE_IDS)
def test_metaspace_gives_the_tokenizers_librarys_ids(model, scheme, tmp_path):
    if model != "phi35-tiny":
        pytest.skip("of SentencePiece vocabularies")
    step = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": False}
    folder = changed_folder(tmp_path, lambda t: t.update(normalizer=None, pre_tokenizer=step), "tokenizer.json")
    tokenizer = genai.Tokenizer(folder)
    assert [tokenizer.encode(text) for text in METASPACE_TEXTS] == METASPACE_IDS[scheme]


def test_special_tokens_that_were_objects_do_not_stop_the_runtime(model, tmp_path):
    """Given as they are it ends with "type must be string, but is object"."""
    if model != "phi35-tiny":
        pytest.skip("the same for every model")
    token = {"__type": "AddedToken", "content": "<|endoftext|>", "lstrip": False, "normalized": False,
             "rstrip": False, "single_word": False}
    folder = changed_folder(tmp_path, lambda c: c.update(eos_token=token), "tokenizer_config.json")
    assert genai.Tokenizer(folder).encode(" lead") == [1990, 305, 932]


REAL = {"phi35-tiny": ["phi-3-mini"], "phi4mini-tiny": ["phi-4", "phi-4-mini"]}
VOCABULARY = {"phi-3-mini": 32064, "phi-4": 100352, "phi-4-mini": 200064}


def checkpoint_with(name, folder):
    """A checkpoint of one thin layer with a real tokenizer."""
    subprocess.run([SOURCE / "tools" / "make_checkpoint", folder, "--layers", "1", "--hidden", "64", "--heads", "4",
                    "--intermediate", "64", "--shards", "1", "--vocabulary", str(VOCABULARY[name])],
                   check=True, capture_output=True)
    for leftover in ("added_tokens.json", "special_tokens_map.json", "tokenizer.model"):
        (folder / leftover).unlink()
    source = DATA / "tokenizers" / name
    shutil.copy(source / "tokenizer_config.json", folder)
    built = source / "tokenizer.json"
    text = built.read_text() if built.exists() else build_from_ranks(source)
    (folder / "tokenizer.json").write_text(text)
    return folder


def test_real_tokenizers_give_the_tokenizers_librarys_ids(model, tmp_path):
    for name in REAL[model]:
        out = quantize(checkpoint_with(name, tmp_path / name), tmp_path / f"{name}-out", "--format", "openvino",
                       "--type", "BF16")
        tokenizer = genai.Tokenizer(out)
        golden = json.loads((DATA / "golden" / "token_ids" / f"{name}.json").read_text())["texts"]
        assert len(golden) > 100
        differs = {case["text"] for case in golden if tokenizer.encode(case["text"]) != case["ids"]}
        assert differs == (DIFFERS & {case["text"] for case in golden} if name == "phi-3-mini" else set()), name
