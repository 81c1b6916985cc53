"""Discriminators: they learn to tell noise from tones, and their losses have the right sign."""

import pytest
import torch

from vqaudio.models.discriminators import (
    COMPRESSION,
    FFT_SIZES,
    BandDiscriminator,
    Discriminators,
    SpectrogramDiscriminator,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
)


def test_they_learn_to_tell_two_kinds_of_sound_apart():
    torch.manual_seed(0)
    networks = Discriminators()
    optimizer = torch.optim.Adam(networks.parameters(), 1e-3)
    time = torch.arange(2048) / 16000
    real = 0.1 * torch.sin(2 * torch.pi * 440 * time).expand(2, 1, -1)
    decoded = 0.1 * torch.randn(2, 1, 2048)
    before = None
    for _ in range(16):
        loss = discriminator_loss(networks(real), networks(decoded))
        before = before or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.8 * before
    assert adversarial_loss(networks(real)) < adversarial_loss(networks(decoded))


def test_features_of_the_same_sound_are_alike():
    networks = Discriminators()
    real, other = 0.1 * torch.randn(1, 1, 2048), 0.1 * torch.randn(1, 1, 2048)
    assert feature_loss(networks(real), networks(real)) == 0
    assert feature_loss(networks(real), networks(other)) > 0.1


def test_every_resolution_and_the_lowest_band_are_judged():
    judgements = Discriminators()(0.1 * torch.randn(1, 1, 2048))
    assert len({score.shape for score, _ in judgements}) == len(judgements) == len(FFT_SIZES) + 1


@pytest.mark.parametrize("samples", [1, 480, 2047, 2050])
def test_waveforms_of_any_length_are_judged(samples):
    sound = (0.1 * torch.randn(2, 1, samples)).requires_grad_(True)
    judgements = Discriminators()(sound)
    adversarial_loss(judgements).backward()
    assert sound.grad is not None and sound.grad.isfinite().all() and sound.grad.any()


def test_levels_are_compressed():
    judge, heard = SpectrogramDiscriminator(512), []
    judge.layers[0].register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    sound = torch.randn(1, 1, 4096)
    judge(sound), judge(10 * sound)
    assert float(heard[1].norm() / heard[0].norm()) == pytest.approx(10**COMPRESSION, rel=1e-3)


def test_the_lowest_band_is_judged_without_the_others():
    judge = BandDiscriminator()
    time = torch.arange(4096) / 16000
    low, high = (0.1 * torch.sin(2 * torch.pi * frequency * time)[None, None] for frequency in (300, 5000))
    difference = {name: feature_difference(judge, low, low + extra) for name, extra in (("high", high), ("low", low))}
    assert difference["high"] < 1e-3 * difference["low"]


def feature_difference(judge: BandDiscriminator, one: torch.Tensor, other: torch.Tensor) -> float:
    """Between the last features of two sounds, away from the ends, where a sound begins with a click."""
    return float((judge(one)[1][-1] - judge(other)[1][-1])[..., 60:-60].abs().mean().detach())
