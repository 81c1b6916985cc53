"""Elementwise functions for numba, in multiplications and divisions only, so that loops over them are vectorised."""

from __future__ import annotations

import numpy as np

from vqaudio.runtime.compilation import inner
from vqaudio.runtime.product import Floats

# tanh(x) = x P(x^2) / Q(x^2) for |x| < 7.9, beyond which float32 rounds it to 1; coefficients as in Eigen's ptanh
TANH_LIMIT = np.float32(7.90531110763549805)
P0, P1, P2, P3, P4, P5, P6 = (
    np.float32(c)
    for c in (
        4.89352455891786e-03,
        6.37261928875436e-04,
        1.48572235717979e-05,
        5.12229709037114e-08,
        -8.60467152213735e-11,
        2.00018790482477e-13,
        -2.76076847742355e-16,
    )
)
Q0, Q1, Q2, Q3 = (
    np.float32(c) for c in (4.89352518554385e-03, 2.26843463243900e-03, 1.18534705686654e-04, 1.19825839466702e-06)
)
ONE_HALF = np.float32(0.5)


@inner
def tanh(x: np.float32) -> np.float32:
    """tanh to float32 accuracy."""
    x = min(max(x, -TANH_LIMIT), TANH_LIMIT)
    z = x * x
    numerator = x * (P0 + z * (P1 + z * (P2 + z * (P3 + z * (P4 + z * (P5 + z * P6))))))
    return numerator / (Q0 + z * (Q1 + z * (Q2 + z * Q3)))


@inner
def sigmoid(x: np.float32) -> np.float32:
    """The logistic function."""
    return ONE_HALF + ONE_HALF * tanh(ONE_HALF * x)


@inner
def fill(rows: Floats, row: Floats) -> None:
    """Set all rows (m, C) to one (C,)."""
    for r in range(len(rows)):
        for c in range(len(row)):
            rows[r, c] = row[c]


@inner
def rectify(rows: Floats) -> None:
    """x sigmoid(x) in place (Elfwing et al. 2017, arXiv 1702.03118)."""
    for row in range(len(rows)):
        for column in range(rows.shape[1]):
            rows[row, column] *= sigmoid(rows[row, column])
