"""Forced alignment: of a synthetic voice, whose words come in their order and move with it, and of real speech."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import scipy.signal

from vqaudio import audio
from vqaudio.errors import AudioError
from vqaudio.evaluation.probes.alignment import CLASS_OF, PHONES, SILENCE, UNKNOWN, Aligner, Alignment, Segment
from vqaudio.evaluation.speech import items

pytest.importorskip("pocketsphinx")

RATE = 16000
TEXT = "seven small ships sailed south"


@pytest.fixture(scope="module")
def aligner() -> Aligner:
    return Aligner()


def say(text: str, path: Path) -> np.ndarray:
    """A synthetic voice between half seconds of faint noise, as of a room."""
    program = shutil.which("espeak-ng")
    if program is None:
        pytest.skip("espeak-ng is not there to speak")
    subprocess.run([program, "-v", "en-us", "-s", "140", "-w", path, text], check=True)
    voice = np.pad(0.5 * audio.read(path, RATE), RATE // 2)
    return (voice + 1e-3 * np.random.default_rng(0).standard_normal(len(voice))).astype(np.float32)


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    return say(TEXT, tmp_path_factory.mktemp("voice") / "voice.wav")


def words(alignment: Alignment) -> list[str]:
    found: list[str] = []
    for segment in alignment.segments:
        if segment.word and (not found or found[-1] != segment.word):
            found.append(segment.word)
    return found


def test_phones_are_those_of_arpabet() -> None:
    assert len(PHONES) == len(set(PHONES)) == 40 and set(CLASS_OF) == set(PHONES)


def test_words_come_in_order_between_silences(aligner: Aligner, voice: np.ndarray) -> None:
    alignment = aligner.align(voice, TEXT.upper() + "!")
    segments = alignment.segments
    assert words(alignment) == TEXT.split() and alignment.unknown_words == 0
    assert [s.phone for s in segments if s.word == "seven"] == ["S", "EH", "V", "AH", "N"]
    assert [s.phone for s in segments if s.word == "ships"] == ["SH", "IH", "P", "S"]
    assert segments[0].phone == segments[-1].phone == SILENCE
    assert segments[0].start == 0 and segments[-1].end == len(voice)
    assert all(before.end == after.start for before, after in itertools.pairwise(segments))
    assert segments[0].end == pytest.approx(RATE // 2, abs=0.06 * RATE)


def test_sound_is_where_the_phones_say(aligner: Aligner, voice: np.ndarray) -> None:
    segments = aligner.align(voice, TEXT).segments
    emphasised = np.diff(voice, append=0.0)  # where s and sh are loud beside vowels

    def share(segment: Segment) -> float:
        own = slice(segment.start, segment.end)
        return float(np.square(emphasised[own]).mean() / np.square(voice[own]).mean())

    hissing = [share(s) for s in segments if s.phone in ("S", "SH")]
    vowels = [share(s) for s in segments if CLASS_OF.get(s.phone) == "vowel"]
    assert np.median(hissing) > 4 * np.median(vowels)


def test_a_hiss_lies_in_the_middle_of_its_phone(aligner: Aligner) -> None:
    """Windows that a hiss only begins to fill or no longer does count as hiss alike, so that both its ends are taken
    for as much too far out."""
    rng = np.random.default_rng(0)
    band = scipy.signal.butter(4, [2200, 6500], "band", fs=RATE, output="sos")
    early = []
    for begin in range(12000, 12160, 20):  # all over the 10 ms between two windows
        waveform = 1e-3 * rng.standard_normal(2 * RATE)
        waveform[begin : begin + 3200] += 0.2 * scipy.signal.sosfilt(band, rng.standard_normal(3200))
        (hiss,) = (s for s in aligner.align(waveform.astype(np.float32), "shh").segments if s.phone == "SH")
        early.append(begin + 1600 - (hiss.start + hiss.end) / 2)
    assert np.mean(early) == pytest.approx(0, abs=32)


def test_phones_move_with_the_voice(aligner: Aligner, voice: np.ndarray) -> None:
    lead = 1e-3 * np.random.default_rng(1).standard_normal(RATE).astype(np.float32)
    before = aligner.align(voice, TEXT).segments
    after = aligner.align(np.concatenate([lead, voice]), TEXT).segments
    starts = [np.array([s.start for s in segments if s.phone != SILENCE]) for segments in (before, after)]
    assert np.median(np.abs(starts[1] - starts[0] - RATE)) <= 160


def test_an_alignment_does_not_depend_on_those_before(aligner: Aligner, voice: np.ndarray) -> None:
    fresh = Aligner().align(voice, TEXT)
    aligner.align(0.1 * voice[::-1], "something else")
    assert aligner.align(voice, TEXT) == fresh


def test_accents_and_apostrophes_of_print_are_those_of_the_dictionary(aligner: Aligner, voice: np.ndarray) -> None:
    alignment = aligner.align(voice, "S\u00e9ven small ' ship\u2019s sailed south")
    assert words(alignment) == ["seven", "small", "ship's", "sailed", "south"] and alignment.unknown_words == 0


def test_what_is_beyond_full_scale_is_clipped(aligner: Aligner, voice: np.ndarray) -> None:
    loud = voice * np.float32(2 / np.abs(voice).max())
    assert aligner.align(loud, TEXT) == aligner.align(np.clip(loud, -1, 1), TEXT)


def test_words_that_the_dictionary_lacks_are_passed_over(aligner: Aligner, voice: np.ndarray) -> None:
    alignment = aligner.align(voice, "seven smoll ships sailed south")
    assert alignment.unknown_words == 1 and words(alignment) == ["seven", "smoll", "ships", "sailed", "south"]
    assert {s.phone for s in alignment.segments if s.word == "smoll"} == {""}
    assert "" not in {s.phone for s in alignment.segments if s.word != "smoll"}
    middle = next(s for s in alignment.segments if s.word == "smoll").start
    assert alignment.at(np.array([middle])).tolist() == [UNKNOWN]


def test_transcripts_that_cannot_be_are_refused(aligner: Aligner, voice: np.ndarray) -> None:
    with pytest.raises(AudioError, match="no words"):
        aligner.align(voice, " ?! ")
    with pytest.raises(AudioError, match="'1984'"):
        aligner.align(voice, "1984")
    for hopeless in (np.zeros(1, np.float32), np.zeros(2000, np.float32)):
        with pytest.raises(AudioError, match="does not fit"):
            aligner.align(hopeless, TEXT)


def test_labels_are_those_of_the_segment_around_a_sample() -> None:
    alignment = Alignment((Segment(0, 10, "SIL", ""), Segment(10, 20, "AA", "a"), Segment(20, 25, "", "b")), 1)
    names = [PHONES[label] if label != UNKNOWN else None for label in alignment.at(np.array([0, 9.9, 10, 19, 20, 99]))]
    assert names == ["SIL", "SIL", "AA", "AA", None, None]


def test_real_speech_is_aligned(aligner: Aligner, speech: Path) -> None:
    found = [item for item in items(speech / "eval" / "speechocean", 4) if item.text]
    levels: dict[str, list[float]] = {}
    for item in found:
        waveform = audio.read(item.path, RATE)
        segments = aligner.align(waveform, item.text or "").segments
        lengths = np.array([s.end - s.start for s in segments if s.phone != SILENCE]) / RATE
        assert 0.04 < np.median(lengths) < 0.2
        for segment in segments:
            levels.setdefault(CLASS_OF[segment.phone], []).append(
                10 * np.log10(np.square(waveform[segment.start : segment.end]).mean() + 1e-9)
            )
    assert np.median(levels["vowel"]) > np.median(levels["silence"]) + 15
