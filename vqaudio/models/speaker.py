"""The global speaker vector: none, a table as in the paper (section 4.3), or computed from the utterance and quantised.

The computed one is quantised to a few levels per number (finite scalar quantisation, Mentzer et al. 2023, arXiv
2309.15505) and sent once per file, so that a codec serves voices that it never heard.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqaudio.errors import UsageError
from vqaudio.models.config import SpeakerConfig


class Speaker(nn.Module):
    """Speaker indices and vectors. Indices are what is sent: (B, 1) for a table, (B, dims) for a reference.

    Args:
        latent_channels: D of the encoder's latents, which the reference encoder listens to.
    """

    def __init__(self, config: SpeakerConfig, latent_channels: int) -> None:
        super().__init__()
        self.config = config
        if config.kind != "none":
            self.null = nn.Parameter(torch.zeros(config.channels))
        if config.kind == "lookup":
            self.table = nn.Embedding(config.speakers, config.channels)
        elif config.kind == "reference":
            self.frames = nn.Sequential(
                nn.Conv1d(latent_channels, config.channels, 1),
                nn.SiLU(),
                nn.Conv1d(config.channels, config.channels, 3, padding=1),
                nn.SiLU(),
            )
            self.pooled = nn.Linear(2 * config.channels, config.dims)
            self.vector = nn.Sequential(
                nn.Linear(config.dims, config.channels), nn.SiLU(), nn.Linear(config.channels, config.channels)
            )

    def forward(self, latents: Tensor, speaker: Tensor | None = None) -> Tensor | None:
        """Speaker vectors (B, S) in training, some of them replaced by the null speaker; None without speakers.

        Args:
            latents: (B, D, frames), for a reference.
            speaker: (B,) rows of the table, for a lookup.

        Raises:
            UsageError: for a lookup without rows.
        """
        if self.config.kind == "none":
            return None
        if self.config.kind == "lookup":
            if speaker is None:
                raise UsageError("A model with a table of speakers has to be told which of them speaks.")
            vectors = self.table(speaker)
        else:
            exact = self._coordinates(self._pool(latents))
            steps = self.config.levels - 1
            vectors = self.vector(exact + (self._round(exact) / steps * 2 - 1 - exact).detach())
        if self.training:
            dropped = torch.rand(len(vectors), 1, device=vectors.device) < self.config.dropout
            vectors = torch.where(dropped, self.null, vectors)
        return vectors

    def pool(self, latents: Tensor) -> tuple[Tensor, Tensor, int]:
        """Sum and sum of squares over time (B, S) and their count, so that long files are pooled block by block."""
        frames = self.frames(latents).float()  # sums in bfloat16 would lose what the deviations are made of
        return frames.sum(2), frames.square().sum(2), frames.shape[2]

    def indices(self, total: Tensor, squares: Tensor, count: int) -> Tensor:
        """What is sent of a reference, (B, dims) integers, from the sums that `pool` gives."""
        coordinates = self._coordinates(_statistics(total, squares, count))
        return self._round(coordinates.nan_to_num()).long()  # as in `vqaudio.runtime.speaker`

    def decode(self, indices: Tensor | None, batch: int = 1) -> Tensor | None:
        """Speaker vectors (B, S) of indices (B, 1 or dims), the null speaker for None; None without speakers."""
        if self.config.kind == "none":
            return None
        if indices is None:
            return self.null.expand(batch, -1)
        if self.config.kind == "lookup":
            return self.table(indices[:, 0])
        return self.vector(indices / (self.config.levels - 1) * 2.0 - 1)

    def _pool(self, latents: Tensor) -> Tensor:
        return _statistics(*self.pool(latents))

    def _coordinates(self, statistics: Tensor) -> Tensor:
        return torch.tanh(self.pooled(statistics))

    def _round(self, coordinates: Tensor) -> Tensor:
        return ((coordinates + 1) / 2 * (self.config.levels - 1)).round()


def _statistics(total: Tensor, squares: Tensor, count: int) -> Tensor:
    mean = total / count
    deviation = F.relu(squares / count - mean.square()).add(1e-5).sqrt()
    return torch.cat([mean, deviation], dim=1)
