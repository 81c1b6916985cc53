"""Discriminators of the spectral decoder: convolutions over the complex spectrogram at several resolutions (Defossez et
al. 2022, arXiv 2210.13438, section 3.4), and over the waveform of the lowest sub-band, whose periods are pitch."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqaudio.models.filterbank import PQMF
from vqaudio.models.sharing import all_reduce

FFT_SIZES = (1024, 512, 256)  # samples
CHANNELS = 32
COMPRESSION = 0.3  # power to which magnitudes are raised: high frequencies are a thousand times fainter than low ones
GAIN = 4.0  # speech has about unit variance after the compression
BANDS = 4
BAND_CHANNELS = 64
BAND_GAIN = 30.0  # of the waveform before its compression


class SpectrogramDiscriminator(nn.Module):
    """One resolution: waveform (B, 1, T) to scores (B, 1, frames, bins') and the features of each layer."""

    window: Tensor

    def __init__(self, fft_size: int) -> None:
        super().__init__()
        self.fft_size = fft_size
        self.register_buffer("window", torch.hann_window(fft_size), persistent=False)
        shapes = [  # width, kernel, stride, dilation, each over (frames, bins)
            (2, (3, 9), (1, 4), (1, 1)),
            (CHANNELS, (3, 5), (1, 2), (1, 1)),
            (CHANNELS, (3, 5), (1, 2), (2, 1)),
            (CHANNELS, (3, 3), (1, 1), (4, 1)),
        ]
        self.layers = nn.ModuleList(_convolution(width, CHANNELS, *shape) for width, *shape in shapes)
        self.score = _convolution(CHANNELS, 1, (3, 3), (1, 1), (1, 1))

    def forward(self, waveform: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, 1, T) to scores and features."""
        with torch.autocast(waveform.device.type, enabled=False):
            spectrum = torch.stft(
                waveform[:, 0].float(),
                self.fft_size,
                self.fft_size // 4,
                window=self.window,
                normalized=True,
                pad_mode="constant",  # which a waveform of any length allows
                return_complex=True,
            )
        spectrum = GAIN * spectrum * (spectrum.abs() + 1e-5) ** (COMPRESSION - 1)
        x = torch.stack([spectrum.real, spectrum.imag], dim=1).transpose(2, 3)
        return _judged(x, self.layers, self.score)


class BandDiscriminator(nn.Module):
    """The lowest of four sub-bands: waveform (B, 1, T) to scores (B, 1, T / 16), rounded up, and the features of each
    layer.

    Up to 2 kHz speech is harmonics, and whether they keep time with each other is heard in the waveform: a decoder
    trained on magnitudes alone loses most of its naturalness there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bank = PQMF(BANDS)
        widths, strides = (1, BAND_CHANNELS // 2, BAND_CHANNELS, BAND_CHANNELS), (1, 2, 2)
        self.layers = nn.ModuleList(
            _normalised(nn.Conv1d(before, after, 15, stride, 7))
            for before, after, stride in zip(widths, widths[1:], strides, strict=False)
        )
        self.score = _normalised(nn.Conv1d(BAND_CHANNELS, 1, 5, padding=2))

    def forward(self, waveform: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, 1, T) to scores and features."""
        whole = F.pad(waveform, (0, -waveform.shape[2] % BANDS))
        x = torch.asinh(BAND_GAIN * self.bank.analysis(whole)[:, :1])
        return _judged(x, self.layers, self.score)


def _judged(x: Tensor, layers: Iterable[nn.Module], score: nn.Module) -> tuple[Tensor, list[Tensor]]:
    """The scores, and the features of each layer on the way to them."""
    features = []
    for layer in layers:
        x = F.leaky_relu(layer(x), 0.2)
        features.append(x)
    return score(x).float(), features


def _convolution(
    width: int, channels: int, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> nn.Module:
    padding = (kernel[0] // 2 * dilation[0], kernel[1] // 2)
    return _normalised(nn.Conv2d(width, channels, kernel, stride, padding, dilation))


def _normalised(layer: nn.Conv1d | nn.Conv2d) -> nn.Module:
    """The convolution with weight normalisation and, to start with, an output of about its input's variance."""
    nn.init.kaiming_normal_(layer.weight, a=0.2)
    return nn.utils.parametrizations.weight_norm(layer)


class Discriminators(nn.Module):
    """All of them: waveform (B, 1, T) to a list of scores and features."""

    def __init__(self) -> None:
        super().__init__()
        self.judges = nn.ModuleList([*map(SpectrogramDiscriminator, FFT_SIZES), BandDiscriminator()])

    def forward(self, waveform: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        """(B, 1, T) to (scores, features) per discriminator."""
        return [judge(waveform) for judge in self.judges]


def discriminator_loss(real: list[tuple[Tensor, list[Tensor]]], decoded: list[tuple[Tensor, list[Tensor]]]) -> Tensor:
    """Hinge loss of the discriminators, a mean over all of them."""
    terms = [F.relu(1 - r).mean() + F.relu(1 + d).mean() for (r, _), (d, _) in zip(real, decoded, strict=True)]
    return torch.stack(terms).mean()


def adversarial_loss(decoded: list[tuple[Tensor, list[Tensor]]]) -> Tensor:
    """Hinge loss of the decoder, a mean over all of them."""
    return torch.stack([F.relu(1 - score).mean() for score, _ in decoded]).mean()


def feature_loss(real: list[tuple[Tensor, list[Tensor]]], decoded: list[tuple[Tensor, list[Tensor]]]) -> Tensor:
    """Distance of the features relative to their size on real speech, a mean over layers and discriminators.

    The size is that in the batches of all processes, so that the gradient is that of their joint batch.
    """
    pairs = [
        (r.detach(), d)
        for (_, wanted), (_, got) in zip(real, decoded, strict=True)
        for r, d in zip(wanted, got, strict=True)
    ]
    distances = torch.stack([F.l1_loss(d, r) for r, d in pairs])
    sizes = torch.stack([r.abs().mean() for r, _ in pairs]).float()
    processes = torch.ones_like(sizes[0])
    all_reduce(sizes, processes)
    return (distances / (sizes / processes).clamp(min=1e-5)).mean()
