"""Speech as the probes of codes want it: the codes of every utterance beside the phonemes that are spoken.

Reading, coding and aligning run in several processes, each with a codec and an aligner of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vqaudio import audio
from vqaudio.codec import Codec
from vqaudio.evaluation.probes import alignment
from vqaudio.evaluation.probes.alignment import UNKNOWN, Aligner
from vqaudio.evaluation.speech import Item, naming
from vqaudio.evaluation.workers import gather

Features = Callable[[np.ndarray, int, int], np.ndarray]  # of a waveform (T,), its rate in Hz and a hop: (frames, D)


@dataclass(frozen=True)
class Labelled:
    """An utterance, frame by frame of its codes.

    Attributes:
        item: the file, with its speaker and its transcript.
        codes: (quantizers, frames).
        phones: (frames,) indices in `alignment.PHONES` of what is spoken in the middle of each frame, UNKNOWN where
            nobody can tell.
        features: (frames, D), D of 0 where none were asked for.
        unknown_words: words of the transcript that the dictionary lacks.
    """

    item: Item
    codes: np.ndarray
    phones: np.ndarray
    features: np.ndarray
    unknown_words: int


@dataclass(frozen=True)
class Speech:
    """What came of some utterances.

    Attributes:
        utterances: that could be read, and aligned where that was asked for.
        skipped: a sentence for each of the others.
    """

    utterances: list[Labelled]
    skipped: list[str]


def label(
    load: Callable[[], Codec],
    items: Sequence[Item],
    *,
    align: bool = True,
    features: Features | None = None,
    jobs: int = 1,
    advance: Callable[[], None] = lambda: None,
) -> Speech:
    """Code utterances, and find their phonemes where there is a transcript.

    Args:
        load: gives the codec, once in each process, so it must be picklable.
        align: whether to find phonemes; without, or without a transcript, all are UNKNOWN.
        features: also to compute; picklable as well.
        jobs: processes.
        advance: called after each utterance.

    Raises:
        AudioError: where not one utterance is left.
    """
    utterances, skipped = gather(Labeller(load, align, features), items, "files", jobs, advance)
    return Speech(utterances, [sentence for _, sentence in skipped])


def untold(items: Sequence[Item]) -> str | None:
    """The sentence that says that none of the items has a transcript, where that is so."""
    if any(item.text is not None for item in items):
        return None
    return "No manifest.csv tells what is said, so that there are no phonemes."


class Labeller:
    """A codec and an aligner; one of each in each process. Args: as for `label`."""

    def __init__(self, load: Callable[[], Codec], align: bool, features: Features | None) -> None:
        self.load, self.align, self.features = load, align, features
        self.aligner = Aligner()

    @functools.cached_property
    def codec(self) -> Codec:
        """Loaded at first use, so that a labeller crosses to another process without it."""
        return self.load()

    def __call__(self, item: Item) -> Labelled:
        """An utterance with its labels.

        Raises:
            AudioError: where it cannot be read, or its transcript does not fit.
        """
        rate, hop = self.codec.config.sample_rate, self.codec.config.hop
        waveform = audio.read(item.path, rate)
        with naming(item):
            codes = self.codec.encode(waveform, rate, speaker=False).numpy()
        phones, unknown_words = np.full(codes.shape[1], UNKNOWN), 0
        if self.align and item.text is not None:
            heard = waveform if rate == alignment.SAMPLE_RATE else audio.read(item.path, alignment.SAMPLE_RATE)
            with naming(item):
                aligned = self.aligner.align(heard, item.text)
            middles = (np.arange(codes.shape[1]) + 0.5) * hop * alignment.SAMPLE_RATE / rate
            phones, unknown_words = aligned.at(middles), aligned.unknown_words
        features = self.features(waveform, rate, hop) if self.features else np.zeros((codes.shape[1], 0))
        return Labelled(item, codes, phones, features, unknown_words)
