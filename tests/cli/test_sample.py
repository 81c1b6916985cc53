"""sample: speech from the prior alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile

import vqaudio
from vqaudio import Codec, Codes, Prior


@pytest.fixture
def sample(run, tiny_codec: Path, tiny_prior: Path):
    """Run `vqaudio sample` with the tiny codec and its prior."""
    return lambda *arguments: run("sample", "--model", tiny_codec, "--prior", tiny_prior, *arguments)


def read(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float32")[0]


def test_the_decoded_codes_of_the_prior(sample, tmp_path: Path, tiny_codec: Path, tiny_prior: Path) -> None:
    result = sample(
        "a.wav", "--seconds", "0.4", "--seed", "3", "--temperature", "0.9", "--top-k", "9", "--top-p", "0.9"
    )
    assert result.exit_code == 0, result.output
    assert "1 of 0.40 s" in result.stdout
    codes = Prior.load(tiny_prior).sample(0.4, seed=3, temperature=0.9, top_k=9, top_p=0.9)
    expected = vqaudio.load(tiny_codec).decode(codes, seed=3)
    np.testing.assert_allclose(read(tmp_path / "a.wav"), np.clip(expected, -1, 1), atol=2**-15)


def test_the_seed_is_that_of_the_wavenet_too(run, tiny_codec: Path, tiny_prior: Path, tmp_path: Path) -> None:
    codec = vqaudio.load(tiny_codec)
    other = Codec(dataclasses.replace(codec.config, decoder="wavenet"), codec.state)
    other.save(tmp_path / "other.safetensors")
    words = ("a.wav", "--model", "other.safetensors", "--prior", tiny_prior, "--seconds", "0.04", "--seed", "3")
    assert run("sample", *words).exit_code == 0
    codes = Prior.load(tiny_prior).sample(0.04, seed=3)
    expected = vqaudio.load(tmp_path / "other.safetensors").decode(codes, seed=3)
    np.testing.assert_allclose(read(tmp_path / "a.wav"), np.clip(expected, -1, 1), atol=2**-15)


def test_several_samples_differ_and_come_again(sample, tmp_path: Path) -> None:
    assert sample("a.wav", "--seconds", "0.2", "--count", "3").exit_code == 0
    first = [read(tmp_path / f"a-{number}.wav") for number in (1, 2, 3)]
    assert not np.array_equal(first[0], first[1])
    assert sample("b.wav", "--seconds", "0.2", "--count", "3", "--quiet").stdout == ""
    for number in (1, 2, 3):
        np.testing.assert_array_equal(read(tmp_path / f"b-{number}.wav"), first[number - 1])
    for target in (".", "/", "a.aac", "a.wav"):
        result = sample(target, "--seconds", "0.2", "--count", "3")
        assert result.exit_code == 2
    assert "a-1.wav" in result.stderr
    assert "--force" in result.stderr
    assert sample("c.wav", "--count", str(10**12)).exit_code == 2  # whose names alone would fill the memory


def test_a_prompt_comes_first(sample, wav: Path, tmp_path: Path, tiny_codec: Path, tiny_prior: Path) -> None:
    assert sample("a.wav", "--seconds", "0.2", "--prompt", wav).exit_code == 0
    codes = vqaudio.load(tiny_codec).encode(soundfile.read(wav, dtype="float32")[0], 16000)
    codes.save(tmp_path / "in.codes", coder=Prior.load(tiny_prior))
    assert sample("b.wav", "--seconds", "0.2", "--prompt", "in.codes").exit_code == 0
    np.testing.assert_array_equal(read(tmp_path / "a.wav"), read(tmp_path / "b.wav"))
    assert len(read(tmp_path / "a.wav")) == 8000 + 3200


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--seconds", "0"), 2, "can be sampled"),
        (("--seconds", "1e9"), 2, "can be sampled"),
        (("--temperature", "3"), 2, "temperature"),
        (("--top-k", "1000"), 2, "likeliest"),
        (("--top-p", "0"), 2, "probability"),
        (("--seed", "-1"), 2, "seed"),
        (("--prompt", "not there.wav"), 1, "not there"),
    ],
)
def test_bad_options(sample, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    result = sample("a.wav", *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "a.wav").exists()


def test_a_model_without_a_prior(run, tiny_codec: Path, tiny_prior: Path) -> None:
    result = run("sample", "a.wav", "--model", tiny_codec)
    assert result.exit_code == 2
    assert "no prior at hand" in result.stderr
    result = run("sample", "a.wav", "--prior", tiny_prior)  # of the tiny codec, not of the default one
    assert result.exit_code == 1
    assert "is a prior for tiny" in result.stderr
    result = run("sample", "a.wav", "--prior", tiny_codec)
    assert result.exit_code == 1
    assert "not a prior" in result.stderr


def test_files_under_a_prior(run, wav: Path, codes_file: Path, tmp_path: Path, tiny_prior: Path) -> None:
    assert run("encode", wav, "p.codes", "--prior", tiny_prior).exit_code == 0
    prior = Prior.load(tiny_prior)
    assert (tmp_path / "p.codes").read_bytes() == Codes.load(codes_file).to_bytes(prior)
    assert run("encode", wav, "f.codes", "--coder", "fixed").exit_code == 0
    assert (tmp_path / "f.codes").read_bytes() == codes_file.read_bytes()

    run("decode", codes_file, "fixed.wav")
    assert run("decode", "p.codes", "prior.wav", "--prior", tiny_prior).exit_code == 0
    np.testing.assert_array_equal(read(tmp_path / "prior.wav"), read(tmp_path / "fixed.wav"))
    result = run("decode", "p.codes", "other.wav")
    assert result.exit_code == 1
    assert f"under the prior {prior.fingerprint.hex()}" in result.stderr
    assert not (tmp_path / "other.wav").exists()


def test_pipes_and_live_streams_under_a_prior(run, wav: Path, tmp_path: Path, tiny_prior: Path) -> None:
    run("encode", wav, "p.codes", "--prior", tiny_prior)
    piped = run("encode", "-", "-", "--prior", tiny_prior, stdin=wav.read_bytes())
    assert piped.stdout_bytes == (tmp_path / "p.codes").read_bytes()
    run("encode", wav, "live.codes", "--live", "--prior", tiny_prior)
    live = (tmp_path / "live.codes").read_bytes()
    prior = Prior.load(tiny_prior)
    codes = Codes.from_bytes(live, coder=prior)
    np.testing.assert_array_equal(codes.numpy(), Codes.from_bytes(piped.stdout_bytes, coder=prior).numpy())
    result = run("decode", "-", "a.wav", "--prior", tiny_prior, stdin=live)
    assert result.exit_code == 0, result.stderr
    assert len(read(tmp_path / "a.wav")) == 8000


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--coder", "prior"), 2, "no prior at hand"),
        (("--coder", "fixed", "--prior", "x"), 2, "does not use"),
        (("--prior", "not there"), 1, "not there"),
        (("--coder", "best"), 2, "best"),
    ],
)
def test_coders_that_cannot_be(
    run, wav: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = run("encode", wav, "a.codes", *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert not (tmp_path / "a.codes").exists()
