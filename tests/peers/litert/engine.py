"""Runs a bundle in the LiteRT-LM engine on the CPU."""
import litert_lm

litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
GREEDY = litert_lm.SamplerConfig(top_k=1)


class Engine:
    def __init__(self, file):
        self.engine = litert_lm.Engine(str(file), backend=litert_lm.Backend.CPU())

    def encode(self, text):
        return list(self.engine.tokenize(text))

    def complete(self, prompt, n_tokens):
        """The greedy continuation, to the end of the text."""
        session = self.engine.create_session(apply_prompt_template=False, sampler_config=GREEDY,
                                             max_output_tokens=n_tokens)
        session.run_prefill([prompt])
        return session.run_decode().texts[0]

    def conversation(self, n_tokens):
        return self.engine.create_conversation(sampler_config=GREEDY, max_output_tokens=n_tokens)


def text_of(message):
    return "".join(part["text"] for part in message["content"])
