"""The figure of `vqaudio probe codebook`: the code vectors in the plane, by usage and by majority phoneme, how often
each code is used, and the codes of some speech below its spectrogram.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from vqaudio.evaluation import figures
from vqaudio.evaluation.probes.alignment import CLASS_OF, CLASSES, PHONES, UNKNOWN
from vqaudio.evaluation.probes.codebook import Codebook, Excerpt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INCHES = (13.0, 11.0)
COLOURS = dict(  # told apart by everybody (Okabe and Ito 2008)
    zip(CLASSES, ("#D55E00", "#E69F00", "#009E73", "#0072B2", "#CC79A7", "#56B4E9", "#000000"), strict=True)
)
NO_PHONEME = "#777777"
WINDOW_SECONDS, DECIBELS = 0.025, 70.0  # of the spectrogram


def draw(title: str, result: Codebook, excerpt: Excerpt) -> Figure:
    """The panels of a codebook, that of phonemes where they are known, and those of an excerpt."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=INCHES, dpi=110, layout="constrained")
    figure.suptitle(figures.literal(title))
    by_phoneme = result.counts is not None
    upper = ["usage", "phonemes"] if by_phoneme else ["usage", "rank"]
    lower = [["rank", "spectrogram"], ["rank", "codes"]] if by_phoneme else [["spectrogram"] * 2, ["codes"] * 2]
    parts: Any = figure.subfigures(2, 1, height_ratios=(1.25, 1))
    top, bottom = parts
    axes = top.subplot_mosaic([upper])
    axes |= bottom.subplot_mosaic(lower, width_ratios=(1, 2) if by_phoneme else (1, 1))
    _by_usage(axes["usage"], result)
    if by_phoneme:
        _by_phoneme(axes["phonemes"], result)
    _rank(axes["rank"], result)
    _spectrogram(axes["spectrogram"], excerpt)
    _codes(axes["codes"], result, excerpt)
    return figure


def _plane(axes: Any, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal", adjustable="datalim")


def _by_usage(axes: Any, result: Codebook) -> None:
    from matplotlib.colors import LogNorm

    counts = result.usage[0].counts
    used, (x, y) = counts > 0, result.projection.T
    shares = 100 * counts / counts.sum()
    _plane(axes, "code vectors (t-SNE) by usage")
    size = 45 if len(x) <= 150 else 22
    norm = LogNorm(shares[used].min(), shares.max())
    points = axes.scatter(x[used], y[used], s=size, c=shares[used], cmap="viridis", norm=norm)
    if not used.all():
        axes.scatter(x[~used], y[~used], s=size, facecolors="none", edgecolors=NO_PHONEME, label="not used")
        axes.legend(loc="best", fontsize=8)
    bar = axes.figure.colorbar(points, ax=axes, label="% of the frames", shrink=0.8)
    figures.plain_decades(bar.ax.yaxis)


def _by_phoneme(axes: Any, result: Codebook) -> None:
    """Each code as the name of its most frequent phoneme, in the colour of its class."""
    from matplotlib.lines import Line2D

    _plane(axes, "the same by most frequent phoneme")
    x, y = result.projection.T
    axes.scatter(x, y, s=0)  # sets the limits, which text does not
    size = 9 if len(x) <= 150 else 6.5
    for place, phoneme in zip(result.projection, result.phonemes, strict=True):
        if phoneme is None:
            axes.plot(*place, ".", color=NO_PHONEME, markersize=3)
        else:
            colour = COLOURS[CLASS_OF[phoneme]]
            axes.text(*place, phoneme, color=colour, fontsize=size, weight="bold", ha="center", va="center")
    handles = [Line2D([], [], marker="s", linestyle="", color=colour, label=name) for name, colour in COLOURS.items()]
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4, fontsize=8, frameon=False)


