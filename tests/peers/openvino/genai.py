"""Runs a folder in openvino-genai."""
import numpy as np
import openvino
import openvino_genai

from runtime import FLOAT32

BACKENDS = ("PA", "SDPA")


class Pipeline:
    """`backend`: by default the runtime tries PA and, where that fails, only warns."""

    def __init__(self, folder, backend):
        self.pipeline = openvino_genai.LLMPipeline(folder, "CPU", ATTENTION_BACKEND=backend, **FLOAT32)

    def complete(self, prompt, n_tokens, **options):
        """The greedy continuation as text (of several prompts: a list); end-of-text is ignored."""
        options = {"apply_chat_template": False, "ignore_eos": True, "do_sample": False, **options}
        config = openvino_genai.GenerationConfig(max_new_tokens=n_tokens, **options)
        result = self.pipeline.generate(prompt, config)
        return list(result.texts) if isinstance(prompt, list) else str(result)

    def complete_ids(self, ids, n_tokens):
        ids = np.array([ids], np.int64)
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
        config = openvino_genai.GenerationConfig(max_new_tokens=n_tokens, ignore_eos=True, do_sample=False)
        return list(self.pipeline.generate(inputs, config).tokens[0])


class Tokenizer:
    def __init__(self, folder):
        self.tokenizer = openvino_genai.Tokenizer(folder)

    def encode(self, text, specials=False):
        return self.tokenizer.encode(text, add_special_tokens=specials).input_ids.data[0].tolist()

    def decode(self, ids, skip_specials=False):
        return self.tokenizer.decode(ids, skip_special_tokens=skip_specials)

    def chat(self, messages):
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True)
