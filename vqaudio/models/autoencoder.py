"""What all models have around their bottleneck: encoder, speaker, conditioning, decoders, and the losses by name
(paper, section 3.2).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np
import torch
from torch import Tensor, nn

from vqaudio.errors import ModelError
from vqaudio.models.conditioning import Conditioning
from vqaudio.models.config import CodecConfig, Part, check
from vqaudio.models.encoder import Encoder, ResidualLayer
from vqaudio.models.objective import Objective
from vqaudio.models.quantizer import Quantized
from vqaudio.models.sharing import rank
from vqaudio.models.speaker import Speaker
from vqaudio.models.spectral import SpectralDecoder, pitch_distance
from vqaudio.models.wavenet import WaveNet

if TYPE_CHECKING:
    from typing import Self  # there from Python 3.11 on

PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True)
class Output:
    """One pass through the model.

    Attributes:
        quantized: the quantiser's result; None where quantisation was bypassed, or the bottleneck is no quantiser.
        latents: what the bottleneck let through (B, D, frames).
        conditioning: (B, C, frames).
        speaker: (B, S) or None.
        decoded: the spectral decoder's waveform (B, 1, T), where it was asked for.
        losses: by name, each a scalar; see `Autoencoder.forward`.
    """

    quantized: Quantized | None
    latents: Tensor
    conditioning: Tensor
    speaker: Tensor | None
    decoded: Tensor | None
    losses: dict[str, Tensor]


class Autoencoder(nn.Module, ABC):
    """A model's networks; what kind of model it is, its bottleneck says.

    Args:
        config: the architecture; `config.wavenet` and `config.spectral` are None where that decoder is left out.

    Raises:
        ModelError: for a configuration of which no networks can be built.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        check(config)
        self.config = config
        latents, channels, width = config.encoder.latent_channels, config.conditioning.channels, config.speaker.width
        self.encoder = Encoder(config.encoder)
        bottleneck = self.add_bottleneck()
        self.speaker = Speaker(config.speaker, latents)
        self.conditioning = Conditioning(config.conditioning, latents, width)
        self.wavenet = WaveNet(config.wavenet, channels, width, config.hop) if config.wavenet else None
        self.spectral = (
            SpectralDecoder(config.spectral, channels, width, config.hop, config.sample_rate)
            if config.spectral
            else None
        )
        for part in (self.encoder, bottleneck, self.conditioning, self.spectral):
            if part is not None:
                part.apply(keep_variance)

    @abstractmethod
    def add_bottleneck(self) -> nn.Module:
        """Build what lies between encoder and conditioning, as an attribute."""

    @abstractmethod
    def through_bottleneck(self, latents: Tensor) -> tuple[Tensor, Quantized | None, dict[str, Tensor]]:
        """The encoder's latents (B, D, frames) through the bottleneck.

        Returns:
            what is left of them (B, D, frames); the quantiser's result, if there is one; the losses by name.
        """

    @abstractmethod
    def bypass(self, latents: Tensor) -> Tensor:
        """The latents (B, D, frames) through the bottleneck's projections alone: how training begins."""

    @abstractmethod
    def bound(self, nats: Tensor, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """The terms of the variational bound by name: a negative log-likelihood in nats per sample, and with it the KL
        divergence."""

    def forward(
        self,
        waveform: Tensor,
        speaker: Tensor | None = None,
        *,
        pitch: Tensor | None = None,
        wanted: tuple[str, ...] = (),
        objective: Objective | None = None,
        quantize: bool = True,
    ) -> Output:
        """One training pass.

        Args:
            waveform: (B, 1, T), T a multiple of the hop.
            speaker: (B,) rows of the speaker table, for a lookup.
            pitch: (B, frames) in Hz, 0 for unvoiced frames, for the spectral decoder to learn. In training, every
                other item is decoded at this pitch, so that what it has yet to learn of it hinders nothing else.
            wanted: which of the losses "mel", "spectral", beside it "intelligibility", and "wavenet" to compute.
            objective: the targets of all but "wavenet"; without it they are left out, and "spectral" only decodes.
            quantize: False lets the latents bypass the bottleneck.

        Returns:
            an `Output` with the losses of the bottleneck, `commitment` and `codebook` or `kl` (nats per sample), and as
            wanted: `mel`; with the WaveNet `wavenet` (nats per sample), `wavenet_bits` (bits per sample), for codes
            `uniform_kl` and `bound` (nats per sample, the bound being likelihood and KL together); with the spectral
            decoder `pitch` (nats, an octave counting for ten), `intelligibility`, `spectral` and its terms
            `spectral_log_mel`, `spectral_log_magnitude` and `spectral_convergence`.
        """
        latents = self.encoder(waveform)
        quantized: Quantized | None = None
        losses: dict[str, Tensor] = {}
        if quantize:
            carried, quantized, losses = self.through_bottleneck(latents)
        else:
            carried = self.bypass(latents)
        vector = self.speaker(latents, speaker)
        conditioning = self.conditioning(carried, vector)
        if "mel" in wanted and objective is not None:
            losses["mel"] = objective.mel(self.conditioning.log_mel(conditioning), waveform)
        decoded = None
        if "spectral" in wanted and self.spectral is not None:
            heard = self.spectral.hear(conditioning, vector)
            own = heard.pitch()
            if pitch is not None:
                losses["pitch"] = pitch_distance(heard, pitch)
                told = every_other(own) & self.spectral.training
                own = torch.where(told, pitch, own)
            decoded = self.spectral.synthesis(heard, own)
            if objective is not None:
                if "intelligibility" in wanted:
                    losses["intelligibility"] = objective.intelligibility(decoded, waveform)
                terms = objective.spectral(decoded, waveform)
                losses["spectral"] = torch.stack(list(terms.values())).sum()
                losses |= {f"spectral_{name}": value.detach() for name, value in terms.items()}
        if "wavenet" in wanted and self.wavenet is not None:
            nats = self.wavenet.loss(waveform, conditioning, vector).mean()
            losses["wavenet"] = nats
            losses["wavenet_bits"] = nats.detach() / math.log(2)
            losses |= self.bound(nats.detach(), losses)
        return Output(quantized, carried, conditioning, vector, decoded, losses)

    def arrays(self) -> dict[str, np.ndarray]:
        """A copy of the weights by name, float32, as `vqaudio.Codec` takes them."""
        return {name: value.detach().cpu().float().numpy().copy() for name, value in self.state_dict().items()}

    @classmethod
    def from_arrays(cls, config: CodecConfig, arrays: Mapping[str, np.ndarray]) -> Self:
        """The networks with the weights of a saved model by name, float32, in evaluation mode.

        Raises:
            ModelError: where the weights do not fit the configuration.
        """
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):  # a caller's own choice and draws stay outside
            model = cls(config).float()
        try:
            model.load_weights({name: torch.from_numpy(array) for name, array in arrays.items()})
        except RuntimeError as error:
            raise ModelError(
                "The weights do not fit the configuration beside them, or this version of vqaudio."
            ) from error
        return model.eval().requires_grad_(False)

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Take over the weights of a saved model.

        Raises:
            RuntimeError: for weights of another architecture.
        """
        self.load_state_dict(state)

    def part(self, name: str) -> nn.Module | None:
        """One of `PARTS`; None for a decoder that the configuration leaves out."""
        return getattr(self, name)


def every_other(items: Tensor) -> Tensor:
    """Which of the items (B, ...) have an even place in the batch of all processes, (B, 1): in equal shares of one item
    each, those of every other process."""
    return (torch.arange(len(items), device=items.device) + rank() * len(items))[:, None] % 2 == 0


def keep_variance(module: nn.Module) -> None:
    """Start a convolution so that its output has about the variance of its input (He et al. 2015, arXiv 1502.01852),
    and a residual layer as the identity (Zhang et al. 2019, arXiv 1901.09321).

    The usual start shrinks the signal at every layer, until the codes hear little but biases; residual layers that add
    their own variance from the start learn more slowly.
    """
    if isinstance(module, nn.Conv1d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        assert module.bias is not None
        nn.init.zeros_(module.bias)
    if isinstance(module, ResidualLayer):
        nn.init.zeros_(module.output.weight)
