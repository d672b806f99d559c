"""Runs a folder in plain openvino on the CPU, the cache kept by the runtime.

Everything is computed in float32: by default the plugin takes bfloat16 activations, a cache of 8 bits
or float16 and int8 activations, as the processor has them.
"""
import collections

import numpy as np
import openvino

FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32",
           "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
# One thread: sums are then always taken in the same order.
ONE_THREAD = {"INFERENCE_NUM_THREADS": "1"}
CORE = openvino.Core()


def read_model(folder):
    return CORE.read_model(folder / "openvino_model.xml")


class Session:
    def __init__(self, folder):
        self.compiled = CORE.compile_model(read_model(folder), "CPU", {**FLOAT32, **ONE_THREAD})

    def run(self, ids, text=None, mask=None, beams=None):
        """ids [batch, n], mask [batch, tokens so far + n] -> logits [batch, n, vocabulary], text.

        Without a mask every token is real; a batch is padded on the left. `text` is what an earlier
        call gave, to go on with; `beams` says which of its rows each row goes on with.
        """
        ids = np.asarray(ids, np.int64)
        request, n_cached = text or (self.compiled.create_infer_request(), 0)
        if mask is None:
            mask = np.ones((len(ids), n_cached + ids.shape[1]), np.int64)
        positions = np.maximum(np.cumsum(mask, axis=1) - 1, 0)[:, n_cached:]
        beams = np.arange(len(ids)) if beams is None else np.array(beams)
        outputs = request.infer({"input_ids": ids, "attention_mask": mask, "position_ids": positions,
                                 "beam_idx": beams.astype(np.int32)})
        return outputs["logits"].copy(), (request, n_cached + ids.shape[1])

    def logits(self, ids):
        """The logits of one text in one pass: [n, vocabulary]."""
        return self.run([ids])[0][0]

    def layers(self):
        """The layers that the plugin made of the graph, without constants: type -> list of nodes."""
        layers = collections.defaultdict(list)
        for node in self.compiled.get_runtime_model().get_ops():
            layers[node.get_rt_info()["layerType"].value].append(node)
        return layers
