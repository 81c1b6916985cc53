"""How much of the modulation of speech is kept: extended short-time objective intelligibility, to be trained on (Jensen
and Taal 2016, IEEE/ACM TASLP 24(11))."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

HOP = 0.0128  # seconds
BANDS = 15  # thirds of an octave
LOWEST = 150.0  # Hz, centre of the first band
SEGMENT = 30  # frames, 384 ms
AUDIBLE = 1e-4  # of the loudest frame's energy: 40 dB below it
FLOOR = 1e-10  # energy in a band, 80 dB and more below a tone of amplitude 1e-3


class Intelligibility(nn.Module):
    """Correlation of the envelopes of decoded speech in third-octave bands with those of the original.

    Where the measure of the authors takes silent frames out, a segment counts here by the share of its frames that
    are within 40 dB of the loudest; digital silence does not count. In a crop without speech its noise counts.

    Args:
        sample_rate: Hz.
    """

    window: Tensor
    bands: Tensor

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.hop = round(HOP * sample_rate)
        self.fft_size = 1 << (4 * self.hop - 1).bit_length()
        frequencies = torch.arange(self.fft_size // 2 + 1) * sample_rate / self.fft_size
        edges = LOWEST * 2 ** ((2 * torch.arange(BANDS + 1) - 1) / 6)
        rows = [(low <= frequencies) & (frequencies < high) for low, high in itertools.pairwise(edges)]
        self.register_buffer("bands", torch.stack(rows).float(), persistent=False)
        window = torch.hann_window(2 * self.hop + 2, periodic=False)[1:-1]
        self.register_buffer("window", window, persistent=False)

    def forward(self, decoded: Tensor, waveform: Tensor) -> Tensor:
        """Mean correlation (B,), at most 1, of waveforms (B, T)."""
        with torch.autocast(waveform.device.type, enabled=False):
            wanted = self.energies(waveform.float())
            heard = _normalized(_segments(self.energies(decoded.float())))
            correlations = (heard * _normalized(_segments(wanted))).sum((2, 3)) / heard.shape[3]
            energies = wanted.sum(1, keepdim=True)
            audible = (energies > AUDIBLE * energies.amax(2, keepdim=True)) & (energies > 2 * BANDS * FLOOR)
            shares = audible.float().unfold(2, heard.shape[3], 1).mean(3)[:, 0]
            return 1 - (shares * (1 - correlations)).sum(1) / shares.sum(1).clamp(min=1)

    def energies(self, waveform: Tensor) -> Tensor:
        """(B, T) to what is in each band (B, bands, frames)."""
        length = len(self.window)
        size = max(length, waveform.shape[1])
        frames = nn.functional.pad(waveform, (0, size - waveform.shape[1])).unfold(1, length, self.hop)
        spectrum = torch.fft.rfft(frames * self.window, self.fft_size)
        return self.bands @ (spectrum.real.square() + spectrum.imag.square()).transpose(1, 2) + FLOOR


def _segments(energies: Tensor) -> Tensor:
    """Energies (B, bands, frames) to the envelopes of all segments (B, segments, bands, frames of a segment)."""
    return energies.sqrt().unfold(2, min(SEGMENT, energies.shape[2]), 1).transpose(1, 2)


def _normalized(segments: Tensor) -> Tensor:
    """Of each segment the rows, then the columns without their mean, at norm 1."""
    for axis in (3, 2):
        centred = segments - segments.mean(axis, keepdim=True)
        segments = centred * (centred.square().sum(axis, keepdim=True) + FLOOR).rsqrt()
    return segments
