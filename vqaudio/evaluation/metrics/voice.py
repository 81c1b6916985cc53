"""Whether the voice is still the same: the speaker encoder of Resemblyzer (Wan et al. 2018, arXiv 1710.10467)."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np


def speaker_similarity(reference: np.ndarray, decoded: np.ndarray, sample_rate: int) -> float:
    """Cosine between the Resemblyzer voice vectors of both, prepared as the package does: raised to -30 dBFS where they
    are quieter, long silences cut out. Undefined where that leaves nothing."""
    ours, theirs = (voice_vector(waveform, sample_rate) for waveform in (reference, decoded))
    return cosine(ours, theirs)


def cosine(ours: np.ndarray | None, theirs: np.ndarray | None) -> float:
    """Of two voice vectors; NaN without one of them."""
    return math.nan if ours is None or theirs is None else float(ours @ theirs)


def voice_vector(waveform: np.ndarray, sample_rate: int) -> np.ndarray | None:
    """The Resemblyzer voice vector (256,), of length 1, of a waveform (T,), prepared as for `speaker_similarity`; None
    where that leaves nothing."""
    from resemblyzer import preprocess_wav

    kept = preprocess_wav(waveform, source_sr=sample_rate) if waveform.any() else waveform[:0]
    return _voice_encoder().embed_utterance(kept) if len(kept) else None


@functools.cache
def _voice_encoder() -> Any:
    from resemblyzer import VoiceEncoder

    return VoiceEncoder("cpu", verbose=False)
