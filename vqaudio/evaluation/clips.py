"""A piece of speech on a page: its spectrogram and its player, and which of many pieces to have there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from vqaudio.evaluation import page
from vqaudio.evaluation.log_mel import decibels

SECONDS = 10.0  # of a clip; longer speech is cut
FLOOR = 1e-10  # power of a band, below which nothing is shown
DECIBELS = 80.0  # that the colours span, down from the loudest point
COLOURS = 64  # fewer would show, more only make the page larger

Heard = TypeVar("Heard")


@dataclass(frozen=True)
class Clip:
    """Speech as a page shows it.

    Attributes:
        name: the caption: of a codec, say.
        seconds: how long it is.
        spectrogram: data URI of a picture, log-mel, low frequencies at the bottom.
        sound: data URI of a sound.
    """

    name: str
    seconds: float
    spectrogram: str
    sound: str


def evenly(found: Sequence[Heard], count: int) -> list[Heard]:
    """At most so many of what could be heard: the first, the last, and some spread evenly between."""
    count = min(count, len(found))
    return [found[i * (len(found) - 1) // max(1, count - 1)] for i in range(count)]


def clips(waveforms: dict[str, np.ndarray], sample_rate: int) -> list[Clip]:
    """The beginnings of some waveforms (T,) at `sample_rate` Hz, by name, whose spectrograms have one scale.

    Args:
        waveforms: the first of them gives the scale: the brightest colour is its loudest point.
    """
    cut = {name: waveform[: int(SECONDS * sample_rate)] for name, waveform in waveforms.items()}
    levels = {name: decibels(waveform, sample_rate, FLOOR) for name, waveform in cut.items()}
    top = next(iter(levels.values())).max()
    return [
        Clip(name, len(waveform) / sample_rate, _picture(levels[name], top), page.sound(waveform, sample_rate))
        for name, waveform in cut.items()
    ]


def _picture(decibels: np.ndarray, top: float) -> str:
    import matplotlib

    levels = np.clip(1 + (decibels[::-1] - top) / DECIBELS, 0, 1)
    colours = matplotlib.colormaps["magma"](np.linspace(0, 1, COLOURS), bytes=True)[:, :3]
    return page.picture(np.rint(levels * (COLOURS - 1)).astype(np.uint8), colours)
