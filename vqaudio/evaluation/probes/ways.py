"""Two ways through the same networks, of which one is faster and should be no worse: do their metrics differ?

The WaveNet decodes a file in pieces side by side, and is compared with one pass; all networks multiply bfloat16 where
that is faster, and are compared with float32.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from vqaudio import audio
from vqaudio.codec import Codec
from vqaudio.errors import UsageError
from vqaudio.evaluation.contenders import WARM_UP_SECONDS
from vqaudio.evaluation.estimates import Estimate
from vqaudio.evaluation.metrics import Metric
from vqaudio.runtime.cpu import CpuNetworks
from vqaudio.runtime.processor import PAIRED


class Coded(NamedTuple):
    """A waveform after coding: codes (quantizers, frames), the waveform (T,), and the seconds that it took."""

    codes: np.ndarray
    decoded: np.ndarray
    elapsed: float


@dataclass(frozen=True)
class Way:
    """One of the two, with a name for people; `code` takes a waveform (T,)."""

    name: str
    code: Callable[[np.ndarray], Coded]


@dataclass(frozen=True)
class Pair:
    """Means of a metric over the files, by the fast way, by the slow one, and of the paired difference of the two."""

    fast: Estimate
    slow: Estimate
    difference: Estimate


@dataclass(frozen=True)
class Comparison:
    """What the fast way costs and what it brings.

    Attributes:
        ways: the names of both, the fast one first.
        metrics: by name.
        files, seconds: how much was measured.
        codes_apart: share of the codes that are not the same.
        speeds: times real time, in one thread.
    """

    ways: tuple[str, str]
    metrics: dict[str, Pair]
    files: int
    seconds: float
    codes_apart: float
    speeds: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Everything as values for JSON."""
        return dataclasses.asdict(self)


def pieces_or_pass(codec: Codec) -> tuple[Way, Way]:
    """The WaveNet in pieces and in one pass, with the same random numbers; only decoding is timed.

    Raises:
        UsageError: for a model without a WaveNet.
    """
    if codec.config.wavenet is None:
        raise UsageError(f"The model {codec.config.name} has no WaveNet, whose pieces could be compared with one pass.")
    networks = CpuNetworks(codec.config, codec.state, threads=1)

    def code(waveform: np.ndarray, in_pieces: bool) -> Coded:
        codes, speaker = networks.encode([waveform], codec.config.quantizer.quantizers, True)
        started = time.perf_counter()
        decoded = np.concatenate(list(networks.decode_wavenet(codes, speaker, 0, 1.0, in_pieces)))
        return Coded(codes, decoded, time.perf_counter() - started)

    return Way("pieces", lambda w: code(w, True)), Way("one pass", lambda w: code(w, False))


def short_or_exact(codec: Codec, decoder: str | None = None) -> tuple[Way, Way]:
    """Everything in bfloat16 and in float32; encoding and decoding are timed.

    Args:
        decoder: of the codec; by default its own choice.

    Raises:
        UsageError: where the processor does not multiply bfloat16, or for another decoder.
    """
    if not PAIRED:
        raise UsageError("This processor does not multiply bfloat16, so that everything is float32 here.")
    decoder = decoder or codec.decoders[0]
    if decoder not in codec.decoders:
        raise UsageError(f"The model has no {decoder} decoder; it has: {', '.join(codec.decoders)}.")
    short, exact = (CpuNetworks(codec.config, codec.state, threads=1, paired=paired) for paired in (True, False))

    def code(networks: CpuNetworks, waveform: np.ndarray) -> Coded:
        started = time.perf_counter()
        codes, speaker = networks.encode([waveform], codec.config.quantizer.quantizers, True)
        if decoder == "wavenet":
            parts = networks.decode_wavenet(codes, speaker, 0, 1.0)
        else:
            parts = networks.decode_spectral(codes, speaker)
        return Coded(codes, np.concatenate(list(parts)), time.perf_counter() - started)

    return Way("bfloat16", lambda w: code(short, w)), Way("float32", lambda w: code(exact, w))


def compare(
    ways: tuple[Way, Way],
    waveforms: Iterable[np.ndarray],
    metrics: tuple[Metric, ...],
    sample_rate: int,
    *,
    advance: Callable[[], None] = lambda: None,
) -> Comparison:
    """Code speech both ways, and judge both against the original.

    Args:
        waveforms: (T,) float32 each, at `sample_rate` Hz, in [-1, 1]; at least one.
        advance: called after each of them.
    """
    values: dict[str, list[list[float]]] = {metric.name: [] for metric in metrics}
    weights: dict[str, list[float]] = {metric.name: [] for metric in metrics}
    seconds, times, apart = [], [], []
    for way in ways:
        way.code(np.zeros(round(WARM_UP_SECONDS * sample_rate), np.float32))
    for waveform in waveforms:
        fast, slow = (way.code(waveform) for way in ways)
        seconds.append(len(waveform) / sample_rate)
        times.append((fast.elapsed, slow.elapsed))
        apart.append(float((fast.codes != slow.codes).mean()))
        heard = [np.clip(coded.decoded[: len(waveform)], -1.0, 1.0) for coded in (fast, slow)]  # as a file holds it
        original, *judged = (audio.prepare(sound, sample_rate, audio.SAMPLE_RATE) for sound in (waveform, *heard))
        for metric in metrics:
            values[metric.name].append([metric(original, decoded, audio.SAMPLE_RATE) for decoded in judged])
            weights[metric.name].append(metric.weight(original, audio.SAMPLE_RATE))
        advance()
    total = sum(seconds)
    fast_time, slow_time = np.sum(times, axis=0)
    return Comparison(
        ways=(ways[0].name, ways[1].name),
        metrics={name: _pair(np.array(pairs), weights[name]) for name, pairs in values.items()},
        files=len(seconds),
        seconds=total,
        codes_apart=float(np.average(apart, weights=seconds)),
        speeds=(float(total / fast_time), float(total / slow_time)),
    )


def _pair(values: np.ndarray, weights: list[float]) -> Pair:
    """Of values (files, 2), and what each file weighs."""
    fast, slow = values.T
    return Pair(Estimate.of(fast, weights), Estimate.of(slow, weights), Estimate.of(fast - slow, weights))
