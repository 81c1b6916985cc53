"""Voice conversion, measured: the codes of one speaker with the speaker vector of another, over pairs of speakers.

The judge of a voice is the encoder of Resemblyzer (Wan et al. 2018, arXiv 1710.10467). It never compares with a
recording that took part: the evidence of the target's voice is another utterance than the reference that the codec was
given, and that of the source's another than the one that is converted. Recordings of one speaker and decoded speech
without conversion stand beside, so that the figures have a floor and a ceiling.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vqaudio import audio
from vqaudio.codes import Codes
from vqaudio.errors import UsageError
from vqaudio.evaluation.contenders import fitted
from vqaudio.evaluation.estimates import Estimate
from vqaudio.evaluation.metrics import Metric
from vqaudio.evaluation.metrics.voice import cosine, voice_vector
from vqaudio.evaluation.pairs import Pair
from vqaudio.evaluation.registry import need
from vqaudio.evaluation.speech import naming
from vqaudio.evaluation.workers import gather

if TYPE_CHECKING:
    from vqaudio.codec import Codec

ORIGINAL, DECODED, CONVERTED, REFERENCE = "original", "decoded", "converted", "reference"
SPOKEN = (ORIGINAL, DECODED, CONVERTED)  # the same words


class Sounds(NamedTuple):
    """The waveforms (T,) of a pair, float32 in [-1, 1] at 16 kHz; the first three are of one length."""

    original: np.ndarray
    decoded: np.ndarray
    converted: np.ndarray
    reference: np.ndarray


@dataclass(frozen=True)
class Likeness:
    """Cosines between the voice of some speech and the evidence of the two speakers; NaN where undefined."""

    target: float
    source: float

    @property
    def nearer(self) -> float:
        """1 where the voice is nearer to the target than to the source, else 0; NaN where undefined."""
        undefined = math.isnan(self.target) or math.isnan(self.source)
        return math.nan if undefined else float(self.target > self.source)


@dataclass(frozen=True)
class Measured:
    """What was measured on a pair.

    Attributes:
        likeness: of the speech that is original, decoded, converted, and of the reference.
        values: of each metric by name, then of the speech that is original, decoded and converted.
        weights: of each metric by name, what the utterance weighs in a mean.
    """

    pair: Pair
    seconds: float
    likeness: dict[str, Likeness]
    values: dict[str, dict[str, float]]
    weights: dict[str, float]


@dataclass(frozen=True)
class Conversion:
    """The measurements of a codec's conversion.

    Attributes:
        metrics: that were measured on the same words in both voices.
        pairs: in the order of the pairs.
        skipped: (pair, sentence) of each that could not be measured.
    """

    metrics: tuple[Metric, ...]
    pairs: list[Measured] = field(default_factory=list)
    skipped: list[tuple[Pair, str]] = field(default_factory=list)

    def nearer(self, speech: str = CONVERTED) -> Estimate:
        """Share of pairs whose speech is nearer to the target's voice than to the source's."""
        return Estimate.of(m.likeness[speech].nearer for m in self.pairs)

    def likeness(self, speech: str, to: str) -> Estimate:
        """Mean cosine between the voice of this speech and that of the "target" or "source"."""
        return Estimate.of(self._likeness(speech, to))

    def change(self, to: str) -> Estimate:
        """What conversion adds to the likeness to "target" or "source", beside speech that is decoded as it was."""
        return Estimate.of(self._likeness(CONVERTED, to) - self._likeness(DECODED, to))

    def estimate(self, metric: str, speech: str) -> Estimate:
        """Mean of a metric over this speech."""
        return Estimate.of((m.values[metric][speech] for m in self.pairs), (m.weights[metric] for m in self.pairs))

    def difference(self, metric: str) -> Estimate:
        """What conversion adds to a metric, beside speech that is decoded as it was."""
        changes = (m.values[metric][CONVERTED] - m.values[metric][DECODED] for m in self.pairs)
        return Estimate.of(changes, (m.weights[metric] for m in self.pairs))

    def to_dict(self) -> dict[str, Any]:
        """Everything as values for JSON."""
        both = ("target", "source")
        return {
            "pairs": len(self.pairs),
            "seconds": sum(m.seconds for m in self.pairs),
            "nearer_to_target": {speech: vars(self.nearer(speech)) for speech in SPOKEN},
            "likeness": {
                speech: {to: vars(self.likeness(speech, to)) for to in both} for speech in (*SPOKEN, REFERENCE)
            },
            "likeness_change": {to: vars(self.change(to)) for to in both},
            "metrics": {metric.name: self._metric(metric) for metric in self.metrics},
            "measured": [_entry(m) for m in self.pairs],
            "skipped": [{**_paths(pair), "reason": reason} for pair, reason in self.skipped],
        }

    def _likeness(self, speech: str, to: str) -> np.ndarray:
        return np.array([getattr(m.likeness[speech], to) for m in self.pairs])

    def _metric(self, metric: Metric) -> dict[str, Any]:
        values = {speech: vars(self.estimate(metric.name, speech)) for speech in SPOKEN}
        change = vars(self.difference(metric.name))
        return {"unit": metric.unit, "higher_is_better": metric.higher_is_better, **values, "change": change}


def evaluate(
    load: Callable[[], Codec],
    chosen: Sequence[Pair],
    metrics: tuple[Metric, ...] = (),
    *,
    decoder: str | None = None,
    jobs: int = 1,
    advance: Callable[[], None] = lambda: None,
) -> Conversion:
    """Convert and measure.

    Args:
        load: gives the codec, once in each process, so it must be picklable.
        chosen: what `vqaudio.evaluation.pairs.pairs` gives.
        metrics: of these, those are measured that judge speech alone or compare its words.
        decoder: of the codec; by default its own choice.
        jobs: processes.
        advance: called after each pair.

    Raises:
        UsageError: for a codec that takes no voice from a recording, or that has no such decoder.
        AudioError: where not one pair could be measured.
    """
    bench = Bench(load, tuple(m for m in metrics if m.judges_decoded_alone or m.words is not None), decoder)
    return Conversion(bench.metrics, *gather(bench.measure, chosen, "pairs", jobs, advance))


def check(codec: Codec) -> None:
    """See, before any work, that voices can be converted and compared.

    Raises:
        UsageError: for a model that takes no voice from a recording, or where Resemblyzer is missing.
    """
    if codec.config.speaker.kind != "reference":
        raise UsageError(f"The model {codec.config.name} takes no voice from a recording, so that it converts none.")
    need("To compare voices", {"resemblyzer": "Resemblyzer"})


def sounds(codec: Codec, pair: Pair, decoder: str | None = None) -> Sounds:
    """Convert a pair, or convert it once more to listen to it.

    Raises:
        AudioError: for a file that cannot be read or coded; it is named.
    """
    rate = audio.SAMPLE_RATE
    original, reference = audio.read(pair.source.path, rate), audio.read(pair.reference.path, rate)
    with naming(pair.source):
        codes = codec.encode(original, rate)
    with naming(pair.reference):
        voice = codec.voice(reference, rate)

    def heard(spoken: Codes) -> np.ndarray:
        sound = audio.finite(np.asarray(codec.decode(spoken, decoder=decoder)), "What it decodes to")
        return np.clip(fitted(sound, spoken.sample_rate, len(original), rate), -1.0, 1.0)

    with naming(pair.source):
        return Sounds(original, heard(codes), heard(codes.with_speaker(voice)), reference)


class Bench:
    """A codec and what judges its conversion; one in each process.

    Args: as for `evaluate`.
    """

    def __init__(self, load: Callable[[], Codec], metrics: tuple[Metric, ...], decoder: str | None) -> None:
        self.load, self.metrics, self.decoder = load, metrics, decoder

    @functools.cached_property
    def codec(self) -> Codec:
        """The codec, loaded at first use, so that a bench crosses to another process without it."""
        return self.load()

    def measure(self, pair: Pair) -> Measured:
        """Convert and measure one pair.

        Raises:
            AudioError: for a file that cannot be read or coded.
        """
        heard, rate = sounds(self.codec, pair, self.decoder), audio.SAMPLE_RATE
        target, source = (
            voice_vector(audio.read(item.path, rate), rate) for item in (pair.target_evidence, pair.source_evidence)
        )
        spoken, text = {name: getattr(heard, name) for name in SPOKEN}, pair.source.text
        return Measured(
            pair=pair,
            seconds=len(heard.original) / rate,
            likeness={
                name: Likeness(cosine(voice, target), cosine(voice, source))
                for name, waveform in heard._asdict().items()
                for voice in (voice_vector(waveform, rate),)
            },
            values={
                m.name: {name: m(heard.original, waveform, rate, text=text) for name, waveform in spoken.items()}
                for m in self.metrics
            },
            weights={m.name: m.weight(heard.original, rate, text=text) for m in self.metrics},
        )


def _entry(measured: Measured) -> dict[str, Any]:
    return {
        **_paths(measured.pair),
        "text": measured.pair.source.text,
        "seconds": measured.seconds,
        "likeness": {speech: vars(likeness) for speech, likeness in measured.likeness.items()},
        "nearer_to_target": measured.likeness[CONVERTED].nearer,
        "metrics": measured.values,
    }


def _paths(pair: Pair) -> dict[str, str]:
    return {
        "source": str(pair.source.path),
        "source_speaker": pair.source.speaker,
        "reference": str(pair.reference.path),
        "target_speaker": pair.reference.speaker,
        "source_evidence": str(pair.source_evidence.path),
        "target_evidence": str(pair.target_evidence.path),
    }


def as_rows(conversion: Conversion) -> list[tuple[str, list[str]]]:
    """A table of it: for each kind of speech the likeness to target and to source, and every metric, as text."""
    found = []
    for speech in (*SPOKEN, REFERENCE):
        cells = [conversion.likeness(speech, to).text() for to in ("target", "source")]
        for metric in conversion.metrics:
            cells.append(conversion.estimate(metric.name, speech).text() if speech in SPOKEN else "")
        found.append((speech, cells))
    return found
