"""The figure of `vqaudio probe speakers`: how often the speaker is named from each kind of feature."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vqaudio.evaluation import figures
from vqaudio.evaluation.probes.speaker_features import REFERENCES, TITLES
from vqaudio.evaluation.probes.speakers import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INCHES = (8.0, 4.2)
CODED, REFERENCE = "#3a6ea5", "#b8b8b8"


def draw(title: str, report: Report) -> Figure:
    """A bar for each kind of feature, with its interval, and a line at chance."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure(figsize=INCHES, dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.set_title(figures.literal(title), fontsize=10, loc="left")
    accuracies = [row.accuracy for row in report.rows]
    colours = [REFERENCE if row.name in REFERENCES else CODED for row in report.rows]
    percent = [100 * a.mean for a in accuracies]
    axes.barh(
        [TITLES[row.name] for row in report.rows],
        percent,
        xerr=figures.errors(accuracies, 100),
        color=colours,
        error_kw={"capsize": 3, "linewidth": 1},
    )
    for place, accuracy in enumerate(accuracies):
        axes.text(100 * accuracy.high + 1.5, place, accuracy.value(1, 100), va="center", fontsize=9)
    chance = axes.axvline(100 * report.chance, color="black", linestyle="--", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlim(0, 108)  # room for the figures beside full bars
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel(f"excerpts of {report.seconds:g} s whose speaker is named, %, with 95 % intervals")
    axes.spines[["top", "right"]].set_visible(False)
    handles = [Patch(color=REFERENCE), Patch(color=CODED), chance]
    labels = ["before coding", "after coding", f"chance, {100 * report.chance:.1f} %"]
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure
