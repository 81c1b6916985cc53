"""From codes to conditioning and from conditioning to samples on the CPU, in chunks of any size: the networks of
`vqaudio.models.conditioning` and `vqaudio.models.spectral`."""

from __future__ import annotations

import math

import numpy as np

from vqaudio.models.config import CodecConfig
from vqaudio.models.constants import LOG_MAGNITUDE, MEL_MEAN, MEL_SPREAD
from vqaudio.runtime.layers import Convolution, GatedStack, GatedState, Past, Weights
from vqaudio.runtime.product import Floats, entry


def speaker_channels(config: CodecConfig) -> int:
    """S of the speaker vector, 0 without one."""
    return 0 if config.speaker.kind == "none" else config.speaker.channels


class Conditioning:
    """Quantised latents to conditioning."""

    def __init__(self, config: CodecConfig, weights: Weights) -> None:
        own = config.conditioning
        self.mels = own.mels
        self.input = Convolution(
            weights, "conditioning.input", config.encoder.latent_channels, own.channels, own.kernel, exact=False
        )
        shape = (own.channels, own.channels, own.kernel, (1,) * own.layers, speaker_channels(config))
        self.stack = GatedStack(weights, "conditioning.stack", *shape)
        self.mel = Convolution(weights, "conditioning.mel", own.channels, own.mels)
        self.reach = own.kernel // 2 * (1 + own.layers)  # frames before and after its own that one depends on

    def start(self, speaker: Floats | None) -> ConditioningState:
        """The state of a new stream of a speaker (S,) or None."""
        return ConditioningState(self.input.start(), self.stack.start(speaker))

    def push(self, state: ConditioningState, latents: Floats, last: bool) -> Floats:
        """The next latents (n, D) to the conditioning that they complete (m, C)."""
        return self.stack.push(state.stack, self.input(state.input.push(latents, last)), last)

    def levels(self, conditioning: Floats) -> Floats:
        """How loud frames of conditioning (n, C) are going to be: the log of the sum of their mel spectrum (n,)."""
        return np.log(np.exp(MEL_MEAN + MEL_SPREAD * self.mel(conditioning)[:, : self.mels]).sum(axis=1))


class ConditioningState:
    """What a stream of conditioning remembers."""

    def __init__(self, input_: Past, stack: GatedState) -> None:
        self.input, self.stack = input_, stack


class Spectral:
    """Conditioning to samples."""

    def __init__(self, config: CodecConfig, weights: Weights) -> None:
        assert config.spectral is not None
        own = config.spectral
        self.hop, self.fft_size = config.hop, own.fft_size
        bins = np.arange(own.fft_size // 2 + 1)
        self.input = Convolution(weights, "spectral.input", config.conditioning.channels, own.channels, exact=False)
        shape = (own.channels, own.skip_channels, own.kernel, own.dilations, speaker_channels(config))
        self.stack = GatedStack(weights, "spectral.stack", *shape)
        self.head = Convolution(weights, "spectral.head", own.skip_channels, 2 * len(bins), exact=False)
        self.window = (0.5 - 0.5 * np.cos(2 * np.pi / own.fft_size * np.arange(own.fft_size))).astype(np.float32)
        positions = np.arange(0, math.lcm(config.hop, own.fft_size), config.hop)  # of frames, until they repeat
        steady = (bins * positions[:, None] % own.fft_size).astype(np.float32)
        self.steady = steady * np.float32(2 * np.pi / own.fft_size)  # phases (positions, bins) of steady tones
        overlap = -(-(own.fft_size - config.hop) // (2 * config.hop))
        heard = sum(layer.reach for layer in self.stack.layers) // 2
        self.reach = heard + overlap  # frames before and after its own that a frame of samples depends on
        self.margin = (own.fft_size - config.hop) // 2  # samples of a frame's piece before and after its own hop
        self.look_ahead = heard * config.hop + self.margin  # samples

    def start(self, speaker: Floats | None, frame: int = 0) -> SpectralState:
        """The state of a new stream of a speaker (S,) or None, of which the first frame has this number."""
        return SpectralState(self.stack.start(speaker), frame, self.margin, self.fft_size - self.hop)

    def push(self, state: SpectralState, conditioning: Floats, last: bool) -> Floats:
        """The next conditioning (n, C) to the samples that it completes (m,)."""
        numbers = self.head(self.stack.push(state.stack, self.input(conditioning), last))
        pieces = self._pieces(numbers, state.frame)
        state.frame += len(pieces)
        new = np.zeros(len(pieces) * self.hop, np.float32)
        wave, envelope = np.concatenate([state.wave, new]), np.concatenate([state.envelope, new])
        overlap_add(wave, envelope, pieces, self.window, self.hop)
        ready = len(wave) - self.margin if last else len(new)
        samples = wave[:ready] / np.maximum(envelope[:ready], np.float32(1e-3))
        state.wave, state.envelope = wave[ready:], envelope[ready:]
        dropped = min(state.early, len(samples))
        state.early -= dropped
        return samples[dropped:]

    def _pieces(self, numbers: Floats, first: int) -> Floats:
        """The head's numbers (n, 2 * bins) to stretches of waveform (n, FFT size), of frames from number `first`."""
        bins = self.fft_size // 2 + 1
        position = np.arange(first, first + len(numbers)) % len(self.steady)
        angle = numbers[:, bins : 2 * bins] + self.steady[position]
        magnitude = np.exp(
            np.minimum(numbers[:, :bins] + np.float32(LOG_MAGNITUDE), np.float32(math.log(self.fft_size)))
        )
        spectrum = np.empty(magnitude.shape, np.complex64)
        spectrum.real, spectrum.imag = magnitude * np.cos(angle), magnitude * np.sin(angle)
        pieces = np.fft.irfft(spectrum, self.fft_size, axis=1)
        return pieces.astype(np.float32, copy=False)  # numpy 1 computes in float64


class SpectralState:
    """What a stream of samples remembers: the stack's past, and the sums of pieces that overlap with later ones."""

    def __init__(self, stack: GatedState, frame: int, margin: int, overlap: int) -> None:
        self.stack, self.frame = stack, frame
        self.early = margin  # samples before the waveform that are still to come
        self.wave = np.zeros(overlap, np.float32)
        self.envelope = np.zeros(overlap, np.float32)


@entry
def overlap_add(wave: Floats, envelope: Floats, pieces: Floats, window: Floats, hop: int) -> None:
    """Add pieces (n, size) under the window, one every hop, to a waveform, and the window's squares to an envelope."""
    for frame in range(len(pieces)):
        for i in range(pieces.shape[1]):
            wave[frame * hop + i] += pieces[frame, i] * window[i]
            envelope[frame * hop + i] += window[i] * window[i]
