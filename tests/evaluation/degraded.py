"""Speech that gets worse in a known way, for the tests of metrics and of alignment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vqaudio
from vqaudio.evaluation import metrics

RATE = 16000
SAMPLE = Path(vqaudio.__file__).parent / "pretrained" / "sample.flac"  # speech by espeak-ng, always there


def noisy(waveform: np.ndarray, snr_db: float, seed: int = 0) -> np.ndarray:
    """The waveform with white noise at that signal-to-noise ratio."""
    noise = np.random.default_rng(seed).standard_normal(len(waveform))
    return (waveform + noise * waveform.std() * 10 ** (-snr_db / 20)).astype(np.float32)


def metric(name: str) -> metrics.Metric:
    """The metric of this name, or a skip where its package is missing."""
    kept, notes = metrics.usable(metrics.select([name]))
    if not kept:
        pytest.skip(notes[0])
    return kept[0]


def better(name: str, one: float, other: float) -> bool:
    """Whether `one` is the better value."""
    return one > other if metrics.METRICS[name].higher_is_better else one < other


def slaney_filters(bands: int, bins: int) -> np.ndarray:
    """Area-normalised triangles (bands, bins) on the Slaney mel scale: linear below 1 kHz, logarithmic above."""
    step = np.log(6.4) / 27
    top = 15 + np.log(RATE / 2 / 1000) / step
    mels = np.linspace(0, top, bands + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(step * (mels - 15)))
    frequencies = np.linspace(0, RATE / 2, bins)
    triangles = np.zeros((bands, bins))
    for band, (low, centre, high) in enumerate(zip(edges[:-2], edges[1:-1], edges[2:], strict=True)):
        rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
        triangles[band] = np.clip(np.minimum(rising, falling), 0, None) * 2 / (high - low)
    return triangles


def mel_decibels(waveform: np.ndarray) -> np.ndarray:
    """Log-mel spectrogram (80, frames) in dB by numpy alone: 512-sample Hann windows, hop 160, floor 1e-8."""
    padded = np.pad(waveform.astype(np.float64), 256)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    frames = [padded[start : start + 512] * window for start in range(0, len(padded) - 511, 160)]
    power = np.abs(np.fft.rfft(frames)) ** 2
    return 10 * np.log10(np.maximum(slaney_filters(80, 257) @ power.T, 1e-8))
