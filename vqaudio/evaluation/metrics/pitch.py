"""Whether the melody survives: errors of fundamental frequency and of voicing, both tracked by pYIN (Mauch and Dixon
2014) as librosa has it.
"""

from __future__ import annotations

import functools
import math

import numpy as np

LOWEST, HIGHEST = 65.0, 400.0  # Hz, of speech, above the hum of 60 Hz mains
WINDOW, HOP = 1024, 256  # samples: at 16 kHz, 64 and 16 ms
REMEMBERED = 4  # waveforms: an original, what became of it, and the pair before


def pitch_error(reference: np.ndarray, decoded: np.ndarray, sample_rate: int) -> float:
    """Root mean square difference of the fundamental frequencies in cents, over the frames that are voiced in both;
    undefined where there are none. A track that jumps by an octave for a while counts with its 1200 cents."""
    ours, theirs = _pitch(reference, sample_rate), _pitch(decoded, sample_rate)
    both = ~np.isnan(ours) & ~np.isnan(theirs)
    if not both.any():
        return math.nan
    return float(np.sqrt(np.mean((1200 * np.log2(theirs[both] / ours[both])) ** 2)))


def voicing_error(reference: np.ndarray, decoded: np.ndarray, sample_rate: int) -> float:
    """Frames, of all, that are voiced in one of both and unvoiced in the other, in per cent."""
    ours, theirs = _pitch(reference, sample_rate), _pitch(decoded, sample_rate)
    return 100 * float(np.mean(np.isnan(ours) != np.isnan(theirs)))


def _pitch(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """F0 of every frame in Hz, NaN where it is unvoiced; remembered, for tracking takes longer than coding."""
    return _track(waveform.astype(np.float32).tobytes(), sample_rate)


@functools.lru_cache(REMEMBERED)
def _track(waveform: bytes, sample_rate: int) -> np.ndarray:
    import librosa

    f0, _, _ = librosa.pyin(
        np.frombuffer(waveform, np.float32),
        fmin=LOWEST,
        fmax=HIGHEST,
        sr=sample_rate,
        frame_length=WINDOW,
        hop_length=HOP,
    )
    f0.flags.writeable = False
    return f0
