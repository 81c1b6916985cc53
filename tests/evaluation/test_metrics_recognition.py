"""Word error rate: edits counted by hand under a recogniser that says what it is told, and a real one on speech."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.degraded import RATE, SAMPLE, metric, noisy
from vqaudio import audio
from vqaudio.evaluation.estimates import Estimate
from vqaudio.evaluation.metrics import select, usable

ORIGINAL, DECODED = np.full(10, 0.1, np.float32), np.full(10, 0.2, np.float32)


@pytest.fixture
def hears(monkeypatch: pytest.MonkeyPatch):
    """Let the recogniser hear these texts in `ORIGINAL` and `DECODED`."""
    metric("wer")
    from vqaudio.evaluation.metrics import recogniser

    def set_up(decoded: str, original: str = "nobody asks for this") -> None:
        texts = {ORIGINAL.tobytes(): original, DECODED.tobytes(): decoded}
        monkeypatch.setattr(
            recogniser, "transcribe", lambda waveform, rate: tuple(recogniser.words(texts[waveform.tobytes()]))
        )

    return set_up


@pytest.mark.parametrize(
    ("text", "heard", "edits", "words"),
    [
        ("THE CAT SAT", "the cat sat", 0, 3),
        ("the cat sat", "the cat sat down", 1, 3),  # insertion
        ("the cat sat", "the sat", 1, 3),  # deletion
        ("the cat sat", "the bat sat", 1, 3),  # substitution
        ("a b c d e", "b c x e f g", 4, 5),  # a deleted, d for x, f and g inserted
        ("one", "it is not one of them", 5, 1),
        ("the cat sat", "", 3, 3),
        ("Well, I don't know -- do you?", "well i don't know do you", 0, 6),
        ("She\u2019s well-known; \u201cso\u201d it's said.", "she's well known so it's said", 0, 6),
        ("they sang again", "again sang they", 2, 3),
        ("in 1984 or so", "in nineteen or so", 1, 4),
    ],
)
def test_edits_as_counted_by_hand(hears, text: str, heard: str, edits: int, words: int) -> None:
    hears(heard)
    assert metric("wer")(ORIGINAL, DECODED, RATE, text) == pytest.approx(100 * edits / words)
    assert metric("wer").weight(ORIGINAL, RATE, text) == words


def test_without_a_transcript_what_was_heard_in_the_original_counts(hears) -> None:
    hears(decoded="we shall see him", original="we shall see them there")
    assert metric("wer")(ORIGINAL, DECODED, RATE) == pytest.approx(100 * 2 / 5)
    assert metric("wer").weight(ORIGINAL, RATE) == 5
    assert metric("wer")(ORIGINAL, ORIGINAL, RATE) == 0.0


@pytest.mark.parametrize("text", ["", " -- ... '", None])
def test_without_words_it_is_undefined_and_weighs_nothing(hears, text: str | None) -> None:
    hears(decoded="something", original="")
    assert math.isnan(metric("wer")(ORIGINAL, DECODED, RATE, text))
    assert metric("wer").weight(ORIGINAL, RATE, text) == 0.0


def test_the_weighted_mean_is_the_rate_of_the_corpus(hears) -> None:
    pairs = [("a b c d e f g h i j", "a b c d e f g h i k"), ("yes", "no way"), ("", "well")]
    values, weights = [], []
    for text, heard in pairs:
        hears(heard)
        values.append(metric("wer")(ORIGINAL, DECODED, RATE, text))
        weights.append(metric("wer").weight(ORIGINAL, RATE, text))
    estimate = Estimate.of(values, weights)
    assert estimate.mean == pytest.approx(100 * (1 + 2) / 11)
    assert (estimate.count, estimate.undefined) == (2, 1)


@pytest.mark.parametrize("missing", ["pocketsphinx", "rapidfuzz.distance"])
def test_a_missing_package_leaves_it_out(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "vqaudio.evaluation.metrics.recogniser", raising=False)
    kept, notes = usable(select(["wer", "mel"]))
    assert [one.name for one in kept] == ["mel"]
    assert len(notes) == 1 and "'wer' is left out" in notes[0] and missing in notes[0]


def transcribed(waveforms: list[np.ndarray]) -> list[tuple[str, ...]]:
    """What is heard in each, one after the other, by a recogniser that remembers no answer."""
    metric("wer")
    from vqaudio.evaluation.metrics import recogniser

    recogniser._recognise.cache_clear()
    return [recogniser.transcribe(waveform, RATE) for waveform in waveforms]


def test_what_is_heard_does_not_depend_on_what_was_heard_before() -> None:
    metric("wer")
    from vqaudio.evaluation.metrics import recogniser

    speech = audio.read(SAMPLE)[:RATE]
    hard = noisy(speech[::-1], 0) * np.float32(0.1)
    heard = []
    for before in (speech, np.zeros(RATE // 2, np.float32)):
        words = transcribed([before, hard])[1]
        heard.append((words, recogniser._decoder().get_cmn(False)))  # the mean tells more than few words do
    assert heard[0] == heard[1]


def test_the_shortest_speech_is_taken_and_leaves_the_recogniser_in_order() -> None:
    speech = audio.read(SAMPLE)[:RATE]
    heard = transcribed([*(speech[:samples] for samples in (0, 1, 100, 1000)), speech])
    assert heard[:2] == [(), ()]
    assert heard[4] == transcribed([speech])[0] != ()


def test_another_rate_is_heard_the_same() -> None:
    speech = audio.read(SAMPLE, 2 * RATE)[: 3 * RATE]
    metric("wer")
    from vqaudio.evaluation.metrics import recogniser

    heard = recogniser.transcribe(speech, 2 * RATE)
    assert heard and heard == transcribed([audio.read(SAMPLE)[: 3 * RATE // 2]])[0]


def test_it_understands_real_speech(speech: Path) -> None:
    """One sentence that was read clearly, by what its transcript says."""
    with open(speech / "manifest.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["path"].startswith("train/librispeech") and row["text"]]
    row = min(rows, key=lambda row: abs(float(row["seconds"]) - 4))
    waveform = audio.read(speech / row["path"])
    wer = metric("wer")
    assert wer(waveform, waveform, RATE, row["text"]) < 50 < wer(waveform, noisy(waveform, -5), RATE, row["text"])
