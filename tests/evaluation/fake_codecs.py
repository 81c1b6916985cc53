"""Codecs whose quality is known beforehand, for the tests of the harness; an importable module, so that they spawn."""

from __future__ import annotations

import numpy as np

from vqaudio.codes import Codes


class Perfect:
    """Sends every sample as a 16-bit code, so that a 16-bit file comes back as it was."""

    def encode(self, waveform: np.ndarray, sample_rate: int) -> Codes:
        pcm = np.rint(np.clip(waveform * 32768, -32768, 32767)).astype(np.int32) + 32768
        return Codes(pcm[None], codebook_size=65536, hop=1, sample_rate=sample_rate, samples=len(pcm), model=b"fake")

    def decode(self, codes: Codes, *, decoder: str | None = None) -> np.ndarray:
        return ((codes.numpy()[0].astype(np.float32) - 32768) / 32768).astype(np.float32)


class Noise(Perfect):
    """Decodes everything to white noise."""

    def decode(self, codes: Codes, *, decoder: str | None = None) -> np.ndarray:
        return np.random.default_rng(0).uniform(-0.3, 0.3, codes.samples).astype(np.float32)


class Swapped(Perfect):
    """Decodes every file to the one before it, at the right length."""

    previous = np.zeros(1, np.float32)

    def decode(self, codes: Codes, *, decoder: str | None = None) -> np.ndarray:
        decoded, self.previous = np.resize(self.previous, codes.samples), super().decode(codes)
        return decoded


class Shorter(Perfect):
    """Loses the last sample."""

    def decode(self, codes: Codes, *, decoder: str | None = None) -> np.ndarray:
        return super().decode(codes)[:-1]


class Broken(Perfect):
    """Decodes to what is no sound."""

    def decode(self, codes: Codes, *, decoder: str | None = None) -> np.ndarray:
        return np.full(codes.samples, np.nan, np.float32)
