"""Errors of F0 and of voicing on tones whose pitch is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.evaluation.degraded import RATE, metric
from vqaudio.evaluation.metrics import pitch


def voice(frequency: float | np.ndarray, seconds: float = 1.0) -> np.ndarray:
    """A tone with eight harmonics, of one frequency or of one for every sample, in Hz."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(frequency, int(seconds * RATE))) / RATE
    return (0.1 * np.sum([np.sin(k * phase) / k for k in range(1, 9)], axis=0)).astype(np.float32)


def hiss(seconds: float = 1.0) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(int(seconds * RATE))
    return (0.05 * noise).astype(np.float32)


@pytest.mark.parametrize("cents", [-700, -100, 100, 300, 700])
def test_a_shifted_tone_is_off_by_its_interval(cents: int) -> None:
    one, other = voice(150.0), voice(150.0 * 2 ** (cents / 1200))
    assert metric("f0")(one, other, RATE) == pytest.approx(abs(cents), abs=15)
    assert metric("voicing")(one, other, RATE) == 0.0


def test_the_error_is_a_root_mean_square() -> None:
    """Half of the time right, half of the time 600 cents too high."""
    one = voice(150.0, 3.0)
    other = voice(np.where(np.arange(3 * RATE) < 1.5 * RATE, 150.0, 150.0 * 2**0.5), 3.0)
    assert metric("f0")(one, other, RATE) == pytest.approx(600 / math.sqrt(2), rel=0.03)


def test_the_error_follows_a_glide() -> None:
    glide = 120 * 2 ** (np.arange(2 * RATE) / (2 * RATE))
    assert metric("f0")(voice(glide, 2.0), voice(glide * 2 ** (2 / 12), 2.0), RATE) == pytest.approx(200, abs=20)


def test_pitch_does_not_care_for_level_or_phase() -> None:
    one = voice(180.0)
    assert metric("f0")(one, -0.1 * one, RATE) == pytest.approx(0.0, abs=1.0)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_voicing_error_is_the_share_of_frames_that_changed(share: float) -> None:
    one = voice(150.0, 4.0)
    start = int(len(one) * (1 - share))
    other = np.concatenate([one[:start], hiss(4.0)[start:]])
    assert metric("voicing")(one, other, RATE) == pytest.approx(100 * share, abs=2.5)
    assert metric("voicing")(other, one, RATE) == pytest.approx(100 * share, abs=2.5)
    assert metric("f0")(one, other, RATE) == pytest.approx(0.0, abs=5.0)


def test_f0_is_undefined_where_nothing_is_voiced_in_both() -> None:
    assert math.isnan(metric("f0")(voice(150.0), hiss(), RATE))
    assert math.isnan(metric("f0")(hiss(), hiss(), RATE))
    silence = np.zeros(RATE, np.float32)
    assert math.isnan(metric("f0")(silence, silence, RATE))
    assert metric("voicing")(silence, hiss(), RATE) == 0.0


@pytest.mark.parametrize("samples", [1, 100, 700])
def test_the_shortest_speech_is_taken(samples: int) -> None:
    waveform = voice(150.0)[:samples]
    assert metric("voicing")(waveform, waveform, RATE) == 0.0


def test_an_original_is_tracked_once_for_several_codecs_and_both_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    metric("f0")
    import librosa

    tracked, track = [], librosa.pyin

    def counting(waveform: np.ndarray, **options: Any) -> Any:
        tracked.append(waveform.copy())
        return track(waveform, **options)

    pitch._track.cache_clear()
    monkeypatch.setattr(librosa, "pyin", counting)
    original = voice(150.0, 0.3)
    for codec in range(6):
        decoded = voice(155.0 + codec, 0.3)
        assert metric("f0")(original, decoded, RATE) > 0
        assert metric("voicing")(original, decoded, RATE) >= 0
    assert len(tracked) == 7
    assert sum(np.array_equal(waveform, original) for waveform in tracked) == 1
