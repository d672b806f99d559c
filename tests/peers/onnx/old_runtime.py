"""Computes the logits of one text with the onnxruntime that comes first in PYTHONPATH.

  PYTHONPATH=FOLDER_OF_AN_OLD_ONE python old_runtime.py MODEL_FOLDER IDS.npy LOGITS.npy
"""
import pathlib
import sys

import numpy as np
import onnxruntime

from runtime import Session

folder, ids, out = map(pathlib.Path, sys.argv[1:])
np.save(out, Session(folder).logits(np.load(ids)))
print(onnxruntime.__version__)
