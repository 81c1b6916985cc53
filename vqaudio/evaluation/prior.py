"""What a prior is worth, which the VQ-VAE paper does not ask: bits per code and kb/s of held-out speech under the
uniform prior, a unigram, a bigram and the learned one, in floating point, in integers, and in files.

Every utterance is coded from its start, with all its past; files begin anew with every block. Means are over
utterances, with 95 % bootstrap intervals.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vqaudio import audio
from vqaudio.codec import Codec, unpack_indices
from vqaudio.codes import Codes
from vqaudio.errors import AudioError
from vqaudio.evaluation.counted import Bigram, Counted, Unigram
from vqaudio.evaluation.estimates import Estimate
from vqaudio.prior import Prior
from vqaudio.runtime.integer_prior import Intervals
from vqaudio.runtime.range_coder import TOTAL
from vqaudio.training.codes_corpus import pack_codes
from vqaudio.training.corpus import pack
from vqaudio.training.recipe import CorpusConfig

TRAIN_SPLIT = "train"  # of a manifest

Bits = Callable[[Codes], NDArray[np.float64]]  # what each code costs, (quantizers, frames)


class Speech(NamedTuple):
    """The codes of held-out speech, and (path, sentence) of each file that has none."""

    paths: list[str]
    codes: list[Codes]
    skipped: list[tuple[str, str]]


@dataclass(frozen=True)
class Cost:
    """What held-out codes cost one way.

    Attributes:
        name: of the way.
        per_code: bits per code; in files their headers and blocks are counted in.
        rate: kb/s.
        utterances: bits of each.
    """

    name: str
    per_code: Estimate
    rate: Estimate
    utterances: list[float]

    @classmethod
    def of(cls, name: str, bits: Sequence[float], speech: Sequence[Codes]) -> Cost:
        """That of utterances, of which each takes so many bits."""
        both = list(zip(bits, speech, strict=True))
        per_code = Estimate.of(each / (codes.quantizers * codes.frames) for each, codes in both)
        return cls(name, per_code, Estimate.of(each / codes.seconds / 1000 for each, codes in both), list(bits))


def encode(codec: Codec, files: Sequence[Path], advance: Callable[[], None] = lambda: None) -> Speech:
    """The codes of files.

    Raises:
        AudioError: where fewer than two of them can be coded.
    """
    speech, rate = Speech([], [], []), codec.config.sample_rate
    for path in files:
        try:
            codes = codec.encode(audio.read(path, rate), rate)
        except AudioError as error:
            speech.skipped.append((str(path), str(error)))
        else:
            speech.paths.append(str(path))
            speech.codes.append(codes)
        advance()
    if len(speech.codes) < 2:
        reason = f": {speech.skipped[0][1]}" if speech.skipped else "."
        raise AudioError(f"Two files of speech or more are needed, and there are {len(speech.codes)}{reason}")
    return speech


def count(path: Path, codec: Codec) -> Counted:
    """Count the codes of training speech, which are packed once for all runs, as for the training of a prior.

    Args:
        path: a directory, or a manifest, of which the rows of the split "train" count.

    Raises:
        TrainingError: where there is no speech.
    """
    config = CorpusConfig("folder" if path.is_dir() else "manifest", str(path), "" if path.is_dir() else TRAIN_SPLIT)
    corpus = pack_codes(pack(config, codec.config.sample_rate), codec)
    pieces = np.split(corpus.codes.T, corpus.starts[1:], axis=1)
    quantizer = codec.config.quantizer
    unigram = Unigram.counted(pieces, quantizer.codebook_size)
    uniform = Unigram.uniform(quantizer.quantizers, quantizer.codebook_size)
    return Counted(uniform, unigram, Bigram(pieces, unigram))


def ways(counted: Counted, prior: Prior, others: Mapping[str, Prior], voices: bool) -> dict[str, Bits]:
    """What gives the bits of each code, by the name of the way.

    Args:
        others: further priors by name, in integers.
        voices: whether the codes carry speakers, which are then also left out.
    """
    found: dict[str, Bits] = {name: _of(source) for name, source in counted._asdict().items()}
    found["learned"] = lambda codes: prior.score(codes).bits
    found["integers"] = functools.partial(integer_bits, prior)
    if voices:
        found["learned, no speaker"] = lambda codes: prior.score(codes.with_speaker(b"")).bits
        found["integers, no speaker"] = lambda codes: integer_bits(prior, codes.with_speaker(b""))
    return found | {f"integers of {name}": functools.partial(integer_bits, other) for name, other in others.items()}


def costs(
    speech: Sequence[Codes], found: Mapping[str, Bits], prior: Prior, advance: Callable[[], None] = lambda: None
) -> list[Cost]:
    """What the utterances cost under every prior, then what their files take: at fixed width, and under the prior."""
    rows: dict[str, list[float]] = {name: [] for name in (*found, "files, fixed", "files, prior")}
    for codes in speech:
        for name, bits in found.items():
            rows[name].append(float(bits(codes).sum()))
        rows["files, fixed"].append(8.0 * len(codes.to_bytes()))
        rows["files, prior"].append(8.0 * len(codes.to_bytes(prior)))
        advance()
    return [Cost.of(name, bits, speech) for name, bits in rows.items()]


def saving(costs: Sequence[Cost]) -> Estimate:
    """What files under the prior save, as a share of those at fixed width."""
    by_name = {cost.name: cost.utterances for cost in costs}
    both = zip(by_name["files, prior"], by_name["files, fixed"], strict=True)
    return Estimate.of(1 - ours / theirs for ours, theirs in both)


def intervals(prior: Prior, codes: np.ndarray, speaker: bytes) -> Intervals:
    """Where codes (quantizers, frames) lie among the frequencies of the integer prior, (frames, quantizers, 2)."""
    indices = unpack_indices(speaker, prior.alphabet.speaker) if speaker else None
    return prior.integers.intervals(codes.T, indices)


def interval_bits(intervals: Intervals) -> NDArray[np.float64]:
    """What the codes of intervals (frames, quantizers, 2) cost, (quantizers, frames)."""
    return math.log2(TOTAL) - np.log2(intervals[:, :, 1].T)


def integer_bits(prior: Prior, codes: Codes) -> NDArray[np.float64]:
    """What each code (quantizers, frames) costs under the integer prior, after all before it.

    Raises:
        ModelError: for codes of another codec.
    """
    prior.check(codes)
    return interval_bits(intervals(prior, codes.numpy(), codes.speaker))


def _of(source: Unigram | Bigram) -> Bits:
    return lambda codes: source.bits(codes.numpy())
