"""Means over utterances with their 95 % bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

RESAMPLINGS = 2000  # of the bootstrap


@dataclass(frozen=True)
class Estimate:
    """A mean over utterances with its 95 % bootstrap interval; NaN values are left out and counted as undefined."""

    mean: float
    low: float
    high: float
    count: int
    undefined: int

    @classmethod
    def of(cls, values: Iterable[float], weights: Iterable[float] | None = None) -> Estimate:
        """The estimate of these values, the same for the same values.

        Args:
            weights: of the values in the mean, words in an error rate, say; by default all weigh the same.
        """
        everything = np.array(list(values), dtype=np.float64)
        weighing = np.ones(len(everything)) if weights is None else np.array(list(weights), dtype=np.float64)
        kept = ~np.isnan(everything) & (weighing > 0)
        defined, weighing = everything[kept], weighing[kept]
        undefined = len(everything) - len(defined)
        if not len(defined):
            return cls(math.nan, math.nan, math.nan, 0, undefined)
        draws = np.random.default_rng(0).integers(len(defined), size=(RESAMPLINGS, len(defined)))
        means = (defined * weighing)[draws].sum(axis=1) / weighing[draws].sum(axis=1)
        low, high = np.percentile(means, [2.5, 97.5])
        return cls(float(np.average(defined, weights=weighing)), float(low), float(high), len(defined), undefined)
