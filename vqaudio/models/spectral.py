"""The feed-forward decoder: a gated dilated stack at code rate whose head gives magnitude and phase for an inverse
short-time Fourier transform (Vocos, Siuzdak 2023, arXiv 2306.00814, section 3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqaudio.models.config import SpectralConfig
from vqaudio.models.constants import LOG_MAGNITUDE
from vqaudio.models.gated import GatedStack


class SpectralDecoder(nn.Module):
    """Conditioning (B, C, frames) and a speaker vector (B, S) to a waveform (B, 1, frames * hop).

    Args:
        conditioning_channels: C.
        speaker_channels: S, 0 for none.
        hop: samples per code frame; the FFT spans two hops or more, and an even number of samples beyond one.

    Attributes:
        reach: frames before and after its own that a frame of the waveform depends on.
    """

    window: Tensor

    def __init__(self, config: SpectralConfig, conditioning_channels: int, speaker_channels: int, hop: int) -> None:
        super().__init__()
        self.hop = hop
        self.fft_size = config.fft_size
        self.input = nn.Conv1d(conditioning_channels, config.channels, 1)
        self.stack = GatedStack(
            config.channels,
            config.skip_channels,
            config.kernel,
            config.dilations,
            speaker_channels=speaker_channels,
        )
        bins = config.fft_size // 2 + 1
        self.head = nn.Conv1d(config.skip_channels, 2 * bins, 1)
        self.register_buffer("window", torch.hann_window(config.fft_size), persistent=False)
        overlap = -(-(config.fft_size - hop) // (2 * hop))
        self.reach = (self.stack.receptive_field - 1) // 2 + overlap

    def forward(self, conditioning: Tensor, speaker: Tensor | None, start: int = 0) -> Tensor:
        """(B, C, frames) and (B, S) to (B, 1, frames * hop); the first frame is number `start` of the waveform."""
        spectrum = self.head(self.stack(self.input(conditioning), speaker=speaker)).float()
        difference, phase = spectrum.chunk(2, dim=1)
        log_magnitude = LOG_MAGNITUDE + difference
        magnitude = torch.exp(log_magnitude.clamp(max=math.log(self.fft_size)))  # more than full scale can have
        with torch.autocast(conditioning.device.type, enabled=False):
            return self.synthesis(torch.polar(magnitude, phase + self.steady_phase(start, phase.shape[2])))

    def steady_phase(self, start: int, frames: int) -> Tensor:
        """The phase (bins, frames) of a steady tone in the middle of each bin, from which the head gives deviations.

        Without it a network that does not know the time could only repeat itself at the frame rate in steady sounds.
        """
        position = (torch.arange(start, start + frames, device=self.window.device) * self.hop) % self.fft_size
        bins = torch.arange(self.fft_size // 2 + 1, device=self.window.device)
        return (bins[:, None] * position % self.fft_size) * (2 * math.pi / self.fft_size)

    def synthesis(self, spectrum: Tensor) -> Tensor:
        """Windowed overlap-add of complex spectra (B, bins, frames) to (B, 1, frames * hop), normalised by the window.

        Frame i is centred on the middle of samples [i * hop, (i + 1) * hop).
        """
        frames = spectrum.shape[2]
        pieces = (torch.fft.irfft(spectrum.transpose(1, 2), n=self.fft_size) * self.window).transpose(1, 2)
        weights = self.window.square()[None, :, None].expand(1, -1, frames)
        length = (frames - 1) * self.hop + self.fft_size
        cut = (self.fft_size - self.hop) // 2
        wave, envelope = (
            F.fold(x, (1, length), (1, self.fft_size), stride=(1, self.hop))[:, :, 0, cut : cut + frames * self.hop]
            for x in (pieces, weights)
        )
        return wave / envelope.clamp(min=1e-3)
