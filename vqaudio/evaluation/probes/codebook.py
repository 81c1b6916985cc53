"""How is a codebook used, and how do its vectors lie? Usage of the codes of every quantiser, and the vectors of the
first one, near each other where they stand for like sounds or not.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vqaudio import audio
from vqaudio.codec import Codec
from vqaudio.evaluation.probes.alignment import CLASS_OF, PHONES, UNKNOWN
from vqaudio.evaluation.probes.labelled import Labelled
from vqaudio.evaluation.probes.phonemes import count, most_frequent
from vqaudio.evaluation.results import perplexity

PACKAGES = ("scikit-learn", "pocketsphinx")
EXCERPT_SECONDS = 1.6


@dataclass(frozen=True)
class Usage:
    """How the codes of one quantiser are used.

    Attributes:
        counts: frames (K,) of each code.
        run: mean number of frames for which a code stays the same.
    """

    counts: np.ndarray
    run: float

    @property
    def used(self) -> int:
        """Codes that occur."""
        return int((self.counts > 0).sum())

    @property
    def perplexity(self) -> float:
        """Codes in effective use."""
        return perplexity(self.counts)

    @property
    def entropy(self) -> float:
        """Of a code, in bits, of at most log2 K."""
        return math.log2(self.perplexity)

    @property
    def commonest(self) -> float:
        """Share of the frames that have the most frequent code."""
        return float(self.counts.max() / self.counts.sum())

    @property
    def half(self) -> int:
        """The fewest codes that make half of the frames."""
        return int(np.searchsorted(np.cumsum(np.sort(self.counts)[::-1]), self.counts.sum() / 2)) + 1

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        names = ("used", "perplexity", "entropy", "commonest", "half", "run")
        return {name: getattr(self, name) for name in names} | {"counts": self.counts.tolist()}


@dataclass(frozen=True)
class Neighbours:
    """Whether codes whose vectors are near each other stand for the same class of phonemes: share of the codes for
    which their nearest has the same, and what that share would be for codes at random. Vectors of predictive codes are
    changes, and near each other where these are alike."""

    alike: float
    by_chance: float


@dataclass(frozen=True)
class Excerpt:
    """Some speech with its codes, to be looked at.

    Attributes:
        name: of its file.
        waveform: (T,) at `sample_rate` Hz.
        codes: (frames,) of the first quantiser, `hop` samples each.
        phones: (frames,) as in `Labelled`.
    """

    name: str
    waveform: np.ndarray
    sample_rate: int
    hop: int
    codes: np.ndarray
    phones: np.ndarray


@dataclass(frozen=True)
class Codebook:
    """A codebook on some speech.

    Attributes:
        usage: of each quantiser.
        vectors: (K, d) of the first.
        projection: (K, 2) of these vectors by t-SNE, near where they are near.
        counts: frames (K, phones) of each code of the first in each phoneme of `PHONES`; None without transcripts.
        neighbours: None without transcripts, or where fewer than two codes have a phoneme.
        utterances, frames: how much was coded.
        frame_rate: frames per second.
    """

    usage: tuple[Usage, ...]
    vectors: np.ndarray
    projection: np.ndarray
    counts: np.ndarray | None
    neighbours: Neighbours | None
    utterances: int
    frames: int
    frame_rate: float

    @property
    def phonemes(self) -> list[str | None]:
        """The most frequent phoneme of each code of the first quantiser, None where it is not known."""
        if self.counts is None:
            return [None] * len(self.vectors)
        pairs = zip(most_frequent(self.counts), self.counts.sum(axis=1), strict=True)
        return [PHONES[phone] if frames else None for phone, frames in pairs]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "utterances": self.utterances,
            "frames": self.frames,
            "frame_rate": self.frame_rate,
            "quantizers": [usage.to_dict() for usage in self.usage],
            "neighbours": self.neighbours and dataclasses.asdict(self.neighbours),
            "vectors": self.vectors.tolist(),
            "projection": self.projection.tolist(),
            "phonemes": self.phonemes,
        }


def probe(codec: Codec, utterances: Sequence[Labelled]) -> Codebook:
    """Look at a codec's codebooks on some speech.

    Args:
        utterances: at least one; with phonemes where they are to count.
    """
    size = codec.config.quantizer.codebook_size
    vectors = codec.model.quantizer.stages[0].vectors().detach().cpu().numpy()
    tables = [count(u.codes[0], u.phones, size) for u in utterances if (u.phones != UNKNOWN).any()]
    counts = np.sum(tables, axis=0) if tables else None
    return Codebook(
        usage=tuple(_usage([u.codes[stage] for u in utterances], size) for stage in range(len(utterances[0].codes))),
        vectors=vectors,
        projection=project(vectors),
        counts=counts,
        neighbours=None if counts is None else neighbours(vectors, counts),
        utterances=len(utterances),
        frames=sum(u.codes.shape[1] for u in utterances),
        frame_rate=codec.config.frame_rate,
    )


def excerpt(codec: Codec, utterances: Sequence[Labelled]) -> Excerpt:
    """The middle of the first utterance that has phonemes, or of the first one.

    Raises:
        AudioError: where its file can no longer be read.
    """
    chosen = next((u for u in utterances if (u.phones != UNKNOWN).any()), utterances[0])
    rate, hop = codec.config.sample_rate, codec.config.hop
    frames = min(chosen.codes.shape[1], round(EXCERPT_SECONDS * codec.config.frame_rate))
    start = (chosen.codes.shape[1] - frames) // 2
    waveform = audio.read(chosen.item.path, rate)[start * hop : (start + frames) * hop]
    own = slice(start, start + frames)
    return Excerpt(chosen.item.path.name, waveform, rate, hop, chosen.codes[0, own], chosen.phones[own])


def _usage(codes: Sequence[np.ndarray], size: int) -> Usage:
    """Of the codes (frames,) of every utterance."""
    counts = np.bincount(np.concatenate(codes), minlength=size)
    runs = sum(1 + int((own[1:] != own[:-1]).sum()) for own in codes)
    return Usage(counts, float(counts.sum() / runs))


def project(vectors: np.ndarray) -> np.ndarray:
    """Vectors (K, d) in the plane (K, 2), by t-SNE on Euclidean distances; the same for the same vectors."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    start = "pca" if min(vectors.shape) > 1 else "random"
    tsne = TSNE(2, init=start, perplexity=min(30.0, (len(vectors) - 1) / 3), random_state=0)
    with threadpool_limits(1):  # sums in another order would make another picture
        return tsne.fit_transform(vectors.astype(np.float64))


def neighbours(vectors: np.ndarray, counts: np.ndarray) -> Neighbours | None:
    """Compare the classes of the codes (K, d) that have phonemes by counts (K, phones) with those of the nearest."""
    known = counts.any(axis=1)
    if known.sum() < 2:
        return None
    classes = np.array([CLASS_OF[PHONES[phone]] for phone in most_frequent(counts)[known]])
    distances = np.square(vectors[known][:, None] - vectors[known][None]).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    same = classes[:, None] == classes[None]
    alike = same[np.arange(len(same)), distances.argmin(axis=1)].mean()
    return Neighbours(float(alike), float((same.sum() - len(same)) / (same.size - len(same))))
