"""Utterances beside their phonemes, whatever the rate of the codec."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest

import vqaudio
from tests.conftest import TINY
from vqaudio import Codec, audio
from vqaudio.errors import AudioError
from vqaudio.evaluation.probes.alignment import PHONES, UNKNOWN, Aligner
from vqaudio.evaluation.probes.labelled import Labeller, label, untold
from vqaudio.evaluation.speech import Item, items
from vqaudio.models.vqvae import VQVAE

pytest.importorskip("pocketsphinx")


def test_a_codec_of_another_rate_has_the_phonemes_of_the_same_moments(speech: Path) -> None:
    config = dataclasses.replace(TINY, sample_rate=8000)
    codec = Codec(config, VQVAE(config).arrays(), "An untrained codec for tests.")
    item = next(item for item in items(speech / "eval" / "speechocean") if item.text)
    asked = []

    def features(waveform: np.ndarray, rate: int, hop: int) -> np.ndarray:
        asked.append((len(waveform), rate, hop))
        return np.zeros((-(-len(waveform) // hop), 1))

    utterance = Labeller(lambda: codec, True, features)(item)
    assert asked == [(len(audio.read(item.path, 8000)), 8000, 64)]
    assert len(utterance.phones) == utterance.codes.shape[1] == len(utterance.features)
    aligned = Aligner().align(audio.read(item.path, 16000), item.text or "")
    for frame in range(0, len(utterance.phones), 7):
        middle = 16000 * (64 * frame + 32) / 8000
        assert PHONES[utterance.phones[frame]] == next(s.phone for s in aligned.segments if s.end > middle)


def test_words_that_the_dictionary_lacks_are_counted_and_have_no_phonemes(tiny_codec: Path, speech: Path) -> None:
    item = next(item for item in items(speech / "eval" / "speechocean") if item.text)
    first, *others = (item.text or "").split()
    lacking = dataclasses.replace(item, text=" ".join([f"{first}q", *others]))
    told, odd = label(functools.partial(vqaudio.load, tiny_codec), [item, lacking]).utterances
    assert (told.unknown_words, odd.unknown_words) == (0, 1)
    assert UNKNOWN not in told.phones and UNKNOWN in odd.phones


def test_a_transcript_that_does_not_fit_is_said_of_its_file(tiny_codec: Path, tmp_path: Path, tone: np.ndarray) -> None:
    audio.write(tmp_path / "a.wav", tone, 16000)
    item, seen = Item(tmp_path / "a.wav", "a", "?!"), list[None]()
    with pytest.raises(AudioError, match=r"'.*a\.wav': The transcript '\?!' has no words"):
        label(functools.partial(vqaudio.load, tiny_codec), [item], advance=lambda: seen.append(None))
    assert len(seen) == 1


def test_one_transcript_is_enough_to_find_phonemes() -> None:
    silent, told = Item(Path("a.wav"), "a", None), Item(Path("b.wav"), "b", "words")
    assert untold([silent, told]) is None
    assert "no phonemes" in (untold([silent, silent]) or "")
