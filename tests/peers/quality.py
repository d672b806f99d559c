"""Measures the distributions of next tokens that a runtime computes."""
import functools

import numpy as np


def log_softmax(logits):
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def divergence(base, other):
    """KL divergence of each position's distribution, in nats, from two arrays of logits."""
    p, q = log_softmax(base), log_softmax(other)
    return (np.exp(p) * (p - q)).sum(axis=-1)


N_WINDOWS, WINDOW = 32, 256
# Of Hugging Face's float32 logits over these windows.
PERPLEXITY = {"phi35-tiny": 14.4212, "phi4mini-tiny": 16.9597}


class Quality:
    """Perplexity of the first windows of a text, and the divergence from another session."""

    def __init__(self, ids, base, n_windows=N_WINDOWS, window=WINDOW):
        self.windows = np.array(ids[:n_windows * window]).reshape(n_windows, window)
        self.base = base

    @functools.cached_property
    def base_log_probabilities(self):
        return np.concatenate([log_softmax(logits) for _, logits in self._batches(self.base, 8)])

    def _batches(self, session, batch):
        for first in range(0, len(self.windows), batch):
            windows = self.windows[first:first + batch]
            yield windows, session.run(windows)[0][:, :-1]  # the last position predicts nothing known

    def measure(self, session, batch=8):
        """{"kl", "kl_error", "same_top", "perplexity"}; kl_error is the standard error of kl.

        A graph that quantizes activations by tensor wants batch=1.
        """
        kl, same_top, loss = [], [], []
        base = self.base_log_probabilities
        for i, (windows, logits) in enumerate(self._batches(session, batch)):
            p, q = base[i * batch:(i + 1) * batch], log_softmax(logits)
            kl.append((np.exp(p) * (p - q)).sum(axis=-1))
            same_top.append(p.argmax(axis=-1) == q.argmax(axis=-1))
            loss.append(-np.take_along_axis(q, windows[:, 1:, None], axis=-1))
        kl = np.concatenate(kl)
        return {"kl": float(kl.mean()), "kl_error": float(kl.std() / np.sqrt(kl.size)), "same_top": float(np.mean(same_top)),
                "perplexity": float(np.exp(np.mean(loss)))}
