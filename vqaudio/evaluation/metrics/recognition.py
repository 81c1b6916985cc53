"""What a recogniser still understands: the word error rate, against a transcript or against what it heard before."""

from __future__ import annotations

import math

import numpy as np


def word_error_rate(reference: np.ndarray, decoded: np.ndarray, sample_rate: int, text: str | None) -> float:
    """Substitutions, insertions and deletions in per cent of the words of the transcript; where there is none, of the
    words recognised in the reference. Undefined where there are no words; beyond 100 where many are inserted.

    The rate of a corpus is the mean weighted by words (`spoken_words`).
    """
    from vqaudio.evaluation.metrics import recogniser

    spoken = _spoken(reference, sample_rate, text)
    if not spoken:
        return math.nan
    return 100 * recogniser.edits(spoken, recogniser.transcribe(decoded, sample_rate)) / len(spoken)


def spoken_words(reference: np.ndarray, sample_rate: int, text: str | None) -> float:
    """How many words `word_error_rate` divides by."""
    return float(len(_spoken(reference, sample_rate, text)))


def _spoken(reference: np.ndarray, sample_rate: int, text: str | None) -> tuple[str, ...]:
    from vqaudio.evaluation.metrics import recogniser

    return tuple(recogniser.words(text)) if text is not None else recogniser.transcribe(reference, sample_rate)
