"""The folders under test, each made once a run."""
import functools
import json

from program import DATA, config_of, copy_checkpoint, quantize, run_phiq

# The builds of tools/goldens_onnx.py: phiq's options for the same folder.
OPTIONS = {
    "fp32": ("--type", "fp32"),
    "int4": ("--type", "int4"),
    "int4-bs16": ("--type", "int4", "--group-size", "16"),
    "int4-bs64": ("--type", "int4", "--group-size", "64"),
    "int4-bs128": ("--type", "int4", "--group-size", "128"),
    "int4-bs256": ("--type", "int4", "--group-size", "256"),
    "int4-acc1": ("--type", "int4", "--accuracy-level", "1"),
    "int4-asym": ("--type", "int4", "--asym"),
    "int4-asym-bs64": ("--type", "int4", "--asym", "--group-size", "64"),
    "int4-unshared": ("--type", "int4", "--tensor-type", "embed_tokens=float"),
    "int4-asym-unshared": ("--type", "int4", "--asym", "--tensor-type", "embed_tokens=float"),
    "int4-gather": ("--type", "int4", "--tensor-type", "embed_tokens=int4"),
    "int4-gather-unshared": ("--type", "int4", "--min-onnxruntime", "1.20"),
    "int4-rtn": ("--type", "int4", "--method", "rtn"),
    "int4-k_quant": ("--type", "int4", "--method", "k_quant"),
    "int4-last-int8": ("--type", "int4", "--tensor-type", "lm_head=int8"),
    "k_quant_mixed": ("--type", "k_quant_mixed"),
    "k_quant_last": ("--type", "k_quant_last"),
    "rtn_last": ("--type", "rtn_last"),
    "int8": ("--type", "int8"),
    "int8-bs128": ("--type", "int8", "--group-size", "128"),
    "int8-asym": ("--type", "int8", "--asym"),
    "int8-rtn": ("--type", "int8", "--method", "rtn"),
    "int8-k_quant": ("--type", "int8", "--method", "k_quant"),
    "cuda-fp16": ("--type", "fp16", "--ep", "cuda"),
    "cuda-int4": ("--type", "int4", "--ep", "cuda"),
    "cuda-int8": ("--type", "int8", "--ep", "cuda"),
    "dml-int4": ("--type", "int4", "--ep", "dml"),
}
# What the builder does not offer.
SHARED_HEAD_OF_8_BITS = ("--type", "int8", "--tensor-type", "embed_tokens=int8")
DYNAMIC = ("--type", "int8", "--activations", "dynamic")


def golden(kind, name):
    return json.loads((DATA / "golden" / "onnx" / kind / f"{name}.json").read_text())


class Outputs:
    WEIGHTS = "model.onnx.data"

    def __init__(self, model, folder):
        self.model = model
        self.folder = folder

    @functools.cache
    def of(self, *options):
        """The folder that phiq writes for the checkpoint with these options."""
        return self._quantize(DATA / self.model, options)

    @functools.cache
    def with_config(self, options, **changes):
        """The same for a copy of the checkpoint whose config.json has other values."""
        return self._quantize(self.checkpoint_with_config(**changes), options)

    def checkpoint_with_config(self, **changes):
        name = "-".join(f"{key}-{value}" for key, value in changes.items())
        return copy_checkpoint(self.model, self.folder / "checkpoints" / name, {**config_of(self.model), **changes})

    def _quantize(self, checkpoint, options):
        out = self.folder / f"{len(list(self.folder.iterdir()))}{'-'.join(options).replace('--', '-')}"
        return quantize(checkpoint, out, "--format", "onnx", *options)

    def refusal(self, *options):
        """Exit code and message of a combination that phiq refuses; there must be no folder."""
        out = self.folder / "refused"
        done = run_phiq("quantize", DATA / self.model, "-o", out, "--format", "onnx", *options)
        assert not out.exists()
        return done.returncode, done.stderr
