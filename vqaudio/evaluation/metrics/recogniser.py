"""A speech recogniser, PocketSphinx (Huggins-Daines et al. 2006) with the English model of its package, and the edit
distance of word sequences. This file needs both packages; who imports it learns whether they are there.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import numpy as np
import pocketsphinx
import soxr
from rapidfuzz.distance import Levenshtein

SAMPLE_RATE = 16000  # Hz, of the model
REMEMBERED = 4  # waveforms: an original, what became of it, and the pair before
MOST_HMMS, MOST_EXITS = 5000, 10  # per frame: half the time on unclear speech, and no more errors
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*'?")


def words(text: str) -> list[str]:
    """The words of a text in lower case without punctuation; apostrophes and digits stay."""
    return WORD.findall(text.lower().replace("\u2019", "'"))


def edits(reference: Sequence[str], heard: Sequence[str]) -> int:
    """The fewest substitutions, insertions and deletions that turn one sequence of words into the other."""
    return Levenshtein.distance(reference, heard)


def transcribe(waveform: np.ndarray, sample_rate: int) -> tuple[str, ...]:
    """The words that are recognised in a waveform (T,) in [-1, 1] at `sample_rate` Hz, remembered for the last few.

    They do not depend on what was recognised before: the cepstra are normalised by their mean over the utterance, and
    what the decoder has learnt of the noise in other utterances is forgotten.
    """
    if sample_rate != SAMPLE_RATE:
        waveform = soxr.resample(waveform, sample_rate, SAMPLE_RATE)
    # Another scale, that of `audio.integers` too, gives other words here and there, and so other figures.
    samples = np.clip(np.rint(waveform * 32767), -32768, 32767).astype(np.int16)
    return _recognise(samples.tobytes())


@functools.lru_cache(REMEMBERED)
def _recognise(samples: bytes) -> tuple[str, ...]:
    if not samples:  # which the package does not take
        return ()
    decoder = _decoder()
    decoder.reinit_feat()  # which alone resets its estimate of the noise
    decoder.start_utt()
    try:
        decoder.process_raw(samples, full_utt=True)
    finally:
        decoder.end_utt()  # else it takes no other utterance
    hypothesis = decoder.hyp()
    return tuple(words(hypothesis.hypstr)) if hypothesis is not None else ()


@functools.cache
def _decoder() -> pocketsphinx.Decoder:
    return pocketsphinx.Decoder(
        samprate=SAMPLE_RATE, cmn="batch", maxhmmpf=MOST_HMMS, maxwpf=MOST_EXITS, loglevel="FATAL"
    )
