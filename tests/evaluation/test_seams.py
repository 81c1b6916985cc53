"""The WaveNet in pieces beside one pass: the same below the first cut, paired differences above it, and refusals."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import vqaudio
from vqaudio import audio
from vqaudio.cli import main
from vqaudio.codec import Codec
from vqaudio.errors import UsageError
from vqaudio.evaluation import metrics
from vqaudio.evaluation.metrics import Metric
from vqaudio.evaluation.seams import seams
from vqaudio.runtime.cpu import CpuNetworks

RATE = 16000


def level(reference: np.ndarray, decoded: np.ndarray, sample_rate: int) -> float:
    return float(np.abs(decoded - reference).mean())


def undefined(reference: np.ndarray, decoded: np.ndarray, sample_rate: int) -> float:
    return float("nan")


LEVEL = Metric("level", "level", "", False, "numpy", "numpy", level)
UNDEFINED = Metric("undefined", "undefined", "", True, "numpy", "numpy", undefined)


@pytest.fixture(scope="module")
def codec(tiny_codec: Path) -> Codec:
    return vqaudio.load(tiny_codec)


def noise(seed: int, seconds: float) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, round(seconds * RATE)).astype(np.float32)


def without_wavenet(codec: Codec) -> Codec:
    state = {name: value for name, value in codec.state.items() if not name.startswith("wavenet.")}
    return Codec(dataclasses.replace(codec.config, wavenet=None), state)


def test_what_is_too_short_to_be_cut_comes_out_the_same(codec: Codec) -> None:
    result = seams(codec, [noise(0, 0.5), noise(1, 0.7)], (LEVEL,))
    pair = result.metrics["level"]
    assert (pair.difference.mean, pair.difference.low, pair.difference.high, pair.difference.count) == (0, 0, 0, 2)
    assert (result.files, result.seconds) == (2, pytest.approx(1.2))
    assert result.pieces_speed > 0 and result.one_pass_speed > 0


def test_differences_are_those_of_each_file(codec: Codec) -> None:
    waveforms = [noise(seed, 3.5) for seed in range(2)]
    pair = seams(codec, waveforms, (LEVEL,)).metrics["level"]
    networks = CpuNetworks(codec.config, codec.state, threads=2)
    values = []
    for waveform in waveforms:
        codes = networks.encode([waveform], 2, True)
        both = (np.concatenate(list(networks.decode_wavenet(*codes, 0, 1.0, way))) for way in (True, False))
        values.append([level(waveform, np.clip(decoded[: len(waveform)], -1, 1), RATE) for decoded in both])
    pieces, one_pass = np.array(values).T
    assert not np.array_equal(pieces, one_pass)
    assert pair.pieces.mean == pytest.approx(pieces.mean())
    assert pair.one_pass.mean == pytest.approx(one_pass.mean())
    assert pair.difference.mean == pytest.approx((pieces - one_pass).mean())
    assert pair.difference.low == pytest.approx((pieces - one_pass).min())  # of two files


def test_a_model_without_a_wavenet_is_refused(codec: Codec) -> None:
    with pytest.raises(UsageError, match="tiny has no WaveNet"):
        seams(without_wavenet(codec), [noise(0, 0.5)], (LEVEL,))


def test_the_command_prints_and_gives_json(
    codec: Codec, tiny_codec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "METRICS", {"level": LEVEL, "undefined": UNDEFINED})
    for seed in range(3):
        audio.write(tmp_path / f"{seed}.wav", noise(seed, 0.5), RATE)
    words = ["probe", "seams", str(tmp_path), "--limit", "2", "--model"]
    result = CliRunner().invoke(main, [*words, str(tiny_codec), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["files"] == 2 and record["metrics"]["level"]["difference"]["mean"] == 0
    assert record["metrics"]["undefined"]["pieces"]["mean"] is None
    text = CliRunner().invoke(main, [*words, str(tiny_codec)], catch_exceptions=False).stdout
    assert "2 files, 1.0 s" in text and "level" in text
    without_wavenet(codec).save(tmp_path / "spectral.safetensors")
    refused = CliRunner().invoke(main, [*words, str(tmp_path / "spectral.safetensors")])
    assert refused.exit_code == 2 and refused.stderr.startswith("Error: The model tiny has no WaveNet")
