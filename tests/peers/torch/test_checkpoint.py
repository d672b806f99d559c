"""transformers loads the checkpoints that phiq makes of files in other formats, and computes what it computes with the
weights of those files.

The same program with the same weights gives the same logits, to the last bit.
"""
import numpy as np
import pytest
import safetensors.torch
import torch
import transformers

import runtime
from program import DATA, config_of, quantize


@pytest.fixture(scope="module")
def wanted(model, ids):
    return runtime.logits(runtime.load(DATA / model), ids)


def made(model, folder, source, *options):
    """(the file of a format, the checkpoint made of it)"""
    path = quantize(DATA / model, folder / "source", *source)
    return path, quantize(path, folder / "back", "--format", "safetensors", "--tokenizer", DATA / model, *options)


# Of a GGUF config.json is made anew, the others have one.
@pytest.mark.parametrize("source", [("--type", "BF16"), ("--type", "F32"), ("--format", "openvino", "--precision", "fp32")])
def test_lossless_files_give_the_checkpoints_logits(model, ids, wanted, tmp_path, source):
    _, folder = made(model, tmp_path, source, "--precision", "bf16")
    loaded = runtime.load(folder)
    assert torch.equal(runtime.logits(loaded, ids), wanted)
    # transformers takes the ends of text and the lengths from these.
    theirs = transformers.AutoConfig.from_pretrained(DATA / model)
    for key in ("max_position_embeddings", "original_max_position_embeddings", "sliding_window", "rope_theta",
                "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id"):
        assert getattr(loaded.config, key, None) == getattr(theirs, key, None), key
    assert loaded.generation_config.eos_token_id == \
        transformers.GenerationConfig.from_pretrained(DATA / model).eos_token_id
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer("a text").input_ids == transformers.AutoTokenizer.from_pretrained(DATA / model)("a text").input_ids


def test_a_folder_without_a_tokenizer_loads(model, ids, wanted, tmp_path):
    """The plan says what is missing; the model is whole."""
    path = quantize(DATA / model, tmp_path / "source.gguf", "--type", "BF16")
    folder = quantize(path, tmp_path / "back", "--format", "safetensors")
    assert torch.equal(runtime.logits(runtime.load(folder), ids), wanted)


def test_codes_give_the_logits_of_what_they_decode_to(model, ids, tmp_path):
    """Q8_0: a block of 32 is a scale in half floats and as many signed bytes. Decoded here."""
    path, folder = made(model, tmp_path, ("--type", "Q8_0"))
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    source = safetensors.torch.load_file(DATA / model / "model.safetensors")
    plain = runtime.load(DATA / model)
    state = plain.state_dict()
    for name, weight in source.items():
        if weight.dim() == 1:
            state[name] = weight.float()
            continue
        blocks = weight.float().numpy().reshape(-1, 32)
        scales = np.abs(blocks).max(axis=1, keepdims=True).astype(np.float32) / np.float32(127)
        inverse = np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales != 0)
        scaled = blocks * inverse
        codes = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)).astype(np.float32)  # as C's roundf
        decoded = codes * scales.astype(np.float16).astype(np.float32)
        state[name] = torch.from_numpy(decoded.reshape(weight.shape))
    plain.load_state_dict(state)
    for name, weight in weights.items():
        assert torch.equal(weight.float(), state[name]), name
    assert torch.equal(runtime.logits(runtime.load(folder), ids), runtime.logits(plain, ids))


def test_the_type_is_that_of_the_weights(model, tmp_path):
    for precision, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16), ("fp32", torch.float32)):
        (tmp_path / precision).mkdir()
        _, folder = made(model, tmp_path / precision, ("--type", "F16"), "--precision", precision)
        loaded = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
        assert loaded.dtype == dtype
        assert config_of(model)["tie_word_embeddings"] == loaded.config.tie_word_embeddings
