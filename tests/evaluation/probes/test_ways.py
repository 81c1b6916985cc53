"""Two ways through one codec: the same where nothing tells them apart, paired differences elsewhere, and refusals."""

from __future__ import annotations

import dataclasses
import json
import re
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
from vqaudio.evaluation.probes.ways import Comparison, compare, pieces_or_pass, short_or_exact
from vqaudio.runtime.cpu import CpuNetworks
from vqaudio.runtime.processor import PAIRED

RATE = 16000


def level(reference: np.ndarray, decoded: np.ndarray, sample_rate: int) -> float:
    return float(np.abs(decoded - reference).mean())


def undefined(reference: np.ndarray, decoded: np.ndarray, sample_rate: int) -> float:
    return float("nan")


LEVEL = Metric("level", "level", "dB", False, "numpy", "numpy", level)
UNDEFINED = Metric("undefined", "undefined", "", True, "numpy", "numpy", undefined)


@pytest.fixture(scope="module")
def codec(tiny_codec: Path) -> Codec:
    return vqaudio.load(tiny_codec)


def noise(seed: int, seconds: float) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, round(seconds * RATE)).astype(np.float32)


def without_wavenet(codec: Codec) -> Codec:
    state = {name: value for name, value in codec.state.items() if not name.startswith("wavenet.")}
    return Codec(dataclasses.replace(codec.config, wavenet=None), state)


def seams(codec: Codec, waveforms: list[np.ndarray]) -> Comparison:
    return compare(pieces_or_pass(codec), waveforms, (LEVEL,), RATE)


def test_what_is_too_short_to_be_cut_comes_out_the_same(codec: Codec) -> None:
    result = seams(codec, [noise(0, 0.5), noise(1, 0.55)])
    pair = result.metrics["level"]
    assert (pair.difference.mean, pair.difference.low, pair.difference.high, pair.difference.count) == (0, 0, 0, 2)
    assert (result.ways, result.files, result.seconds) == (("pieces", "one pass"), 2, pytest.approx(1.05))
    assert min(result.speeds) > 0 and result.codes_apart == 0


def test_differences_are_those_of_each_file(codec: Codec) -> None:
    waveforms = [noise(seed, 3.5) for seed in range(2)]
    pair = seams(codec, waveforms).metrics["level"]
    networks = CpuNetworks(codec.config, codec.state, threads=2)
    values = []
    for waveform in waveforms:
        codes = networks.encode([waveform], 2, True)
        both = (np.concatenate(list(networks.decode_wavenet(*codes, 0, 1.0, way))) for way in (True, False))
        values.append([level(waveform, np.clip(decoded[: len(waveform)], -1, 1), RATE) for decoded in both])
    pieces, one_pass = np.array(values).T
    assert not np.array_equal(pieces, one_pass)
    assert pair.fast.mean == pytest.approx(pieces.mean())
    assert pair.slow.mean == pytest.approx(one_pass.mean())
    assert pair.difference.mean == pytest.approx((pieces - one_pass).mean())
    assert pair.difference.low == pytest.approx((pieces - one_pass).min())  # of two files


def test_a_model_without_a_wavenet_is_refused(codec: Codec) -> None:
    with pytest.raises(UsageError, match="tiny has no WaveNet"):
        pieces_or_pass(without_wavenet(codec))


@pytest.mark.skipif(not PAIRED, reason="the processor does not multiply pairs of bfloat16")
@pytest.mark.parametrize("decoder", ["spectral", "wavenet"])
def test_bfloat16_is_another_way_to_nearly_the_same(codec: Codec, decoder: str) -> None:
    result = compare(short_or_exact(codec, decoder), [noise(0, 0.5), noise(1, 0.6)], (LEVEL,), RATE)
    pair = result.metrics["level"]
    assert result.ways == ("bfloat16", "float32")
    assert 0 < abs(pair.difference.mean) < 0.1 * pair.slow.mean
    assert 0 <= result.codes_apart < 0.1
    with pytest.raises(UsageError, match="no wavenet decoder"):
        short_or_exact(without_wavenet(codec), "wavenet")


def test_a_rate_per_word_is_weighed_by_words(codec: Codec) -> None:
    def length(reference: np.ndarray, decoded: np.ndarray, sample_rate: int, text: str | None) -> float:
        return float(len(reference))

    rate = Metric("rate", "rate", "", False, "numpy", "numpy", length, words=lambda w, _, text: len(w) / 1000)
    pair = compare(pieces_or_pass(codec), [noise(0, 0.1), noise(1, 0.3)], (rate,), RATE).metrics["rate"]
    assert pair.slow.mean == pair.fast.mean == pytest.approx((1600 * 1.6 + 4800 * 4.8) / 6.4)


def test_without_bfloat16_there_is_nothing_to_compare(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqaudio.evaluation.probes.ways.PAIRED", False)
    with pytest.raises(UsageError, match="does not multiply bfloat16"):
        short_or_exact(codec, "spectral")


def test_the_commands_print_and_write_json(
    codec: Codec, tiny_codec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "METRICS", {"level": LEVEL, "undefined": UNDEFINED})
    for seed in range(3):
        audio.write(tmp_path / f"{seed}.wav", noise(seed, 0.5), RATE)
    without_wavenet(codec).save(tmp_path / "spectral.safetensors")
    for probe in ("seams", "precision") if PAIRED else ("seams",):
        target = tmp_path / f"{probe}.json"
        words = ["probe", probe, str(tmp_path), "--limit", "2", "--model", str(tiny_codec), "--json", str(target)]
        result = CliRunner().invoke(main, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        record = json.loads(target.read_text())
        assert record["model"]["name"] == "tiny" and record["versions"]["numpy"]
        assert record["files"] == 2 and len(record["speeds"]) == 2
        assert record["metrics"]["undefined"]["fast"]["mean"] is None
        assert "2 files, 1.0 s" in result.stdout and "nan" not in result.stdout
        assert ("of the codes differ" in result.stdout) == (probe == "precision")
        rows = {line.split(" ")[1]: line.rstrip() for line in result.stdout.splitlines() if line.strip()}
        number = r" +[+-]?\d\.\d{3}"
        interval = r" \([+-]\d\.\d{3} to [+-]\d\.\d{3}\)"
        assert re.search(f"level, dB ↓{number}{number}{number}{interval}$", rows["level,"])
        assert re.search(r"undefined ↑ +- +- +-$", rows["undefined"])
        again = CliRunner().invoke(main, words)
        assert again.exit_code == 2 and "--force replaces it" in again.stderr
    refused = CliRunner().invoke(
        main, ["probe", "seams", str(tmp_path), "--model", str(tmp_path / "spectral.safetensors")]
    )
    assert refused.exit_code == 2 and refused.stderr.startswith("Error: The model tiny has no WaveNet")
