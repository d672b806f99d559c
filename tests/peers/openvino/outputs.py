"""The folders under test, each made once a run."""
import functools

from program import DATA, config_of, copy_checkpoint, quantize

# phiq's options for the builds of tools/goldens_openvino.py, and for floats.
OPTIONS = {
    "fp32": ("--type", "F32"),
    "fp16": ("--type", "F16"),
    "bf16": ("--type", "BF16"),
    "int8": ("--precision", "int8"),
    "int8-sym": ("--precision", "int8", "--sym"),
    # The cookbook's --weight-format int4 --group-size 128 --ratio 0.6 --sym.
    "int4": ("--precision", "int4", "--group-size", "128", "--ratio", "0.6", "--sym"),
    "int4-r1": ("--precision", "int4", "--ratio", "1"),
    "int4-g32": ("--precision", "int4", "--group-size", "32", "--ratio", "1"),
    "int4-g64": ("--precision", "int4", "--group-size", "64", "--ratio", "1"),
    "int4-g256": ("--precision", "int4", "--group-size", "256", "--ratio", "1"),
    "int4-row": ("--precision", "int4", "--group-size", "row", "--ratio", "1"),
    "int4-asym": ("--precision", "int4", "--asym"),
    "int4-asym-r1": ("--precision", "int4", "--asym", "--ratio", "1"),
    "int4-asym-g64": ("--precision", "int4", "--asym", "--group-size", "64", "--ratio", "1"),
    "int4-asym-g256": ("--precision", "int4", "--asym", "--group-size", "256", "--ratio", "1"),
    "int4-asym-row": ("--precision", "int4", "--asym", "--group-size", "row", "--ratio", "1"),
}
FLOATS = ("fp32", "fp16", "bf16")


class Outputs:
    WEIGHTS = "openvino_model.bin"

    def __init__(self, model, folder):
        self.model = model
        self.folder = folder

    @functools.cache
    def of(self, build):
        """The folder that phiq writes for the checkpoint."""
        return self._quantize(DATA / self.model, build)

    @functools.cache
    def with_config(self, build, **changes):
        """The same for a copy of the checkpoint whose config.json has other values."""
        name = "-".join(f"{key}-{value}" for key, value in changes.items())
        copy = copy_checkpoint(self.model, self.folder / "checkpoints" / name, {**config_of(self.model), **changes})
        return self._quantize(copy, build)

    def _quantize(self, checkpoint, build):
        out = self.folder / f"{len(list(self.folder.iterdir()))}-{build}"
        return quantize(checkpoint, out, "--format", "openvino", *OPTIONS[build])
