"""The files under test, each made once a run."""
import functools

from program import DATA, config_of, copy_checkpoint, quantize

# The tiny checkpoints have 512 tokens of original context: short factors, and long ones.
SHORT = ("--max-length", "512")
LONG = ("--max-length", "1024")
OPTIONS = {
    "fp32": ("--precision", "fp32", *SHORT),
    "fp32-long": ("--precision", "fp32", *LONG),
    "int8": ("--precision", "int8", *SHORT),
    "int4": ("--precision", "int4", *SHORT),
    "int4-g64": ("--precision", "int4", "--group-size", "64", *SHORT),
    "int4-g128": ("--precision", "int4", "--group-size", "128", *SHORT),
    "int4-row": ("--precision", "int4", "--group-size", "row", *SHORT),
    "int4-all": ("--type", "int4_all", *SHORT),
    "int4-attention8": ("--type", "int4_attention8", *SHORT),
    "int4-search": ("--precision", "int4", "--method", "search", *SHORT),
}


class Outputs:
    WEIGHTS = "bytes"

    def __init__(self, model, folder):
        self.model = model
        self.folder = folder

    @functools.cache
    def of(self, build):
        """The bundle that phiq writes for the checkpoint."""
        return self.of_checkpoint(DATA / self.model, build)

    @functools.cache
    def model_of(self, build):
        """The model file alone."""
        return self.of_checkpoint(DATA / self.model, build, ".tflite")

    def of_checkpoint(self, checkpoint, build, ending=".litertlm"):
        # A name of its own: the engine keeps what it repacks of a file under the file's name.
        out = self.folder / f"{len(list(self.folder.iterdir()))}-{build}{ending}"
        return quantize(checkpoint, out, "--format", "litert", *OPTIONS[build])

    def copy(self, name, config=None):
        return copy_checkpoint(self.model, self.folder / name, config or config_of(self.model))
