"""Discriminators of the spectral decoder: convolutions over the complex spectrogram at several resolutions (Defossez et
al. 2022, arXiv 2210.13438, section 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FFT_SIZES = (1024, 512, 256)  # samples
COMPRESSION = 0.3  # power to which magnitudes are raised: high frequencies are a thousand times fainter than low ones
GAIN = 4.0  # speech has about unit variance after the compression


class SpectrogramDiscriminator(nn.Module):
    """One resolution: waveform (B, 1, T) to scores (B, 1, frames, bins') and the features of each layer."""

    window: Tensor

    def __init__(self, fft_size: int, channels: int = 32) -> None:
        super().__init__()
        self.fft_size = fft_size
        self.register_buffer("window", torch.hann_window(fft_size), persistent=False)
        shapes = [  # width, kernel, stride, dilation, each over (frames, bins)
            (2, (3, 9), (1, 4), (1, 1)),
            (channels, (3, 5), (1, 2), (1, 1)),
            (channels, (3, 5), (1, 2), (2, 1)),
            (channels, (3, 3), (1, 1), (4, 1)),
        ]
        self.layers = nn.ModuleList(_convolution(width, channels, *shape) for width, *shape in shapes)
        self.score = _convolution(channels, 1, (3, 3), (1, 1), (1, 1))

    def forward(self, waveform: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, 1, T) to scores and features."""
        with torch.autocast(waveform.device.type, enabled=False):
            spectrum = torch.stft(
                waveform[:, 0].float(),
                self.fft_size,
                self.fft_size // 4,
                window=self.window,
                normalized=True,
                return_complex=True,
            )
        spectrum = GAIN * spectrum * (spectrum.abs() + 1e-5) ** (COMPRESSION - 1)
        x = torch.stack([spectrum.real, spectrum.imag], dim=1).transpose(2, 3)
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.score(x).float(), features


def _convolution(
    width: int, channels: int, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> nn.Module:
    """A weight-normalised convolution that starts with an output of about its input's variance."""
    padding = (kernel[0] // 2 * dilation[0], kernel[1] // 2)
    layer = nn.Conv2d(width, channels, kernel, stride, padding, dilation)
    nn.init.kaiming_normal_(layer.weight, a=0.2)
    return nn.utils.parametrizations.weight_norm(layer)


class Discriminators(nn.Module):
    """All resolutions: waveform (B, 1, T) to a list of scores and features."""

    def __init__(self) -> None:
        super().__init__()
        self.resolutions = nn.ModuleList(SpectrogramDiscriminator(size) for size in FFT_SIZES)

    def forward(self, waveform: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        """(B, 1, T) to (scores, features) per resolution."""
        return [resolution(waveform) for resolution in self.resolutions]


def discriminator_loss(real: list[tuple[Tensor, list[Tensor]]], decoded: list[tuple[Tensor, list[Tensor]]]) -> Tensor:
    """Hinge loss of the discriminators, a mean over the resolutions."""
    terms = [F.relu(1 - r).mean() + F.relu(1 + d).mean() for (r, _), (d, _) in zip(real, decoded, strict=True)]
    return torch.stack(terms).mean()


def adversarial_loss(decoded: list[tuple[Tensor, list[Tensor]]]) -> Tensor:
    """Hinge loss of the decoder, a mean over the resolutions."""
    return torch.stack([F.relu(1 - score).mean() for score, _ in decoded]).mean()


def feature_loss(real: list[tuple[Tensor, list[Tensor]]], decoded: list[tuple[Tensor, list[Tensor]]]) -> Tensor:
    """Distance of the features relative to their size on real speech, a mean over layers and resolutions."""
    return torch.stack(
        [
            F.l1_loss(d, r.detach()) / r.detach().abs().mean().clamp(min=1e-5)
            for (_, wanted), (_, got) in zip(real, decoded, strict=True)
            for r, d in zip(wanted, got, strict=True)
        ]
    ).mean()
