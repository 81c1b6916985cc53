"""The network between codes and decoders: quantised latents to conditioning, at code rate, computed once per frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vqaudio.models.config import ConditioningConfig
from vqaudio.models.constants import MEL_MEAN, MEL_SPREAD
from vqaudio.models.gated import GatedStack


class Conditioning(nn.Module):
    """Quantised latents (B, D, frames) and a speaker vector (B, S) to conditioning (B, C, frames).

    Args:
        latent_channels: D.
        speaker_channels: S, 0 for none.
    """

    def __init__(self, config: ConditioningConfig, latent_channels: int, speaker_channels: int) -> None:
        super().__init__()
        self.jitter = config.jitter
        self.input = nn.Conv1d(latent_channels, config.channels, config.kernel, padding=config.kernel // 2)
        self.stack = GatedStack(
            config.channels, config.channels, config.kernel, (1,) * config.layers, speaker_channels=speaker_channels
        )
        self.mel = nn.Conv1d(config.channels, config.mels, 1)

    def forward(self, latents: Tensor, speaker: Tensor | None) -> Tensor:
        """(B, D, frames) and (B, S) to (B, C, frames)."""
        if self.training and self.jitter > 0:
            latents = time_jitter(latents, self.jitter)
        return self.stack(self.input(latents), speaker=speaker)

    def log_mel(self, conditioning: Tensor) -> Tensor:
        """The auxiliary log-mel (B, mels, frames) that the conditioning (B, C, frames) must be able to tell."""
        return MEL_MEAN + MEL_SPREAD * self.mel(conditioning)


def time_jitter(latents: Tensor, probability: float) -> Tensor:
    """Replace frames of (B, D, T) by a neighbour (Chorowski et al. 2019, arXiv 1901.08810, section III-C)."""
    batch, _, frames = latents.shape
    draw = torch.rand(batch, 1, frames, device=latents.device)
    before = torch.cat([latents[:, :, :1], latents[:, :, :-1]], dim=2)
    after = torch.cat([latents[:, :, 1:], latents[:, :, -1:]], dim=2)
    return torch.where(draw < probability / 2, before, torch.where(draw > 1 - probability / 2, after, latents))
