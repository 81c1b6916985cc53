"""The pitch of speech in batches, as a target to train on: a normalised correlation and the best path through it
(Talkin 1995, "A robust algorithm for pitch tracking (RAPT)", sections 3 and 4).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LOWEST, HIGHEST = 60.0, 500.0  # Hz
PER_OCTAVE = 48  # candidates
WINDOW, FRAME_STEP = 0.02, 0.008  # seconds that are correlated, and from one frame to the next
BAND = (100.0, 1500.0)  # Hz; what lies above tells little of the pitch, and what lies below is often hum
QUIET = 3e-4  # of the loudest window's power, which is added to every window's

LONG_LAG = 0.1  # by how much the longest lag's correlation counts less, lest two periods pass for one
STEP_COST = 0.03  # of a change by one candidate from frame to frame
LARGEST_STEP = 5  # candidates
SWITCH_COST = 0.4  # of a change between voiced and unvoiced
UNVOICED_COST = 0.4  # of an unvoiced frame; a voiced one costs what its correlation lacks of 1


class PitchTracker(nn.Module):
    """Waveforms (B, T) to their pitch at code rate (B, T / hop), in Hz, 0 where nothing is voiced.

    Args:
        sample_rate: Hz.
        hop: samples per code frame.
    """

    lags: Tensor

    def __init__(self, sample_rate: int, hop: int) -> None:
        super().__init__()
        self.sample_rate, self.hop = sample_rate, hop
        self.window, self.frame_step = (max(1, round(seconds * sample_rate)) for seconds in (WINDOW, FRAME_STEP))
        count = math.ceil(math.log2(HIGHEST / LOWEST) * PER_OCTAVE)
        frequencies = LOWEST * 2 ** (torch.arange(count) / PER_OCTAVE)
        self.register_buffer("lags", sample_rate / frequencies, persistent=False)  # samples
        self.longest = math.ceil(sample_rate / LOWEST) + 1

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """(B, T), T a multiple of the hop, to (B, T / hop)."""
        with torch.autocast(waveform.device.type, enabled=False):
            correlation = self.correlation(waveform.float())
            path = best_path(correlation * (1 - LONG_LAG * self.lags / self.longest))
            pitch = self.refined(correlation, path)
            frames = waveform.shape[1] // self.hop
            place = (torch.arange(frames, device=pitch.device) * self.hop + self.hop // 2) // self.frame_step
            return pitch[:, place.clamp(max=pitch.shape[1] - 1)]

    def correlation(self, waveform: Tensor) -> Tensor:
        """(B, T) to the normalised correlation (B, frames, candidates) of each frame with what comes a lag later."""
        band = self._band_pass(waveform)
        span = self.window + self.longest
        frames = -(-band.shape[1] // self.frame_step)
        ahead = (span - self.frame_step) // 2
        padded = F.pad(band, (ahead, (frames - 1) * self.frame_step + span - ahead - band.shape[1]))
        pieces = padded.unfold(1, span, self.frame_step)
        size = 1 << (span + self.window - 1).bit_length()
        spectra = torch.fft.rfft(pieces, size) * torch.fft.rfft(pieces[:, :, : self.window], size).conj()
        products = torch.fft.irfft(spectra, 2 * size)[:, :, : 2 * self.longest] * 2  # at every half of a sample
        power = F.pad(pieces.square().cumsum(2), (1, 0))
        power = power[:, :, self.window :] - power[:, :, : -self.window]
        floor = QUIET * power.amax((1, 2), keepdim=True) + 1e-9
        scale = ((power[:, :, :1] + floor) * (power + floor)).sqrt()
        return _between(products, 2 * self.lags) / _between(scale, self.lags)

    def refined(self, correlation: Tensor, path: Tensor) -> Tensor:
        """The pitch in Hz of a path (B, frames) through a correlation, between the candidates; 0 where it is -1."""
        last = correlation.shape[2] - 1
        places = path.clamp(1, last - 1)
        below, here, above = (correlation.gather(2, (places + i)[:, :, None])[:, :, 0] for i in (-1, 0, 1))
        bend = (2 * here - below - above).clamp(min=1e-6)
        shift = ((above - below) / (2 * bend)).clamp(-0.5, 0.5)
        pitch = LOWEST * 2 ** ((places + shift) / PER_OCTAVE)
        return torch.where(path >= 0, pitch, 0.0)

    def _band_pass(self, waveform: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(waveform)
        frequencies = torch.linspace(0, self.sample_rate / 2, spectrum.shape[1], device=waveform.device)
        kept = torch.sigmoid((frequencies - BAND[0]) / 10) * torch.sigmoid((BAND[1] - frequencies) / 50)
        return torch.fft.irfft(spectrum * kept, waveform.shape[1])


def best_path(voiced: Tensor) -> Tensor:
    """The candidate of every frame (B, frames), -1 for unvoiced ones, on the path that costs least.

    Args:
        voiced: how well each candidate explains each frame, at most 1: (B, frames, candidates).
    """
    steps = STEP_COST * torch.arange(-LARGEST_STEP, LARGEST_STEP + 1, device=voiced.device).abs()
    cost, silent = 1 - voiced[:, 0], voiced.new_full(voiced.shape[:1], UNVOICED_COST)
    moves, falls = [], []
    for frame in voiced.unbind(1)[1:]:
        near = F.pad(cost, (LARGEST_STEP, LARGEST_STEP), value=math.inf).unfold(1, len(steps), 1) + steps
        least, step = near.min(2)
        onset = (silent + SWITCH_COST)[:, None]
        moves.append(torch.where(onset < least, -1 - 2 * LARGEST_STEP, step - LARGEST_STEP))
        end, candidate = cost.min(1)
        stays = silent <= end + SWITCH_COST
        falls.append(torch.where(stays, -1, candidate))
        silent = torch.where(stays, silent, end + SWITCH_COST) + UNVOICED_COST
        cost = torch.minimum(least, onset) + 1 - frame
    end, candidate = cost.min(1)
    place = torch.where(silent < end, -1, candidate)
    path = [place]
    for move, fall in zip(reversed(moves), reversed(falls), strict=True):
        step = move.gather(1, place.clamp(min=0)[:, None])[:, 0]
        before = torch.where(step < -LARGEST_STEP, -1, place + step)
        place = torch.where(place < 0, fall, before)
        path.append(place)
    return torch.stack(path[::-1], dim=1)


def _between(values: Tensor, places: Tensor) -> Tensor:
    """Values (..., n) at places (candidates,) between their indices."""
    below = places.floor().long().clamp(max=values.shape[-1] - 2)
    return torch.lerp(values[..., below], values[..., below + 1], (places - below).to(values.dtype))
