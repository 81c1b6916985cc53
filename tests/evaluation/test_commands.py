"""`vqaudio evaluate` from the shell's side: output, JSON, exit codes."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner, Result

import vqaudio
from vqaudio import audio
from vqaudio.cli import main
from vqaudio.codec import Codec
from vqaudio.models.config import CodecConfig, ConditioningConfig, EncoderConfig, SpectralConfig, WaveNetConfig
from vqaudio.models.vqvae import VQVAE

RATE = 16000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained codec with both decoders, a few thousand weights, hop 64."""
    torch.manual_seed(0)
    config = CodecConfig(
        name="small",
        encoder=EncoderConfig(strides=(8, 8), channels=(8, 16), dilations=(1,), latent_channels=8),
        conditioning=ConditioningConfig(channels=8, layers=1),
        wavenet=WaveNetConfig(bands=1, channels=8, skip_channels=8, dilations=(1, 2)),
        spectral=SpectralConfig(channels=8, skip_channels=8, dilations=(1,), fft_size=256),
    )
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    Codec(config, VQVAE(config).arrays()).save(path)
    return path


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own for every test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Three seconds of noise in three files."""
    folder = tmp_path / "speech"
    folder.mkdir()
    for index in range(3):
        audio.write(folder / f"{index}.wav", np.random.default_rng(index).uniform(-0.1, 0.1, RATE), RATE)
    return folder


def evaluate(*arguments: object) -> Result:
    """The result of `vqaudio evaluate`, in this process, which starts quicker than others."""
    return invoke(main, "evaluate", *arguments, "--jobs", 1)


def invoke(command: click.Command, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)


def test_evaluate_prints_a_table_and_writes_every_file_as_json(model: Path, directory: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    result = evaluate(directory, "--model", model, "--metrics", "mel,stoi", "--limit", 2, "--json", target)
    assert result.exit_code == 0, result.output
    assert "log-mel distance" in result.output and "bit rate" in result.output and "PESQ" not in result.output
    record = json.loads(target.read_text())
    assert record["model"]["name"] == "small" and len(record["model"]["fingerprint"]) == 8
    assert record["settings"]["decoder"] == "spectral" and record["versions"]["torch"]
    original, small = record["codecs"]
    assert (original["name"], small["name"]) == ("original", "small")
    assert [Path(u["path"]).name for u in small["utterances"]] == ["0.wav", "1.wav"]
    assert set(record["metrics"]) == set(small["means"]) == {"mel", "stoi"}
    # 250 frames of 9 bits, with header and checksums
    assert 2250 < small["bit_rate"] < 2250 + 8 * 50


@pytest.mark.skipif(shutil.which("opusenc") is None, reason="opusenc (Debian package opus-tools) is not installed")
def test_evaluate_puts_other_codecs_beside(model: Path, directory: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    options = ("--model", model, "--metrics", "mel", "--limit", 2, "--json", target, "--against", "opus:12")
    result = evaluate(directory, *options)
    assert result.exit_code == 0, result.output
    assert "more than small on the same files" in result.output
    small, opus = json.loads(target.read_text())["codecs"][1:]
    assert opus["name"] == "opus:12" and opus["bit_rate"] > 6000
    gap = opus["means"]["mel"]["mean"] - small["means"]["mel"]["mean"]
    assert opus["more_than_subject"]["mel"]["mean"] == pytest.approx(gap)


def test_evaluate_puts_another_model_beside(model: Path, directory: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    options = ("--model", model, "--metrics", "mel", "--limit", 1, "--json", target, "--against")
    assert evaluate(directory, *options, "vqaudio:speech16k-low").exit_code == 0
    small, low = json.loads(target.read_text())["codecs"][1:]
    assert low["name"] == "vqaudio:speech16k-low" and low["used_codes"][0] <= 16
    codec, prior = vqaudio.load("speech16k-low"), vqaudio.Prior.load("speech16k-low")
    [utterance] = low["utterances"]
    coded = codec.encode(*soundfile.read(utterance["path"], dtype="float32")).to_bytes(prior)
    assert utterance["bytes"] == len(coded) < small["utterances"][0]["bytes"]


def test_evaluate_is_quick_the_second_time(
    model: Path, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (
        directory,
        "--model",
        model,
        "--metrics",
        "mel",
        "--force",
        "--json",
        tmp_path / "out.json",
    )
    assert evaluate(*arguments).exit_code == 0
    first = json.loads((tmp_path / "out.json").read_text())
    monkeypatch.setattr("vqaudio.evaluation.contenders.Own.code", lambda *_: pytest.fail("coded again"))
    assert evaluate(*arguments).exit_code == 0
    assert json.loads((tmp_path / "out.json").read_text()) == first
    with pytest.raises(pytest.fail.Exception, match="coded again"):
        evaluate(*arguments, "--no-cache")


def test_the_name_of_a_model_does_not_steer_the_terminal(model: Path, directory: Path, tmp_path: Path) -> None:
    codec = vqaudio.load(model)
    red = Codec(dataclasses.replace(codec.config, name="\x1b[31mred"), codec.state)
    red.save(tmp_path / "red.safetensors")
    words = (
        "--model",
        tmp_path / "red.safetensors",
        "--metrics",
        "stoi",
        "--limit",
        1,
        "--against",
        f"vqaudio:{model}",
    )
    output = evaluate(directory, *words).output
    assert "\x1b" not in output and output.count(r"\x1b[31mred") == 3  # what is measured, a column, and a title


def test_evaluate_replaces_nothing_unasked(model: Path, directory: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    target.write_text("precious")
    arguments = (directory, "--model", model, "--metrics", "stoi", "--limit", 1, "--json", target)
    result = evaluate(*arguments)
    assert result.exit_code == 2 and "--force" in result.output and target.read_text() == "precious"
    assert evaluate(*arguments, "--force").exit_code == 0 and json.loads(target.read_text())["files"] == 1


def test_evaluate_names_a_bad_file_and_goes_on(model: Path, directory: Path) -> None:
    (directory / "bad.wav").write_bytes(b"RIFF")
    result = evaluate(directory, "--model", model, "--metrics", "stoi")
    assert result.exit_code == 0 and "bad.wav" in result.output and "3 files" in result.output


def test_evaluate_fails_where_nothing_can_be_measured(model: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    result = evaluate(tmp_path, "--model", model, "--metrics", "stoi")
    assert result.exit_code == 1 and "bad.wav" in result.output


def test_evaluate_refuses_what_cannot_be_meant(model: Path, directory: Path, tmp_path: Path) -> None:
    unknown = evaluate(directory, "--model", model, "--metrics", "pesk")
    assert unknown.exit_code == 2 and "'pesq'" in unknown.output
    assert evaluate(tmp_path / "absent", "--model", model, "--metrics", "stoi").exit_code == 2
    decoder = evaluate(directory, "--model", model, "--metrics", "stoi", "--decoder", "horn")
    assert decoder.exit_code == 2 and "Invalid value for '--decoder': 'horn'" in decoder.output
    voices = evaluate(directory, "--model", model, "--metrics", "stoi", "--conversion", 2)
    assert voices.exit_code == 2 and "takes no voice from a recording" in voices.output


def test_evaluate_without_its_packages_is_refused(directory: Path) -> None:
    """In a process of its own, in which nothing has been imported yet."""
    bare = (
        f"import sys; sys.modules['scipy'] = None; from vqaudio.cli import main; main(['evaluate', {str(directory)!r}])"
    )
    result = subprocess.run([sys.executable, "-c", bare], capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.startswith("Error: The evaluation needs scipy")


@pytest.mark.parametrize("verb", [("evaluate",), ("probe", "collapse"), ("evaluate-prior", "--train", "speech")])
def test_two_results_do_not_go_to_one_file(
    verb: tuple[str, ...], directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vqaudio.load", lambda *_, **__: pytest.fail("too late"))
    (tmp_path / "linked.svg").symlink_to(tmp_path / "out.svg")
    for other in ("out.svg", "speech/../out.svg", "linked.svg"):
        options = ("--json", tmp_path / "out.svg", "--figure", tmp_path / other, "--force")
        result = invoke(main, *verb, directory, *options)
        assert result.exit_code == 2 and result.stderr == "Error: Two results cannot go to one file.\n"
    assert not (tmp_path / "out.svg").exists()
