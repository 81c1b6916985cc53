"""Which phoneme is spoken when: forced alignment of an utterance with its transcript, by pocketsphinx.

The acoustic model and the dictionary, CMUdict in ARPAbet without stress, come with that package.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vqaudio.errors import AudioError

SAMPLE_RATE = 16000  # Hz, of the acoustic model
SILENCE = "SIL"
CLASSES = {
    "vowel": "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW",
    "approximant": "L R W Y",
    "nasal": "M N NG",
    "fricative": "DH F HH S SH TH V Z ZH",
    "affricate": "CH JH",
    "plosive": "B D G K P T",
    "silence": SILENCE,
}
PHONES = tuple(phone for members in CLASSES.values() for phone in members.split())  # classes side by side
CLASS_OF = {phone: name for name, members in CLASSES.items() for phone in members.split()}
UNKNOWN = -1  # the label of a frame of which no phoneme is known

_STEP, _WINDOW = 160, 410  # samples between the frames of the acoustic model, and under each of them
_SPELLED = (
    "a:AE b:B c:K d:D e:EH f:F g:G h:HH i:IH j:JH k:K l:L m:M n:N o:AA p:P q:K r:R s:S t:T u:AH v:V w:W x:K y:IY z:Z"
)
_SPELLING = dict(pair.split(":") for pair in _SPELLED.split())  # one phone for a letter


@dataclass(frozen=True)
class Segment:
    """A stretch of speech: samples [start, end) at 16 kHz, its phone, and the word that it is in ("" in silence)."""

    start: int
    end: int
    phone: str
    word: str


@dataclass(frozen=True)
class Alignment:
    """The phones of an utterance in order, side by side.

    Attributes:
        unknown_words: words that the dictionary lacks; the phones in them are "".
    """

    segments: tuple[Segment, ...]
    unknown_words: int

    def at(self, samples: np.ndarray) -> np.ndarray:
        """Indices in PHONES, or UNKNOWN, (n,) int64 of what is spoken at these samples (n,) at 16 kHz."""
        ends = [segment.end for segment in self.segments]
        labels = [PHONES.index(s.phone) if s.phone in PHONES else UNKNOWN for s in self.segments]
        return np.array([*labels, labels[-1]])[np.searchsorted(ends, samples, side="right")]


def missing() -> str | None:
    """The sentence that says why nothing can be aligned, where pocketsphinx is missing."""
    try:
        import pocketsphinx  # noqa: F401
    except ImportError:
        return "Phonemes need pocketsphinx; pip install 'vqaudio[eval]' brings it."
    return None


class Aligner:
    """Aligns one utterance after another; what comes out does not depend on what went before."""

    @functools.cached_property
    def _decoder(self) -> Any:
        """Loaded at first use, so that an aligner crosses to another process without it."""
        from pocketsphinx import Config, Decoder

        # Its lattice search, bestpath, gives phones too few frames for the second pass, which then fails.
        return Decoder(Config(lm=None, cmn="batch", bestpath=False, loglevel="FATAL"))

    def align(self, waveform: np.ndarray, text: str) -> Alignment:
        """Find the phones of a transcript in a waveform.

        A word that the dictionary lacks is found by a rough spelling, one phone for a letter, which serves to get past
        it and no more: its phones are not told.

        Args:
            waveform: (T,) in [-1, 1], at 16 kHz.
            text: what is said, English.

        Raises:
            AudioError: where the transcript has no words or one without letters, or the speech does not fit it.
        """
        words = list(_words(text))
        if not words:
            raise AudioError(f"The transcript '{text}' has no words.")
        spelled = {word for word in words if self._spell(word)}
        pcm = (np.clip(waveform, -1.0, 1.0) * 32767).astype(np.int16).tobytes()
        decoder = self._decoder
        decoder.set_align_text(" ".join(words))
        self._process(pcm)
        if decoder.hyp() is None:
            raise AudioError(f"The transcript '{text}' does not fit the speech.")
        try:
            decoder.set_alignment()  # the words' phones, in a second pass
            self._process(pcm)
            found = list(_segments(decoder.get_alignment(), spelled, len(waveform)))
        except RuntimeError as error:
            raise AudioError(f"The transcript '{text}' cannot be aligned: {error}.") from error
        if not found:
            raise AudioError(f"The transcript '{text}' does not fit the speech.")
        return Alignment(tuple(found), sum(word in spelled for word in words))

    def _process(self, pcm: bytes) -> None:
        self._decoder.reinit_feat()  # forgets the noise and the means of the utterance before
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()

    def _spell(self, word: str) -> bool:
        """Whether a word had to be spelled, now or before.

        Raises:
            AudioError: where it has no letters.
        """
        known = self._spelled
        if word not in known and self._decoder.lookup_word(word) is None:
            phones = [_SPELLING[letter] for letter in word if letter in _SPELLING]
            if not phones:
                raise AudioError(f"The dictionary lacks '{word}', which cannot be spelled either.")
            self._decoder.add_word(word, " ".join(phones), True)
            known.add(word)
        return word in known

    @functools.cached_property
    def _spelled(self) -> set[str]:
        return set()


def _words(text: str) -> Iterator[str]:
    """The words of a transcript as the dictionary has them: small letters, apostrophes, no accents."""
    plain = unicodedata.normalize("NFKD", text.replace("\u2019", "'")).encode("ascii", "ignore").decode().lower()
    for word in re.findall(r"[a-z0-9']+", plain):
        if word.strip("'"):
            yield word


def _segments(words: Iterable[Any], spelled: set[str], samples: int) -> Iterator[Segment]:
    """The phones that pocketsphinx found, from sample 0 on to the last one.

    A frame of its own stands for the samples nearest to the middle of its window.
    """
    lead = (_WINDOW - _STEP) // 2
    start, previous = 0, None
    for word in words:
        name = re.sub(r"\(\d+\)$", "", word.name)  # a second pronunciation is "word(2)"
        for phone in word:
            if previous is not None:
                end = phone.start * _STEP + lead
                yield Segment(start, end, *previous)
                start = end
            told = "" if name in spelled or phone.name not in CLASS_OF else phone.name
            previous = (told, "" if phone.name == SILENCE else name)
    if previous is not None:
        yield Segment(start, max(samples, start + 1), *previous)
