"""Counter-based random numbers: what a sample is drawn with depends on where it stands and on nothing else.

The generator is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), ten rounds of 32-bit
multiplications that any kernel can repeat exactly. Its key is the seed; its counter is the step, the band and the
stream, so that neither chunking nor the number of streams or threads changes a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray

from vqaudio.errors import UsageError, whole

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
LOW = np.uint64(0xFFFFFFFF)
HIGH = np.uint64(32)


def uniforms(
    seed: SupportsIndex, start: int, steps: int, bands: int = 1, streams: Sequence[int] = (0,)
) -> NDArray[np.float32]:
    """The two uniform numbers that each sample of steps [start, start + steps) is drawn with.

    They are the upper 23 bits of words 0 and 1 of Philox4x32-10 under the counter (step mod 2^32, step div 2^32, band,
    stream) and the key (seed mod 2^32, seed div 2^32), as (bits + 1/2) / 2^23: exact in float32, and never 0 or 1.

    Args:
        seed: in [0, 2^64).
        start: the first step, in [0, 2^64).
        steps: how many.
        bands: samples of one step.
        streams: the independent signals to draw for, each in [0, 2^32).

    Returns:
        (streams, steps, bands, 2), strictly between 0 and 1.

    Raises:
        UsageError: for a seed outside its range.
    """
    key = plain_seed(seed)
    stream, step, band = np.meshgrid(
        np.array(streams, dtype=np.uint64),
        np.uint64(start) + np.arange(steps, dtype=np.uint64),
        np.arange(bands, dtype=np.uint64),
        indexing="ij",
    )
    counter = np.stack([step & LOW, step >> HIGH, band, stream], axis=-1)
    words = philox(counter, (key & 0xFFFFFFFF, key >> 32))[..., :2]
    return (((words >> np.uint64(9)) + 0.5) / (1 << 23)).astype(np.float32)


def plain_seed(seed: SupportsIndex) -> int:
    """A seed, of numpy for example, as a plain number.

    Raises:
        UsageError: for one that is not whole, or not in [0, 2^64).
    """
    number = whole(seed, "A seed")
    if not 0 <= number < 1 << 64:
        raise UsageError(f"The seed {number} is not between 0 and 2^64 - 1.")
    return number


def philox(counter: NDArray[np.uint64], key: tuple[int, int]) -> NDArray[np.uint64]:
    """Philox4x32-10 of counters (..., 4) and a key of 32-bit words, each held in 64 bits: four words (..., 4)."""
    a, b, c, d = np.moveaxis(counter, -1, 0)
    low_key, high_key = key
    for _ in range(ROUNDS):
        first, second = a * np.uint64(MULTIPLIERS[0]), c * np.uint64(MULTIPLIERS[1])
        a, b = (second >> HIGH) ^ b ^ np.uint64(low_key), second & LOW
        c, d = (first >> HIGH) ^ d ^ np.uint64(high_key), first & LOW
        low_key = (low_key + KEY_STEPS[0]) & 0xFFFFFFFF
        high_key = (high_key + KEY_STEPS[1]) & 0xFFFFFFFF
    return np.stack([a, b, c, d], axis=-1)
