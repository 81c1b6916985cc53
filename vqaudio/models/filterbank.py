"""A critically sampled pseudo-QMF bank: the sub-bands that a multi-band WaveNet generates several of per step.

All filters are cosine modulations of one low-pass prototype, designed for near-perfect reconstruction by minimising its
stopband under quadratic constraints (Nguyen 1994, "Near-perfect-reconstruction pseudo-QMF banks", IEEE Transactions on
Signal Processing 42). Speech models use such a bank in this way in Yu et al. 2020 (DurIAN, arXiv 1909.01700) and Yang
et al. 2020 (multi-band MelGAN, arXiv 2005.05106).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from vqaudio.errors import UsageError

DESIGN_ROUNDS = 40


class PQMF(nn.Module):
    """Splits a waveform into `bands` sub-bands at `1 / bands` of its rate, and joins them again.

    All filters are centred: step k of every sub-band describes the samples around `bands * k`, and the joined waveform
    lies on the original. The error is below -75 dB, except in the `delay / 2` samples at both ends of a waveform that
    does not begin and end in silence, where steps outside it are missing. A sub-band has about the amplitude of the
    waveform, so it stays near [-1, 1]; an orthonormal bank would give `sqrt(bands)` times as much.

    Attributes:
        delay: samples that a causal version of analysis and synthesis together waits, half of them in each.
    """

    def __init__(self, bands: int = 4) -> None:
        super().__init__()
        self.bands = bands
        self.delay = 16 * bands - 2
        prototype = _prototype(bands, self.delay)
        time = np.arange(self.delay + 1) - self.delay / 2
        band = np.arange(bands)[:, None]
        angle = (2 * band + 1) * np.pi / (2 * bands) * time
        phase = (-1.0) ** band * np.pi / 4
        self.analysis_filters: Tensor
        self.synthesis_filters: Tensor
        for name, filters in (
            ("analysis_filters", 2 * prototype * np.cos(angle - phase)[:, ::-1]),  # reversed: conv1d correlates
            ("synthesis_filters", 2 * bands * prototype * np.cos(angle + phase)),
        ):
            kernels = torch.from_numpy(np.ascontiguousarray(filters)).float().unsqueeze(1)
            self.register_buffer(name, kernels, persistent=False)

    def analysis(self, waveform: Tensor) -> Tensor:
        """(B, 1, T) to the sub-bands (B, bands, T / bands), lowest first, in float32 under autocast too.

        Raises:
            UsageError: where T is no multiple of `bands`.
        """
        if waveform.shape[2] % self.bands:
            raise UsageError(f"A waveform of {waveform.shape[2]} samples cannot be split into {self.bands} sub-bands.")
        with torch.autocast(waveform.device.type, enabled=False):
            padded = F.pad(waveform.float(), (self.delay // 2, self.delay // 2 - self.bands + 1))
            return F.conv1d(padded, self.analysis_filters, stride=self.bands)

    def synthesis(self, subbands: Tensor) -> Tensor:
        """Sub-bands (B, bands, T / bands) to the waveform (B, 1, T), in float32 under autocast too."""
        with torch.autocast(subbands.device.type, enabled=False):
            return F.conv_transpose1d(
                subbands.float(),
                self.synthesis_filters,
                stride=self.bands,
                padding=self.delay // 2,
                output_padding=self.bands - 1,
            )


def _prototype(bands: int, order: int) -> NDArray[np.float64]:
    """The symmetric low-pass filter (order + 1,) with the least energy beyond `1 / bands` of half the sampling rate
    whose autocorrelation vanishes at all multiples of `2 * bands` but 0, where it is `1 / (2 * bands)`.

    The constraints are quadratic: each round solves the linear problem in which one of the two factors is the filter of
    the round before, and goes half of the way to its solution.
    """
    taps = order + 1
    index = np.arange(taps)
    mirror = np.eye(order // 2 + 1)[np.minimum(index, order - index)]  # from one half of a filter to all of it
    stopband = np.eye(taps) - np.sinc((index[:, None] - index) / bands) / bands
    objective = mirror.T @ stopband @ mirror
    shifts = range(0, taps, 2 * bands)
    targets = np.zeros(len(objective) + len(shifts))
    targets[len(objective)] = 1 / (2 * bands)
    corner = np.zeros((len(shifts), len(shifts)))

    prototype = np.sinc(0.57 / bands * (index - order / 2)) * np.kaiser(taps, 9.0)
    prototype /= np.sqrt(2 * bands * np.sum(prototype**2))
    for _ in range(DESIGN_ROUNDS):
        shifted = [np.eye(taps, k=shift) @ prototype + np.eye(taps, k=-shift) @ prototype for shift in shifts]
        constraints = np.array(shifted) / 2 @ mirror
        system = np.block([[objective, constraints.T], [constraints, corner]])
        half = np.linalg.lstsq(system, targets, rcond=None)[0][: len(objective)]
        prototype = (prototype + mirror @ half) / 2
    return prototype
