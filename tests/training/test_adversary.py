"""Discriminators beside a decoder: what each side learns from, and that a resumed run goes on where it was."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vqaudio.models.discriminators import adversarial_loss, discriminator_loss, feature_loss
from vqaudio.training.adversary import Adversary
from vqaudio.training.recipe import OptimizerConfig

CONFIG = OptimizerConfig(accumulate=2, clip_norm=0.5)


def sounds(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Something decoded and its original, (1, 1, T)."""
    generator = torch.Generator().manual_seed(seed)
    decoded, waveform = 0.1 * torch.randn(2, 1, 1, 2048, generator=generator)
    return decoded, waveform


def adversary(config: OptimizerConfig = CONFIG) -> Adversary:
    torch.manual_seed(0)
    return Adversary(config, torch.device("cpu"))


def test_the_decoder_learns_from_what_the_discriminators_say_and_they_do_not() -> None:
    own, (decoded, waveform) = adversary(), sounds()
    losses = own.judge(decoded.requires_grad_(True), waveform)
    real, fake = own.networks(waveform), own.networks(decoded)
    torch.testing.assert_close(losses["adversarial"], adversarial_loss(fake))
    torch.testing.assert_close(losses["feature"], feature_loss(real, fake))
    for loss in losses.values():
        decoded.grad = None
        loss.backward(retain_graph=True)
        assert decoded.grad is not None and decoded.grad.any()
    assert own.clip() == []


def test_micro_batches_share_a_step_in_equal_parts() -> None:
    own, other = adversary(), adversary()
    told = [float(own.learn(*sounds(seed))) for seed in (0, 1)]
    losses = [
        discriminator_loss(other.networks(waveform), other.networks(decoded))
        for decoded, waveform in map(sounds, (0, 1))
    ]
    assert told == pytest.approx([float(loss.detach()) for loss in losses])
    torch.stack(losses).mean().backward()
    for one, two in zip(own.networks.parameters(), other.networks.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)


def test_a_step_is_of_its_own_gradients_which_are_bounded() -> None:
    own = adversary(OptimizerConfig(clip_norm=1e-3))
    parameters = list(own.networks.parameters())
    for seed in (0, 1):
        assert all(parameter.grad is None for parameter in parameters)
        own.learn(*sounds(seed))
        before = torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None]).norm()
        (norm,) = own.clip()
        assert float(norm) == pytest.approx(float(before), rel=1e-4)
        after = torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None]).norm()
        assert float(before) > 1e-3 and float(after) == pytest.approx(1e-3, rel=1e-3)
        own.step(1e-3, torch.tensor(0.0))


def test_it_learns_to_tell_them_apart() -> None:
    own, (decoded, waveform) = adversary(OptimizerConfig()), sounds()
    told = []
    for _ in range(4):
        told.append(float(own.learn(decoded, waveform)))
        own.clip()
        own.step(1e-3, torch.tensor(0.0))
    assert told[-1] < told[0]


def test_it_goes_on_where_it_was() -> None:
    whole, first, second = adversary(), adversary(), adversary()
    for own, seeds in ((whole, (0, 1)), (first, (0,))):
        for seed in seeds:
            own.learn(*sounds(seed))
            own.step(1e-3, torch.tensor(0.0))
    second.restore({name: tensor.clone() for name, tensor in first.tensors().items()})
    second.learn(*sounds(1))
    second.step(1e-3, torch.tensor(0.0))
    for name, tensor in whole.tensors().items():
        assert torch.equal(second.tensors()[name], tensor), name
