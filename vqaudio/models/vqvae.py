"""The whole model of a codec: an autoencoder whose bottleneck is a quantiser (paper, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vqaudio.models.autoencoder import Autoencoder
from vqaudio.models.constants import MOVING_AVERAGES
from vqaudio.models.quantizer import Quantized, ResidualQuantizer


class VQVAE(Autoencoder):
    """A codec's networks.

    Args:
        config: the architecture; `config.wavenet` and `config.spectral` are None where that decoder is left out.

    Raises:
        ModelError: for a configuration of which no networks can be built.
    """

    quantizer: ResidualQuantizer

    def add_bottleneck(self) -> nn.Module:
        self.quantizer = ResidualQuantizer(self.config.quantizer, self.config.encoder.latent_channels)
        return self.quantizer

    @property
    def uniform_kl(self) -> float:
        """KL divergence of the codes from the uniform prior, in nats per sample: log K for each code (section 3.2)."""
        quantizer = self.config.quantizer
        return quantizer.quantizers * math.log(quantizer.codebook_size) / self.config.hop

    def through_bottleneck(self, latents: Tensor) -> tuple[Tensor, Quantized | None, dict[str, Tensor]]:
        quantized = self.quantizer(latents)
        losses = {"commitment": quantized.commitment_loss, "codebook": quantized.codebook_loss}
        return quantized.latents, quantized, losses

    def bypass(self, latents: Tensor) -> Tensor:
        return self.quantizer.bypass(latents)

    def bound(self, nats: Tensor, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        kl = torch.full_like(nats, self.uniform_kl)
        return {"uniform_kl": kl, "bound": nats + kl}

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Take over the weights of a saved codec; the moving averages of its quantisers start anew.

        Raises:
            RuntimeError: for weights of another architecture.
        """
        self.load_state_dict({**self.moving_averages(), **state})
        for stage in self.quantizer.stages:
            stage.start_average()

    def moving_averages(self) -> dict[str, Tensor]:
        """What only further training needs of the quantisers, by name."""
        return {name: value for name, value in self.state_dict().items() if name.endswith(MOVING_AVERAGES)}
