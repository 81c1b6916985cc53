"""The continuous counterpart of a codec: the same networks around a Gaussian bottleneck (Kingma and Welling 2014, arXiv
1312.6114), with which the paper compares its codes (van den Oord et al. 2017, section 4.1). It has no codes and encodes
nothing; it is there to show whether a WaveNet listens to continuous latents.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vqaudio.models.autoencoder import Autoencoder
from vqaudio.models.quantizer import Quantized


@dataclass(frozen=True)
class Posterior:
    """A diagonal Gaussian at every frame: `mean` and `log_variance`, each (B, d, frames)."""

    mean: Tensor
    log_variance: Tensor

    def sample(self) -> Tensor:
        """A value (B, d, frames) of it, with the gradient of the reparameterised noise."""
        return self.mean + (0.5 * self.log_variance).exp() * torch.randn_like(self.mean)

    def kl(self) -> Tensor:
        """KL divergence from N(0, I) of every dimension, (B, d, frames), in nats."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance)


class Gaussian(nn.Module):
    """A bottleneck of independent Gaussians: latents (B, D, frames) to a posterior and back.

    Args:
        channels: D of the latents.
        dims: d, of the Gaussian at every frame.
    """

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        self.project_in = nn.Conv1d(channels, 2 * dims, 1)
        self.project_out = nn.Conv1d(dims, channels, 1)

    def posterior(self, latents: Tensor) -> Posterior:
        """The posterior that the encoder's latents (B, D, frames) stand for, in float32 also under autocast."""
        with torch.autocast(latents.device.type, enabled=False):
            return Posterior(*self.project_in(latents.float()).chunk(2, dim=1))

    def decode(self, values: Tensor) -> Tensor:
        """Values (B, d, frames) to latents (B, D, frames)."""
        with torch.autocast(values.device.type, enabled=False):
            return self.project_out(values)


class VAE(Autoencoder):
    """A variational autoencoder for waveforms: a codec's networks, with a Gaussian of `code_dim` dimensions at every
    frame in place of the codes. What else the configuration says of the quantiser does not concern it.

    Its latents are sampled in training and in evaluation: the bound is an expectation over the posterior.
    """

    bottleneck: Gaussian

    def add_bottleneck(self) -> nn.Module:
        self.bottleneck = Gaussian(self.config.encoder.latent_channels, self.config.quantizer.code_dim)
        return self.bottleneck

    def through_bottleneck(self, latents: Tensor) -> tuple[Tensor, Quantized | None, dict[str, Tensor]]:
        posterior = self.bottleneck.posterior(latents)
        kl = posterior.kl().sum(1).mean() / self.config.hop
        return self.bottleneck.decode(posterior.sample()), None, {"kl": kl}

    def bypass(self, latents: Tensor) -> Tensor:
        return self.bottleneck.decode(self.bottleneck.posterior(latents).mean)

    def bound(self, nats: Tensor, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"bound": nats + losses["kl"].detach()} if "kl" in losses else {}

    def part(self, name: str) -> nn.Module | None:
        """One of `PARTS`, in which the bottleneck has the quantiser's name."""
        return self.bottleneck if name == "quantizer" else super().part(name)
