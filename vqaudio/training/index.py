"""Where the utterances of a packed corpus lie, whatever is packed: which are held out, and which pieces a step draws.

Places and lengths count what is packed: the samples of waveforms, say. A draw is a pure function of the seed and the
step, so that a resumed run sees exactly the pieces that an uninterrupted one would have seen, on any number of
processes.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vqaudio.errors import TrainingError

HELD_OUT_SHARE = 20  # one utterance in so many is held out where whole speakers are not


@dataclass(eq=False)
class Index:
    """Utterances packed one after the other: where each of the N lies, and who speaks."""

    starts: np.ndarray  # (N,) int64
    lengths: np.ndarray  # (N,) int64
    speakers: np.ndarray  # (N,) int64, rows of speaker_names
    names: np.ndarray  # (N,) text
    speaker_names: np.ndarray  # (S,) text, sorted
    key: str  # of what was packed, and how

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def digest(self) -> bytes:
        """Tells this corpus from others, wherever its files lie."""
        digest = hashlib.sha256(self.lengths.astype("<i8").tobytes())
        for name, speaker in zip(self.names, self.speakers, strict=True):
            digest.update(os.fsencode(f"{name}\0{self.speaker_names[speaker]}\0"))
        return digest.digest()

    def split(self, validation_speakers: int) -> tuple[np.ndarray, np.ndarray]:
        """Utterances to train on and utterances held out, as two sorted index arrays.

        Whole speakers are held out, chosen by a hash of their names. With `validation_speakers` 0, or fewer speakers
        than twice as many, one utterance in twenty is held out instead, by the same rule.

        Raises:
            TrainingError: where there is only one utterance.
        """
        if 0 < 2 * validation_speakers <= len(self.speaker_names):
            held_out = _shuffled(self.speaker_names)[:validation_speakers]
            mask = np.isin(self.speakers, held_out)
        elif len(self) > 1:
            mask = np.zeros(len(self), bool)
            mask[_shuffled(self.names)[: max(1, len(self) // HELD_OUT_SHARE)]] = True
        else:
            raise TrainingError("The corpus has only one utterance, so that none can be held out for validation.")
        return np.flatnonzero(~mask), np.flatnonzero(mask)


class Draw:
    """Random pieces of some utterances of a corpus, drawn in proportion to the utterances' length.

    Args:
        index: where the utterances lie.
        indices: those to draw from.
        length: of a piece.
        seed: with the step, all that a draw depends on.
        rank: number of this process.
        world: processes that share each draw, in equal parts.
    """

    def __init__(
        self, index: Index, indices: np.ndarray, length: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        self.lengths, self.indices, self.length = index.lengths[indices], indices, length
        self.seed, self.rank, self.world = seed, rank, world
        self._ends = np.cumsum(self.lengths)

    def places(self, step: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Utterances (size / world,) and where in each of them a piece starts, this process's share of a step's draw.

        The shares of all processes, one after the other, are what one process alone would draw. In an utterance shorter
        than the piece it starts at 0.

        Args:
            step: number of the draw.
            size: pieces of all processes together, a multiple of their number.
        """
        uniforms = np.random.Generator(self._source(step)).random((size, 2))
        uniforms = np.split(uniforms, self.world)[self.rank]
        rows = np.searchsorted(self._ends, (uniforms[:, 0] * self._ends[-1]).astype(np.int64), side="right")
        spare = np.maximum(self.lengths[rows] - self.length, 0)
        return self.indices[rows], (uniforms[:, 1] * (spare + 1)).astype(np.int64)

    def choice(self, step: int, count: int) -> int:
        """One of `count` things, for a step, the same in all processes and apart from the places."""
        return int(np.random.Generator(self._source(step).jumped()).integers(count))

    def _source(self, step: int) -> np.random.Philox:
        return np.random.Philox(key=np.array([self.seed, step], dtype=np.int64).view(np.uint64))


def validation_places(index: Index, indices: np.ndarray, count: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The pieces heard at every validation: utterances (N,), of `indices`, and where in each a piece starts (N,).

    They do not overlap, and the speakers take turns. N is `count`, or less where the utterances do not suffice.
    """
    order = indices[_shuffled(index.names[indices])]
    counts = np.maximum(index.lengths[order] // length, 1)
    pieces = [(row, piece * length) for row, n in zip(order, counts, strict=True) for piece in range(n)]
    turns: Counter[int] = Counter()
    ranked = []
    for row, start in pieces:
        ranked.append((turns[index.speakers[row]], row, start))
        turns[index.speakers[row]] += 1
    ranked.sort(key=lambda piece: piece[0])
    chosen = np.array(ranked[: max(1, count)], np.int64).reshape(-1, 3)
    return chosen[:, 1], chosen[:, 2]


def _shuffled(names: Iterable[str]) -> np.ndarray:
    """Indices of `names` in an order that depends on the names alone."""
    digests = [hashlib.sha256(os.fsencode(f"0 {name}")).digest() for name in names]
    return np.array(sorted(range(len(digests)), key=digests.__getitem__), np.int64)
