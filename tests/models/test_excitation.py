"""Pulses against a sum of cosines, the same in torch and in the runtime, and the same however they are cut."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vqaudio.models.constants import TURN
from vqaudio.models.excitation import increments, phases, pulses
from vqaudio.runtime import spectral as runtime

RATE, HOP = 16000, 64

pitches = st.lists(st.one_of(st.just(0.0), st.floats(50, 600, width=32)), min_size=1, max_size=40)


def cosines(pitch: list[float]) -> np.ndarray:
    """The sum of all harmonics, one by one, of a phase that starts at 0 with every voiced stretch."""
    samples, turns = [], 0.0
    for hertz in pitch:
        if not hertz:
            samples += [0.0] * HOP
            turns = 0.0
            continue
        step = round(hertz * TURN / RATE) / TURN
        harmonics = np.arange(1, int((TURN // 2 - 1) // round(step * TURN)) + 1)
        samples += [np.cos(2 * np.pi * harmonics * (turns + i * step)).sum() for i in range(HOP)]
        turns += HOP * step
    return np.array(samples)


@settings(max_examples=30)
@given(pitches)
def test_pulses_are_sums_of_cosines(pitch):
    steps = increments(torch.tensor([pitch]), RATE)
    sound = pulses(steps, phases(steps, HOP), HOP)[0].numpy()
    np.testing.assert_allclose(sound, cosines(pitch), atol=1e-3)


@settings(max_examples=30)
@given(pitches, st.integers(0, TURN - 1))
def test_the_runtime_makes_the_same_pulses(pitch, start):
    steps = increments(torch.tensor([pitch]), RATE)
    begins = phases(steps, HOP, start)
    own = runtime.phases(steps[0].numpy(), HOP, start)
    voiced = steps[0].numpy() > 0
    np.testing.assert_array_equal(own[:-1][voiced], begins[0].numpy()[voiced])
    sound = runtime.pulses(steps[0].numpy(), own, HOP)
    np.testing.assert_allclose(sound, pulses(steps, begins, HOP)[0].numpy(), atol=1e-4)


@given(pitches, st.data())
def test_pulses_go_on_after_a_cut(pitch, data):
    cut = data.draw(st.integers(0, len(pitch)))
    steps = increments(torch.tensor([pitch]), RATE)[0].numpy()
    whole = runtime.phases(steps, HOP, 0)
    before = runtime.phases(steps[:cut], HOP, 0)
    after = runtime.phases(steps[cut:], HOP, int(before[-1]))
    np.testing.assert_array_equal(np.concatenate([before[:-1], after]), whole)
