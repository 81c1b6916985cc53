"""The waveform encoder: strided convolutions to code rate, then residual dilated convolutions (paper, section 4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqaudio.models.config import EncoderConfig
from vqaudio.models.constants import COMPRESSED_GAIN


class ResidualLayer(nn.Module):
    """x + W1 silu(W0 * silu(x)), where W0 is dilated and sees as far ahead as back."""

    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.reach = (kernel - 1) * dilation
        self.dilated = nn.Conv1d(channels, channels, kernel, dilation=dilation)
        self.output = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) to (B, C, T)."""
        padded = F.pad(F.silu(x), (self.reach - self.reach // 2, self.reach // 2))
        return x + self.output(F.silu(self.dilated(padded)))


class Encoder(nn.Module):
    """Waveform (B, 1, T) to latents (B, D, T / hop); T is a multiple of the hop.

    The waveform enters pre-emphasised and scaled: at its natural level, where high frequencies are faint and everything
    is far below unit variance, training does not leave the mean. What the strided convolutions make of it is compressed
    to a nearly logarithmic scale, so that faint sounds are heard beside loud ones. Beyond both ends there is silence.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.pre_emphasis = config.pre_emphasis
        self.gain = config.gain
        self.compression = config.compression
        widths = (1, *config.channels)
        strided = [nn.Conv1d(widths[i], widths[i + 1], 2 * stride, stride) for i, stride in enumerate(config.strides)]
        self.strided = cast(Sequence[nn.Conv1d], nn.ModuleList(strided))
        self.residual = nn.ModuleList(ResidualLayer(widths[-1], config.kernel, d) for d in config.dilations)
        self.output = nn.Conv1d(widths[-1], config.latent_channels, 1)

    def forward(self, waveform: Tensor) -> Tensor:
        """(B, 1, T) in [-1, 1] to latents (B, D, T / hop)."""
        x = self.gain * (waveform - self.pre_emphasis * F.pad(waveform, (1, -1)))
        for convolution in self.strided:
            stride = convolution.stride[0]
            x = F.silu(convolution(F.pad(x, (stride // 2, stride - stride // 2))))
        x = COMPRESSED_GAIN * torch.asinh(self.compression * x)
        for layer in self.residual:
            x = layer(x)
        return self.output(F.silu(x))
