"""Runs a folder in plain onnxruntime, the cache carried by hand, and measures its distributions.

One thread, so that sums are always taken in the same order.
"""
import functools
import json

import numpy as np
import onnxruntime

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class Session:
    def __init__(self, folder):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", options,
                                                    providers=["CPUExecutionProvider"])
        # The builder's graphs leave this dimension of the cache open.
        self.head_size = json.loads((folder / "genai_config.json").read_text())["model"]["decoder"]["head_size"]
        self.past = {value.name: value for value in self.session.get_inputs()
                     if value.name.startswith("past_key_values.")}
        self.needs_positions = any(value.name == "position_ids" for value in self.session.get_inputs())

    def run(self, ids, cache=None, mask=None):
        """ids [batch, n], mask [batch, tokens in the cache + n] -> logits [batch, n, vocabulary], cache.

        Without a mask every token is real. A batch is padded on the right.
        """
        ids = np.asarray(ids, np.int64)
        cache = cache or {name: np.zeros((len(ids), value.shape[1], 0, self.head_size), TYPES[value.type])
                          for name, value in self.past.items()}
        n_cached = next(iter(cache.values())).shape[2]
        if mask is None:
            mask = np.ones((len(ids), n_cached + ids.shape[1]), np.int64)
        feeds = {"input_ids": ids, "attention_mask": mask, **cache}
        if self.needs_positions:
            feeds["position_ids"] = np.tile(np.arange(n_cached, n_cached + ids.shape[1]), (len(ids), 1))
        names = ["logits", *(name.replace("past_key_values", "present") for name in self.past)]
        logits, *present = self.session.run(names, feeds)
        return logits.astype(np.float32), dict(zip(self.past, present))

    def logits(self, ids):
        """The logits of one text in one pass: [n, vocabulary]."""
        return self.run([ids])[0][0]


def log_softmax(logits):
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def divergence(base, other):
    """KL divergence of each position's distribution, in nats, from two arrays of logits."""
    p, q = log_softmax(base), log_softmax(other)
    return (np.exp(p) * (p - q)).sum(axis=-1)


N_WINDOWS, WINDOW = 32, 256


class Quality:
    """Perplexity of the first 32 windows of 256 tokens, and the divergence from another session."""

    def __init__(self, ids, base):
        self.windows = np.array(ids[:N_WINDOWS * WINDOW]).reshape(N_WINDOWS, WINDOW)
        self.base = base

    @functools.cached_property
    def base_log_probabilities(self):
        return [log_softmax(logits) for _, logits in self._batches(self.base, 8)]

    def _batches(self, session, batch):
        for first in range(0, N_WINDOWS, batch):
            windows = self.windows[first:first + batch]
            yield windows, session.run(windows)[0][:, :-1]  # the last position predicts nothing known

    def measure(self, session, batch=8):
        """{"kl", "same_top", "perplexity"}. A graph that quantizes activations by tensor wants batch=1."""
        kl, same_top, loss = [], [], []
        base = np.concatenate(self.base_log_probabilities)
        for i, (windows, logits) in enumerate(self._batches(session, batch)):
            p, q = base[i * batch:(i + 1) * batch], log_softmax(logits)
            kl.append((np.exp(p) * (p - q)).sum(axis=-1))
            same_top.append(p.argmax(axis=-1) == q.argmax(axis=-1))
            loss.append(-np.take_along_axis(q, windows[:, 1:, None], axis=-1))
        return {"kl": float(np.mean(kl)), "same_top": float(np.mean(same_top)),
                "perplexity": float(np.exp(np.mean(loss)))}
