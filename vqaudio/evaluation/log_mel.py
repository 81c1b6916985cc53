"""The log-mel spectrogram that is measured and shown: 80 bands, Hann windows of 512 samples, a hop of 160."""

from __future__ import annotations

import numpy as np

MELS, WINDOW, HOP = 80, 512, 160  # bands, samples, samples
FLOOR = 1e-8  # power of a band; 16-bit rounding noise lies below it


def decibels(waveform: np.ndarray, sample_rate: int, floor: float = FLOOR) -> np.ndarray:
    """Waveforms (..., T) to the powers (..., MELS, frames) of their bands in dB, no fainter than a floor."""
    import librosa

    power = librosa.feature.melspectrogram(
        y=waveform, sr=sample_rate, n_fft=WINDOW, hop_length=HOP, n_mels=MELS, pad_mode="constant"
    )
    return 10 * np.log10(np.maximum(power, floor))
