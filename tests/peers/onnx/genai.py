"""Runs a folder in onnxruntime-genai."""
import json

import onnxruntime_genai

# A padding row of the vocabulary that no text has: nothing ends a text.
NEVER = 2111


def _load(folder):
    config = onnxruntime_genai.Config(str(folder))
    config.overlay(json.dumps({"model": {
        "eos_token_id": NEVER,
        "decoder": {"session_options": {"intra_op_num_threads": 1, "inter_op_num_threads": 1}}}}))
    return onnxruntime_genai.Model(config)


class Model:
    def __init__(self, folder):
        self.model = _load(folder)

    def complete(self, ids, n_tokens):
        """The greedy continuation; end-of-text is ignored."""
        parameters = onnxruntime_genai.GeneratorParams(self.model)
        parameters.set_search_options(do_sample=False, max_length=len(ids) + n_tokens)
        generator = onnxruntime_genai.Generator(self.model, parameters)
        generator.append_tokens([int(i) for i in ids])
        out = []
        while not generator.is_done():
            generator.generate_next_token()
            out.append(int(generator.get_next_tokens()[0]))
        return out


class Tokenizer:
    def __init__(self, folder):
        self.model = _load(folder)
        self.tokenizer = onnxruntime_genai.Tokenizer(self.model)

    def encode(self, text):
        return [int(i) for i in self.tokenizer.encode(text)]

    def chat(self, messages):
        return self.tokenizer.apply_chat_template(json.dumps(messages), add_generation_prompt=True)
