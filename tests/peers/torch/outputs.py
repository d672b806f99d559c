"""The folders under test, each made once a run."""
import functools

from program import DATA, quantize

HEAD = ("--tensor-type", "lm_head=")

# Every box, width, group size and kind of scale.
BUILDS = {
    "W4A16": (),
    "W4A16-g32": ("--group-size", "32"),
    "W4A16-g64": ("--group-size", "64"),
    "W4A16-row": ("--group-size", "row"),
    "W4A16-asym": ("--asym", "--group-size", "32"),
    "W8A16": (),
    "W8A16-row": ("--group-size", "row"),
    "W8A8": (),
    "GPTQ-Int4": (),
    "GPTQ-Int8": ("--group-size", "32"),
    "AWQ": (),
    "AWQ-sym": ("--sym", "--group-size", "32"),
    # Two widths, floats among them.
    "W4A16-mixed": ("--tensor-type", "down_proj=W8A16", "--tensor-type", r"layers\.1\.self_attn\.o_proj=float"),
    # Of untied models.
    "W4A16-head": ("--tensor-type", "lm_head=W4A16"),
    "W4A16-head8": ("--group-size", "32", "--tensor-type", "lm_head=W8A16"),
    "W8A8-head": ("--tensor-type", "lm_head=W8A8"),
    # Other codes in the same boxes.
    "W4A16-search": ("--method", "search"),
}
TYPES = ("GPTQ-Int4", "GPTQ-Int8", "W4A16", "W8A16", "W8A8", "AWQ")


def type_of(build):
    return next(type for type in TYPES if build == type or build.startswith(f"{type}-"))


class Outputs:
    WEIGHTS = "model.safetensors"

    def __init__(self, model, folder):
        self.model = model
        self.folder = folder

    @functools.cache
    def of(self, build):
        """The folder that phiq writes for the checkpoint."""
        return self.of_checkpoint(DATA / self.model, build)

    def of_checkpoint(self, checkpoint, build, *more):
        return quantize(checkpoint, self.new(build), "--format", "torch", "--type", type_of(build), *BUILDS[build], *more)

    def new(self, name):
        return self.folder / f"{len(list(self.folder.iterdir()))}-{name}"

    def builds(self, *boxes):
        """Those of the model that are in one of these types."""
        tied = self.model == "phi4mini-tiny"
        return [build for build in BUILDS if type_of(build) in boxes and not (tied and "-head" in build)]
