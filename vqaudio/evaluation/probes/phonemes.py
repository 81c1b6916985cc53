"""Do the codes know phonemes? Every code stands for its most frequent phoneme, and is right or not on other speakers.

The experiment of the VQ-VAE paper (van den Oord et al. 2017, section 4.3: 49.3 % of the frames right with 128 codes of
40 ms and 41 phonemes, 7.2 % with random latents), with each half of the speakers judged by what the other half taught.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vqaudio.errors import UsageError
from vqaudio.evaluation.estimates import Estimate
from vqaudio.evaluation.probes.alignment import PHONES, SILENCE, UNKNOWN
from vqaudio.evaluation.probes.labelled import Labelled
from vqaudio.evaluation.speech import Item, few

PACKAGES = {
    "pocketsphinx": "pocketsphinx",
    "librosa.feature.spectral": "librosa",
    "sklearn": "scikit-learn",
}  # by module
COEFFICIENTS = 13  # of the cepstrum
WINDOW_SECONDS = 0.025  # of it, or a whole frame where that is longer
PRIOR_FRAMES = 50.0  # that the phonemes of all frames are worth, where those of one code are counted
SEED = 0  # of what is random


@dataclass(frozen=True)
class Score:
    """How well codes of one kind tell phonemes on speakers that did not teach them; means over frames, with 95 %
    bootstrap intervals over speakers.

    Attributes:
        name: of the kind of codes.
        accuracy: share of the frames that are right.
        without_silence: the same, taught and judged on frames of speech alone.
        information: bits that a code tells of its frame's phoneme: how much better the phonemes are predicted knowing
            the codes, which bounds the mutual information from below; chance is zero or less.
        share: `information` beside the bits that would tell the phoneme for certain.
    """

    name: str
    accuracy: Estimate
    without_silence: Estimate
    information: Estimate
    share: float


@dataclass(frozen=True)
class Phonemes:
    """What the codes know of phonemes.

    Attributes:
        scores: the model's codes first, then what they stand beside.
        counts: frames (K, phones) of each code of the model in each phoneme of `PHONES`, over all speakers.
        frames: that are labelled.
        unlabelled: frames whose phoneme nobody can tell, which do not count.
        utterances, speakers, unknown_words: how many.
    """

    scores: tuple[Score, ...]
    counts: np.ndarray
    frames: int
    unlabelled: int
    utterances: int
    speakers: int
    unknown_words: int

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values, with every code's phoneme in place of the counts."""
        record = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("scores", "counts")}
        record["scores"] = [dataclasses.asdict(score) for score in self.scores]
        record["codes"] = [
            {"code": code, "frames": int(row.sum()), "phoneme": PHONES[row.argmax()], "share": row.max() / row.sum()}
            for code, row in enumerate(self.counts)
            if row.sum()
        ]
        return record


def transcribed(items: Sequence[Item], limit: int | None = None) -> list[Item]:
    """The items that have transcripts; of these `limit`, spread evenly.

    Raises:
        UsageError: where they are not of two speakers at least.
    """
    said = [item for item in items if item.text is not None]
    if not said:
        raise UsageError("Phonemes are found by transcripts, and no manifest.csv tells any of these files.")
    said = few(said, limit)
    _check_speakers({item.speaker for item in said})
    return said


