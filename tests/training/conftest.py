"""Small corpora of made-up speech, each in the layout in which its corpus is published, and a small recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from vqaudio.models.config import (
    CodecConfig,
    ConditioningConfig,
    EncoderConfig,
    Part,
    PriorConfig,
    QuantizerConfig,
    SpeakerConfig,
    SpectralConfig,
    WaveNetConfig,
)
from vqaudio.training.recipe import (
    CorpusConfig,
    LossWeights,
    OptimizerConfig,
    PriorRecipe,
    Recipe,
    ScheduleConfig,
    Stage,
    Steps,
)

SPECTRAL_ONLY = LossWeights(wavenet=0.0)
WAVENET_ONLY = LossWeights(spectral=0.0, mel=0.0, commitment=0.0, codebook=0.0)
ALL: tuple[Part, ...] = ("encoder", "quantizer", "speaker", "conditioning", "spectral")


def _speak(path: Path, seconds: float, sample_rate: int, seed: int) -> None:
    """A harmonic tone that wanders, in noise: enough like a voice for every loss to be finite."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    pitch = 2 * np.pi * (100 + 10 * seed % 90) * (time + 0.01 * np.sin(5 * time))
    voice = sum(np.sin(k * pitch) / k for k in range(1, 9)) * np.sin(3 * time) ** 2
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * voice + 0.01 * random.standard_normal(len(time)), sample_rate)


def _librispeech(root: Path) -> str:
    for i, (speaker, chapter) in enumerate([("103", "1240"), ("103", "1241"), ("1034", "121119")]):
        folder = root / "LibriSpeech" / "train-clean-100" / speaker / chapter
        for j in range(2):
            _speak(folder / f"{speaker}-{chapter}-{j:04}.flac", 1.0 + 0.3 * j, 16000, 2 * i + j)
        lines = [f"{speaker}-{chapter}-{j:04} SOME WORDS\n" for j in range(2)]
        (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))
    return str(root)


def _vctk(root: Path) -> str:
    corpus = root / "VCTK-Corpus-0.92"
    for i, speaker in enumerate(["p225", "p226", "s5"]):
        for j in range(1, 3):
            text = corpus / "txt" / speaker / f"{speaker}_{j:03}.txt"
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_text("Some words.\n")
            for microphone in ("mic1", "mic2"):
                name = f"{speaker}_{j:03}_{microphone}.flac"
                _speak(corpus / "wav48_silence_trimmed" / speaker / name, 1.0 + 0.3 * j, 48000, 2 * i + j)
    _speak(corpus / "wav48_silence_trimmed" / "p315" / "p315_001_mic1.flac", 1.0, 48000, 9)  # whose texts are lost
    return str(root)


def _ljspeech(root: Path) -> str:
    names = [f"LJ001-{i:04}" for i in range(1, 6)]
    for i, name in enumerate(names):
        _speak(root / "LJSpeech-1.1" / "wavs" / f"{name}.wav", 1.0 + 0.2 * i, 22050, i)
    (root / "LJSpeech-1.1" / "metadata.csv").write_text("".join(f"{name}|Some words|Some words\n" for name in names))
    return str(root)


def _folder(root: Path) -> str:
    for i, name in enumerate(["ann/1.wav", "ann/2.WAV", "bob/1.flac", "bob/holiday/1.ogg", "cy/1.wav"]):
        path = root / name
        _speak(path.with_suffix(path.suffix.lower()), 1.0 + 0.2 * i, 16000, i)
        path.with_suffix(path.suffix.lower()).rename(path)
    (root / "ann" / "notes.txt").write_text("Not audio.")
    return str(root)


def _manifest(root: Path) -> str:
    rows = ["path,speaker,split"]
    for i in range(6):
        _speak(root / "audio" / f"{i}.wav", 1.0 + 0.2 * i, 16000, i)
        rows.append(f"audio/{i}.wav,speaker {i // 2},{'eval' if i == 5 else 'train'}")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return str(root / "manifest.csv")


LAYOUTS = {
    "librispeech": _librispeech,
    "vctk": _vctk,
    "ljspeech": _ljspeech,
    "folder": _folder,
    "manifest": _manifest,
}


@pytest.fixture
def make_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A function that writes the corpus of a kind and returns its `corpus.path`; packs stay in the test's own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lambda kind: LAYOUTS[kind](tmp_path / "corpus")


@pytest.fixture
def recipe(make_corpus: Callable[[str], str]) -> Recipe:
    """Five steps of codes and decoder, three against discriminators, two of a WaveNet."""
    codec = CodecConfig(
        name="test",
        encoder=EncoderConfig(strides=(8, 8), channels=(8, 8), dilations=(1,), latent_channels=8),
        quantizer=QuantizerConfig(quantizers=2, codebook_size=16, code_dim=4, dropout=0.3),
        speaker=SpeakerConfig(kind="reference", channels=8, dims=4),
        conditioning=ConditioningConfig(channels=8, jitter=0.1),
        wavenet=WaveNetConfig(channels=8, skip_channels=8, dilations=(1, 2), mixtures=2),
        spectral=SpectralConfig(channels=8, skip_channels=8, dilations=(1,), fft_size=256),
    )
    short: dict[str, Any] = {"crop_seconds": 0.2, "batch_size": 2}
    return Recipe(
        name="test",
        corpus=CorpusConfig(
            path=make_corpus("folder"), validation_speakers=1, validation_seconds=1.0, sample_seconds=0.04
        ),
        codec=codec,
        stages=(
            Stage("codes", 5, ALL, SPECTRAL_ONLY, quantize_after=2, **short),
            Stage("adversarial", 3, ("spectral",), dataclasses.replace(SPECTRAL_ONLY, adversarial=1.0), **short),
            Stage("wavenet", 2, ("wavenet",), WAVENET_ONLY, **short),
        ),
        optimizer=OptimizerConfig(warmup_steps=2),
        schedule=ScheduleConfig(log_every=1, validate_every=4, sample_every=4, checkpoint_every=2),
    )


@pytest.fixture
def prior_recipe(make_corpus: Callable[[str], str], tiny_codec: Path) -> PriorRecipe:
    """Ten steps of a small prior over the codes of the tiny codec."""
    return PriorRecipe(
        name="prior",
        corpus=CorpusConfig(kind="folder", path=make_corpus("folder"), validation_speakers=1, validation_seconds=1.0),
        codec=str(tiny_codec),
        prior=PriorConfig(channels=16, skip_channels=16, dilations=(1, 2, 4), speaker_channels=4),
        stages=(
            Steps("first", 6, learning_rate=1e-2, crop_seconds=0.4, batch_size=4),
            Steps("second", 4, learning_rate=1e-3, crop_seconds=0.2, batch_size=8),
        ),
        optimizer=OptimizerConfig(warmup_steps=2),
        schedule=ScheduleConfig(log_every=1, validate_every=4, sample_every=4, checkpoint_every=2),
    )
