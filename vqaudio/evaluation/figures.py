"""What every figure has in common: the kinds of file that it is drawn into, and what draws it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vqaudio.errors import UsageError
from vqaudio.evaluation.estimates import Estimate
from vqaudio.evaluation.registry import need

FORMATS = (".png", ".svg")


def check(path: Path) -> None:
    """See that a figure can be drawn into a file of this name.

    Raises:
        UsageError: where its kind is not known, or matplotlib is missing.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"A figure is written as {' or '.join(FORMATS)}, not as '{path.name}'.")
    need("A figure", {"matplotlib.figure": "matplotlib"})


def errors(estimates: Sequence[Estimate], scale: float = 1.0) -> list[list[float]]:
    """How far the intervals of estimates reach below their means and above, times `scale`, as error bars want it.

    A bootstrap interval of very skewed values need not hold the mean.
    """
    below = [scale * max(0.0, e.mean - e.low) for e in estimates]
    above = [scale * max(0.0, e.high - e.mean) for e in estimates]
    return [below, above]


def plain(text: str) -> str:
    """Text that matplotlib draws as it is, whatever it is the name of: no mathematics, and nothing but characters."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("$", r"\$")
