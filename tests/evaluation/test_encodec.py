"""EnCodec with a small random model: sizes by hand, decoding against the model called by hand, weights not there."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from vqaudio import audio
from vqaudio.errors import UsageError
from vqaudio.evaluation import encodec
from vqaudio.evaluation.encodec import BANDWIDTHS, EncodecCodec

RATE = 16000


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a small random model, always the same."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    folder = tmp_path_factory.mktemp("encodec")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.EncodecConfig(num_filters=4, hidden_size=16, codebook_dim=16, num_lstm_layers=1)
        transformers.EncodecModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    encodec._found.cache_clear()
    yield
    encodec._found.cache_clear()


@pytest.fixture
def noise() -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(20001)).astype(np.float32)


@pytest.mark.parametrize("bandwidth", BANDWIDTHS)
def test_the_size_is_that_of_packed_codes(bandwidth, weights, noise):
    coded = EncodecCodec(bandwidth, weights).code(noise, RATE)
    quantizers, frames = round(bandwidth / 0.75), -(-(20001 * 3 / 2) // 320)  # of 10 bits, 75 in a second
    assert coded.size == -(-10 * quantizers * frames // 8)
    assert coded.decoded.shape == noise.shape
    assert coded.decoded.dtype == np.float32


def test_it_decodes_as_the_model_by_hand(weights, noise):
    from transformers import EncodecModel

    coded = EncodecCodec(3.0, weights).code(noise, 24000)  # at its own rate, so that nothing is resampled
    model = EncodecModel.from_pretrained(weights).eval()
    with torch.no_grad():
        theirs = model(torch.from_numpy(noise)[None, None], bandwidth=3.0)
    assert coded.size == -(-10 * theirs.audio_codes.numel() // 8)
    assert_allclose(coded.decoded, theirs.audio_values[0, 0, : len(noise)].numpy(), atol=1e-6)
    resampled = EncodecCodec(3.0, weights).code(audio.prepare(noise, 24000, RATE), RATE)
    assert resampled.size == coded.size


@pytest.mark.parametrize("length", [1, 7, 161, 1000])
def test_short_audio_and_silence_are_coded(length, weights):
    decoded = EncodecCodec(1.5, weights).code(np.zeros(length, np.float32), RATE).decoded
    assert decoded.shape == (length,)
    assert np.isfinite(decoded).all()


def test_the_identity_follows_the_weights_and_the_bandwidth(weights, tmp_path):
    from transformers import EncodecModel

    codec = EncodecCodec(6.0, weights)
    assert codec.name == "encodec:6"
    assert codec.missing() is None
    assert pickle.loads(pickle.dumps(codec)).identity == codec.identity
    assert "transformers" in codec.identity
    other = EncodecModel.from_pretrained(weights)
    with torch.no_grad():
        next(other.parameters()).add_(1e-3)
    other.save_pretrained(tmp_path)
    digests = {EncodecCodec(6.0, folder).identity.replace(folder, "") for folder in (weights, str(tmp_path))}
    assert len(digests) == 2
    assert EncodecCodec(3.0, weights).identity != codec.identity


def test_weights_that_cannot_be_read_are_told(weights, tmp_path):
    for file in Path(weights).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[:1000])
    reason = EncodecCodec(1.5, str(tmp_path)).missing()
    assert reason is not None
    assert str(tmp_path) in reason
    with pytest.raises(UsageError, match=r"^The codec 'encodec:1\.5' cannot be used, for its weights in "):
        EncodecCodec(1.5, str(tmp_path)).code(np.zeros(100, np.float32), RATE)


def test_a_hub_that_cannot_be_reached_is_asked_once(monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    asked = []

    def unreachable(url, timeout):
        asked.append((url, timeout))
        raise OSError("No route to host.\nAnd more.")

    def not_cached(*_, local_files_only=False):
        assert local_files_only, "transformers tries for half a minute"
        raise OSError("not in the cache")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    monkeypatch.setattr(transformers.EncodecModel, "from_pretrained", not_cached)
    for bandwidth in (1.5, 3.0):
        assert EncodecCodec(bandwidth).missing() == (
            "its weights facebook/encodec_24khz are not in the cache of the Hugging Face hub and cannot be downloaded "
            "(No route to host)"
        )
    assert len(asked) == 1
    assert asked[0][0].endswith("facebook/encodec_24khz/resolve/main/config.json")
    assert asked[0][1] <= 10


def test_transformers_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    reason = EncodecCodec(1.5).missing()
    assert reason is not None
    assert "package transformers" in reason
    assert "pip install 'vqaudio[peers]'" in reason
