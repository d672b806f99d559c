"""Files whose codes were chosen by one half of the held-out text, to be measured on the other half.

The figures are printed (-s shows them); docs/calibration.md has those that were seen.
"""
import math

from program import DATA, HELDOUT, quantize

METHODS = {
    "reference": ("--method", "reference"),
    "imatrix": ("--method", "imatrix"),
    "feedback": ("--method", "feedback", "--no-correction"),
    "corrected": ("--method", "feedback"),
}


def halves():
    text = HELDOUT.read_text()
    return text[:len(text) // 2], text[len(text) // 2:]


def files(model, folder, *options, suffix=""):
    """{method: what phiq writes for the checkpoint with it}; all but the reference's see the first half."""
    text = folder / "calibration.txt"
    text.write_text(halves()[0])
    return {method: quantize(DATA / model, folder / f"{method}{suffix}", *options, *chosen,
                             *(() if method == "reference" else ("--calibrate", text, "--calibration-ctx", 256)))
            for method, chosen in METHODS.items()}


def of_equal_size(model, folder, *options, suffix=""):
    """What phiq writes by the type of the options, and of types that it chooses for its size by the first half."""
    text = folder / "calibration.txt"
    text.write_text(halves()[0])
    fixed = quantize(DATA / model, folder / f"fixed{suffix}", *options)
    size = sum(path.stat().st_size for path in ([fixed] if suffix else fixed.iterdir()))
    mixed = quantize(DATA / model, folder / f"mixed{suffix}", *options, "--target-size", size, "--method", "reference",
                     "--calibrate", text, "--calibration-ctx", 256, "--calibration-tokens", 2048)
    return {"fixed": fixed, "mixed": mixed}


def assert_between_its_types(model, folder, options, types, divergence, suffix=""):
    """Types chosen for the size half way between two files, of the options `types`: measured, the file loses less than half way."""
    text = folder / "calibration.txt"
    text.write_text(halves()[0])
    few, many = (quantize(DATA / model, folder / f"{name}{suffix}", *options, *type) for name, type in zip(("few", "many"), types))

    def size(path):
        return path.stat().st_size if suffix else sum(file.stat().st_size for file in path.iterdir())
    mixed = quantize(DATA / model, folder / f"mixed{suffix}", *options, "--target-size",
                     (size(few) + size(many)) // 2, "--method", "reference", "--calibrate", text, "--calibration-ctx", 256,
                     "--calibration-tokens", 2048)
    worst, chosen, best = (divergence(path) for path in (few, mixed, many))
    print(f"\n{model}: {' '.join(types[0])} {1000 * worst:.1f}, half way {1000 * chosen:.1f}, {' '.join(types[1])} "
          f"{1000 * best:.1f} (KL x 1000)")
    assert size(few) < size(mixed) <= (size(few) + size(many)) // 2
    assert best < chosen < (worst + best) / 2


def assert_mixed_serves_better(name, divergences):
    """As below, of the files of of_equal_size."""
    (fixed, fixed_error), (mixed, mixed_error) = divergences["fixed"], divergences["mixed"]
    print(f"\n{name}: {1000 * fixed:.1f} +- {1000 * fixed_error:.1f}, "
          f"types chosen for its size {1000 * mixed:.1f} +- {1000 * mixed_error:.1f} (KL x 1000)")
    assert mixed < 0.9 * fixed
    assert fixed - mixed > 2 * math.hypot(fixed_error, mixed_error)


def assert_each_serves_better(name, divergences):
    """`divergences`: {method: (mean KL divergence, its standard error)}, over the same positions.

    Errors are added as those of independent figures. Positions that are hard for one file are hard for the
    others, so differences are known somewhat better than that.
    """
    print(f"\n{name}: " + ", ".join(f"{method} {1000 * mean:.1f} +- {1000 * error:.1f}"
                                    for method, (mean, error) in divergences.items()) + " (KL x 1000)")
    means = {method: mean for method, (mean, _) in divergences.items()}
    assert means["corrected"] < means["feedback"] < means["imatrix"] < means["reference"]
    assert means["feedback"] < 0.9 * means["reference"]
    for worse, better in (("reference", "feedback"), ("imatrix", "feedback"), ("feedback", "corrected")):
        assert means[worse] - means[better] > 2 * math.hypot(divergences[worse][1], divergences[better][1])
