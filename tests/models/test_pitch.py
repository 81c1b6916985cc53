"""The pitch tracker: tones and noise, its path against brute force, and speech against librosa's pYIN."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from vqaudio.models.pitch import LARGEST_STEP, STEP_COST, SWITCH_COST, UNVOICED_COST, PitchTracker, best_path

RATE, HOP = 16000, 64


def voice(pitch: np.ndarray, noise: float = 0.01) -> torch.Tensor:
    """Ten fading harmonics of a pitch in Hz for each sample, in noise."""
    turns = np.cumsum(pitch) / RATE
    tone = sum(0.7**k * np.cos(2 * np.pi * k * turns) for k in range(1, 11))
    return torch.tensor(tone + noise * np.random.default_rng(0).standard_normal(len(pitch)), dtype=torch.float32)


@pytest.mark.parametrize(("first", "last"), [(70, 70), (110, 180), (240, 190), (420, 420), (150, 450)])
def test_gliding_tones_are_followed(first, last):
    pitch = np.geomspace(first, last, RATE)
    heard = PitchTracker(RATE, HOP)(voice(pitch)[None])[0].numpy()
    expected = pitch.reshape(-1, HOP).mean(1)
    assert len(heard) == len(expected)
    inner = slice(10, -10)  # windows at the ends hear silence
    assert (heard[inner] > 0).all()
    assert np.abs(1200 * np.log2(heard[inner] / expected[inner])).max() < 40


def test_noise_and_silence_are_not_voiced():
    tracker = PitchTracker(RATE, HOP)
    assert not tracker(torch.zeros(1, RATE)).any()
    assert (tracker(torch.randn(1, RATE, generator=torch.Generator().manual_seed(0))) > 0).float().mean() < 0.1


def test_level_and_company_do_not_matter():
    tracker = PitchTracker(RATE, HOP)
    tones = torch.stack([voice(np.full(RATE // 2, hertz)) for hertz in (90.0, 300.0)])
    together = tracker(tones)
    for tone, expected in zip(tones, together, strict=True):
        torch.testing.assert_close(tracker(0.01 * tone[None])[0], expected, rtol=1e-3, atol=0.0)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 1000))
def test_the_path_is_the_cheapest(frames, candidates, seed):
    voiced = torch.rand(1, frames, candidates, generator=torch.Generator().manual_seed(seed))

    def price(path: tuple[int, ...]) -> float:
        cost = sum(UNVOICED_COST if place < 0 else 1 - float(voiced[0, i, place]) for i, place in enumerate(path))
        for before, after in itertools.pairwise(path):
            if (before < 0) != (after < 0):
                cost += SWITCH_COST
            elif before >= 0:
                cost += STEP_COST * abs(after - before) if abs(after - before) <= LARGEST_STEP else np.inf
        return cost

    cheapest = min(price(path) for path in itertools.product(range(-1, candidates), repeat=frames))
    assert price(tuple(best_path(voiced)[0].tolist())) == pytest.approx(cheapest, abs=1e-5)


def test_speech_has_the_pitch_that_pyin_hears(speech):
    librosa, hop = pytest.importorskip("librosa"), 256
    voicing, octaves = [], []
    for path in sorted((speech / "eval" / "librispeech").rglob("*.flac"))[::33]:
        waveform, rate = soundfile.read(path, dtype="float32")
        waveform = waveform[: len(waveform) // hop * hop]
        ours = PitchTracker(rate, hop)(torch.from_numpy(waveform)[None])[0].numpy()
        theirs, spoken, _ = librosa.pyin(waveform, fmin=60, fmax=500, sr=rate, frame_length=1024, hop_length=hop)
        theirs, spoken = theirs[: len(ours)], spoken[: len(ours)]
        voicing.append(((ours > 0) != spoken).mean())
        both = (ours > 0) & spoken
        octaves.append(np.abs(np.log2(ours[both] / theirs[both])))
    errors = np.concatenate(octaves)
    assert np.mean(voicing) < 0.35  # pYIN finds voice in the noise of some rooms
    assert np.median(errors) < 0.02
    assert (errors > 0.25).mean() < 0.02


def test_other_rates_have_the_same_pitch():
    pitch = np.full(48000, 200.0)
    turns = np.cumsum(pitch) / 48000
    tone = torch.tensor(np.cos(2 * np.pi * turns) + np.cos(4 * np.pi * turns), dtype=torch.float32)
    heard = PitchTracker(48000, 480)(tone[None])[0, 5:-5]
    assert torch.allclose(heard, torch.tensor(200.0), rtol=0.01)
