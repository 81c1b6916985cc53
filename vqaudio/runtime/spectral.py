"""From conditioning to samples on the CPU, as `vqaudio.models.spectral`, in chunks of any size."""

from __future__ import annotations

import math

import numpy as np

from vqaudio.models.config import CodecConfig
from vqaudio.models.constants import LOG_MAGNITUDE, OCTAVES, PITCH, TURN, UNLIKELY, VOICED_BELOW
from vqaudio.runtime.compilation import entry
from vqaudio.runtime.layers import Convolution, GatedStack, GatedState, Weights
from vqaudio.runtime.product import Floats


class Spectral:
    """Conditioning to samples."""

    def __init__(self, config: CodecConfig, weights: Weights) -> None:
        assert config.spectral is not None
        own = config.spectral
        self.hop, self.fft_size, self.sample_rate = config.hop, own.fft_size, config.sample_rate
        self.margin = own.margin(config.hop)
        bins = np.arange(own.fft_size // 2 + 1)
        self.bins = len(bins)
        self.input = Convolution(weights, "spectral.input", config.conditioning.channels, own.channels, exact=False)
        shape = (own.channels, own.skip_channels, own.kernel, own.dilations, config.speaker.width)
        self.stack = GatedStack(weights, "spectral.stack", *shape)
        self.head = Convolution(weights, "spectral.head", own.skip_channels, 4 * self.bins + 2, exact=False)
        self.window = (0.5 - 0.5 * np.cos(2 * np.pi / own.fft_size * np.arange(own.fft_size))).astype(np.float32)
        positions = np.arange(0, math.lcm(config.hop, own.fft_size), config.hop)  # of frames, until they repeat
        steady = (bins * positions[:, None] % own.fft_size).astype(np.float32)
        self.steady = steady * np.float32(2 * np.pi / own.fft_size)  # phases (positions, bins) of steady tones
        self.favour = (bins * config.sample_rate / own.fft_size < VOICED_BELOW).astype(np.float32)

    def start(self, speaker: Floats | None) -> SpectralState:
        """The state of a new stream of a speaker (S,) or None."""
        return SpectralState(self.stack.start(speaker), self.start_sound(0, 0))

    def start_sound(self, frame: int, phase: int) -> SoundState:
        """The state of a stream of samples that begins with a frame, whose pulses begin at a phase."""
        return SoundState(frame, phase, self.margin, self.fft_size - self.hop, len(self.head.bias))

    def push(self, state: SpectralState, conditioning: Floats, last: bool) -> Floats:
        """The next conditioning (n, C) to the samples that it completes (m,)."""
        return self.sound(state.sound, self.numbers(state.stack, conditioning, last), last)

    def numbers(self, state: GatedState, conditioning: Floats, last: bool) -> Floats:
        """The next conditioning (n, C) to the head's numbers (m, at least 4 * bins + 2) of the frames it completes."""
        return self.head(self.stack.push(state, self.input(conditioning), last))

    def sound(self, state: SoundState, numbers: Floats, last: bool) -> Floats:
        """The next numbers of the head to the samples that they complete (m,)."""
        steps = self.increments(numbers)
        begins = phases(steps, self.hop, state.phase)
        state.phase = int(begins[-1])
        state.numbers = np.concatenate([state.numbers, numbers])
        state.steps = np.concatenate([state.steps, steps])
        silence = np.zeros(self.margin if last else 0, np.float32)
        state.pulses = np.concatenate([state.pulses, pulses(steps, begins, self.hop), silence])
        count = max(0, (len(state.pulses) - self.fft_size) // self.hop + 1)
        around = state.pulses[np.arange(count)[:, None] * self.hop + np.arange(self.fft_size)]
        pieces = self._pieces(state.numbers[:count], state.steps[:count], around, state.frame)
        state.frame += count
        state.numbers, state.steps = state.numbers[count:], state.steps[count:]
        state.pulses = state.pulses[count * self.hop :]
        new = np.zeros(count * self.hop, np.float32)
        wave, envelope = np.concatenate([state.wave, new]), np.concatenate([state.envelope, new])
        overlap_add(wave, envelope, pieces, self.window, self.hop)
        ready = len(wave) - self.margin if last else len(new)
        samples = wave[:ready] / np.maximum(envelope[:ready], np.float32(1e-3))
        state.wave, state.envelope = wave[ready:], envelope[ready:]
        dropped = min(state.early, len(samples))
        state.early -= dropped
        return samples[dropped:]

    def phase_after(self, numbers: Floats, start: int) -> int:
        """The phase of the pulses after frames of the head's numbers (n, ...), of which the first begins at a phase."""
        return int(phases(self.increments(numbers), self.hop, start)[-1])

    def increments(self, numbers: Floats) -> np.ndarray:
        """The pitch of frames in the head's numbers (n, ...), in units of 1 / TURN of a turn per sample: (n,) int64, 0
        where a frame is not voiced."""
        voicing, octaves = numbers[:, 4 * self.bins], numbers[:, 4 * self.bins + 1]
        pitch = PITCH * np.exp2(np.clip(octaves, *OCTAVES)).astype(np.float64)
        return np.where(voicing > 0, np.rint(pitch * (TURN / self.sample_rate)), 0).astype(np.int64)

    def _pieces(self, numbers: Floats, steps: np.ndarray, pulses: Floats, first: int) -> Floats:
        """The head's numbers (n, ...) and the pulses around frames (n, FFT size) to stretches of waveform of that
        size, of frames from number `first`."""
        voice, voice_phase, noise, noise_phase = (numbers[:, i * self.bins : (i + 1) * self.bins] for i in range(4))
        favoured = self.favour * (steps > 0)[:, None].astype(np.float32)
        position = np.arange(first, first + len(numbers)) % len(self.steady)
        spectrum = self._polar(voice + np.float32(UNLIKELY) * (1 - favoured), voice_phase)
        sources = np.fft.rfft(pulses * (self.window * np.float32(4 / self.fft_size)), axis=1)
        spectrum *= sources.astype(np.complex64, copy=False)
        spectrum += self._polar(noise + np.float32(UNLIKELY) * favoured, noise_phase + self.steady[position])
        pieces = np.fft.irfft(spectrum, self.fft_size, axis=1)
        return pieces.astype(np.float32, copy=False)  # numpy 1 computes in float64

    def _polar(self, difference: Floats, angle: Floats) -> np.ndarray:
        """A spectrum (n, bins), complex64, of log magnitudes relative to the mean of speech."""
        magnitude = np.exp(np.minimum(difference + np.float32(LOG_MAGNITUDE), np.float32(math.log(self.fft_size))))
        spectrum = np.empty(magnitude.shape, np.complex64)
        spectrum.real, spectrum.imag = magnitude * np.cos(angle), magnitude * np.sin(angle)
        return spectrum


class SpectralState:
    """What a stream remembers: the stack's past, and that of the samples."""

    def __init__(self, stack: GatedState, sound: SoundState) -> None:
        self.stack, self.sound = stack, sound


class SoundState:
    """What a stream of samples remembers: numbers and pulses of frames whose window is not yet full, and the sums of
    pieces that overlap with later ones."""

    def __init__(self, frame: int, phase: int, margin: int, overlap: int, width: int) -> None:
        self.frame, self.phase = frame, phase
        self.early = margin  # samples before the waveform that are still to come
        self.numbers = np.zeros((0, width), np.float32)
        self.steps = np.zeros(0, np.int64)
        self.pulses = np.zeros(margin, np.float32)
        self.wave = np.zeros(overlap, np.float32)
        self.envelope = np.zeros(overlap, np.float32)


@entry
def phases(steps: np.ndarray, hop: int, start: int) -> np.ndarray:
    """The phases (n + 1,) at which frames of so many steps per sample (n,) begin and the last one ends: every voiced
    stretch but one that goes on begins at 0."""
    begins = np.empty(len(steps) + 1, np.int64)
    begins[0] = start
    for i in range(len(steps)):
        begins[i + 1] = (begins[i] + hop * steps[i]) % TURN if steps[i] else 0
    return begins


@entry
def pulses(steps: np.ndarray, begins: np.ndarray, hop: int) -> Floats:
    """What `vqaudio.models.excitation.pulses` gives, (n * hop,)."""
    sound = np.zeros(len(steps) * hop, np.float32)
    for frame in range(len(steps)):
        if steps[frame]:
            many = 2 * ((TURN // 2 - 1) // steps[frame]) + 1
            for i in range(hop):
                phase = (begins[frame] + i * steps[frame]) % TURN
                half = math.sin(phase * (math.pi / TURN))
                ratio = math.sin(phase * many % (2 * TURN) * (math.pi / TURN)) / half if half else float(many)
                sound[frame * hop + i] = 0.5 * ratio - 0.5
    return sound


@entry
def overlap_add(wave: Floats, envelope: Floats, pieces: Floats, window: Floats, hop: int) -> None:
    """Add pieces (n, size) under the window, one every hop, to a waveform, and the window's squares to an envelope."""
    for frame in range(len(pieces)):
        for i in range(pieces.shape[1]):
            wave[frame * hop + i] += pieces[frame, i] * window[i]
            envelope[frame * hop + i] += window[i] * window[i]
