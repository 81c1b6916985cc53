"""What several tests stand on: real speech, where it lies beside the repository, and a codec small enough for tests."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from tests.samples import random_prior
from vqaudio import shipped
from vqaudio.codec import Codec, load
from vqaudio.models.config import (
    CodecConfig,
    ConditioningConfig,
    EncoderConfig,
    QuantizerConfig,
    SpeakerConfig,
    SpectralConfig,
    WaveNetConfig,
)
from vqaudio.models.vqvae import VQVAE

settings.register_profile("unhurried", deadline=None)  # a test must not fail because the machine is busy
settings.load_profile("unhurried")

# in the background of a shell Ctrl-C is ignored, by all processes that are started from there, and some tests send it
signal.signal(signal.SIGINT, signal.default_int_handler)

SPEECH = Path(__file__).parents[2] / "shared" / "speech"

TINY = CodecConfig(
    name="tiny",
    encoder=EncoderConfig(strides=(8, 8), channels=(8, 16), dilations=(1, 3), latent_channels=8),
    quantizer=QuantizerConfig(quantizers=2, codebook_size=32, code_dim=4),
    speaker=SpeakerConfig(kind="reference", channels=8, dims=4),
    conditioning=ConditioningConfig(channels=16),
    wavenet=WaveNetConfig(channels=8, skip_channels=8, dilations=(1, 2), mixtures=2),
    spectral=SpectralConfig(channels=16, skip_channels=16, dilations=(1, 2)),
)


@pytest.fixture(scope="session")
def speech() -> Path:
    """The folder of real speech."""
    if not SPEECH.is_dir():
        pytest.skip(f"there is no real speech at {SPEECH}")
    return SPEECH


@pytest.fixture(scope="session")
def tiny_codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model file of a small untrained codec with both decoders, always the same."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Codec(TINY, VQVAE(TINY).arrays(), "An untrained codec for tests.").save(path)
    return path


@pytest.fixture(scope="session")
def tiny_prior(tiny_codec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small prior for the small codec, with weights as large as trained ones, always the same."""
    path = tmp_path_factory.mktemp("prior") / "tiny.prior.safetensors"
    random_prior(load(tiny_codec)).save(path)
    return path


@pytest.fixture
def tiny_default(tiny_codec: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of what comes with vqaudio, with nothing there but the tiny codec as the default model."""
    folder = tmp_path_factory.mktemp("shipped")
    shutil.copy(tiny_codec, folder / f"{shipped.MODELS[0]}.safetensors")
    monkeypatch.setattr(shipped, "FOLDER", folder)
    return folder


@pytest.fixture
def tone() -> np.ndarray:
    """Half a second of a quiet tone at 16 kHz, (T,) float32."""
    return (0.1 * np.sin(2 * np.pi * 200 * np.arange(8000) / 16000)).astype(np.float32)
