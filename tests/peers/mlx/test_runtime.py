"""mlx-lm loads the folders, strictly, and writes text with them; stop ids and chat template arrive."""
import json
import pathlib
import tempfile

import mlx_lm
import numpy as np
import pytest

from program import DATA, config_of, run_phiq
from runtime import Session


@pytest.fixture(scope="session")
def stop_ids(model):
    ids = json.loads((DATA / model / "generation_config.json").read_text())["eos_token_id"]
    assert len(ids) > 1 and config_of(model)["eos_token_id"] != ids
    return set(ids)


def complete(folder, ids, n_tokens):
    """mlx-lm's greedy continuation of ids and its text."""
    model, tokenizer = mlx_lm.load(str(folder))
    responses = list(mlx_lm.stream_generate(model, tokenizer, list(ids), max_tokens=n_tokens))
    return [response.token for response in responses], "".join(response.text for response in responses)


# mlx-lm's network always rotates with the long factors; Hugging Face's does so beyond 512 tokens only.

def test_a_long_prompt_is_continued_as_by_hugging_face(outputs, reference):
    (case,) = [case for case in reference["greedy"] if len(case["prompt_ids"]) > 512]
    ids, text = complete(outputs.of("F32"), case["prompt_ids"], len(case["ids"]))
    assert ids == case["ids"]
    assert text.lstrip(" ") == case["text"].lstrip(" ")  # mlx-lm leaves out the first blank of a text


def test_short_prompts_are_continued_otherwise(outputs, reference):
    """As the documentation warns: a text that were the same would be worth a look."""
    short = [case for case in reference["greedy"] if len(case["prompt_ids"]) <= 512]
    assert len(short) == 3
    for case in short:
        assert complete(outputs.of("F32"), case["prompt_ids"], len(case["ids"]))[0] != case["ids"], case["prompt"]


N_TOKENS = 16
# How far below the best a chosen token's logit may be, as the decoded weights give it in float32. The
# runtime computes in the type of scales and norms, and sums products with codes in it: logits reach
# 25, where the step of bfloat16 is 0.125 and that of halves 0.016. 0.35 was seen; a token chosen at
# random would be 10 below.
BF16_MARGIN, F16_MARGIN, F32_MARGIN = 1.0, 0.1, 1e-3


@pytest.mark.parametrize("build, margin", [
    ("F32", F32_MARGIN), ("F16", F16_MARGIN), ("BF16", BF16_MARGIN), ("int8", BF16_MARGIN), ("int4", BF16_MARGIN),
    ("mxfp4", BF16_MARGIN), ("mxfp8", BF16_MARGIN), ("nvfp4", BF16_MARGIN), ("mixed_4_6", BF16_MARGIN),
    ("3bit-g128", BF16_MARGIN), ("by-tensor", BF16_MARGIN)])
def test_text_is_the_weights(outputs, reference, stop_ids, build, margin):
    prompt = reference["greedy"][1]["prompt_ids"]
    ids, text = complete(outputs.of(build), prompt, N_TOKENS)
    assert len(ids) == N_TOKENS or ids[-1] in stop_ids
    assert text
    logits = Session(outputs.of(build)).logits([*prompt, *ids])[len(prompt) - 1:-1]
    chosen = np.take_along_axis(logits, np.array(ids)[:, None], axis=-1)[:, 0]
    assert (logits.max(axis=-1) - chosen).max() < margin


def test_every_stop_id_is_generation_configs(outputs, stop_ids):
    for build in ("F32", "int4"):
        _, tokenizer, config = mlx_lm.load(str(outputs.of(build)), return_config=True)
        assert tokenizer.eos_token_ids == stop_ids
        # The folder's own config.json too, which is all that other readers look at.
        assert set(json.loads((outputs.of(build) / "config.json").read_text())["eos_token_id"]) == stop_ids


def test_the_chat_template_is_the_checkpoints(outputs, reference):
    _, tokenizer = mlx_lm.load(str(outputs.of("int4")))
    role, content = reference["chat"]["messages"].split(": ")
    messages = [{"role": role, "content": content}]
    assert tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False) == \
        reference["chat"]["rendered"]
    assert tokenizer.apply_chat_template(messages, add_generation_prompt=True) == reference["chat"]["ids"]


def test_ids_are_hugging_faces(outputs, reference):
    _, tokenizer = mlx_lm.load(str(outputs.of("int4")))
    assert len(reference["tokenization"]) == 50
    for case in reference["tokenization"]:
        assert tokenizer.encode(case["text"], add_special_tokens=False) == case["ids"], case["text"]
        assert tokenizer.encode(case["text"]) == case["ids_with_special"], case["text"]


def test_a_sliding_window_is_warned_of(outputs, checkpoints, reference, fp32):
    """mlx-lm has none: every token sees all before it."""
    checkpoint, out = checkpoints.with_changes(sliding_window=100), outputs.folder / "window"
    done = run_phiq("quantize", checkpoint, "--format", "mlx", "--type", "F32", "-o", out)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "sliding_window" in line]
    assert "warning" in line and "mlx-lm" in line and "100" in line
    ids = reference["greedy"][-1]["prompt_ids"][:200]
    assert np.array_equal(Session(out).logits(ids), fp32.logits(ids))


# --- a config.json as transformers 5 saves it ------------------------------------------------

# Not 10000, which mlx-lm takes where config.json has none.
ROPE_THETA = 25000.0


def resaved(checkpoint):
    """The checkpoint's config.json as transformers 5 saves it."""
    import transformers
    with tempfile.TemporaryDirectory() as folder:
        transformers.AutoConfig.from_pretrained(checkpoint).save_pretrained(folder)
        config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    assert "dtype" in config and config["rope_parameters"]["rope_theta"] == ROPE_THETA
    assert not {"torch_dtype", "rope_theta", "rope_scaling"} & config.keys()
    return config


@pytest.fixture(scope="session")
def classic(outputs, checkpoints, reference):
    """A checkpoint with the old keys, ids, and the logits that its folder gives them."""
    checkpoint = checkpoints.with_changes(rope_theta=ROPE_THETA)
    ids = reference["greedy"][-1]["prompt_ids"]
    assert len(ids) == 600
    return checkpoint, ids, Session(outputs.of_checkpoint(checkpoint, "F32")).logits(ids)


def test_a_config_of_transformers_5_gives_the_same_network(outputs, checkpoints, classic):
    """mlx-lm knows the old keys only, and without them it computes something else and says nothing."""
    checkpoint, ids, wanted = classic
    config = resaved(checkpoint)
    out = outputs.of_checkpoint(checkpoints.with_config(config), "F32")
    assert np.array_equal(Session(out).logits(ids), wanted)
    ours = json.loads((out / "config.json").read_text())
    # And what reads the new keys still finds them.
    assert ours["rope_parameters"] == config["rope_parameters"]
    # So it was not for nothing.
    (out / "config.json").write_text(json.dumps(config))
    assert np.abs(Session(out).logits(ids[:64]) - wanted[:64]).max() > 0.1
