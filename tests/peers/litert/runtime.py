"""Runs a model file (.tflite) in LiteRT's interpreter on the CPU, the cache kept here."""
import numpy as np
from ai_edge_litert.interpreter import Interpreter

HIDDEN = -1e9  # of the mask, where a token is not seen


class Session:
    def __init__(self, file):
        # One thread: sums are then always taken in the same order.
        self.interpreter = Interpreter(str(file), num_threads=1)
        self.runners = {name: self.interpreter.get_signature_runner(name)
                        for name in self.interpreter.get_signature_list()}
        details = self.runners["decode"].get_input_details()
        self.length = details["mask"]["shape"][-1]
        self.empty = {name: np.zeros(detail["shape"], np.float32)
                      for name, detail in details.items() if name.startswith("kv_cache")}
        self.prefill_lengths = sorted(int(name.removeprefix("prefill_")) for name in self.runners if name != "decode")

    def step(self, signature, ids, first, caches):
        """The outputs of a signature for tokens at positions from `first` on."""
        n = len(ids)
        rows, columns = np.arange(first, first + n)[:, None], np.arange(self.length)[None, :]
        mask = np.where(columns <= rows, 0, HIDDEN).astype(np.float32)[None, None]
        return self.runners[signature](tokens=np.array([ids], np.int32), mask=mask,
                                       input_pos=np.arange(first, first + n, dtype=np.int32), **caches)

    def prefill(self, ids):
        """The caches after whole pieces of a text, the largest first, and how many tokens are in them."""
        caches, n = self.empty, 0
        for length in reversed(self.prefill_lengths):
            while len(ids) - n >= length:
                caches = self.step(f"prefill_{length}", ids[n:n + length], n, caches)
                n += length
        return caches, n

    def logits(self, ids, positions=None, caches=None, first=0):
        """The logits of a text [n, vocabulary], token by token; only those of `positions` where given."""
        wanted = range(len(ids)) if positions is None else set(map(int, positions))
        caches, rows = caches or self.empty, []
        for n in range(first, len(ids)):
            outputs = self.step("decode", ids[n:n + 1], n, caches)
            logits = outputs.pop("logits")
            caches = outputs
            if n in wanted:
                rows.append(logits[0, 0])
        return np.array(rows)

    def run(self, windows):
        """What quality.Quality asks for: [batch, n] -> logits [batch, n, vocabulary]."""
        return np.array([self.logits([int(id) for id in ids]) for ids in windows]), None
