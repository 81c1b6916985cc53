"""info on codes and on models, for people and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import shutil
from pathlib import Path

import pytest

import vqaudio
from vqaudio import Codes, Prior
from vqaudio.container import STREAM, BlockWriter, Header


def test_codes(run, codes_file: Path, tiny_codec: Path) -> None:
    facts = json.loads(run("info", codes_file, "--json").stdout)
    codes, size = Codes.load(codes_file), codes_file.stat().st_size
    assert facts["seconds"] == 0.5
    assert facts["bytes"] == size
    assert facts["bits_per_second"] == pytest.approx(8 * size / 0.5)
    assert facts["overhead_bytes"] == size - math.ceil(codes.numpy().size * 5 / 8)  # K 32
    assert (facts["quantizers"], facts["codebook_size"], facts["hop"], facts["frames"]) == (2, 32, 64, 125)
    assert facts["model"] == vqaudio.load(tiny_codec).fingerprint.hex()
    assert facts["shipped_model"] is None
    text = run("info", codes_file).stdout
    assert facts["model"] in text
    assert re.search(r"^shipped model +none$", text, re.MULTILINE)
    assert f"{size:,}" in text


def test_what_comes_with_vqaudio_is_told_by_name(run, wav: Path, tiny_default: Path, tiny_prior: Path) -> None:
    shutil.copy(tiny_prior, tiny_default / "speech16k.prior.safetensors")
    run("encode", wav, "in.codes")
    for words in ([], ["speech16k"], ["in.codes"]):
        assert json.loads(run("info", *words, "--json").stdout)["shipped_model"] == "speech16k"
    for word in ("in.codes", tiny_prior):
        assert json.loads(run("info", word, "--json").stdout)["shipped_prior"] == "speech16k"
    assert "speech16k-low.safetensors' is not there" in run("info", "speech16k-low").stderr


def test_model(run, tiny_codec: Path) -> None:
    facts = json.loads(run("info", tiny_codec, "--json").stdout)
    codec = vqaudio.load(tiny_codec)
    assert facts["name"] == "tiny"
    assert facts["decoders"] == ["spectral", "wavenet"]
    assert facts["predictive"] is False
    assert facts["bits_per_second"] == [1250.0, 2500.0]  # 250 codes a second of 5 bits
    weights = codec.model.state_dict().keys() - codec.model.moving_averages().keys()
    assert sum(facts["weights"].values()) == sum(codec.model.state_dict()[name].numel() for name in weights)
    spectral, wavenet = (facts["latency_ms"][name] for name in ("spectral", "wavenet"))
    assert spectral["all"] > wavenet["all"] > wavenet["hop"] == 1000 * codec.config.hop / 16000
    assert wavenet["all"] == pytest.approx(sum(ms for name, ms in wavenet.items() if name != "all"))
    text = run("info", tiny_codec).stdout
    assert "An untrained codec for tests." in text
    assert re.search(r"^predictive +no$", text, re.MULTILINE)


def test_a_stream_that_ends_before_it_begins(run, tmp_path: Path) -> None:
    with (tmp_path / "empty.codes").open("wb") as file:
        BlockWriter(file, Header(b"abcd", 16000, 64, 2, 32, STREAM, b"")).finish(0)
    result = run("info", "empty.codes")
    assert (result.exit_code, result.stderr) == (1, "Error: 'empty.codes' holds no codes.\n")


def test_neither(run, wav: Path) -> None:
    result = run("info", wav)
    assert result.exit_code == 1
    assert "in.wav" in result.stderr


def test_codes_under_a_prior(run, wav: Path, codes_file: Path, tmp_path: Path, tiny_prior: Path) -> None:
    """Their prior need not be at hand."""
    run("encode", wav, "p.codes", "--prior", tiny_prior)
    facts = json.loads(run("info", "p.codes", "--json").stdout)
    fixed = json.loads(run("info", codes_file, "--json").stdout)
    size = (tmp_path / "p.codes").stat().st_size
    assert (facts["coder"], fixed["coder"]) == ("prior", "fixed")
    assert facts["prior"] == Prior.load(tiny_prior).fingerprint.hex()
    assert facts["shipped_prior"] is None
    assert facts["bytes"] == size
    assert facts["fixed_width_bytes"] == fixed["fixed_width_bytes"] == fixed["bytes"]
    assert facts["bits_per_code"] == 8 * (size - facts["overhead_bytes"]) / 250
    assert facts["bits_per_code"] < 8
    assert facts["fixed_width_bits_per_code"] == 5
    assert fixed["bits_per_code"] == pytest.approx(5, abs=0.03)

    run("encode", wav, "live.codes", "--live", "--prior", tiny_prior)
    run("encode", wav, "fixed.codes", "--live")
    facts = json.loads(run("info", "live.codes", "--json").stdout)
    assert facts["fixed_width_bytes"] == (tmp_path / "fixed.codes").stat().st_size
    assert (facts["seconds"], facts["samples"]) == (0.5, 8000)


def test_a_prior(run, tiny_codec: Path, tiny_prior: Path) -> None:
    facts = json.loads(run("info", tiny_prior, "--json").stdout)
    prior = Prior.load(tiny_prior)
    assert facts["kind"] == "prior"
    assert facts["fingerprint"] == prior.fingerprint.hex()
    assert facts["codec_fingerprint"] == vqaudio.load(tiny_codec).fingerprint.hex()
    assert facts["weights"] == sum(parameter.numel() for parameter in prior.network.parameters())
    assert facts["card"] == "An untrained prior for tests."
    assert facts["receptive_field_frames"] == 8
    assert facts["receptive_field_seconds"] == 8 * 64 / 16000


def test_a_file_does_not_steer_the_terminal(run, tiny_codec: Path, tmp_path: Path) -> None:
    codec = vqaudio.load(tiny_codec)
    red = vqaudio.Codec(dataclasses.replace(codec.config, name="\x1b[31mred"), codec.state, "One.\n\x1b[2JTwo\x07: ä.")
    red.save(tmp_path / "red.safetensors")
    text = run("info", "red.safetensors").stdout
    assert r"\x1b[31mred" in text
    assert text.endswith("One.\n\\x1b[2JTwo\\x07: ä.\n")
    assert r"'\x1b[31m.codes'" in run("info", "\x1b[31m.codes").stderr


def test_a_pipe_is_not_waited_for(run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    assert "is not there" in run("info", "pipe.safetensors").stderr
