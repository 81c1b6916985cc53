"""Measure a codec on a directory of speech: real bit rate, use of the codes, speed, and the metrics of the registry.

Every file goes the way that a user's file goes, to the bytes of a `.codes` file and back. Files are spread over
processes, each with a codec of its own and one thread; means carry 95 % bootstrap intervals over utterances.
"""

from __future__ import annotations

import concurrent.futures
import functools
import math
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from vqaudio import audio
from vqaudio.codes import Codes
from vqaudio.container import Coder
from vqaudio.errors import AudioError, VqaudioError
from vqaudio.evaluation.estimates import Estimate
from vqaudio.evaluation.metrics import Metric

WARM_UP_SECONDS = 0.5  # coded and decoded before anything is timed


class SpeechCodec(Protocol):
    """What is measured: `vqaudio.Codec`, or anything that codes like it."""

    def encode(self, waveform: np.ndarray, sample_rate: int) -> Codes:
        """A waveform (T,) at `sample_rate` Hz to codes."""
        ...

    def decode(self, codes: Codes, *, decoder: str | None = None) -> np.ndarray | torch.Tensor:
        """Codes to a waveform (T,)."""
        ...


@dataclass(frozen=True)
class Utterance:
    """What was measured on one file.

    Attributes:
        path: as it was given.
        seconds: of audio.
        size: bytes of the `.codes` file, header included.
        encode_seconds, decode_seconds: time that it took, in one thread.
        histogram: (quantizers, K), how often each code occurs.
        values: by metric; NaN where it is undefined.
        original: of the metrics that judge the decoded speech alone, the original's values.
    """

    path: str
    seconds: float
    size: int
    encode_seconds: float
    decode_seconds: float
    histogram: np.ndarray
    values: dict[str, float]
    original: dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """The measurements of a codec.

    Attributes:
        metrics: that were measured.
        utterances: one per file, in the order of the files.
        skipped: (path, sentence) of each file that could not be measured.
    """

    metrics: tuple[Metric, ...]
    utterances: list[Utterance] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Of audio, in all."""
        return sum(u.seconds for u in self.utterances)

    @property
    def size(self) -> int:
        """Bytes of all `.codes` files, headers included."""
        return sum(u.size for u in self.utterances)

    @property
    def bit_rate(self) -> float:
        """Bits per second, headers included."""
        return 8 * self.size / self.seconds

    @property
    def encode_speed(self) -> float:
        """Times real time, in one thread."""
        return self.seconds / sum(u.encode_seconds for u in self.utterances)

    @property
    def decode_speed(self) -> float:
        """Times real time, in one thread."""
        return self.seconds / sum(u.decode_seconds for u in self.utterances)

    @property
    def histogram(self) -> np.ndarray:
        """(quantizers, K), how often each code occurs in all files."""
        return np.sum([u.histogram for u in self.utterances], axis=0)

    @property
    def used_codes(self) -> list[int]:
        """Of each quantiser, how many of the K codes occur at all."""
        return [int(n) for n in np.count_nonzero(self.histogram, axis=1)]

    @property
    def perplexities(self) -> list[float]:
        """Of each quantiser, the number of codes in effective use: exp of the entropy of their histogram."""
        return [perplexity(counts) for counts in self.histogram]

    def estimate(self, name: str) -> Estimate:
        """Mean of a metric over the decoded utterances."""
        return Estimate.of(u.values[name] for u in self.utterances)

    def original(self, name: str) -> Estimate:
        """Mean over the originals of a metric that judges the decoded speech alone."""
        return Estimate.of(u.original[name] for u in self.utterances)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values; NaN becomes None."""
        return {
            "files": len(self.utterances),
            "seconds": self.seconds,
            "bytes": self.size,
            "bit_rate": self.bit_rate,
            "codebook_size": self.histogram.shape[1],
            "used_codes": self.used_codes,
            "perplexity": self.perplexities,
            "encode_speed": self.encode_speed,
            "decode_speed": self.decode_speed,
            "metrics": {metric.name: self._metric(metric) for metric in self.metrics},
            "utterances": [
                {
                    "path": u.path,
                    "seconds": u.seconds,
                    "bytes": u.size,
                    "encode_seconds": u.encode_seconds,
                    "decode_seconds": u.decode_seconds,
                    "metrics": _plain(u.values),
                    "original": _plain(u.original),
                }
                for u in self.utterances
            ],
            "skipped": [{"path": path, "reason": reason} for path, reason in self.skipped],
        }

    def _metric(self, metric: Metric) -> dict[str, Any]:
        entry = _plain(vars(self.estimate(metric.name)))
        entry |= {"unit": metric.unit, "higher_is_better": metric.higher_is_better}
        if metric.judges_decoded_alone:
            entry["original"] = _plain(vars(self.original(metric.name)))
        return entry


