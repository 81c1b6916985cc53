"""What figures have in common: the kinds of file that they are written to, and how their axes look."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vqaudio.errors import UsageError
from vqaudio.evaluation.estimates import Estimate
from vqaudio.evaluation.registry import need
from vqaudio.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg")
PANEL = (4.0, 3.0)  # inches
TITLE_SIZE, TICK_SIZE = 9.5, 8.5  # points
LONGEST_LABEL = 24  # characters
GRID = "#e3e3e3"
SUBJECT = "#b3261e"  # colour of what a figure is about
OTHERS = ("#0b5fa5", "#b35c00", "#00755e", "#7a3e9d", "#5c5c00", "#8c4a3c", "#3d5a80")  # of what stands beside it


def check(path: Path) -> None:
    """See that a figure can be drawn into a file of this name.

    Raises:
        UsageError: where its kind is not known, or matplotlib is missing.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"A figure is written as {' or '.join(FORMATS)}, not as '{path.name}'.")
    need("A figure", {"matplotlib.figure": "matplotlib"})


def write(target: Path, figure: Figure, force: bool) -> None:
    """Write a figure to a file, as the kind that its name says.

    Raises:
        UsageError: where it exists and `force` is not given.
        VqaudioError: where it cannot be written.
    """
    with replacing(target, force) as temporary:
        # with its present resolution: by default matplotlib takes the one that its first canvas saw
        figure.savefig(temporary, format=target.suffix[1:].lower(), dpi=figure.dpi)


def dress(axes: Any, title: str, grid: Literal["both", "x", "y"] = "both", pad: float | None = None) -> None:
    """A title, `pad` points above the axes, small ticks, and a grid behind everything."""
    axes.set_title(title, fontsize=TITLE_SIZE, loc="left", pad=pad)
    axes.tick_params(labelsize=TICK_SIZE)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def plain_decades(axis: Any) -> None:
    """Plain numbers on a logarithmic axis, at least one even on a short one."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def errors(estimates: Sequence[Estimate], scale: float = 1.0) -> list[list[float]]:
    """How far the intervals of estimates reach below their means and above, times `scale`, as error bars want it.

    A bootstrap interval of very skewed values need not hold the mean.
    """
    below = [scale * max(0.0, e.mean - e.low) for e in estimates]
    above = [scale * max(0.0, e.high - e.mean) for e in estimates]
    return [below, above]


def label(name: str) -> str:
    """The name of a codec or a prior, as `literal` has it; of a long one, of a file say, the end."""
    return literal(name if len(name) <= LONGEST_LABEL else f"…{name[1 - LONGEST_LABEL :]}")


def literal(text: str) -> str:
    """Text that matplotlib draws as it is, whatever it is the name of: no mathematics, and nothing but characters."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("$", r"\$")
