"""The gated dilated convolution stack that WaveNet, the spectral decoder, the conditioning and the prior share.

z = tanh(W_f * x + V_f c) . sigmoid(W_g * x + V_g c), with residual and skip connections (van den Oord et al. 2016,
arXiv 1609.03499, sections 2.3 to 2.5); c is the conditioning, local at code rate, global per item, or both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GatedLayer(nn.Module):
    """One gated dilated convolution with its residual and skip outputs.

    A causal layer sees only the present and the past; another one sees as far ahead as back.
    """

    def __init__(self, channels: int, skip_channels: int, kernel: int, dilation: int, causal: bool) -> None:
        super().__init__()
        self.channels = channels
        self.reach = (kernel - 1) * dilation
        self.causal = causal
        self.dilated = nn.Conv1d(channels, 2 * channels, kernel, dilation=dilation)
        self.output = nn.Conv1d(channels, channels + skip_channels, 1)

    def forward(self, x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, C, T) and a condition (B, 2C, T or 1) give the next (B, C, T) and the skip (B, S, T)."""
        ahead = 0 if self.causal else self.reach // 2
        return self.valid(x, F.pad(x, (self.reach - ahead, ahead)), condition)

    def valid(self, x: Tensor, padded: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """The layer on an input whose past and future `padded` (B, C, T + reach) already holds."""
        gates = self.dilated(padded)
        if condition is not None:
            gates = gates + condition
        filters, gate = gates.chunk(2, dim=1)
        residual, skip = self.output(torch.tanh(filters) * torch.sigmoid(gate)).split(
            [self.channels, self.output.out_channels - self.channels], dim=1
        )
        return x + residual, skip


class GatedStack(nn.Module):
    """Gated layers one after the other; their skip outputs are summed, scaled to unit variance and rectified.

    Args:
        channels, skip_channels: of the residual path and of the output.
        kernel: taps of each dilated convolution.
        dilations: one per layer, in steps.
        local_channels: channels of the local conditioning, 0 for none.
        speaker_channels: channels of the global conditioning, 0 for none.
        causal: whether no output depends on later inputs.
    """

    def __init__(
        self,
        channels: int,
        skip_channels: int,
        kernel: int,
        dilations: tuple[int, ...],
        local_channels: int = 0,
        speaker_channels: int = 0,
        causal: bool = False,
    ) -> None:
        super().__init__()
        layers = nn.ModuleList(GatedLayer(channels, skip_channels, kernel, dilation, causal) for dilation in dilations)
        self.layers = cast(Sequence[GatedLayer], layers)
        gates = 2 * channels * len(dilations)
        self.local = nn.Conv1d(local_channels, gates, 1) if local_channels else None
        self.speaker = nn.Linear(speaker_channels, gates) if speaker_channels else None

    def conditions(self, local: Tensor | None, speaker: Tensor | None, repeat: int = 1) -> list[Tensor | None]:
        """What each layer adds to its gates, computed once per code frame.

        Args:
            local: (B, L, frames) or None.
            speaker: (B, S) or None.
            repeat: steps per code frame.

        Returns:
            per layer (B, 2C, frames * repeat), (B, 2C, 1) without local conditioning, or None without any.
        """
        total: Tensor | None = None
        if self.local is not None:
            assert local is not None
            total = self.local(local)
        if self.speaker is not None:
            assert speaker is not None
            bias = self.speaker(speaker).unsqueeze(2)
            total = bias if total is None else total + bias
        if total is None:
            return [None] * len(self.layers)
        parts = list(total.chunk(len(self.layers), dim=1))
        return [p.repeat_interleave(repeat, dim=2) if repeat > 1 and p.shape[2] > 1 else p for p in parts]

    def forward(self, x: Tensor, local: Tensor | None = None, speaker: Tensor | None = None, repeat: int = 1) -> Tensor:
        """(B, C, T) to the rectified sum of the skips (B, S, T); T = frames * repeat under a local condition."""
        total: Tensor | None = None
        for layer, condition in zip(self.layers, self.conditions(local, speaker, repeat), strict=True):
            x, skip = layer(x, condition)
            total = skip if total is None else total + skip
        assert total is not None
        return self._rectify(total)

    def silent_past(self, batch: int) -> list[Tensor]:
        """What `step` remembers before the first step: per layer the zeros (B, C, reach) that it pads with."""
        weight = self.layers[0].dilated.weight
        return [weight.new_zeros(batch, layer.channels, layer.reach) for layer in self.layers]

    def step(self, x: Tensor, conditions: Sequence[Tensor | None], past: list[Tensor]) -> Tensor:
        """One step (B, C, 1) of a causal stack, to (B, S, 1) as `forward` gives it.

        Args:
            conditions: this step of what `conditions` gives.
            past: the last inputs of each layer, oldest first, moved on by one step in place.
        """
        total: Tensor | None = None
        for index, (layer, condition) in enumerate(zip(self.layers, conditions, strict=True)):
            padded = torch.cat([past[index], x], dim=2)
            past[index] = padded[:, :, 1:]
            x, skip = layer.valid(x, padded, condition)
            total = skip if total is None else total + skip
        assert total is not None
        return self._rectify(total)

    def _rectify(self, skips: Tensor) -> Tensor:
        return F.silu(skips * len(self.layers) ** -0.5)
