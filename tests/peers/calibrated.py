"""Files whose codes were chosen by one half of the held-out text, to be measured on the other half.

The figures are printed (-s shows them); docs/calibration.md has those that were seen.
"""
import math

from program import DATA, HELDOUT, quantize

METHODS = ("reference", "imatrix", "feedback")


def halves():
    text = HELDOUT.read_text()
    return text[:len(text) // 2], text[len(text) // 2:]


def files(model, folder, *options, suffix=""):
    """{method: what phiq writes for the checkpoint with it}; all but the reference's see the first half."""
    text = folder / "calibration.txt"
    text.write_text(halves()[0])
    return {method: quantize(DATA / model, folder / f"{method}{suffix}", *options, "--method", method,
                             *(() if method == "reference" else ("--calibrate", text, "--calibration-ctx", 256)))
            for method in METHODS}


def assert_each_serves_better(name, divergences):
    """`divergences`: {method: (mean KL divergence, its standard error)}, over the same positions.

    Errors are added as those of independent figures. Positions that are hard for one file are hard for the
    others, so differences are known somewhat better than that.
    """
    print(f"\n{name}: " + ", ".join(f"{method} {1000 * mean:.1f} +- {1000 * error:.1f}"
                                    for method, (mean, error) in divergences.items()) + " (KL x 1000)")
    (reference, _), (imatrix, _), (feedback, _) = (divergences[method] for method in METHODS)
    assert feedback < imatrix < reference
    assert feedback < 0.9 * reference
    for other in ("reference", "imatrix"):
        assert divergences[other][0] - feedback > 2 * math.hypot(divergences[other][1], divergences["feedback"][1])