def _rank(axes: Any, result: Codebook) -> None:
    """The shares of the codes of every quantiser, the most frequent first."""
    size = len(result.vectors)
    for index, usage in enumerate(result.usage, start=1):
        shares = 100 * np.sort(usage.counts)[::-1] / usage.counts.sum()
        name = f"quantiser {index}, " if len(result.usage) > 1 else ""
        axes.step(range(1, size + 1), shares, where="mid", label=f"{name}perplexity {usage.perplexity:.0f}")
    axes.axhline(100 / size, linestyle=":", color="grey", label=f"all {size} alike")
    axes.set_yscale("log")
    axes.set_title("how often each code is used", fontsize=10)
    axes.set_xlabel("codes, the most frequent first")
    axes.set_ylabel("% of the frames")
    figures.plain_decades(axes.yaxis)
    axes.legend(fontsize=8)


def _spectrogram(axes: Any, excerpt: Excerpt) -> None:
    rate = excerpt.sample_rate
    window = round(WINDOW_SECONDS * rate)
    silence = 1e-5 * np.random.default_rng(0).standard_normal(len(excerpt.waveform))  # has a logarithm
    waveform = np.pad(excerpt.waveform + silence, (0, max(0, window - len(excerpt.waveform))))
    image = axes.specgram(waveform, NFFT=window, Fs=rate, noverlap=window * 4 // 5, cmap="magma")[3]
    highest = image.get_array().max()
    image.set_clim(highest - DECIBELS, highest)
    axes.set_facecolor("black")  # where the last window does not fit
    axes.set_xlim(0, len(excerpt.codes) * excerpt.hop / rate)
    axes.set_yticks(range(0, rate // 2 + 1, 2000), [f"{hz // 1000}" for hz in range(0, rate // 2 + 1, 2000)])
    axes.set_ylabel("kHz")
    axes.tick_params(labelbottom=False)
    known = bool((excerpt.phones != UNKNOWN).any())
    axes.set_title(figures.literal(excerpt.name), fontsize=10, loc="left", pad=16 if known else 6)
    for phone, start, end in _stretches(excerpt):
        axes.axvline(start, color="white", linewidth=0.6, alpha=0.7)
        axes.text(
            (start + end) / 2,
            1.02,
            phone,
            transform=axes.get_xaxis_transform(),
            ha="center",
            fontsize=8,
            color=COLOURS[CLASS_OF[phone]],
            weight="bold",
        )


def _stretches(excerpt: Excerpt) -> list[tuple[str, float, float]]:
    """The phones that are known, each with its start and end in seconds."""
    found, frame, seconds = [], 0, excerpt.hop / excerpt.sample_rate
    for phone, frames in groupby(excerpt.phones):
        length = len(list(frames))
        if phone != UNKNOWN:
            found.append((PHONES[phone], frame * seconds, (frame + length) * seconds))
        frame += length
    return found


def _codes(axes: Any, result: Codebook, excerpt: Excerpt) -> None:
    """Which code stands when, codes of one phoneme side by side, in the colour of its class."""
    phonemes = result.phonemes
    order = sorted(
        range(len(phonemes)), key=lambda code: (PHONES.index(p) if (p := phonemes[code]) else len(PHONES), code)
    )
    places = np.empty(len(order), np.int64)
    places[order] = range(len(order))
    seconds = excerpt.hop / excerpt.sample_rate
    starts = np.arange(len(excerpt.codes)) * seconds
    colours = [COLOURS[CLASS_OF[p]] if (p := phonemes[code]) else NO_PHONEME for code in excerpt.codes]
    axes.hlines(places[excerpt.codes], starts, starts + seconds, colors=colours, linewidth=3)
    for _, start, _ in _stretches(excerpt):
        axes.axvline(start, color="grey", linewidth=0.4, alpha=0.7)
    axes.set_xlim(0, len(excerpt.codes) * seconds)
    axes.set_ylim(-0.02 * len(order), 1.02 * len(order))
    axes.set_xlabel("seconds")
    axes.set_ylabel("code, by phoneme" if result.counts is not None else "code")
