"""How far back a prior has to hear, and what it costs to begin anew with every block of a file.

A code in the middle of an utterance is scored twice by the integer prior: with all its past, and in a block that begins
so many frames before it. The difference is what the lacking past costs. As both are about the same code, what is said
there cancels out, and so does the silence with which utterances begin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vqaudio.codes import Codes
from vqaudio.evaluation.estimates import Estimate
from vqaudio.evaluation.prior import interval_bits, intervals
from vqaudio.prior import Prior
from vqaudio.reader import varint
from vqaudio.runtime.integer_prior import write_intervals

STARTS_PER_SECOND = 4  # blocks that begin in a second of speech
BLOCK_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
CHECKSUM = 4  # bytes


@dataclass(frozen=True)
class Octave:
    """Codes after `first` to `last` frames of context.

    Attributes:
        extra: bits per code beyond what the same codes cost with all their past.
    """

    first: int
    last: int
    extra: Estimate

    @property
    def name(self) -> str:
        """What a table calls it."""
        return f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"


@dataclass(frozen=True)
class Block:
    """What speech costs in blocks of one length.

    Attributes:
        seconds: of a block.
        per_code: bits per code, everything in the block counted in.
        rate: kb/s.
        price: kb/s beyond what the codes cost with all their past.
        overhead: bytes of a block that are no code's: the range coder's end, the length and the checksum.
    """

    seconds: float
    per_code: float
    rate: float
    price: float
    overhead: float


@dataclass(frozen=True)
class Context:
    """What context is worth to a prior.

    Attributes:
        whole: bits per code with all the past.
        extra: (frames,), bits per code beyond that after so many frames of context; from there on none.
        octaves: the same by octave, with intervals over utterances.
        end: bits with which the range coder ends a block.
        quantizers: codes of a frame.
        frame_rate: frames per second.
    """

    whole: float
    extra: NDArray[np.float64]
    octaves: list[Octave]
    end: float
    quantizers: int
    frame_rate: float

    @property
    def rate(self) -> float:
        """kb/s with all the past."""
        return self.whole * self.quantizers * self.frame_rate / 1000

    def block(self, seconds: float) -> Block:
        """What speech costs in blocks of this length."""
        frames = max(1, round(seconds * self.frame_rate))
        codes = frames * self.quantizers
        lacking = self.quantizers * float(self.extra[:frames].sum())
        payload = (codes * self.whole + lacking + self.end) / 8
        overhead = self.end / 8 + len(varint(round(payload))) + CHECKSUM
        bits = codes * self.whole + lacking + 8 * overhead
        kilobits = self.frame_rate / frames / 1000
        return Block(seconds, bits / codes, bits * kilobits, (lacking + 8 * overhead) * kilobits, overhead)


def measure(prior: Prior, speech: Sequence[Codes], advance: Callable[[], None] = lambda: None) -> Context:
    """What context is worth to a prior on held-out codes of its codec."""
    reach = prior.config.receptive_field
    frame_rate = speech[0].sample_rate / speech[0].hop
    stride = max(1, round(frame_rate / STARTS_PER_SECOND))
    extras, ends, whole = [], [], []
    for codes in speech:
        found = intervals(prior, codes.numpy(), codes.speaker)
        bits = interval_bits(found)
        whole.append(bits.mean())
        ends.append(8 * len(write_intervals(found.reshape(-1, 2))) - bits.sum())
        extras.append(_extra(prior, codes, bits.mean(0), reach, stride))
        advance()
    everything = np.concatenate(extras)
    return Context(
        whole=float(np.mean(whole)),
        extra=np.nan_to_num(_mean(everything)),
        octaves=_octaves(extras, reach),
        end=float(np.mean(ends)),
        quantizers=speech[0].quantizers,
        frame_rate=frame_rate,
    )


def octave_bounds(reach: int) -> list[tuple[int, int]]:
    """(start, end) frames of each octave of `reach` frames, end exclusive: 0, 1, 2 and 3, 4 to 7, and so on."""
    starts = [0, *(1 << k for k in range((reach - 1).bit_length()))]
    return list(zip(starts, [*starts[1:], reach], strict=True))


def _extra(prior: Prior, codes: Codes, bits: np.ndarray, reach: int, stride: int) -> NDArray[np.float64]:
    """Extra bits (blocks, reach) of the codes in blocks that begin anew, NaN behind the end of the utterance."""
    array, starts = codes.numpy(), range(stride, codes.frames, stride)
    extra = np.full((len(starts), reach), np.nan)
    for row, start in zip(extra, starts, strict=True):
        block = array[:, start : start + reach]
        anew = interval_bits(intervals(prior, block, codes.speaker)).mean(0)
        row[: len(anew)] = anew - bits[start : start + reach]
    return extra


def _octaves(extras: Sequence[np.ndarray], reach: int) -> list[Octave]:
    """Extra bits by octave, from those of each utterance (blocks, reach)."""
    octaves = []
    for first, end in octave_bounds(reach):
        estimate = Estimate.of(_mean(extra[:, first:end].reshape(-1, 1))[0] for extra in extras)
        octaves.append(Octave(first, end - 1, estimate))
    return octaves


def _mean(values: np.ndarray) -> NDArray[np.float64]:
    """Means of columns (rows, columns), of what is not NaN; NaN where nothing is."""
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(there, values, 0).sum(0) / there.sum(0)
