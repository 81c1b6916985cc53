"""What is stated of how far the networks hear, beside what the torch modules say and what changes change."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vqaudio.codec import Codec, load
from vqaudio.runtime.cpu import CpuNetworks
from vqaudio.runtime.reach import receptive_field


def networks(path: Path) -> tuple[Codec, CpuNetworks]:
    codec = load(path)
    assert isinstance(codec.networks, CpuNetworks)
    return codec, codec.networks


def test_the_modules_say_the_same(tiny_codec: Path) -> None:
    """Of the WaveNet to a step, of four samples: its modules count through the filters of the analysis."""
    codec, fast = networks(tiny_codec)
    model = codec.model
    assert model.wavenet is not None
    assert receptive_field(fast, "encoder") == model.encoder.receptive_field
    heard = model.wavenet.receptive_field + 2 * model.conditioning.reach * codec.config.hop
    assert abs(receptive_field(fast, "wavenet") - heard) < 4


def test_a_code_changes_no_earlier_sample_than_stated(tiny_codec: Path) -> None:
    """What comes later may follow the phase of a voice, which is not counted."""
    codec, fast = networks(tiny_codec)
    hop = codec.config.hop
    codes = np.random.default_rng(0).integers(0, 32, (2, 200))
    other = codes.copy()
    other[:, 100] = (other[:, 100] + 1) % 32
    first, second = (np.concatenate(list(fast.decode_spectral(c, None))) for c in (codes, other))
    reach = 100 * hop - np.flatnonzero(first != second)[0]
    side = (receptive_field(fast, "spectral") - hop) // 2
    assert side - 2 * hop < reach <= side
