"""The filters of a pseudo-QMF bank: cosine modulations of one low-pass prototype, designed for near-perfect
reconstruction by minimising its stopband under quadratic constraints (Nguyen 1994, "Near-perfect-reconstruction
pseudo-QMF banks", IEEE Transactions on Signal Processing 42)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DESIGN_ROUNDS = 40


def pqmf_delay(bands: int) -> int:
    """Samples that analysis and synthesis together wait, none where there is one band; a filter has one tap more."""
    return 16 * bands - 2 if bands > 1 else 0


def pqmf_reach(bands: int) -> tuple[int, int]:
    """Steps before and after its own of which the synthesis makes the samples of a step."""
    half = pqmf_delay(bands) // 2
    return half // bands, -(-half // bands)


def pqmf_analysis(bands: int) -> NDArray[np.float64]:
    """The analysis filters (bands, taps), lowest band first."""
    return 2 * _prototype(bands, pqmf_delay(bands)) * _modulation(bands, -1)


def pqmf_synthesis(bands: int) -> NDArray[np.float64]:
    """The synthesis filters (bands, taps), lowest band first."""
    return 2 * bands * _prototype(bands, pqmf_delay(bands)) * _modulation(bands, 1)


def _modulation(bands: int, sign: int) -> NDArray[np.float64]:
    delay = pqmf_delay(bands)
    band = np.arange(bands)[:, None]
    angle = (2 * band + 1) * np.pi / (2 * bands) * (np.arange(delay + 1) - delay / 2)
    return np.cos(angle + sign * (-1.0) ** band * np.pi / 4)


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
