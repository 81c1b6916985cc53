"""Spectral distances between waveforms: what the spectral decoder and the auxiliary log-mel head are trained on.

Several resolutions at once (Yamamoto et al. 2020, arXiv 1910.11480, section 2.2), on log-mel spectra (Kumar et al.
2023, arXiv 2306.06546, section 3.4). Everything is computed in fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqaudio.extras import torchaudio
from vqaudio.models.intelligibility import Intelligibility
from vqaudio.models.pitch import PitchTracker

RESOLUTIONS = ((256, 40), (512, 64), (1024, 80), (2048, 128))  # FFT size in samples, mel bands
FLOOR = 1e-4  # mel magnitude of a full-scale sine is near FFT size / 4
BIN_FLOOR = 1e-5  # per sample of FFT size, 88 dB below the largest bin of a full-scale sine


class LogMel(nn.Module):
    """Log of the mel magnitude spectrum: waveform (B, T) to (B, mels, frames).

    Args:
        sample_rate: Hz.
        fft_size, hop: samples.
        mels: bands between 0 Hz and half the sample rate.
        centred_frames: frame i is centred on the middle of its own hop (T / hop frames); else on sample i * hop.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, sample_rate: int, fft_size: int, hop: int, mels: int, centred_frames: bool = False) -> None:
        super().__init__()
        self.fft_size, self.hop, self.centred_frames = fft_size, hop, centred_frames
        filters = torchaudio().functional.melscale_fbanks(
            fft_size // 2 + 1, 0.0, sample_rate / 2, mels, sample_rate, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("window", torch.hann_window(fft_size), persistent=False)
        self.register_buffer("filters", filters.t() / filters.sum(0).unsqueeze(1).clamp(min=1e-9), persistent=False)

    def magnitude(self, waveform: Tensor) -> Tensor:
        """Magnitude spectrum (B, bins, frames)."""
        ends = (self.fft_size - self.hop) // 2 if self.centred_frames else self.fft_size // 2
        padded = F.pad(waveform, (ends, self.fft_size - self.hop - ends if self.centred_frames else ends))
        spectrum = torch.stft(padded, self.fft_size, self.hop, window=self.window, center=False, return_complex=True)
        return spectrum.abs()

    def from_magnitude(self, magnitude: Tensor) -> Tensor:
        """(B, bins, frames) to (B, mels, frames)."""
        return torch.log(self.filters @ magnitude + FLOOR)

    def forward(self, waveform: Tensor) -> Tensor:
        """(B, T) to (B, mels, frames)."""
        return self.from_magnitude(self.magnitude(waveform))


class Objective(nn.Module):
    """The targets and distances of spectral training, kept apart from the model because they need torchaudio.

    Args:
        sample_rate: Hz.
        hop: samples per code frame.
        mels: bands of the auxiliary log-mel.
    """

    def __init__(self, sample_rate: int, hop: int, mels: int) -> None:
        super().__init__()
        resolutions = nn.ModuleList(LogMel(sample_rate, size, size // 4, bands) for size, bands in RESOLUTIONS)
        self.resolutions = cast(Sequence[LogMel], resolutions)
        size = 1 << max(9, (2 * hop - 1).bit_length())
        self.frame_mel = LogMel(sample_rate, size, hop, mels, centred_frames=True)
        self.tracker = PitchTracker(sample_rate, hop)
        self.envelopes = Intelligibility(sample_rate)

    def mel(self, predicted: Tensor, waveform: Tensor) -> Tensor:
        """Mean absolute distance of a predicted log-mel (B, mels, frames) to that of a waveform (B, 1, T)."""
        with torch.autocast(waveform.device.type, enabled=False):
            return F.l1_loss(predicted.float(), self.frame_mel(waveform[:, 0].float()))

    def pitch(self, waveform: Tensor) -> Tensor:
        """The pitch (B, frames) in Hz of a waveform (B, 1, T), 0 where it is not voiced."""
        return self.tracker(waveform[:, 0])

    def intelligibility(self, decoded: Tensor, waveform: Tensor) -> Tensor:
        """What decoded speech (B, 1, T) lacks of the original's modulation, 0 where nothing."""
        return 1 - self.envelopes(decoded[:, 0], waveform[:, 0]).mean()

    def spectral(self, decoded: Tensor, waveform: Tensor) -> dict[str, Tensor]:
        """Distances of two waveforms (B, 1, T), means over the resolutions.

        Returns:
            `log_mel` and `log_magnitude`, mean absolute distances of log-mel spectra and of log magnitude spectra, of
            which only the second sees harmonics above the first formants, and `convergence`, the norm of the
            difference of the magnitude spectra over the norm of the waveform's.
        """
        terms = {name: decoded.new_zeros(()) for name in ("log_mel", "log_magnitude", "convergence")}
        with torch.autocast(waveform.device.type, enabled=False):
            for resolution in self.resolutions:
                got, wanted = resolution.magnitude(decoded[:, 0].float()), resolution.magnitude(waveform[:, 0].float())
                floor = BIN_FLOOR * resolution.fft_size
                difference = torch.linalg.vector_norm(got - wanted, dim=(1, 2))
                norm = torch.linalg.vector_norm(wanted, dim=(1, 2)).clamp(min=1.0)
                values = {
                    "log_mel": F.l1_loss(resolution.from_magnitude(got), resolution.from_magnitude(wanted)),
                    "log_magnitude": F.l1_loss(torch.log(got + floor), torch.log(wanted + floor)),
                    "convergence": (difference / norm).mean(),
                }
                terms = {name: term + values[name] / len(self.resolutions) for name, term in terms.items()}
        return terms
