"""From sub-bands to samples on the CPU, as `vqaudio.models.filterbank`, in chunks of any size."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from vqaudio.models.prototype import pqmf_delay, pqmf_reach, pqmf_synthesis
from vqaudio.runtime.layers import Past, add_convolution, pad
from vqaudio.runtime.product import Floats


class Bank:
    """Sub-bands to samples; a single band to itself."""

    def __init__(self, bands: int) -> None:
        self.bands, half = bands, pqmf_delay(bands) // 2
        self.back, self.ahead = pqmf_reach(bands)
        place = np.arange(bands) + half - bands * np.arange(-self.back, self.ahead + 1)[:, None]  # (taps, samples)
        filters = pqmf_synthesis(bands) if bands > 1 else np.ones((1, 1))
        inside = (place >= 0) & (place < filters.shape[1])
        taps = np.where(inside, filters[:, np.where(inside, place, 0)], 0)  # (bands, taps, samples of a step)
        self.weights = pad(taps.transpose(1, 0, 2).reshape(1, -1, bands).astype(np.float32), 2)

    def start(self) -> Past:
        """The past of a new stream."""
        return Past(self.back, self.ahead, self.bands)

    def push(self, past: Past, signal: Floats, last: bool) -> Floats:
        """The next sub-bands (bands, steps) to the samples that they complete (m,)."""
        held = past.push(np.ascontiguousarray(signal.T), last)
        totals = np.zeros((max(0, len(held) - self.back - self.ahead), self.weights.shape[2]), np.float32)
        windows = as_strided(held, (len(totals), self.weights.shape[1]), held.strides)
        add_convolution(totals, self.weights, windows, 1)
        return totals[:, : self.bands].reshape(-1)