def cepstrum(waveform: np.ndarray, sample_rate: int, hop: int) -> np.ndarray:
    """Mel-frequency cepstral coefficients (frames, 13) of a waveform (T,), around the middle of each frame of codes,
    less their means, in which a voice and its microphone would outweigh the phonemes."""
    import librosa

    window = max(hop, round(WINDOW_SECONDS * sample_rate))
    frames = -(-len(waveform) // hop)
    before = (window - hop) // 2
    padded = np.pad(waveform, (before, frames * hop + window - hop - before - len(waveform)))
    mfcc = librosa.feature.mfcc(
        y=padded, sr=sample_rate, n_mfcc=COEFFICIENTS, n_fft=window, hop_length=hop, n_mels=40, center=False
    )
    return (mfcc - mfcc.mean(axis=1, keepdims=True)).T.astype(np.float32)


def probe(utterances: Sequence[Labelled], codebook_size: int) -> Phonemes:
    """Measure the codes of the first quantiser, and beside them codes that know less.

    These are: the same codes in random order within each utterance, random ones, and the nearest of as many means
    of the utterances' features, found on the speakers that teach.

    Args:
        utterances: with features; of at least two speakers.
        codebook_size: K.

    Raises:
        UsageError: where fewer than two speakers have labelled frames.
    """
    said = [u for u in utterances if (u.phones != UNKNOWN).any()]
    half = _halves(said)
    _check_speakers(half)
    rng = np.random.default_rng(SEED)
    own = [u.codes[0].astype(np.int64) for u in said]
    kinds = {
        "codes": (own, own),
        "k-means of MFCCs": _clusters(said, half, codebook_size),
        "shuffled in time": (shuffled := [rng.permutation(codes) for codes in own], shuffled),
        "random codes": (drawn := [rng.integers(0, codebook_size, len(codes)) for codes in own], drawn),
    }
    counts = sum(count(codes, u.phones, codebook_size) for codes, u in zip(own, said, strict=True))
    return Phonemes(
        scores=tuple(_score(name, codes, said, half, codebook_size) for name, codes in kinds.items()),
        counts=np.asarray(counts, dtype=np.int64),
        frames=sum(int((u.phones != UNKNOWN).sum()) for u in said),
        unlabelled=sum(int((u.phones == UNKNOWN).sum()) for u in said),
        utterances=len(said),
        speakers=len(half),
        unknown_words=sum(u.unknown_words for u in said),
    )


def _check_speakers(speakers: Collection[str]) -> None:
    if len(speakers) < 2:
        found = f"all is said by '{next(iter(speakers))}'" if speakers else "nobody says anything"
        raise UsageError(f"Phonemes are taught by one half of the speakers and judged on the other, but {found}.")


def _halves(utterances: Sequence[Labelled]) -> dict[str, int]:
    """The half, 0 or 1, of every speaker; both halves have about as many frames."""
    frames: dict[str, int] = {}
    for utterance in utterances:
        frames[utterance.item.speaker] = frames.get(utterance.item.speaker, 0) + len(utterance.phones)
    halves, totals = {}, [0, 0]
    for speaker in sorted(frames, key=lambda name: (-frames[name], name)):
        halves[speaker] = int(totals[1] < totals[0])
        totals[halves[speaker]] += frames[speaker]
    return halves


def _clusters(
    utterances: Sequence[Labelled], half: dict[str, int], size: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Codes by k-means on the features, learnt from the first half of the speakers and from the second."""
    from sklearn.cluster import MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    found = []
    for taught in (0, 1):
        frames = np.concatenate([u.features for u in utterances if half[u.item.speaker] == taught])
        mean, deviation = frames.mean(axis=0), frames.std(axis=0) + 1e-9
        clusters = min(size, len(np.unique(frames, axis=0)))
        means = MiniBatchKMeans(clusters, batch_size=8192, n_init=3, random_state=SEED)
        with threadpool_limits(1):  # sums in another order would give other means
            means.fit((frames - mean) / deviation)
            found.append([means.predict((u.features - mean) / deviation).astype(np.int64) for u in utterances])
    return found[0], found[1]


def _score(
    name: str,
    codes: tuple[list[np.ndarray], list[np.ndarray]],
    utterances: Sequence[Labelled],
    half: dict[str, int],
    size: int,
) -> Score:
    """Judge each speaker by what the other half teaches.

    Args:
        codes: of every utterance, as they are where the first half teaches and where the second does.
    """
    tallies: dict[str, np.ndarray] = {}
    for taught in (0, 1):
        table = np.zeros((size, len(PHONES)))
        for own, utterance in zip(codes[taught], utterances, strict=True):
            if half[utterance.item.speaker] == taught:
                table += count(own, utterance.phones, size)
        for own, utterance in zip(codes[taught], utterances, strict=True):
            if half[utterance.item.speaker] != taught:
                tally = _judge(table, count(own, utterance.phones, size))
                tallies[utterance.item.speaker] = tallies.get(utterance.item.speaker, 0) + tally
    right, frames, spoken_right, spoken, bits, certain = np.array(list(tallies.values())).T
    information = _ratio(bits, frames)
    return Score(
        name, _ratio(right, frames), _ratio(spoken_right, spoken), information, float(bits.sum() / certain.sum())
    )


def count(codes: np.ndarray, phones: np.ndarray, size: int) -> np.ndarray:
    """How often each code (frames,) stands in each phone (frames,): (K, phones)."""
    known = phones != UNKNOWN
    pairs = codes[known] * len(PHONES) + phones[known]
    return np.bincount(pairs, minlength=size * len(PHONES)).reshape(size, len(PHONES))


def _judge(taught: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """What counts (K, phones) say under other counts that taught the codes their phonemes.

    Returns:
        frames that are right, frames, the same two without silence, the bits that the codes save, and the bits that the
        phonemes take without them.
    """
    spoken = np.array([phone != SILENCE for phone in PHONES])
    rows = np.arange(len(seen))
    right = seen[rows, most_frequent(taught)].sum()
    spoken_right = seen[rows, most_frequent(taught * spoken)].sum()
    marginal = (taught.sum(axis=0) + 1) / (taught.sum() + len(PHONES))
    given = (taught + PRIOR_FRAMES * marginal) / (taught.sum(axis=1, keepdims=True) + PRIOR_FRAMES)
    alone = -(seen * np.log2(marginal)).sum()
    saved = (seen * np.log2(given / marginal)).sum()
    return np.array([right, seen.sum(), spoken_right, (seen * spoken).sum(), saved, alone])


def most_frequent(counts: np.ndarray) -> np.ndarray:
    """The phoneme (K,) of each code by counts (K, phones), the first of equals; that of all frames for codes unseen."""
    return np.where(counts.any(axis=1), counts.argmax(axis=1), counts.sum(axis=0).argmax())


def _ratio(parts: np.ndarray, wholes: np.ndarray) -> Estimate:
    """The sum of the parts (speakers,) over that of the wholes."""
    with np.errstate(invalid="ignore"):
        return Estimate.of(parts / wholes, wholes)
