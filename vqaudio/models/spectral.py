"""The feed-forward decoder: a gated dilated stack at code rate whose head gives a pitch and two spectra, of a voice and
of noise, for an inverse short-time Fourier transform (Vocos, Siuzdak 2023, arXiv 2306.00814, section 3).

The voice's spectrum is a filter for pulses at the pitch (`vqaudio.models.excitation`), the noise's is magnitude and
phase by themselves; the waveform is that of their sum.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqaudio.models.config import SpectralConfig
from vqaudio.models.constants import LOG_MAGNITUDE, OCTAVES, PITCH, UNLIKELY, VOICED_BELOW
from vqaudio.models.excitation import increments, phases, pulses
from vqaudio.models.gated import GatedStack

OCTAVE = 10.0  # nats that an octave counts for


@dataclass(frozen=True)
class Heard:
    """What the head says of a waveform, each (B, bins, frames) or (B, frames).

    Attributes:
        voice, voice_phase: natural log of the gain, and the phase, of the filter of the pulses.
        noise, noise_phase: natural log of the magnitude, and the phase relative to a steady tone.
        voicing: logit of the probability that a frame is voiced.
        octaves: its pitch, if it is, in octaves above `PITCH`.
    """

    voice: Tensor
    voice_phase: Tensor
    noise: Tensor
    noise_phase: Tensor
    voicing: Tensor
    octaves: Tensor

    def pitch(self) -> Tensor:
        """(B, frames) in Hz, 0 where a frame is more likely not voiced; without a gradient."""
        pitch = PITCH * torch.exp2(self.octaves.detach().clamp(*OCTAVES))
        return torch.where(self.voicing > 0, pitch, 0.0)

    def cut(self, first: int, stop: int) -> Heard:
        """The same of frames [first, stop)."""
        return Heard(*(getattr(self, field.name)[..., first:stop] for field in dataclasses.fields(self)))


class SpectralDecoder(nn.Module):
    """Conditioning (B, C, frames) and a speaker vector (B, S) to a waveform (B, 1, frames * hop).

    Args:
        conditioning_channels: C.
        speaker_channels: S, 0 for none.
        hop: samples per code frame; the FFT spans two hops or more, and an even number of samples beyond one.
        sample_rate: Hz.
    """

    window: Tensor
    favour: Tensor

    def __init__(
        self, config: SpectralConfig, conditioning_channels: int, speaker_channels: int, hop: int, sample_rate: int
    ) -> None:
        super().__init__()
        self.hop, self.sample_rate = hop, sample_rate
        self.fft_size, self.margin = config.fft_size, config.margin(hop)
        self.input = nn.Conv1d(conditioning_channels, config.channels, 1)
        self.stack = GatedStack(
            config.channels,
            config.skip_channels,
            config.kernel,
            config.dilations,
            speaker_channels=speaker_channels,
        )
        bins = config.fft_size // 2 + 1
        self.head = nn.Conv1d(config.skip_channels, 4 * bins + 2, 1)
        self.register_buffer("window", torch.hann_window(config.fft_size), persistent=False)
        low = torch.arange(bins) * sample_rate / config.fft_size < VOICED_BELOW
        self.register_buffer("favour", low.float()[:, None], persistent=False)

    def forward(self, conditioning: Tensor, speaker: Tensor | None) -> Tensor:
        """(B, C, frames) and (B, S) to (B, 1, frames * hop), at the pitch that the head gives."""
        heard = self.hear(conditioning, speaker)
        return self.synthesis(heard, heard.pitch())

    def hear(self, conditioning: Tensor, speaker: Tensor | None) -> Heard:
        """(B, C, frames) and (B, S) to what the head says."""
        numbers = self.head(self.stack(self.input(conditioning), speaker=speaker)).float()
        bins = self.fft_size // 2 + 1
        voice, voice_phase, noise, noise_phase, pitch = numbers.split([bins, bins, bins, bins, 2], dim=1)
        return Heard(voice, voice_phase, noise, noise_phase, *pitch.unbind(1))

    def synthesis(self, heard: Heard, pitch: Tensor, start: int = 0, phase: int = 0) -> Tensor:
        """What the head says, at a pitch (B, frames) in Hz, 0 for unvoiced frames, to (B, 1, frames * hop).

        Args:
            start: number of the first frame.
            phase: that of the pulses where it begins, in units of 1 / TURN of a turn.
        """
        with torch.autocast(pitch.device.type, enabled=False):
            steps = increments(pitch, self.sample_rate)
            sound = pulses(steps, phases(steps, self.hop, phase), self.hop)
            favoured = self.favour.to(heard.voice.dtype) * (steps > 0)[:, None]
            voice = _polar(heard.voice + UNLIKELY * (1 - favoured), heard.voice_phase, self.fft_size)
            steady = self.steady_phase(start, pitch.shape[1])
            noise = _polar(heard.noise + UNLIKELY * favoured, heard.noise_phase + steady, self.fft_size)
            return self.overlap_add(voice * self.analysis(sound) + noise)

    def phase_after(self, pitch: Tensor, start: int) -> int:
        """The phase of the pulses after frames of a pitch (1, frames), of which the first begins at a phase."""
        steps = F.pad(increments(pitch, self.sample_rate), (0, 1))
        return int(phases(steps, self.hop, start)[0, -1])

    def analysis(self, sound: Tensor) -> Tensor:
        """Spectra (B, bins, frames) of pulses (B, frames * hop), in which a cosine of amplitude 1 has magnitude 1.

        Frame i is centred on the middle of samples [i * hop, (i + 1) * hop).
        """
        padded = F.pad(sound, (self.margin, self.margin)).to(self.window.dtype)
        spectrum = torch.stft(padded, self.fft_size, self.hop, window=self.window, center=False, return_complex=True)
        return spectrum * (4 / self.fft_size)

    def steady_phase(self, start: int, frames: int) -> Tensor:
        """The phase (bins, frames) of a steady tone in the middle of each bin, from which the head gives deviations.

        Without it a network that does not know the time could only repeat itself at the frame rate in steady sounds.
        """
        position = (torch.arange(start, start + frames, device=self.window.device) * self.hop) % self.fft_size
        bins = torch.arange(self.fft_size // 2 + 1, device=self.window.device)
        return (bins[:, None] * position % self.fft_size) * (2 * math.pi / self.fft_size)

    def overlap_add(self, spectrum: Tensor) -> Tensor:
        """Windowed overlap-add of complex spectra (B, bins, frames) to (B, 1, frames * hop), normalised by the window.

        Frame i is centred on the middle of samples [i * hop, (i + 1) * hop).
        """
        frames = spectrum.shape[2]
        pieces = (torch.fft.irfft(spectrum.transpose(1, 2), n=self.fft_size) * self.window).transpose(1, 2)
        weights = self.window.square()[None, :, None].expand(1, -1, frames)
        length = (frames - 1) * self.hop + self.fft_size
        own = slice(self.margin, self.margin + frames * self.hop)
        wave, envelope = (
            F.fold(x, (1, length), (1, self.fft_size), stride=(1, self.hop))[:, :, 0, own] for x in (pieces, weights)
        )
        return wave / envelope.clamp(min=1e-3)


def _polar(difference: Tensor, phase: Tensor, fft_size: int) -> Tensor:
    """A spectrum of log magnitudes, relative to the mean of speech and limited to what full scale can have."""
    return torch.polar(torch.exp((LOG_MAGNITUDE + difference).clamp(max=math.log(fft_size))), phase)


def pitch_distance(heard: Heard, pitch: Tensor) -> Tensor:
    """How far what the head says is from a pitch (B, frames) in Hz, 0 for unvoiced frames.

    Returns:
        the mean over all frames of the cross-entropy of the voicing, in nats, and of `OCTAVE` times the distance in
        octaves, which is 0 where a frame is not voiced.
    """
    voiced = (pitch > 0).float()
    entropy = F.binary_cross_entropy_with_logits(heard.voicing, voiced)
    octaves = torch.log2(torch.where(pitch > 0, pitch, PITCH) / PITCH)
    return entropy + OCTAVE * ((heard.octaves - octaves).abs() * voiced).mean()
