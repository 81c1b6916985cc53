"""`vqaudio evaluate-prior` from the shell's side: tables, JSON, figure, exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import vqaudio
from tests.samples import random_prior
from vqaudio import audio
from vqaudio.cli import main
from vqaudio.codec import Codec
from vqaudio.evaluation import metrics

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def prior_file(tiny_codec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prior") / "tiny.prior.safetensors"
    random_prior(vqaudio.load(tiny_codec)).save(path)
    return path


@pytest.fixture
def run(tmp_path: Path, tiny_codec: Path, prior_file: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command on three files, against three others, with two short samples of each prior."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for folder in ("train", "eval"):
        (tmp_path / folder).mkdir()
        for index in range(3):
            audio.write(tmp_path / folder / f"{index}.wav", random.uniform(-0.1, 0.1, 20000), 16000)

    def invoke(*further: object) -> Result:
        words = ["evaluate-prior", tmp_path / "eval", "--train", tmp_path / "train", "--model", tiny_codec]
        words += ["--prior", prior_file, "--samples", 2, "--seconds", 1, *further]
        return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)

    return invoke


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens to the samples, which takes the longest."""
    monkeypatch.setattr(metrics, "usable", lambda chosen: ((), []))


def test_prints_tables_and_writes_everything(run: Run, prior_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    target, figure = tmp_path / "out.json", tmp_path / "out.svg"
    result = run("--json", target, "--figure", figure, "--against", prior_file, "--seed", 7)
    assert result.exit_code == 0, result.output
    for title in ("3 files, 3.8 s", "context", "blocks that start anew", "samples"):
        assert title in result.output
    assert figure.read_text().startswith("<?xml")
    record = json.loads(target.read_text())
    assert record["files"] == 3 and record["settings"]["seed"] == 7
    assert record["prior"]["path"] == str(prior_file)
    costs = record["costs"]
    names = ["uniform", "unigram", "bigram", "learned", "integers", "learned, no speaker", "integers, no speaker"]
    assert list(costs) == [*names, f"integers of {prior_file}", "files, fixed", "files, prior"]
    assert costs["uniform"]["bits_per_code"]["mean"] == pytest.approx(5)
    assert costs[f"integers of {prior_file}"] == costs["integers"]
    assert costs["files, fixed"]["kilobits_per_second"]["mean"] > 2.5
    assert record["saving"]["count"] == 3
    assert len(record["context"]["extra"]) == 8
    assert [octave["first"] for octave in record["context"]["octaves"]] == [0, 1, 2, 4]
    assert [block["seconds"] for block in record["blocks"]] == [0.5, 1, 2, 5, 10, 20]
    assert [drawn["name"] for drawn in record["samples"]] == ["real", "uniform", "unigram", "bigram", "learned"]
    assert all(0 <= drawn["bigram"] <= 1 for drawn in record["samples"])
    if "speechmos" in record["versions"]:
        assert all(1 <= drawn["metrics"]["dnsmos"]["mean"] <= 5 for drawn in record["samples"])
    for utterance in record["utterances"]:
        assert utterance["bits"]["uniform"] == pytest.approx(5 * utterance["codes"])


@pytest.mark.usefixtures("silent")
def test_a_damaged_file_is_skipped_and_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "eval" / "bad.wav").write_bytes(b"RIFF")
    result = run()
    assert result.exit_code == 0 and "Skipped" in result.output and "bad.wav" in result.output


def test_a_prior_of_another_codec_is_refused(run: Run, tiny_codec: Path, tmp_path: Path) -> None:
    codec = vqaudio.load(tiny_codec)
    weights = {
        name: array + np.float32(0.01) if array.dtype == np.float32 else array for name, array in codec.state.items()
    }
    other = Codec(codec.config, weights)
    random_prior(other).save(tmp_path / "other.safetensors")
    for option in ("--prior", "--against"):
        result = run(option, tmp_path / "other.safetensors")
        assert result.exit_code == 1
        assert "is a prior for tiny" in result.output and other.fingerprint.hex() in result.output


def test_a_codec_without_a_prior_is_refused(tiny_codec: Path, tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", np.zeros(4000, np.float32), 16000)
    words = ["evaluate-prior", str(tmp_path), "--train", str(tmp_path), "--model", str(tiny_codec)]
    result = CliRunner().invoke(main, words, catch_exceptions=False)
    assert result.exit_code == 2 and "has no prior at hand" in result.output


def test_training_speech_has_to_be_there(run: Run, tiny_codec: Path, tmp_path: Path) -> None:
    for place, sentence in (("absent", "cannot be read"), ("empty", "has no audio files"), ("list.csv", "no column")):
        if place == "empty":
            (tmp_path / place).mkdir()
        elif place == "list.csv":
            (tmp_path / place).write_text("path,speaker\neval/0.wav,ann\n")
        result = run("--train", tmp_path / place)
        assert result.exit_code == 1 and sentence in result.output
    result = CliRunner().invoke(main, ["evaluate-prior", str(tmp_path)])
    assert result.exit_code == 2 and "--train" in result.output


@pytest.mark.usefixtures("silent")
def test_the_train_split_of_a_manifest_counts(run: Run, tmp_path: Path) -> None:
    rows = [f"train/{index}.wav,ann,{'eval' if index else 'train'}" for index in range(3)]
    (tmp_path / "list.csv").write_text("\n".join(["path,speaker,split", *rows]) + "\n")
    assert run("--train", tmp_path / "list.csv").exit_code == 0
    packs = list((tmp_path / "cache" / "vqaudio" / "corpora").glob("*/codes.uint16"))
    assert [path.stat().st_size for path in packs] == [2 * 2 * 313]


@pytest.mark.parametrize(
    "words", [["--samples=0"], ["--seconds=0.5"], ["--seconds=601"], ["--temperature=3"], ["--seed=-1"], ["--limit=1"]]
)
def test_numbers_out_of_range_are_refused(run: Run, words: list[str]) -> None:
    assert run(*words).exit_code == 2


@pytest.mark.usefixtures("silent")
def test_results_are_not_replaced_unless_by_force(run: Run, tmp_path: Path) -> None:
    for option, name in (("--json", "out.json"), ("--figure", "out.png")):
        (tmp_path / name).write_text("old")
        result = run(option, tmp_path / name)
        assert result.exit_code == 2 and "exists already" in result.output
        assert (tmp_path / name).read_text() == "old"
    assert run("--json", tmp_path / "out.json", "--force").exit_code == 0
    assert json.loads((tmp_path / "out.json").read_text())["files"] == 3


def test_a_figure_of_another_kind_or_without_matplotlib_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("--figure", tmp_path / "out.gif")
    assert result.exit_code == 2 and ".png or .svg" in result.output
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run("--figure", tmp_path / "out.png")
    assert result.exit_code == 2 and "vqaudio[eval]" in result.output
