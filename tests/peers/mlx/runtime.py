"""Runs a folder in mlx-lm on the CPU, in float32.

On the CPU a product with codes is summed in the type of the activations: in bfloat16 that costs more
than 4 bits do. So weights are decoded here, to float32, and mlx-lm's network runs on them.
"""
import mlx.core as mx
import mlx_lm.utils
import numpy as np

mx.set_default_device(mx.cpu)

# What divergences are measured over. Windows of more than 512 tokens, in which Hugging Face and phiq
# have the long factors too; few, since the wheel's matrix products are plain loops: 3 seconds a window.
N_WINDOWS, WINDOW = 2, 1024


class Session:
    def __init__(self, folder):
        model, self.config = mlx_lm.utils.load_model(folder)
        model.set_dtype(mx.float32)  # scales and biases: decoding is in their type
        self.model = mlx_lm.utils.dequantize_model(model)
        self.model.set_dtype(mx.float32)  # small floats were decoded to bfloat16, which holds them exactly

    def run(self, ids):
        """ids [batch, n] -> [logits [batch, n, vocabulary]]"""
        return [np.array(self.model(mx.array(np.asarray(ids))))]

    def logits(self, ids):
        """The logits of one text in one pass: [n, vocabulary]."""
        return self.run([ids])[0][0]
