"""The figure of `vqaudio probe phonemes`: what each code stands for, and how often that is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vqaudio.evaluation import figures
from vqaudio.evaluation.probes.alignment import PHONES
from vqaudio.evaluation.probes.phonemes import Phonemes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INCHES = (12.0, 7.0)
COLOURS = ("#0072B2", "#E69F00")  # told apart by everybody (Okabe and Ito 2008)


def draw(title: str, result: Phonemes) -> Figure:
    """A panel of what the codes stand for, and one of how often that is right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=INCHES, dpi=120, layout="constrained")
    figure.suptitle(figures.literal(title))
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    image = _matrix(left, result.counts)
    figure.colorbar(image, ax=left, label="share of the code's frames", shrink=0.6)
    _bars(right, result)
    return figure


def _matrix(axes: Any, counts: np.ndarray) -> Any:
    """The phonemes of every code that occurs, those of one phoneme side by side."""
    used = counts[counts.any(axis=1)]
    shares = used / used.sum(axis=1, keepdims=True)
    shares = shares[np.lexsort((-shares.max(axis=1), shares.argmax(axis=1)))]
    image = axes.imshow(shares.T, aspect="auto", interpolation="nearest", cmap="viridis", vmin=0.0)
    axes.set_yticks(range(len(PHONES)), PHONES, fontsize=8)
    axes.set_xlabel(f"{len(used)} codes, ordered by their most frequent phoneme")
    axes.set_ylabel("phoneme")
    return image


def _bars(axes: Any, result: Phonemes) -> None:
    places, height = np.arange(len(result.scores)), 0.38
    kinds = (
        ("all frames", [score.accuracy for score in result.scores]),
        ("without silence", [score.without_silence for score in result.scores]),
    )
    for offset, (label, estimates), colour in zip((-height / 2, height / 2), kinds, COLOURS, strict=True):
        means = [100 * e.mean for e in estimates]
        axes.barh(
            places + offset, means, height, xerr=figures.errors(estimates, 100), label=label, color=colour, capsize=3
        )
        for place, estimate in zip(places + offset, estimates, strict=True):
            axes.text(100 * estimate.high + 1, place, estimate.value(1, 100), va="center", fontsize=9)
    axes.set_yticks(places, [score.name.replace(" ", "\n", 1) for score in result.scores])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("frames right on other speakers, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
