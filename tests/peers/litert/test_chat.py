"""Chats in the engine: its turns are what the same text, as transformers renders it, is answered with.

That the engine answers texts as Hugging Face does is in test_reference.py; the templates of the tiny
checkpoints are written out here.
"""
import json
import struct

import pytest

from engine import Engine, text_of
from program import DATA

N_TOKENS = 60
TURNS = ["Who was Moses?", "And who was his brother?"]


def rendered(model, turns):
    """Questions and answers as transformers renders them, with a prompt for the next answer."""
    end = "\n" if model == "phi35-tiny" else ""
    text = ""
    for question, answer in turns:
        text += f"<|user|>{end}{question}<|end|>{end}<|assistant|>{end}"
        if answer is not None:
            text += f"{answer}<|end|>{end}"
    return text


# Words that end a turn in `ends_turns`: both answers are then some words, which tokenized again are the
# tokens that were written.
LAST_WORD = {"phi35-tiny": "of the", "phi4mini-tiny": "and he"}


@pytest.fixture(scope="module")
def ends_turns(engine, outputs, model):
    """The engine with a checkpoint that has two tokens in each other's place: where it wrote the word it
    ends its turn, which the tiny checkpoints, trained on a plain text, never do by themselves."""
    word = engine.encode(LAST_WORD[model])[-1]
    end_of_turn = json.loads((DATA / model / "generation_config.json").read_text())["eos_token_id"][0]
    checkpoint = outputs.copy("ends-turns")
    data = bytearray((checkpoint / "model.safetensors").read_bytes())
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + length])
    name = "lm_head.weight" if "lm_head.weight" in header else "model.embed_tokens.weight"
    row_bytes = 2 * header[name]["shape"][1]
    first = 8 + length + header[name]["data_offsets"][0]
    rows = [slice(first + id * row_bytes, first + (id + 1) * row_bytes) for id in (word, end_of_turn)]
    data[rows[0]], data[rows[1]] = data[rows[1]], data[rows[0]]
    (checkpoint / "model.safetensors").write_bytes(data)
    return Engine(outputs.of_checkpoint(checkpoint, "fp32"))


def test_two_turns_are_transformers(ends_turns, model, reference):
    assert rendered(model, [(TURNS[0], None)]) == reference["chat"]["rendered"]
    conversation = ends_turns.conversation(N_TOKENS)
    turns = []
    for question in TURNS:
        turns.append((question, None))
        wanted = ends_turns.complete(rendered(model, turns), N_TOKENS)
        answer = text_of(conversation.send_message(question))
        assert answer == wanted != "", turns
        turns[-1] = (question, answer)
    assert len(ends_turns.encode(turns[0][1])) < N_TOKENS - 1  # it has ended itself
    # The template has a say.
    assert turns[0][1] != ends_turns.complete(TURNS[0], N_TOKENS)


@pytest.mark.parametrize("ends_with", ["ids", "template"])
def test_every_end_of_text_stops_generation(engine, outputs, model, ends_with):
    """Ids of generation_config.json; and without it <|end|>, with which the template ends a turn."""
    checkpoint = outputs.copy(f"ends-{ends_with}")
    ids = json.loads((DATA / model / "generation_config.json").read_text())["eos_token_id"]
    assert len(ids) > 1
    if ends_with == "template":
        (checkpoint / "generation_config.json").unlink()
    metadata = outputs.of_checkpoint(checkpoint, "fp32").read_bytes()[16384:][:4096]
    stops = set(ids) if ends_with == "ids" else {ids[0], ids[-1]}
    for id in stops:  # field 2: {1: {1: id}}
        varint = bytes([id & 0x7F | 0x80, id >> 7])
        assert b"\x12\x05\x0a\x03\x08" + varint in metadata, id


def test_a_bundle_with_a_sentencepiece_model_answers_alike(engine, outputs, model, reference):
    if model != "phi35-tiny":
        pytest.skip("the checkpoint has no tokenizer.model")
    checkpoint = outputs.copy("sentencepiece")
    (checkpoint / "tokenizer.json").unlink()
    other = Engine(outputs.of_checkpoint(checkpoint, "fp32"))
    case = reference["greedy"][0]
    assert other.complete(case["prompt"], len(case["ids"])) == case["text"]
