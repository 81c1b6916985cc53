"""Blocks of a long signal: every frame once, with all that the networks hear around it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import TINY
from vqaudio.models.config import EncoderConfig
from vqaudio.runtime import schedule
from vqaudio.runtime.schedule import blocks

HOP = 6
CONFIG = dataclasses.replace(
    TINY, encoder=EncoderConfig(strides=(2, 3), channels=(4, 4), dilations=(1, 3), latent_channels=4)
)


@pytest.fixture(scope="module")
def short_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "BLOCK_SECONDS", 12 / CONFIG.frame_rate)
        patch.setattr(schedule, "SHORTEST_BLOCK_SECONDS", 5 / CONFIG.frame_rate)
        yield


@given(st.lists(st.integers(0, 400), max_size=8), st.integers(1, 3))
def test_blocks_hold_every_frame_once_and_all_that_is_heard_around_it(short_blocks, sizes, threads):
    signal = 1 + np.arange(sum(sizes) + 1, dtype=np.float32)  # a sample tells its place
    before, after = CONFIG.encoder.reach
    done = 0
    for samples, first, stop in blocks(CONFIG, np.split(signal, np.cumsum(sizes)), threads):
        begin = done - first * HOP
        np.testing.assert_array_equal(samples, signal[begin : begin + len(samples)])
        end = done + (stop - first) * HOP
        assert begin <= max(0, done - before)
        assert begin + len(samples) >= min(len(signal), end + after)
        assert 0 < stop - first <= 12
        done = end
    assert done - HOP < len(signal) <= done
