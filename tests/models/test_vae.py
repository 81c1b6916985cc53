"""The Gaussian bottleneck against torch.distributions, and the VAE beside the codec of the same configuration."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from tests.conftest import TINY
from vqaudio.models.autoencoder import PARTS
from vqaudio.models.vae import VAE, Gaussian, Posterior
from vqaudio.models.vqvae import VQVAE


def posterior(*shape: int) -> Posterior:
    torch.manual_seed(1)
    return Posterior(torch.randn(shape, requires_grad=True), torch.randn(shape, requires_grad=True))


def model() -> VAE:
    torch.manual_seed(0)
    return VAE(TINY).eval()


def waveform(frames: int = 20) -> torch.Tensor:
    return 0.1 * torch.randn(3, 1, frames * TINY.hop, generator=torch.Generator().manual_seed(2))


def test_kl_is_that_of_torch():
    p = posterior(2, 5, 7)
    expected = kl_divergence(Normal(p.mean, (p.log_variance / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(p.kl(), expected)


def test_kl_of_the_prior_itself_is_nothing():
    assert not Posterior(torch.zeros(1, 4, 3), torch.zeros(1, 4, 3)).kl().any()


def test_samples_have_the_posterior_s_moments():
    torch.manual_seed(0)
    p = Posterior(torch.full((1, 1, 200_000), 0.7), torch.full((1, 1, 200_000), math.log(0.25)))
    sample = p.sample()
    assert sample.mean().item() == pytest.approx(0.7, abs=0.01) and sample.std().item() == pytest.approx(0.5, abs=0.01)


def test_gradients_go_through_the_noise():
    """Of E[z^2] = mean^2 + variance they are 2 mean and, after the log of the variance, the variance."""
    mean = torch.tensor(0.7, requires_grad=True)
    log_variance = torch.tensor(math.log(0.25), requires_grad=True)
    torch.manual_seed(0)
    Posterior(mean.expand(1, 1, 400_000), log_variance.expand(1, 1, 400_000)).sample().square().mean().backward()
    assert mean.grad is not None and mean.grad.item() == pytest.approx(1.4, abs=0.02)
    assert log_variance.grad is not None and log_variance.grad.item() == pytest.approx(0.25, abs=0.02)


def test_the_bottleneck_is_in_float32_under_autocast():
    gaussian, latents = Gaussian(8, 4), torch.randn(2, 8, 5)
    with torch.autocast("cpu", torch.bfloat16):
        rough = gaussian.posterior(latents)
        assert gaussian.decode(rough.mean).dtype == torch.float32
    torch.testing.assert_close(rough.mean, gaussian.posterior(latents).mean, rtol=0, atol=0)


def test_the_bound_is_likelihood_and_kl_per_sample():
    vae = model()
    losses = vae(waveform(), wanted=("wavenet",)).losses
    with torch.no_grad():
        p = vae.bottleneck.posterior(vae.encoder(waveform()))
    nats = kl_divergence(Normal(p.mean, (p.log_variance / 2).exp()), Normal(0.0, 1.0)).sum() / waveform().numel()
    assert losses["kl"].item() == pytest.approx(nats.item(), rel=1e-5)
    assert losses["bound"].item() == pytest.approx((losses["wavenet"] + losses["kl"]).item(), rel=1e-6)


def test_the_bound_reaches_every_part():
    vae = model().train()
    losses = vae(waveform(), wanted=("wavenet",)).losses
    (losses["wavenet"] + losses["kl"]).backward()
    for name in ("encoder", "quantizer", "conditioning", "wavenet"):
        part = vae.part(name)
        assert part is not None and any(p.grad is not None and p.grad.any() for p in part.parameters()), name


def test_the_bypass_is_the_mean_without_noise_or_kl():
    vae = model()
    with torch.no_grad():
        first, second = (vae(waveform(), wanted=("wavenet",), quantize=False) for _ in range(2))
        mean = vae.bottleneck.posterior(vae.encoder(waveform())).mean
        noisy, again = (vae(waveform()).latents for _ in range(2))
    torch.testing.assert_close(first.latents, second.latents, rtol=0, atol=0)
    torch.testing.assert_close(first.latents, vae.bottleneck.decode(mean))
    assert not {"kl", "bound"} & set(first.losses)
    assert not torch.equal(noisy, again)


def test_all_but_the_bottleneck_is_the_codec_s():
    shapes = [
        {name: value.shape for name, value in kind(TINY).state_dict().items() if name.split(".")[0] != own}
        for kind, own in ((VAE, "bottleneck"), (VQVAE, "quantizer"))
    ]
    assert shapes[0] == shapes[1]
    assert all(model().part(name) is not None for name in PARTS)
