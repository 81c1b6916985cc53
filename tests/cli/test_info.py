"""info on codes and on models, for people and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import vqaudio
from vqaudio import Codes
from vqaudio.models.config import Alphabet, PriorConfig
from vqaudio.weights import save_prior


def test_codes(run, codes_file: Path, tiny_codec: Path) -> None:
    facts = json.loads(run("info", codes_file, "--json").stdout)
    codes, size = Codes.load(codes_file), codes_file.stat().st_size
    assert facts["seconds"] == 0.5
    assert facts["bytes"] == size
    assert facts["bits_per_second"] == pytest.approx(8 * size / 0.5)
    assert facts["overhead_bytes"] == pytest.approx(size - codes.numpy().size * 5 / 8)  # K 32
    assert (facts["quantizers"], facts["codebook_size"], facts["hop"], facts["frames"]) == (2, 32, 64, 125)
    assert facts["model"] == vqaudio.load(tiny_codec).fingerprint.hex()
    assert facts["default_model"] is False
    text = run("info", codes_file).stdout
    assert facts["model"] in text
    assert f"{size:,}" in text


def test_codes_of_the_default_model(run, codes_file: Path, tiny_codec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqaudio.codec.DEFAULT_MODEL", str(tiny_codec))
    assert json.loads(run("info", codes_file, "--json").stdout)["default_model"] is True


def test_model(run, tiny_codec: Path) -> None:
    facts = json.loads(run("info", tiny_codec, "--json").stdout)
    codec = vqaudio.load(tiny_codec)
    assert facts["name"] == "tiny"
    assert facts["decoders"] == ["spectral", "wavenet"]
    assert facts["bits_per_second"] == [1250.0, 2500.0]  # 250 codes a second of 5 bits
    weights = codec.model.state_dict().keys() - codec.model.moving_averages().keys()
    assert sum(facts["weights"].values()) == sum(codec.model.state_dict()[name].numel() for name in weights)
    spectral, wavenet = (facts["latency_ms"][name] for name in ("spectral", "wavenet"))
    assert spectral["all"] > wavenet["all"] > wavenet["hop"] == 1000 * codec.config.hop / 16000
    assert wavenet["all"] == pytest.approx(sum(ms for name, ms in wavenet.items() if name != "all"))
    assert "An untrained codec for tests." in run("info", tiny_codec).stdout


def test_prior(run, tmp_path: Path) -> None:
    path = tmp_path / "prior.safetensors"
    alphabet = Alphabet("some", "01020304", 16000, 64, 2, 32, (4, 4))
    state = {"a": np.zeros((3, 4), np.float32), "b": np.zeros(5, np.float32)}
    save_prior(path, PriorConfig(kernel=3, dilations=(1, 2, 4)), alphabet, state, "A prior for tests.")
    facts = json.loads(run("info", path, "--json").stdout)
    assert (facts["kind"], facts["codec"], facts["codec_fingerprint"]) == ("prior", "some", "01020304")
    assert facts["architecture"]["dilations"] == [1, 2, 4]
    assert facts["parameters"] == 17
    assert (facts["receptive_field_frames"], facts["receptive_field_seconds"]) == (15, 0.06)
    text = run("info", path).stdout
    assert "01020304" in text and "A prior for tests." in text


def test_neither(run, wav: Path) -> None:
    result = run("info", wav)
    assert result.exit_code == 1
    assert "in.wav" in result.stderr
