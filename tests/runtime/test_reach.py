"""What is stated of how far the networks hear, beside what changes when one thing of what they hear changes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.conftest import TINY
from vqaudio.codec import load
from vqaudio.models.config import CodecConfig
from vqaudio.models.vqvae import VQVAE
from vqaudio.models.wavenet import WaveNet
from vqaudio.runtime.conditioning import Conditioning
from vqaudio.runtime.cpu import CpuNetworks
from vqaudio.runtime.filterbank import Bank
from vqaudio.runtime.reach import receptive_field

FRAMES = 80


def networks(config: CodecConfig) -> tuple[VQVAE, CpuNetworks]:
    """Networks whose weights all matter, those too that start at zero, in torch and exactly the same on the CPU."""
    torch.manual_seed(0)
    model = VQVAE(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        if not parameter.any():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    return model, CpuNetworks(config, model.arrays(), threads=1, paired=False)


def test_a_latent_depends_on_as_many_samples_as_stated() -> None:
    _, fast = networks(TINY)
    frame, hop, (before, after) = FRAMES // 2, TINY.hop, TINY.encoder.reach
    waveform = np.random.default_rng(0).normal(0, 0.1, FRAMES * hop).astype(np.float32)
    own = fast.encoder.push(fast.encoder.start(), waveform, True)[frame]
    first = frame * hop - before
    last = first + receptive_field(TINY, "encoder") - 1
    assert last == (frame + 1) * hop + after - 1
    for sample, heard in ((first - 1, False), (first, True), (last, True), (last + 1, False)):
        other = waveform.copy()
        other[sample] += 0.5
        latent = fast.encoder.push(fast.encoder.start(), other, True)[frame]
        assert np.array_equal(latent, own) != heard


@pytest.mark.parametrize("bands", [1, 4])
def test_a_sample_of_the_wavenet_depends_on_as_many_as_stated(bands: Literal[1, 4]) -> None:
    """It is made of some steps, each of which is drawn after some others, under conditioning from some frames."""
    assert TINY.wavenet is not None
    config = dataclasses.replace(TINY, wavenet=dataclasses.replace(TINY.wavenet, bands=bands))
    model, fast = networks(config)
    assert model.wavenet is not None and fast.wavenet is not None
    made, drawn, under = mixed(fast.wavenet.bank), following(model.wavenet), around(fast.conditioning)
    assert receptive_field(config, "wavenet") == bands * (span(made) + span(drawn)) + 1 + config.hop * span(under)


def mixed(bank: Bank) -> NDArray[np.int64]:
    """The steps whose samples one step of the sub-bands changes."""
    signal = np.zeros((bank.bands, FRAMES), np.float32)
    signal[:, FRAMES // 2] = 1
    return np.flatnonzero(bank.push(bank.start(), signal, True)) // bank.bands


def following(wavenet: WaveNet) -> NDArray[np.int64]:
    """The steps whose distribution one step changes."""
    signal = torch.zeros(1, wavenet.bands, wavenet.hop // wavenet.bands)
    conditioning, speaker = torch.ones(1, TINY.conditioning.channels, 1), torch.ones(1, TINY.speaker.width)
    other = signal.clone()
    other[:, :, 0] = 0.1
    one, two = (wavenet.predict(s, conditioning, speaker) for s in (signal, other))
    return np.flatnonzero((one != two)[0].flatten(0, 1).any(0))


def around(conditioning: Conditioning) -> NDArray[np.int64]:
    """The frames of conditioning that one frame of latents changes."""
    latents = np.random.default_rng(0).normal(size=(FRAMES, conditioning.input.channels)).astype(np.float32)
    other = latents.copy()
    other[FRAMES // 2] += 1
    speaker = np.ones(TINY.speaker.width, np.float32)
    one, two = (conditioning.push(conditioning.start(speaker), rows, True) for rows in (latents, other))
    return np.flatnonzero((one != two).any(1))


def span(places: NDArray[np.int64]) -> int:
    """From the first to the last one."""
    return int(places[-1] - places[0])


def test_a_code_changes_no_earlier_sample_than_stated(tiny_codec: Path) -> None:
    """What comes later may follow the phase of a voice, which is not counted."""
    codec = load(tiny_codec)
    hop = codec.config.hop
    codes = np.random.default_rng(0).integers(0, 32, (2, 200))
    other = codes.copy()
    other[:, 100] = (other[:, 100] + 1) % 32
    first, second = (np.concatenate(list(codec.networks.decode_spectral(c, None))) for c in (codes, other))
    reach = 100 * hop - np.flatnonzero(first != second)[0]
    side = (receptive_field(codec.config, "spectral") - hop) // 2
    assert side - 2 * hop < reach <= side
