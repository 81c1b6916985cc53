"""The prior over codes: a causal dilated network that tells how likely each next code is (paper, section 3.3).

It is the WaveNet stack of `vqaudio.models.gated` over frames of codes instead of samples, conditioned on the speaker as
the codec sends it. Of a frame with several codes the later ones also hear the earlier ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqaudio.models.autoencoder import keep_variance
from vqaudio.models.config import Alphabet, PriorConfig, check_prior
from vqaudio.models.gated import GatedStack


class CodePrior(nn.Module):
    """p(code | all codes before it, speaker).

    Args:
        config: the architecture.
        alphabet: the codes.

    Raises:
        ModelError: for an architecture of which no network can be built.
    """

    offsets: Tensor

    def __init__(self, config: PriorConfig, alphabet: Alphabet) -> None:
        super().__init__()
        check_prior(config, alphabet)
        self.config, self.alphabet = config, alphabet
        size, quantizers, skips = alphabet.codebook_size, alphabet.quantizers, config.skip_channels
        self.codes = nn.Embedding(quantizers * size + 1, config.channels)  # the last row stands before the first frame
        self.stack = GatedStack(
            config.channels,
            skips,
            config.kernel,
            config.dilations,
            speaker_channels=config.speaker_channels if alphabet.speaker else 0,
            causal=True,
        )
        if alphabet.speaker:
            self.speakers = nn.Embedding(sum(alphabet.speaker) + 1, config.speaker_channels)  # the last row is no one
            nn.init.zeros_(self.speakers.weight)
            offsets = torch.tensor(alphabet.speaker).cumsum(0) - torch.tensor(alphabet.speaker)
            self.register_buffer("offsets", offsets, persistent=False)
        self.earlier = nn.ModuleList(nn.Embedding(q * size, skips) for q in range(1, quantizers))
        self.hidden = cast(Sequence[nn.Conv1d], nn.ModuleList(nn.Conv1d(skips, skips, 1) for _ in range(quantizers)))
        self.output = cast(Sequence[nn.Conv1d], nn.ModuleList(nn.Conv1d(skips, size, 1) for _ in range(quantizers)))
        self.apply(keep_variance)
        with torch.no_grad():  # to begin with, every layer hears the code itself and all codes are equally likely
            for layer in self.stack.layers:
                layer.output.weight[: config.channels].zero_()
            for output in self.output:
                output.weight.zero_()

    def forward(self, codes: Tensor, speaker: Tensor | None = None) -> Tensor:
        """Unnormalised log probabilities of every code.

        Args:
            codes: (B, quantizers, frames) integers.
            speaker: (B, indices) as the codec sends it, or None for no one. In training some items lose theirs.

        Returns:
            (B, quantizers, frames, K); [b, q, t] depends on the frames before t, and on codes before q of frame t.
        """
        places = torch.arange(codes.shape[1], device=codes.device)[:, None] * self.alphabet.codebook_size
        rows = codes + places
        start = torch.full_like(rows[:, 0, :1], self.codes.num_embeddings - 1)
        before = self.codes(rows[:, :, :-1]).sum(1)
        x = torch.cat([self.codes(start), before], dim=1).transpose(1, 2)
        context = self.stack(x, speaker=self._voice(speaker, len(codes)))
        return torch.stack([self._logits(q, context, rows) for q in range(codes.shape[1])], dim=1)

    def loss(self, codes: Tensor, speaker: Tensor | None = None) -> Tensor:
        """Nats of every code (B, quantizers, frames)."""
        return nats(self(codes, speaker), codes)

    def _logits(self, q: int, context: Tensor, rows: Tensor) -> Tensor:
        """(B, frames, K) of quantiser q, from (B, S, frames) and the frame's own codes."""
        hidden = self.hidden[q](context)
        if q > 0:
            hidden = hidden + self.earlier[q - 1](rows[:, :q]).sum(1).transpose(1, 2)
        return self.output[q](F.silu(hidden)).transpose(1, 2)

    def _voice(self, speaker: Tensor | None, batch: int) -> Tensor | None:
        """Speaker vectors (B, S) of indices (B, indices); None where the codec has no speakers."""
        if not self.alphabet.speaker:
            return None
        nobody = self.speakers.weight[-1].expand(batch, -1)
        if speaker is None:
            return nobody
        vectors = self.speakers(speaker + self.offsets).sum(1)
        if not self.training:
            return vectors
        dropped = torch.rand(batch, 1, device=speaker.device) < self.config.speaker_dropout
        return torch.where(dropped, nobody, vectors)


def nats(logits: Tensor, codes: Tensor) -> Tensor:
    """What each code (B, quantizers, frames) costs under unnormalised log probabilities with K at the end."""
    return F.cross_entropy(logits.float().movedim(-1, 1), codes, reduction="none")
