"""How far the spectral envelopes of two waveforms lie apart: log-mel distance and mel-cepstral distortion."""

from __future__ import annotations

import math

import numpy as np

from vqaudio.evaluation.log_mel import MELS, decibels

CEPSTRA = 24  # mel cepstra 1 to 24 of the 80 bands: the envelope, without the level
SPEECH_DB = 40.0  # frames so far below the loudest are pauses, as for STOI


def log_mel_distance(reference: np.ndarray, decoded: np.ndarray, sample_rate: int) -> float:
    """Mean absolute difference in dB of two log-mel spectrograms: 80 bands, 512-sample Hann windows, hop 160."""
    return float(np.abs(decibels(reference, sample_rate) - decibels(decoded, sample_rate)).mean())


def mel_cepstral_distortion(reference: np.ndarray, decoded: np.ndarray, sample_rate: int) -> float:
    """Mel-cepstral distortion in dB (Kubichek 1993), averaged over the frames of speech.

    That is 10 / ln 10 * sqrt(2 * sum over d of (c_d - c'_d)^2), d from 1 to 24, on the frames whose power in the
    reference is within 40 dB of the loudest; undefined where the reference is silent. The cepstra of a frame are
    c_d = 1/80 * sum over m of ln(P_m) * cos(pi * d * (m + 1/2) / 80), P being the 80 mel powers of `log_mel_distance`,
    so that the distortion is the root mean square distance in dB of two smoothed log-mel spectra of the same level.
    """
    from scipy.fft import dct

    levels = decibels(reference, sample_rate)
    power = (10 ** (levels / 10)).sum(axis=0)
    if not reference.any():
        return math.nan
    speech = power >= power.max() * 10 ** (-SPEECH_DB / 10)
    # An orthonormal transform of decibels is sqrt(2 * 80) * 10 / ln 10 times these cepstra.
    difference = dct(levels - decibels(decoded, sample_rate), axis=0, norm="ortho")[1 : CEPSTRA + 1, speech]
    return float(np.sqrt((difference**2).sum(axis=0) / MELS).mean())
