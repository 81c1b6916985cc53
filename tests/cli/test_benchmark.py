"""`vqaudio benchmark` from the shell's side: table, JSON, notes, exit codes."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from pathlib import Path

import pytest

import vqaudio
from vqaudio.codec import Codec
from vqaudio.evaluation import benchmark, peers
from vqaudio.evaluation.peers import Peer

QUICK = ("--seconds", 0.2, "--threads", 1, "--repeat", 1)


def slow(argument: object) -> object:
    """Takes as long as a codec might, so that the figures are as wide as a codec's."""
    time.sleep(0.01)
    return argument


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop of few steps in PyTorch, and two codecs to measure against, of which one is not installed."""
    monkeypatch.setattr(benchmark, "LOOP_SECONDS", 0.02)
    here = Peer("here", "Here", "8 kHz", "numpy", 8000, lambda: (slow, slow))
    absent = dataclasses.replace(here, name="absent", package="surely_absent")
    monkeypatch.setattr(peers, "PEERS", {"here": here, "absent": absent})


def test_it_prints_a_table_and_writes_everything_as_json(run, tiny_codec: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    arguments = ("--model", tiny_codec, *QUICK, "--streams", "1,2", "--against", "here, absent")
    result = run("benchmark", *arguments, "--json", target)
    assert result.exit_code == 0, result.output
    assert "surely_absent" in result.stderr
    for words in ("spectral", "WaveNet, one pass", "PyTorch", "Here: 8 kHz, random weights", "processor", "torch"):
        assert words in result.stdout
    record = json.loads(target.read_text())
    assert record["settings"] == {"device": "cpu", "seconds": 0.2, "threads": [1], "streams": [1, 2], "repeat": 1}
    assert record["model"]["fingerprint"] == vqaudio.load(tiny_codec).fingerprint.hex()
    assert "MB: by which memory rose" in " ".join(result.stdout.split())
    assert record["against"] == {"here": "8 kHz"}
    assert record["versions"]["numba"] and record["machine"]["cores"] >= 1
    rows = {(m["codec"], m["part"], m["streams"]): m for m in record["measurements"]}
    assert len(rows) == len(record["measurements"]) == 1 + 8 + 3 + 2
    ours, theirs = rows["vqaudio", "spectral", 1], rows["here", "decode", 1]
    assert theirs["ratios"]["spectral"] == pytest.approx(ours["speed"] / theirs["speed"])
    assert ours["ratios"] == {} and ours["gflops"] > 0 and theirs["gflops"] is None
    eager = rows["pytorch", "sequential", 1]
    assert eager["ratios"]["sequential"] == pytest.approx(rows["vqaudio", "sequential", 1]["speed"] / eager["speed"])


def test_a_model_with_a_prior_and_a_long_file(
    run, tiny_default: Path, tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(tiny_prior, tiny_default / "speech16k.prior.safetensors")
    start = benchmark.Measurement(benchmark.OURS, "start, decode", 1, 1, 2.0, (1.0,), None, None)
    monkeypatch.setattr(benchmark, "measure_start", lambda **_: start)  # a process that sees other models
    result = run("benchmark", *QUICK, "--streams", 1, "--long", 0.1, "--json", "out.json")
    assert result.exit_code == 0, result.output
    rows = {m["part"]: m for m in json.loads((tmp_path / "out.json").read_text())["measurements"]}
    assert rows["to bytes"]["speed"] > 0 and rows["from bytes"]["speed"] > 0
    assert rows["encode file"]["seconds"] == rows["decode file"]["seconds"] == 10.0


def test_a_wavenet_of_random_weights_is_called_that(run, tiny_codec: Path, tmp_path: Path) -> None:
    codec = vqaudio.load(tiny_codec)
    state = {name: value for name, value in codec.state.items() if not name.startswith("wavenet.")}
    Codec(dataclasses.replace(codec.config, wavenet=None), state).save(tmp_path / "spectral.safetensors")
    result = run("benchmark", "--model", "spectral.safetensors", *QUICK, "--streams", 1)
    assert result.exit_code == 0, result.output
    assert "*WaveNet, pieces" in result.stdout and "*: random weights" in result.stdout
    assert "*" not in run("benchmark", "--model", tiny_codec, *QUICK, "--streams", 1).stdout


def test_a_gpu_has_no_threads_and_another_kind_of_memory(
    run, tiny_codec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_the_cpu = benchmark.measure_device
    monkeypatch.setattr("vqaudio.codec.check_device", lambda device: None)
    monkeypatch.setattr(benchmark, "measure_device", lambda codec, _, **rest: on_the_cpu(codec, "cpu", **rest))
    words = ("--seconds", 0.2, "--repeat", 1, "--streams", 1, "--device", "cuda", "--json", "out.json")
    result = run("benchmark", "--model", tiny_codec, *words)
    assert result.exit_code == 0, result.output
    assert "MB: allocated at most" in " ".join(result.stdout.split())
    settings = json.loads((tmp_path / "out.json").read_text())["settings"]
    assert settings == {"device": "cuda", "seconds": 0.2, "streams": [1], "repeat": 1}


def test_nothing_is_replaced_unasked(run, tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text("precious")
    result = run("benchmark", "--json", "out.json")
    assert result.exit_code == 2 and "--force" in result.stderr
    assert (tmp_path / "out.json").read_text() == "precious"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--threads", "0"), "'0' is not a list of whole numbers"),
        (("--streams", "1,many"), "'1,many' is not a list of whole numbers"),
        (("--streams", ""), "'' is not a list of whole numbers"),
        (("--against", "hear"), "did you mean 'here'?"),
        (("--against", "wavenet"), "There is no codec to measure against 'wavenet'"),
        (("--device", "cuda", "--threads", "2"), "numbers of threads are measured on the CPU alone"),
        (("--device", "cuda", "--long", "1"), "long files and numbers of threads are measured on the CPU alone"),
        (("--seconds", "0"), "--seconds"),
        (("--seconds", "nan"), "nan is no number of this range"),
        (("--long", "inf"), "inf is no number of this range"),
        (("--train", "speech16q"), "the nearest shipped recipe is 'speech16k'"),
        (("--train", "speech16k_prior"), "one for 'vqaudio train-prior'"),
        (("--train", "--seconds", "3"), "The option --seconds cannot be combined with --train"),
        (("--train", "folder", "--model", "m.safetensors"), "The option --model cannot be combined with --train"),
        (("--train", "--long", "1"), "The option --long cannot be combined with --train"),
        (("--batch", "4"), "The option --batch needs --train"),
        (("--set", "bf16=false"), "The option --set needs --train"),
        (("--train", "--set", "codec.hops=1"), "The recipe has no setting 'codec.hops'"),
        (("--train", "--device", "cuda:99"), "The device 'cuda:99' is not there"),
        (("--device", "cuda:99"), "The device 'cuda:99' is not there"),
        (("--device", "meta"), "The device 'meta' is not there"),
    ],
)
def test_what_cannot_be_meant_is_said(run, words: tuple[str, ...], sentence: str) -> None:
    result = run("benchmark", *words)
    assert result.exit_code == 2 and sentence in result.stderr


def test_training_prints_a_table_and_writes_everything_as_json(run, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("torchaudio")
    from vqaudio.evaluation import training_speed

    monkeypatch.setattr(training_speed, "EFFORTS", {"cpu": training_speed.Effort(1, 1, 64, 1)})
    (tmp_path / "small.py").write_text(RECIPE)
    words = ("--train", "small.py", "--set", "stages.second.crop_seconds=0.2", "--batch", 3, "--repeat", 2)
    result = run("benchmark", *words, "--json", "out.json")
    assert result.exit_code == 0, result.output
    for word in ("small, training", "first", "second", "% of limit", "best of 2 times 1 steps", "float32", "torch"):
        assert word in result.stdout
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["recipe"]["stages"][1]["crop_seconds"] == 0.2
    assert record["settings"] == {"device": "cpu", "repeat": 2, "batch": 3}
    assert record["machine"]["threads"] >= 1 and record["versions"]["torch"]
    first, second = record["stages"]
    assert (first["stage"], second["stage"], first["batch"]) == ("first", "second", 3)
    assert second["seconds"] == pytest.approx(2 * first["seconds"])
    assert first["speed"] == pytest.approx(first["seconds"] / min(first["times"]))
    assert not (tmp_path / "runs").exists()


RECIPE = """
from tests.conftest import TINY
from vqaudio.training.recipe import CorpusConfig, LossWeights, Recipe, Stage

weights, parts = LossWeights(spectral=0.0, wavenet=0.0), ("encoder", "conditioning")
stages = tuple(Stage(name, 9, parts, weights, crop_seconds=0.1, batch_size=2) for name in ("first", "second"))
RECIPE = Recipe(name="small", corpus=CorpusConfig(), codec=TINY, stages=stages, bf16=False)
"""
