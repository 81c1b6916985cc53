"""Utterances beside their phonemes, whatever the rate of the codec."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import TINY
from vqaudio import Codec, audio
from vqaudio.evaluation.probes.alignment import PHONES, Aligner
from vqaudio.evaluation.probes.labelled import Labeller
from vqaudio.evaluation.speech import items
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
