"""transformers loads every folder, and computes with the weights that phiq decodes; text and tokens arrive."""
import json

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers

import boxes
from program import DATA, config_of, run_phiq
from runtime import greedy, load, logits, messages, with_weights

COMPRESSED = ("W4A16", "W8A16", "W8A8")


def pytest_generate_tests(metafunc):
    from outputs import Outputs
    outputs = Outputs(metafunc.config.getoption("--model"), None)
    if "any_build" in metafunc.fixturenames:
        metafunc.parametrize("any_build", outputs.builds(*COMPRESSED, "GPTQ-Int4", "GPTQ-Int8", "AWQ"))
    if "loadable" in metafunc.fixturenames:
        metafunc.parametrize("loadable", [build for build in outputs.builds(*COMPRESSED) if "-asym" not in build])


@pytest.fixture(scope="session")
def decoded(outputs):
    cache = {}

    def decoded(build):
        if build not in cache:
            cache[build] = boxes.decode(outputs.of(build))
        return cache[build]
    return decoded


class EightBitActivations:
    """What enters a quantized module is rounded to 8 bits, symmetric, with a scale for each token."""

    def __init__(self, model, modules):
        self.hooks = [module.register_forward_pre_hook(self.quantize)
                      for name, module in model.named_modules() if name in modules]
        assert len(self.hooks) == len(modules)

    @staticmethod
    def quantize(_, inputs):
        (x,) = inputs
        scale = x.abs().amax(dim=-1, keepdim=True) / 127.5
        scale = torch.where(scale == 0, torch.finfo(torch.float32).eps, scale)
        return torch.round(torch.clamp(x / scale, -128, 127)) * scale

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()


def test_phiq_reads_what_the_format_says(outputs, decoded, model, any_build, tmp_path):
    """A checkpoint of the weights as they are decoded here has no error against the folder."""
    config = {**config_of(model), "torch_dtype": "float32"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model"):
        if (DATA / model / name).exists():
            (tmp_path / name).symlink_to(DATA / model / name)
    safetensors.torch.save_file(decoded(any_build), tmp_path / "model.safetensors", {"format": "pt"})
    done = run_phiq("compare", tmp_path, outputs.of(any_build), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["max_error"] == 0
    assert len(report["tensors"]) == len(decoded(any_build))


def test_logits_are_those_of_the_decoded_weights(outputs, decoded, plain, ids, loadable):
    ours = with_weights(plain, decoded(loadable))
    if loadable.startswith("W8A8"):
        with EightBitActivations(ours, set(quantized_modules(outputs.of(loadable)))):
            wanted = logits(ours, ids)
        # The activations are what is measured here: weights alone give something else.
        assert (logits(ours, ids) - wanted).abs().max() > 0.01
    else:
        wanted = logits(ours, ids)
    assert (logits(load(outputs.of(loadable)), ids) - wanted).abs().max() == 0


def quantized_modules(folder):
    names = safetensors.torch.load_file(folder / "model.safetensors")
    return [name.removesuffix(".weight_scale") for name in names if name.endswith(".weight_scale")]


@pytest.mark.parametrize("build", ["W4A16", "W8A8"])
def test_text_is_that_of_the_decoded_weights(outputs, decoded, plain, reference, build):
    prompt = reference["greedy"][1]["prompt_ids"]
    model = load(outputs.of(build))
    text = greedy(model, prompt, 12)
    ours = with_weights(plain, decoded(build))
    if build == "W8A8":
        with EightBitActivations(ours, set(quantized_modules(outputs.of(build)))):
            assert text == greedy(ours, prompt, 12)
    else:
        assert text == greedy(ours, prompt, 12)
    stop = json.loads((DATA / outputs.model / "generation_config.json").read_text())["eos_token_id"]
    assert model.generation_config.eos_token_id == stop


def test_zero_points_need_to_be_decompressed(outputs, decoded, ids, plain):
    """As the plan says: transformers stops at packed zero points, unless it is told to dequantize."""
    folder = outputs.of("W4A16-asym")
    with messages() as said, pytest.raises(RuntimeError):
        transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert "weight_zero_point" in said.getvalue() and "MISMATCH" in said.getvalue()
    config = transformers.CompressedTensorsConfig(dequantize=True)
    model = load(folder, quantization_config=config)
    wanted = decoded("W4A16-asym")
    for name, weight in model.state_dict().items():
        if name in wanted:  # rounded to the type of the scales
            assert torch.equal(weight, wanted[name].to(torch.bfloat16).to(torch.float32)), name


def test_tokens_and_chat_are_the_checkpoints(outputs, reference):
    tokenizer = transformers.AutoTokenizer.from_pretrained(outputs.of("W4A16"))
    for case in reference["tokenization"]:
        assert tokenizer.encode(case["text"], add_special_tokens=False) == case["ids"], case["text"]
    role, content = reference["chat"]["messages"].split(": ")
    messages = [{"role": role, "content": content}]
    assert tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False) == \
        reference["chat"]["rendered"]
