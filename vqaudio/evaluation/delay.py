"""How far decoded speech lags behind its original, and the decoded speech without that lag.

Speech coders look ahead and resample, and many programs leave that delay in what they decode. Parametric coders do not
keep the waveform, so that waveforms cannot be correlated; the energies in bands of the spectrum can, whatever the
phase. All metrics that compare frame by frame need it (ESTOI, STOI, log-mel and mel-cepstral distance, F0, voicing);
PESQ aligns by itself.
"""

from __future__ import annotations

import numpy as np
from scipy import fft

LONGEST = 0.1  # seconds, either way
STEP = 0.001  # seconds between frames, and so the resolution
NEGLIGIBLE = 0.001  # seconds: speech that does not lag at all may seem to by so much
WINDOW = 0.032  # seconds: longer than a period, lest one pulse of the voice is taken for the next
EDGES = np.geomspace(150, 3600, 17)  # Hz, of 16 bands that telephone speech still has
TOGETHER = 10_000  # windows that are transformed at once
RANGE = 1e-5  # of the loudest energy in a band; what is below counts as silence


def delay(reference: np.ndarray, decoded: np.ndarray, sample_rate: int) -> int:
    """Samples by which `decoded` (T',) lags behind `reference` (T,), both at `sample_rate` Hz; negative where it leads.

    It is the lag of at most 0.1 s, in whole milliseconds, at which the logarithmic energies in 16 bands correlate best
    over time. That is known to 1 to 3 ms; a lag of 1 ms counts as none. 0 where one of both is silent.
    """
    if not reference.any() or not decoded.any():
        return 0
    hop = round(STEP * sample_rate)
    ours, theirs = (_energies(waveform, sample_rate, hop) for waveform in (reference, decoded))
    frames = max(ours.shape[1], theirs.shape[1])
    longest = round(LONGEST / STEP)
    size = fft.next_fast_len(frames + longest, real=True)
    spectrum = (fft.rfft(theirs, size) * fft.rfft(ours, size).conj()).sum(axis=0)
    correlation = fft.irfft(spectrum, size)
    lags = np.array(sorted(range(-longest, longest + 1), key=abs))  # of lags that fit alike the shortest one counts
    best = int(lags[correlation[lags].argmax()])
    return best * hop if abs(best) > round(NEGLIGIBLE / STEP) else 0


def judged(reference: np.ndarray, decoded: np.ndarray, sample_rate: int) -> tuple[np.ndarray, int]:
    """What metrics hear of `decoded` (T',), and its delay in samples, which is taken out: a waveform of the length of
    `reference` (T,), cut or padded with silence, and clipped as a file would hold it."""
    clipped = np.clip(decoded, -1.0, 1.0)
    lag = delay(reference, clipped, sample_rate)
    return earlier(clipped, lag, len(reference)), lag


def earlier(decoded: np.ndarray, lag: int, samples: int) -> np.ndarray:
    """`decoded` (T',) moved to the front by `lag` samples, cut or padded with silence to `samples`."""
    if lag == 0 and len(decoded) == samples:
        return decoded
    moved = decoded[lag:] if lag > 0 else np.pad(decoded, (-lag, 0))
    return np.pad(moved[:samples], (0, max(0, samples - len(moved))))


def _energies(waveform: np.ndarray, sample_rate: int, hop: int) -> np.ndarray:
    """(bands, frames): logarithmic energies, each band without its mean over time."""
    window = round(WINDOW * sample_rate)
    padded = np.pad(waveform.astype(np.float32), window // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    shape, starts = np.hanning(window).astype(np.float32), np.round(EDGES * window / sample_rate).astype(int)

    def energies(some: np.ndarray) -> np.ndarray:
        return np.add.reduceat(np.abs(fft.rfft(some * shape)) ** 2, starts, axis=1)[:, :-1].T

    bands = np.concatenate([energies(frames[i : i + TOGETHER]) for i in range(0, len(frames), TOGETHER)], axis=1)
    loudest = bands.max(axis=1, keepdims=True)
    levels = np.log(np.maximum(bands, RANGE * loudest) + np.finfo(np.float32).tiny)  # a band may be empty
    means = levels.mean(axis=1, keepdims=True, dtype=np.float64)  # in which those of silence are exact
    return levels - means.astype(np.float32)
