"""Can the seams be heard? The WaveNet decoding a file in pieces side by side, which is its default because it is
several times faster, beside the same WaveNet sampling the file in one pass."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vqaudio.codec import Codec
from vqaudio.errors import UsageError
from vqaudio.evaluation.evaluate import WARM_UP_SECONDS, Estimate
from vqaudio.evaluation.metrics import Metric
from vqaudio.runtime.cpu import CpuNetworks


@dataclass(frozen=True)
class Pair:
    """Means of a metric over the files, in pieces and in one pass, and of the paired difference, pieces less pass."""

    pieces: Estimate
    one_pass: Estimate
    difference: Estimate


@dataclass(frozen=True)
class Seams:
    """What the pieces cost and what they bring.

    Attributes:
        metrics: by name.
        files, seconds: how much was measured.
        pieces_speed, one_pass_speed: times real time, in one thread.
    """

    metrics: dict[str, Pair]
    files: int
    seconds: float
    pieces_speed: float
    one_pass_speed: float

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values; NaN becomes None."""
        return _plain(dataclasses.asdict(self))


def seams(
    codec: Codec,
    waveforms: Iterable[np.ndarray],
    metrics: tuple[Metric, ...],
    *,
    advance: Callable[[], None] = lambda: None,
) -> Seams:
    """Decode speech both ways with the same random numbers, and judge both against the original.

    Args:
        waveforms: (T,) float32 each, at the codec's rate, in [-1, 1]; at least one.
        advance: called after each of them.

    Raises:
        UsageError: for a model without a WaveNet.
    """
    if codec.config.wavenet is None:
        raise UsageError(f"The model {codec.config.name} has no WaveNet, whose pieces could be compared with one pass.")
    rate, networks = codec.config.sample_rate, CpuNetworks(codec.config, codec.state, threads=1)
    values: dict[str, list[tuple[float, float]]] = {metric.name: [] for metric in metrics}
    seconds, times = [], []
    quiet = np.zeros(round(WARM_UP_SECONDS * rate), np.float32)
    for in_pieces in (True, False):
        _coded(networks, quiet, in_pieces)
    for waveform in waveforms:
        (pieces, pieces_time), (one_pass, pass_time) = (_coded(networks, waveform, way) for way in (True, False))
        seconds.append(len(waveform) / rate)
        times.append((pieces_time, pass_time))
        for metric in metrics:
            values[metric.name].append((metric(waveform, pieces, rate), metric(waveform, one_pass, rate)))
        advance()
    total = sum(seconds)
    pieces_time, pass_time = np.sum(times, axis=0)
    return Seams(
        metrics={name: _pair(np.array(pairs)) for name, pairs in values.items()},
        files=len(seconds),
        seconds=total,
        pieces_speed=float(total / pieces_time),
        one_pass_speed=float(total / pass_time),
    )


def _coded(networks: CpuNetworks, waveform: np.ndarray, in_pieces: bool) -> tuple[np.ndarray, float]:
    """A waveform (T,) after coding, as a file would hold it, and the seconds that its decoding took."""
    codes, speaker = networks.encode([waveform], networks.config.quantizer.quantizers, True)
    started = time.perf_counter()
    decoded = np.concatenate(list(networks.decode_wavenet(codes, speaker, 0, 1.0, in_pieces)))
    return np.clip(decoded[: len(waveform)], -1.0, 1.0), time.perf_counter() - started


def _pair(values: np.ndarray) -> Pair:
    """Of values (files, 2)."""
    pieces, one_pass = values.T
    return Pair(Estimate.of(pieces), Estimate.of(one_pass), Estimate.of(pieces - one_pass))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value
