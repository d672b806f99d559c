"""Compresses an OpenVINO folder with NNCF's GPTQ as the OpenVINO cookbook's commands do: INT4_SYM, groups of 128, ratio 0.6.

  PYTHON nncf_gptq.py FOLDER IDS OUT    FOLDER in float32; IDS: a window of token ids a line

For a Python with nncf 3.4.0 and openvino 2026.4.1, as tools/goldens makes one.
"""
import pathlib
import sys

import nncf
import numpy as np
import openvino


def inputs(window):
    ids = window[None]
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": np.arange(ids.shape[1])[None],
            "beam_idx": np.zeros(1, np.int32)}


folder, ids, out = map(pathlib.Path, sys.argv[1:])
windows = [np.array(line.split(), np.int64) for line in ids.read_text().splitlines()]
model = openvino.Core().read_model(folder / "openvino_model.xml")
compressed = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT4_SYM, group_size=128, ratio=0.6, gptq=True,
                                   dataset=nncf.Dataset(windows, inputs), subset_size=len(windows))
out.mkdir()
openvino.serialize(compressed, out / "openvino_model.xml")
