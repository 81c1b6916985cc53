"""The conditioning network: its reach, its speaker, its jitter."""

import torch

from vqaudio.models.conditioning import Conditioning, time_jitter
from vqaudio.models.config import ConditioningConfig


def test_reach_measured_equals_stated():
    torch.manual_seed(0)
    config = ConditioningConfig(channels=6, layers=3)
    network = Conditioning(config, 4, 0).double().eval()
    latents = torch.randn(1, 4, 41, dtype=torch.float64, requires_grad=True)
    network(latents, None)[0, :, 20].sum().backward()
    heard = latents.grad[0].abs().sum(0).nonzero()[:, 0]
    assert (heard[0], heard[-1]) == (20 - config.reach, 20 + config.reach)


def test_the_speaker_changes_the_conditioning():
    network = Conditioning(ConditioningConfig(channels=6), 4, 3)
    latents = torch.randn(1, 4, 8)
    assert not torch.allclose(network(latents, torch.zeros(1, 3)), network(latents, torch.ones(1, 3)))


def test_jitter_takes_neighbours_only_and_as_often_as_asked():
    torch.manual_seed(0)
    frames = 1 + torch.arange(10000.0)[None, None]
    moved = time_jitter(frames, 0.2) - frames
    assert set(moved[0, 0].tolist()) == {-1.0, 0.0, 1.0}
    assert abs((moved != 0).float().mean() - 0.2) < 0.02


def test_jitter_is_for_training():
    network = Conditioning(ConditioningConfig(channels=6, jitter=1.0), 4, 0).eval()
    latents = torch.randn(1, 4, 8)
    still = network(latents, None)
    assert torch.equal(network(latents, None), still)
    assert not torch.allclose(network.train()(latents, None), still)
