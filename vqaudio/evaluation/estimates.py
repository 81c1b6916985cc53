"""Means over utterances with their 95 % bootstrap intervals, and how tables show them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLINGS = 2000  # of the bootstrap
MOST_DIGITS = 3  # after the point


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

    def text(self, digits: int = MOST_DIGITS, scale: float = 1.0, sign: str = "") -> str:
        """The mean with its interval as tables show it, and how many values are undefined.

        Args:
            digits: after the point.
            scale: what it is shown in, 100 for per cent.
            sign: "+" shows that of positive numbers too, as differences want it.
        """
        interval = self.interval(digits, scale, sign)
        undefined = f", {self.undefined} undefined" if self.count and self.undefined else ""
        return self.value(digits, scale, sign) + (f" ({interval})" if interval else "") + undefined

    def value(self, digits: int = MOST_DIGITS, scale: float = 1.0, sign: str = "") -> str:
        """The mean alone, "-" where there is none."""
        return f"{scale * self.mean:{sign}.{digits}f}" if self.count else "-"

    def interval(self, digits: int = MOST_DIGITS, scale: float = 1.0, sign: str = "") -> str:
        """The interval alone, empty where it says nothing: of one value, which does not tell how others would be."""
        low, high = (f"{scale * end:{sign}.{digits}f}" for end in (self.low, self.high))
        return f"{low} to {high}" if self.count > 1 else ""


def digits(estimates: Sequence[Estimate]) -> int:
    """How many digits after the point show estimates of one kind: two of the usual interval's half."""
    halves = sorted(half for e in estimates if (half := (e.high - e.low) / 2) > 0)
    if not halves:
        return MOST_DIGITS
    return min(MOST_DIGITS, max(0, 1 - math.floor(math.log10(halves[len(halves) // 2]))))
