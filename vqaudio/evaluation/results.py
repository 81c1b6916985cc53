"""What an evaluation found: every utterance by every codec, means with intervals, paired differences, and JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vqaudio.evaluation.estimates import Estimate
from vqaudio.evaluation.metrics import Metric


@dataclass(frozen=True)
class Utterance:
    """What was measured on one file that went through one codec.

    Attributes:
        path: as it was given.
        seconds: of audio.
        size: bytes that the codec wrote, headers included.
        encode_seconds, decode_seconds: time that it took, in one thread; of a program, with its start.
        delay: samples by which the decoded speech came late, made good before it was judged.
        values: by metric; NaN where it is undefined.
        weights: by metric, what the value weighs in a mean.
        histogram: (quantizers, K), how often each code occurs, where the codec has codes.
    """

    path: str
    seconds: float
    size: int
    encode_seconds: float
    decode_seconds: float
    delay: int
    values: dict[str, float]
    weights: dict[str, float]
    histogram: np.ndarray | None = None


@dataclass(frozen=True)
class Result:
    """The measurements of one codec.

    Attributes:
        name: of the codec.
        identity: everything that its results depend on but the audio.
        utterances: one per file, in the order of the files.
    """

    name: str
    identity: str
    utterances: list[Utterance] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Of audio, in all."""
        return sum(u.seconds for u in self.utterances)

    @property
    def size(self) -> int:
        """Bytes of all that was written, headers included."""
        return sum(u.size for u in self.utterances)

    @property
    def bit_rate(self) -> float:
        """Bits per second, headers included."""
        return 8 * self.size / self.seconds

    @property
    def encode_speed(self) -> float:
        """Times real time, in one thread; NaN where it took no time."""
        return _ratio(self.seconds, sum(u.encode_seconds for u in self.utterances))

    @property
    def decode_speed(self) -> float:
        """Times real time, in one thread; NaN where it took no time."""
        return _ratio(self.seconds, sum(u.decode_seconds for u in self.utterances))

    @property
    def histogram(self) -> np.ndarray | None:
        """(quantizers, K), how often each code occurs in all files; None for a codec without codes."""
        counts = [u.histogram for u in self.utterances if u.histogram is not None]
        return np.sum(counts, axis=0) if counts else None

    @property
    def used_codes(self) -> list[int]:
        """Of each quantiser, how many of the K codes occur at all."""
        return [] if self.histogram is None else [int(n) for n in np.count_nonzero(self.histogram, axis=1)]

    @property
    def perplexities(self) -> list[float]:
        """Of each quantiser, the number of codes in effective use: exp of the entropy of their histogram."""
        return [] if self.histogram is None else [perplexity(counts) for counts in self.histogram]

    def estimate(self, name: str) -> Estimate:
        """Mean of a metric over the utterances."""
        return Estimate.of([u.values[name] for u in self.utterances], [u.weights[name] for u in self.utterances])

    def less(self, other: Result, name: str) -> Estimate:
        """Mean of the paired difference of a metric: this codec's value less the other's on the same file."""
        pairs = list(zip(self.utterances, other.utterances, strict=True))
        return Estimate.of(
            [ours.values[name] - theirs.values[name] for ours, theirs in pairs],
            [ours.weights[name] for ours, _ in pairs],
        )


@dataclass(frozen=True)
class Evaluation:
    """The measurements of several codecs on the same files.

    Attributes:
        metrics: that were measured.
        results: one per codec, the original first, then the codec that the others are compared with.
        skipped: (path, sentence) of each file that could not be measured, by any of them.
    """

    metrics: tuple[Metric, ...]
    results: list[Result]
    skipped: list[tuple[str, str]] = field(default_factory=list)

    @property
    def original(self) -> Result:
        """The originals, judged like a codec."""
        return self.results[0]

    @property
    def subject(self) -> Result:
        """The codec that this is about."""
        return self.results[1]

    @property
    def others(self) -> list[Result]:
        """The codecs that it is compared with."""
        return self.results[2:]

    def to_dict(self) -> dict[str, Any]:
        """Everything as values for JSON."""
        return {
            "files": len(self.original.utterances),
            "seconds": self.original.seconds,
            "metrics": {m.name: {"unit": m.unit, "higher_is_better": m.higher_is_better} for m in self.metrics},
            "codecs": [self._codec(result) for result in self.results],
            "skipped": [{"path": path, "reason": reason} for path, reason in self.skipped],
        }

    def _codec(self, result: Result) -> dict[str, Any]:
        return {
            "name": result.name,
            "identity": result.identity,
            "bytes": result.size,
            "bit_rate": result.bit_rate,
            "encode_speed": result.encode_speed,
            "decode_speed": result.decode_speed,
            "used_codes": result.used_codes,
            "perplexity": result.perplexities,
            "means": {m.name: vars(result.estimate(m.name)) for m in self.metrics},
            "more_than_subject": {m.name: vars(result.less(self.subject, m.name)) for m in self.metrics},
            "utterances": [
                {
                    "path": u.path,
                    "seconds": u.seconds,
                    "bytes": u.size,
                    "encode_seconds": u.encode_seconds,
                    "decode_seconds": u.decode_seconds,
                    "delay": u.delay,
                    "values": u.values,
                    "weights": u.weights,
                }
                for u in result.utterances
            ],
        }


def perplexity(histogram: np.ndarray) -> float:
    """exp of the entropy of a histogram (K,); 1 of an empty one."""
    from scipy.stats import entropy

    return float(np.exp(entropy(histogram))) if histogram.any() else 1.0


def times_real_time(speed: float) -> str:
    """A speed as tables show it: empty where it took no time."""
    return "" if math.isnan(speed) else f"{speed:.1f}"


def _ratio(over: float, under: float) -> float:
    return over / under if under > 0 else math.nan
