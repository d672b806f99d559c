"""The folders under test, each made once a run: phiq's and mlx-lm's."""
import functools
import sys

from program import DATA, SOURCE, config_of, copy_checkpoint, quantize

sys.path.append(str(SOURCE / "tools"))
import goldens_mlx  # noqa: E402
import mlx_folder  # noqa: E402  (goldens_mlx knows where it is)

# Builds are called as in goldens_mlx.py, "4bit" or "4bit-g32", but for these.
OPTIONS = {
    "int8": ("--precision", "int8"),
    "int4": ("--precision", "int4"),
    "by-tensor": ("--type", "4bit", "--tensor-type", "down_proj=6bit", "--tensor-type", "embed_tokens=mxfp8",
                  "--tensor-type", r"layers\.1\.self_attn\.o_proj=BF16"),
}
# The last of them for mlx-lm: another width, small floats, no codes.
BY_TENSOR = {
    "down_proj": {"group_size": 64, "bits": 6, "mode": "affine"},
    "embed_tokens": {"group_size": 32, "bits": 8, "mode": "mxfp8"},
    "layers.1.self_attn.o_proj": False,
}


def by_tensor(path, _):
    return next((parameters for part, parameters in BY_TENSOR.items() if part in path), True)


class Outputs:
    WEIGHTS = "model.safetensors"

    def __init__(self, model, folder):
        self.model = model
        self.folder = folder

    @functools.cache
    def of(self, build, rounding="cpu"):
        """The folder that phiq writes for the checkpoint."""
        return self.of_checkpoint(DATA / self.model, build, "--mlx-rounding", rounding)

    def of_checkpoint(self, checkpoint, build, *more):
        options = OPTIONS.get(build) or mlx_folder.options_of(build)
        return quantize(checkpoint, self._new(build), "--format", "mlx", *options, *more)

    @functools.cache
    def of_mlx_lm(self, build):
        """The folder that mlx_lm.convert writes for the checkpoint."""
        return self.of_mlx_lm_for(DATA / self.model, build)

    def of_mlx_lm_for(self, checkpoint, build):
        arguments = {"quantize": True, "q_bits": 4, "quant_predicate": by_tensor} if build == "by-tensor" else \
            goldens_mlx.arguments_of(build)
        return goldens_mlx.convert(checkpoint, self._new(f"{build}-mlx-lm"), **arguments)

    def _new(self, name):
        return self.folder / f"{len(list(self.folder.iterdir()))}-{name}"


class Checkpoints:
    """Copies of the checkpoint with another config.json."""

    def __init__(self, model, folder):
        self.model = model
        self.folder = folder

    def copy(self):
        return self.with_config(config_of(self.model))

    def with_config(self, config):
        return copy_checkpoint(self.model, self.folder / f"{len(list(self.folder.iterdir()))}", config)

    @functools.cache
    def with_changes(self, **changes):
        """A value of None takes the key away."""
        config = {**config_of(self.model), **changes}
        return self.with_config({key: value for key, value in config.items() if value is not None})
