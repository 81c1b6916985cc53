"""Priors that are counted, not learned: what the learned one of `vqaudio.prior` is measured beside.

A unigram knows how often each code occurs in training speech, a bigram also after which other; the uniform prior, under
which the codec itself is trained (van den Oord et al. 2017, section 3.1), is a unigram that has counted nothing. Of
several quantisers each is counted by itself, the bigram after the same quantiser's code of the frame before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WEIGHT = 100.0  # of the unigram in the bigram, in occurrences; from 10 to 400, held-out speech costs at most 0.4 % more


class Unigram:
    """Every code by itself.

    Args:
        shares: (quantizers, K), the probability of each code, all above zero.
    """

    def __init__(self, shares: NDArray[np.float64]) -> None:
        self.shares = shares
        self._ends = np.cumsum(shares, axis=1)

    @classmethod
    def uniform(cls, quantizers: int, size: int) -> Unigram:
        """All codes alike."""
        return cls(np.full((quantizers, size), 1 / size))

    @classmethod
    def counted(cls, pieces: Sequence[np.ndarray], size: int) -> Unigram:
        """By how often each of K codes occurs in pieces of speech (quantizers, frames), and once more, so that none is
        impossible."""
        occurrences = [1 + np.bincount(codes, minlength=size) for codes in np.concatenate(pieces, axis=1)]
        return cls(np.stack([counts / counts.sum() for counts in occurrences]))

    def bits(self, codes: np.ndarray) -> NDArray[np.float64]:
        """What each code of one utterance costs, (quantizers, frames) for the same."""
        return -np.log2(np.take_along_axis(self.shares, codes.astype(np.int64), axis=1))

    def draw(self, uniforms: np.ndarray) -> NDArray[np.uint16]:
        """Codes (quantizers, frames), each the one that the second of two uniform numbers (frames, quantizers, 2) falls
        on."""
        chosen = [np.searchsorted(ends, column) for ends, column in zip(self._ends, uniforms[:, :, 1].T, strict=True)]
        return np.minimum(chosen, self.shares.shape[1] - 1).astype(np.uint16)


class Bigram:
    """Every code after the one before it: p(b | a) = (n(a, b) + w u(b)) / (n(a) + w), u being the unigram.

    This is the mean of the posterior under a Dirichlet prior of weight w about the unigram (MacKay and Peto 1995). The
    first code of an utterance is that of the unigram.

    Args:
        pieces: of speech, (quantizers, frames) each.
        unigram: of the same speech.
        weight: w, in occurrences.
    """

    def __init__(self, pieces: Sequence[np.ndarray], unigram: Unigram, weight: float = WEIGHT) -> None:
        self.unigram, self.weight, self.size = unigram, weight, unigram.shares.shape[1]
        quantizers = range(len(unigram.shares))
        # Most pairs never occur, so that a table of those that do is small whatever K is.
        found = [np.unique(pairs(pieces, q, self.size), return_counts=True) for q in quantizers]
        self._pairs = [known for known, _ in found]
        self._ends = [np.concatenate([[0], np.cumsum(numbers)]) for _, numbers in found]

    def probabilities(self, q: int, before: np.ndarray, after: np.ndarray) -> NDArray[np.float64]:
        """Of codes (n,) of quantiser q, each after another (n,)."""
        together = self._occurrences(q, *self._rows(q, before, after, after))
        alone = self._occurrences(q, *self._rows(q, before, 0, self.size - 1))
        return (together + self.weight * self.unigram.shares[q, after]) / (alone + self.weight)

    def bits(self, codes: np.ndarray) -> NDArray[np.float64]:
        """What each code of one utterance costs, (quantizers, frames) for the same."""
        bits = self.unigram.bits(codes)
        for q, row in enumerate(codes.astype(np.int64)):
            bits[q, 1:] = -np.log2(self.probabilities(q, row[:-1], row[1:]))
        return bits

    def draw(self, uniforms: np.ndarray) -> NDArray[np.uint16]:
        """Codes (quantizers, frames), by two uniform numbers for each (frames, quantizers, 2).

        The first says whether a code is one of those that were counted after the last or one of the unigram.
        """
        drawn = self.unigram.draw(uniforms)
        for q in range(len(drawn)):
            for frame in range(1, drawn.shape[1]):
                rows = self._rows(q, np.array(drawn[q, frame - 1]), 0, self.size - 1)
                counted = self._occurrences(q, *rows)
                counts, falls = uniforms[frame, q]
                if counts * (counted + self.weight) < counted:
                    place = self._ends[q][rows[0]] + falls * counted
                    pair = np.searchsorted(self._ends[q], place, side="right") - 1
                    drawn[q, frame] = self._pairs[q][pair] % self.size
        return drawn

    def _rows(
        self, q: int, before: np.ndarray, first: np.ndarray | int, last: np.ndarray | int
    ) -> tuple[np.ndarray, ...]:
        """(start, end) rows of the table, end exclusive: the pairs of a code with the codes from `first` to `last`."""
        start = before.astype(np.int64) * self.size
        known = self._pairs[q]
        return np.searchsorted(known, start + first), np.searchsorted(known, start + last, side="right")

    def _occurrences(self, q: int, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        return self._ends[q][end] - self._ends[q][start]


class Counted(NamedTuple):
    """The priors that are not learned."""

    uniform: Unigram
    unigram: Unigram
    bigram: Bigram


def pairs(pieces: Sequence[np.ndarray], q: int, size: int) -> NDArray[np.int64]:
    """The pairs of successive codes of quantiser q within pieces (quantizers, frames), each as K times the first plus
    the second."""
    return np.concatenate([piece[q, :-1].astype(np.int64) * size + piece[q, 1:] for piece in pieces])
