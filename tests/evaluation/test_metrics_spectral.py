"""Mel-cepstral distortion against the formula by hand, and against what it must be for known changes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.signal

from tests.evaluation.degraded import RATE, mel_decibels, metric


def white(seed: int, scale: float = 0.1, seconds: float = 0.5) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(int(seconds * RATE))
    return (scale * noise).astype(np.float32)


def cepstra(waveform: np.ndarray) -> np.ndarray:
    """(24, frames): the cepstra 1 to 24 of the natural logarithm of 80 mel powers, as a sum of cosines."""
    log_power = mel_decibels(waveform) * math.log(10) / 10
    cosines = np.cos(np.pi * np.outer(np.arange(1, 25), np.arange(80) + 0.5) / 80)
    return cosines @ log_power / 80


def test_distortion_is_the_formula_of_kubichek() -> None:
    one, other = white(1), scipy.signal.lfilter([1, -0.7], [1], white(2)).astype(np.float32)
    frames = 10 / math.log(10) * np.sqrt(2 * ((cepstra(one) - cepstra(other)) ** 2).sum(axis=0))
    assert metric("mcd")(one, other, RATE) == pytest.approx(frames.mean(), rel=1e-4)


def test_pauses_do_not_count() -> None:
    one, other = white(1), white(2)
    silence = np.zeros(2 * RATE, np.float32)
    hiss = white(3, 1e-3, 2.0)  # 40 dB and more below the speech that surrounds it
    alone = metric("mcd")(one, other, RATE)
    with_pause = metric("mcd")(np.concatenate([one, silence]), np.concatenate([other, hiss]), RATE)
    assert with_pause == pytest.approx(alone, rel=0.05)


def test_the_level_does_not_count() -> None:
    assert metric("mcd")(white(1), white(1) * np.float32(0.25), RATE) == pytest.approx(0.0, abs=1e-3)


def test_a_smooth_tilt_counts_with_its_decibels() -> None:
    """A filter's response, over the mel bands and without its mean, has the root mean square that is measured."""
    taps = np.array([1.0, -0.6])
    one = white(1, seconds=4.0)
    other = scipy.signal.lfilter(taps, [1], one).astype(np.float32)
    difference = (mel_decibels(other) - mel_decibels(one)).mean(axis=1)
    assert metric("mcd")(one, other, RATE) == pytest.approx(difference.std(), rel=0.05)


def test_distortion_is_the_same_either_way_where_all_is_speech() -> None:
    assert metric("mcd")(white(1), white(2), RATE) == pytest.approx(metric("mcd")(white(2), white(1), RATE), rel=0.02)


def test_a_silent_original_is_undefined() -> None:
    silence = np.zeros(RATE, np.float32)
    assert math.isnan(metric("mcd")(silence, white(1, seconds=1.0), RATE))
