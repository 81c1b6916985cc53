"""Whether the voice is still the same: the speaker encoder of Resemblyzer (Wan et al. 2018, arXiv 1710.10467)."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np


def speaker_similarity(reference: np.ndarray, decoded: np.ndarray, sample_rate: int) -> float:
    """Cosine between the Resemblyzer voice vectors of both, prepared as the package does: raised to -30 dBFS where they
    are quieter, long silences cut out. Undefined where that leaves nothing."""
    from resemblyzer import preprocess_wav

    if not reference.any() or not decoded.any():
        return math.nan
    kept = [preprocess_wav(waveform, source_sr=sample_rate) for waveform in (reference, decoded)]
    if any(len(waveform) == 0 for waveform in kept):
        return math.nan
    ours, theirs = (_voice_encoder().embed_utterance(waveform) for waveform in kept)
    return float(ours @ theirs)


@functools.cache
def _voice_encoder() -> Any:
    from resemblyzer import VoiceEncoder

    return VoiceEncoder("cpu", verbose=False)
