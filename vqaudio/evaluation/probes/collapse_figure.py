"""The figure of `vqaudio probe collapse`: what wrong latents cost the WaveNet, and what latents cost and say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vqaudio.evaluation import figures
from vqaudio.evaluation.probes.collapse import Collapse

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INCHES = (11.0, 4.5)
WRONG = {"shuffled_in_time": "shuffled in time", "other_utterance": "another utterance's", "zero": "none"}


def draw(title: str, columns: Sequence[Collapse]) -> Figure:
    """Bars for every model's column; those of the likelihood where one has it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=INCHES, layout="constrained")
    figure.suptitle(figures.literal(title))
    listening = [column for column in columns if column.likelihood is not None]
    axes = figure.subplots(1, 1 + bool(listening), squeeze=False)[0]
    if listening:
        _losses(axes[0], listening)
    _rates(axes[-1], columns)
    return figure


def _losses(axes: Any, columns: Sequence[Collapse]) -> None:
    """How much likelihood is lost when the latents are wrong: nothing, where they are not heard."""
    lost = {
        label: [getattr(column.likelihood, name) - column.likelihood.true for column in columns if column.likelihood]
        for name, label in WRONG.items()
    }
    _bars(axes, [column.name for column in columns], lost)
    axes.set_ylabel("bits per sample lost by wrong latents")


def _rates(axes: Any, columns: Sequence[Collapse]) -> None:
    values = {"KL": [c.kl_rate for c in columns], "information, at most": [c.information_rate for c in columns]}
    _bars(axes, [column.name for column in columns], values)
    axes.set_ylabel("bits per second")


def _bars(axes: Any, names: Sequence[str], values: dict[str, list[float]]) -> None:
    """For each name a group of bars, one of each kind."""
    width = 0.8 / len(values)
    for i, (label, heights) in enumerate(values.items()):
        places = [place + (i - (len(values) - 1) / 2) * width for place in range(len(names))]
        axes.bar_label(axes.bar(places, heights, width, label=label), fmt="%.3g", fontsize="small")
    axes.set_xticks(range(len(names)), [figures.literal(name) for name in names])
    axes.axhline(0, color="black", linewidth=0.8)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(values), frameon=False)
