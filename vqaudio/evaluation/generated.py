"""How good speech drawn from a prior is: how like real codes its codes are, and how it sounds.

The held-out utterances are dealt into two halves in turn. Everything is compared with the first; real speech of the
second, in as many pieces as there are samples, goes the same way, and says how far one may come with so few codes.
Where it does not suffice, of the samples only as many codes are compared. All of them have the voices of that half.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon

from vqaudio import audio
from vqaudio.codec import Codec
from vqaudio.codes import Codes
from vqaudio.evaluation.counted import Bigram, Counted, Unigram, pairs
from vqaudio.evaluation.estimates import Estimate
from vqaudio.evaluation.metrics import Metric
from vqaudio.models.random import uniforms
from vqaudio.prior import Prior

REAL = "real"
WINDOW_SECONDS = 0.02  # of sound that is silent or not
SILENCE = -40.0  # dB from the loudest such window


@dataclass(frozen=True)
class Plan:
    """What is drawn.

    Attributes:
        samples: how many from each prior.
        seconds: of each.
        seed: of all of them.
        temperature: of the learned prior.
    """

    samples: int
    seconds: float
    seed: int
    temperature: float


@dataclass(frozen=True)
class Generated:
    """What the samples of one prior are like; of several quantisers, on average.

    Attributes:
        name: of the prior, or `REAL`.
        samples, seconds: how much there is.
        unigram: Jensen-Shannon divergence in bits, 0 to 1, between its codes and real ones.
        bigram: the same between its pairs of successive codes and real ones.
        run: frames for which a code stays the same, on average.
        silence: share of the windows of 20 ms that are 40 dB or more below the loudest of the sample, once decoded.
        metrics: of the decoded samples, by name.
    """

    name: str
    samples: int
    seconds: float
    unigram: float
    bigram: float
    run: Estimate
    silence: Estimate
    metrics: dict[str, Estimate]


def compare(
    speech: Sequence[Codes],
    counted: Counted,
    prior: Prior,
    codec: Codec,
    plan: Plan,
    metrics: Sequence[Metric],
    advance: Callable[[], None] = lambda: None,
) -> Iterator[Generated]:
    """Draw from every prior, and judge it; real speech comes first.

    Args:
        speech: held-out utterances, two or more.
        metrics: such as judge the decoded speech alone.
        advance: called for every sample.

    Raises:
        UsageError: where what the plan asks for is out of range.
    """
    reference, rest = speech[0::2], speech[1::2]
    voices = [rest[i % len(rest)] for i in range(plan.samples)]
    real = excerpts(rest, plan.samples, plan.seconds)
    pieces = [excerpt.codes for excerpt in real]
    yield judge(REAL, pieces, (excerpt.sound(codec) for excerpt in real), reference, metrics, advance=advance)
    compared = -(-sum(codes.frames for codes in pieces) // plan.samples)
    samples = {name: partial(draw, source, plan) for name, source in counted._asdict().items()}
    for name, sample in (samples | {"learned": partial(draw_learned, prior, plan)}).items():
        drawn = [sample(stream, voice) for stream, voice in enumerate(voices)]
        yield judge(
            name, drawn, (np.asarray(codec.decode(codes)) for codes in drawn), reference, metrics, compared, advance
        )


def draw(source: Unigram | Bigram, plan: Plan, stream: int, voice: Codes) -> Codes:
    """A sample of a counted prior, in somebody's voice."""
    samples = round(plan.seconds * voice.sample_rate)
    frames = -(-samples // voice.hop)
    drawn = source.draw(uniforms(plan.seed, 0, frames, voice.quantizers, (stream,))[0])
    return dataclasses.replace(voice, codes=drawn, samples=samples)


def draw_learned(prior: Prior, plan: Plan, stream: int, voice: Codes) -> Codes:
    """A sample of a learned prior, in somebody's voice."""
    return prior.sample(
        plan.seconds, temperature=plan.temperature, seed=plan.seed, stream=stream, speaker=voice.speaker
    )


@dataclass(frozen=True)
class Excerpt:
    """A piece of an utterance.

    Attributes:
        codes: of the piece.
        whole: those of the utterance.
        start: of the piece, in samples.
    """

    codes: Codes
    whole: Codes
    start: int

    @classmethod
    def of(cls, whole: Codes, start: float, end: float) -> Excerpt:
        """From where to where, in seconds."""
        return cls(whole.slice(start, end), whole, round(start * whole.sample_rate) // whole.hop * whole.hop)

    def sound(self, codec: Codec) -> np.ndarray:
        """The piece (T,) as it sounds within the utterance: by themselves predictive codes begin in another way."""
        return np.asarray(codec.decode(self.whole))[self.start : self.start + self.codes.samples]


def excerpts(speech: Sequence[Codes], count: int, seconds: float) -> list[Excerpt]:
    """At most `count` pieces of this length, first one of each utterance, then the next of each.

    What is left of an utterance lies half before and half behind its pieces; one that is shorter is a piece as a whole.
    """
    pieces = []
    for codes in speech:
        whole = int(codes.seconds // seconds)
        start = (codes.seconds - whole * seconds) / 2
        spans = [Excerpt.of(codes, start + k * seconds, start + (k + 1) * seconds) for k in range(whole)]
        pieces.append(spans or [Excerpt(codes, codes, 0)])
    turns = itertools.zip_longest(*pieces)
    return [piece for turn in turns for piece in turn if piece is not None][:count]


def judge(
    name: str,
    samples: Sequence[Codes],
    sounds: Iterable[np.ndarray],
    reference: Sequence[Codes],
    metrics: Sequence[Metric],
    compared: int | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Generated:
    """Compare samples with the codes of real speech, and judge how they sound.

    Args:
        sounds: the samples decoded, (T,) each.
        compared: how many frames of each sample count in the divergences; by default all.
    """
    ours, real = [codes.numpy()[:, :compared] for codes in samples], [codes.numpy() for codes in reference]
    size, quantizers = samples[0].codebook_size, range(samples[0].quantizers)
    alone = [divergence(np.concatenate(ours, 1)[q], np.concatenate(real, 1)[q]) for q in quantizers]
    successive = [divergence(pairs(ours, q, size), pairs(real, q, size)) for q in quantizers]
    silences, values = [], []
    for codes, sound in zip(samples, sounds, strict=True):
        decoded = np.clip(sound, -1.0, 1.0)  # as a file would hold it
        silences.append(silence(decoded, codes.sample_rate))
        heard = audio.prepare(decoded, codes.sample_rate, audio.SAMPLE_RATE)  # the rate of the metrics
        values.append([metric(heard, heard, audio.SAMPLE_RATE) for metric in metrics])
        advance()
    return Generated(
        name=name,
        samples=len(samples),
        seconds=sum(codes.seconds for codes in samples),
        unigram=float(np.mean(alone)),
        bigram=float(np.mean(successive)),
        run=Estimate.of(run_length(codes.numpy()) for codes in samples),
        silence=Estimate.of(silences),
        metrics={metric.name: Estimate.of(row[i] for row in values) for i, metric in enumerate(metrics)},
    )


def divergence(ours: NDArray[np.integer], theirs: NDArray[np.integer]) -> float:
    """The Jensen-Shannon divergence in bits (Lin 1991) of two samples of symbols (n,) and (m,): 0 where all symbols are
    as frequent in both, 1 where they share none; NaN without symbols. Of few it is too large."""
    if not (len(ours) and len(theirs)):
        return math.nan
    both = np.concatenate([ours, theirs])
    _, places = np.unique(both, return_inverse=True)
    p, q = (np.bincount(part, minlength=places.max() + 1) / len(part) for part in np.split(places, [len(ours)]))
    return float(jensenshannon(p, q, base=2) ** 2)


def run_length(codes: np.ndarray) -> float:
    """Frames for which codes (quantizers, frames) stay the same, the mean over quantisers."""
    runs = 1 + np.count_nonzero(np.diff(codes.astype(np.int64), axis=1), axis=1)
    return float((codes.shape[1] / runs).mean())


def silence(waveform: np.ndarray, sample_rate: int) -> float:
    """The share of the whole windows of 20 ms of a waveform (T,) whose power is 40 dB or more below that of the
    loudest; all of digital silence. NaN for less than a window."""
    window = round(WINDOW_SECONDS * sample_rate)
    windows = waveform[: len(waveform) // window * window].reshape(-1, window)
    if not len(windows):
        return math.nan
    power = np.square(windows, dtype=np.float64).mean(1)
    return float((power <= power.max() * 10 ** (SILENCE / 10)).mean())