def evaluate(
    load: Callable[[], SpeechCodec],
    files: Sequence[Path],
    metrics: tuple[Metric, ...],
    *,
    decoder: str | None = None,
    coder: Coder | None = None,
    jobs: int = 1,
    advance: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Code, decode and measure files.

    Args:
        load: gives the codec, once in each process, so it must be picklable.
        decoder: of the codec; by default its own choice.
        coder: writes the files under a prior; by default codes are of fixed width.
        jobs: processes.
        advance: called after each file.

    Raises:
        UsageError: where the codec has no such decoder.
        AudioError: where not one file could be measured.
    """
    result = Evaluation(metrics)
    bench = Bench(load, metrics, decoder, coder)
    for path, measured in zip(files, _measure_all(bench, files, jobs), strict=True):
        if isinstance(measured, Utterance):
            result.utterances.append(measured)
        else:
            result.skipped.append((str(path), measured))
        advance()
    if not result.utterances:
        raise AudioError(f"None of the {len(files)} files could be measured: {result.skipped[0][1]}")
    return result


def perplexity(histogram: np.ndarray) -> float:
    """exp of the entropy of a histogram (K,)."""
    shares = histogram[histogram > 0] / histogram.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


class Bench:
    """A codec and the metrics that judge it; one in each process.

    Args: as for `evaluate`.
    """

    def __init__(
        self, load: Callable[[], SpeechCodec], metrics: tuple[Metric, ...], decoder: str | None, coder: Coder | None
    ) -> None:
        self.load, self.metrics, self.decoder, self.coder = load, metrics, decoder, coder

    @functools.cached_property
    def codec(self) -> SpeechCodec:
        """The codec, loaded and warmed up at first use, so that a bench crosses to another process without it."""
        codec = self.load()
        quiet = np.zeros(int(WARM_UP_SECONDS * audio.SAMPLE_RATE), dtype=np.float32)
        self._there_and_back(codec, quiet)
        return codec

    def measure(self, path: Path) -> Utterance:
        """Code, decode and measure one file.

        Raises:
            AudioError: where it cannot be read or coded, or comes back with another length.
        """
        codec, rate = self.codec, audio.SAMPLE_RATE
        reference = audio.read(path, rate)
        data, codes, decoded, (started, encoded, finished) = self._there_and_back(codec, reference)
        if decoded.shape != reference.shape:
            raise AudioError(f"'{path}' has {len(reference)} samples but comes back with the shape {decoded.shape}.")
        decoded = np.clip(decoded, -1.0, 1.0)  # as a file would hold it
        return Utterance(
            path=str(path),
            seconds=len(reference) / rate,
            size=len(data),
            encode_seconds=encoded - started,
            decode_seconds=finished - encoded,
            histogram=np.stack([np.bincount(row, minlength=codes.codebook_size) for row in codes.numpy()]),
            values={m.name: m(reference, decoded, rate) for m in self.metrics},
            original={m.name: m(reference, reference, rate) for m in self.metrics if m.judges_decoded_alone},
        )

    def _there_and_back(
        self, codec: SpeechCodec, waveform: np.ndarray
    ) -> tuple[bytes, Codes, np.ndarray, tuple[float, float, float]]:
        """The file of a waveform (T,), its codes, the decoded waveform, and the times before, between and after."""
        started = time.perf_counter()
        data = codec.encode(waveform, audio.SAMPLE_RATE).to_bytes(self.coder)
        encoded = time.perf_counter()
        codes = Codes.from_bytes(data, coders=self._find)
        decoded = np.asarray(codec.decode(codes, decoder=self.decoder))
        return data, codes, decoded, (started, encoded, time.perf_counter())

    def _find(self, fingerprint: bytes) -> Coder:
        assert self.coder is not None  # the file was written by it
        return self.coder

    def attempt(self, path: Path) -> Utterance | str:
        """What `measure` gives, or the sentence that says why this file is left out."""
        try:
            return self.measure(path)
        except AudioError as error:
            return str(error)


def _measure_all(bench: Bench, files: Sequence[Path], jobs: int) -> Iterator[Utterance | str]:
    """The files' results in the order of the files; one thread per process, in this process where one will do."""
    jobs = min(jobs, len(files))
    if jobs == 1:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield from map(bench.attempt, files)
        finally:
            torch.set_num_threads(threads)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, context, _start_worker, (bench,)) as pool:
        try:
            yield from pool.map(_work, files)
        except BrokenProcessPool as error:
            raise VqaudioError("A process ended unexpectedly, perhaps for want of memory; try fewer --jobs.") from error


_bench: Bench


def _start_worker(bench: Bench) -> None:
    global _bench
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent alone answers Ctrl-C
    torch.set_num_threads(1)
    _bench = bench


def _work(path: Path) -> Utterance | str:
    return _bench.attempt(path)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values.items()}
