"""transformers on the CPU, in float32."""
import contextlib
import io
import logging

import torch
import transformers


@contextlib.contextmanager
def messages():
    """What transformers says meanwhile."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    try:
        yield stream
    finally:
        logger.removeHandler(handler)


def load(folder, **arguments):
    """The model, of which transformers must have nothing to report."""
    with messages() as said:
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **arguments)
    for word in ("LOAD REPORT", "MISSING", "UNEXPECTED", "MISMATCH", "newly initialized"):
        assert word not in said.getvalue(), said.getvalue()
    return model.eval()


def with_weights(plain, weights):
    """The checkpoint's model, with these weights from here on."""
    weights = dict(weights)
    if "lm_head.weight" not in weights:  # tied
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    result = plain.load_state_dict(weights)
    assert not result.missing_keys and not result.unexpected_keys
    return plain


@torch.no_grad()
def logits(model, ids):
    return model(torch.tensor([ids])).logits[0]


@torch.no_grad()
def greedy(model, ids, n):
    out = model.generate(torch.tensor([ids]), max_new_tokens=n, do_sample=False)
    return out[0, len(ids):].tolist()


class Session:
    """What quality.Quality asks for."""

    def __init__(self, folder):
        self.model = load(folder)

    @torch.no_grad()
    def run(self, windows):
        """[batch, n] -> [logits [batch, n, vocabulary]]"""
        return [self.model(torch.from_numpy(windows)).logits.numpy()]
