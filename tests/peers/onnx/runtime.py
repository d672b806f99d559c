"""Runs a folder in plain onnxruntime, the cache carried by hand.

One thread, so that sums are always taken in the same order.
"""
import json
import pathlib
import platform

import numpy as np
import onnxruntime
import pytest

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def _saturates():
    """x86 without VNNI: there MatMulInteger adds pairs of products in 16 bits, which saturate."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    return "vnni" not in pathlib.Path("/proc/cpuinfo").read_text()


# Of figures that depend on sums of int8 products: docs/formats/onnx.md "Activations quantized as the
# model runs". On such a processor phi35-tiny's divergence is ten times what it is elsewhere.
without_saturation = pytest.mark.skipif(_saturates(), reason="this processor has no VNNI: sums of int8 products saturate")


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
