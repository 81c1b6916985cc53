"""Metrics against values computed another way, and known degradations in their known order."""

from __future__ import annotations

import importlib.metadata
import math
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soxr
import torch

from tests.evaluation.degraded import RATE, SAMPLE, better, mel_decibels, metric, noisy
from vqaudio import audio
from vqaudio.errors import UsageError
from vqaudio.evaluation import metrics

SPEECH = Path(__file__).parents[3] / "shared" / "speech" / "eval" / "librispeech"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The voice encoder's small products only wait for one another on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def syllables(seconds: float) -> np.ndarray:
    """Something like voiced syllables: a gliding pulse train through three resonances, five bursts per second."""
    rng = np.random.default_rng(1)
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = 120 + 25 * np.sin(2 * np.pi * 0.7 * time)
    source = (np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0) > 0) + 0.01 * rng.standard_normal(len(time))
    for frequency, radius in ((600, 0.97), (1400, 0.96), (2700, 0.95)):
        angle = 2 * np.pi * frequency / RATE
        source = scipy.signal.lfilter([1 - radius], [1, -2 * radius * np.cos(angle), radius**2], source)
    speech = source * np.clip(np.sin(2 * np.pi * 2.5 * time), 0, None)
    return (0.3 * speech / np.abs(speech).max()).astype(np.float32)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Four seconds of a real voice."""
    if not SPEECH.is_dir():
        pytest.skip(f"real speech is not there: {SPEECH}")
    path = min(SPEECH.rglob("*.flac"))
    return audio.read(path)[: 4 * RATE]


def test_headings_tell_unit_and_direction() -> None:
    assert metric("pesq").heading == "PESQ, MOS ↑" and metric("estoi").heading == "ESTOI ↑"
    assert metric("voicing").heading == "voicing error, % ↓"


@pytest.mark.parametrize("name", ["pesq", "estoi", "stoi", "mel"])
def test_less_noise_on_syllables_is_better(name: str) -> None:
    waveform = syllables(3.0)
    values = [metric(name)(waveform, noisy(waveform, snr), RATE) for snr in (30, 15, 0)]
    assert better(name, values[0], values[1]) and better(name, values[1], values[2])
    assert better(name, metric(name)(waveform, waveform, RATE), values[0])


@pytest.fixture(scope="module")
def sample() -> np.ndarray:
    """Seven seconds of synthetic speech."""
    return audio.read(SAMPLE)


NEEDS_A_REAL_VOICE = ("dnsmos", "wer")  # they hear little sense in synthetic speech, however clean


@pytest.mark.parametrize("name", list(metrics.METRICS))
def test_less_noise_on_speech_is_better(name: str, request: pytest.FixtureRequest) -> None:
    waveform = request.getfixturevalue("speech" if name in NEEDS_A_REAL_VOICE else "sample")
    clean, *values = (metric(name)(waveform, heard, RATE) for heard in (waveform, *degraded(waveform)))
    assert better(name, values[0], values[1]) and better(name, values[1], values[2])
    assert clean == values[0] or better(name, clean, values[0])


def degraded(waveform: np.ndarray) -> list[np.ndarray]:
    """The waveform with little, with some and with much noise."""
    return [noisy(waveform, snr) for snr in (30, 15, 0)]


ZERO = dict.fromkeys(("mel", "mcd", "f0", "voicing"), 0.0)
BEST = {"pesq": 4.644, "estoi": 1.0, "stoi": 1.0, "speaker": 1.0} | ZERO


@pytest.mark.parametrize("name", list(BEST))
def test_the_original_itself_scores_best(name: str) -> None:
    waveform = syllables(2.0)
    assert metric(name)(waveform, waveform, RATE) == pytest.approx(BEST[name], abs=1e-3)


def test_another_voice_is_less_similar_than_the_same_voice_elsewhere(speech: np.ndarray) -> None:
    similarity = metric("speaker")
    speakers = sorted(SPEECH.iterdir())
    same, other = sorted(speakers[0].glob("*.flac"))[1], min(speakers[-1].glob("*.flac"))
    same_voice, other_voice = (np.resize(audio.read(path), len(speech)) for path in (same, other))
    assert similarity(speech, same_voice, RATE) > similarity(speech, other_voice, RATE) + 0.1


def test_speaker_similarity_does_not_depend_on_the_level_of_quiet_speech() -> None:
    waveform = syllables(2.0)
    quiet = waveform * np.float32(0.001)
    assert metric("speaker")(waveform, waveform * np.float32(0.0002), RATE) > 0.9
    assert metric("speaker")(quiet, quiet * np.float32(0.1), RATE) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("rate", [24000, 44100])
def test_a_voice_is_the_same_at_another_rate(sample: np.ndarray, rate: int) -> None:
    metric("speaker")
    from vqaudio.evaluation.metrics.voice import voice_vector

    there, here = voice_vector(soxr.resample(sample, RATE, rate), rate), voice_vector(sample, RATE)
    assert there is not None and here is not None
    assert there @ here > 0.95


def test_dnsmos_judges_the_decoded_speech_alone_and_takes_it_beyond_full_scale() -> None:
    dnsmos = metric("dnsmos")
    waveform = syllables(4.6)
    loud = waveform / np.abs(waveform).max() * np.float32(1.5)
    assert dnsmos(waveform, loud, RATE) == dnsmos(np.zeros_like(loud), np.clip(loud, -1, 1), RATE)
    assert 1.0 <= dnsmos(waveform, loud, RATE) <= 5.0


def test_dnsmos_is_the_package_s_own_value() -> None:
    dnsmos = metric("dnsmos")
    from speechmos import dnsmos as package

    waveform = syllables(4.6)
    assert dnsmos(waveform, waveform, RATE) == pytest.approx(package.run(waveform, RATE)["ovrl_mos"], abs=1e-4)


@pytest.mark.parametrize("name", ["stoi", "estoi"])
def test_intelligibility_is_the_package_s_own_value_of_the_decoded_speech(name: str) -> None:
    measured = metric(name)
    import pystoi

    waveform = syllables(2.0)
    decoded = noisy(waveform, 5)
    expected, swapped = (
        pystoi.stoi(*pair, RATE, extended=name == "estoi") for pair in ((waveform, decoded), (decoded, waveform))
    )
    assert measured(waveform, decoded, RATE) == pytest.approx(expected)
    assert swapped != pytest.approx(expected)


def test_log_mel_distance_equals_a_computation_by_hand() -> None:
    rng = np.random.default_rng(3)
    one, other = (rng.standard_normal(4000).astype(np.float32) * scale for scale in (0.1, 0.02))

    expected = np.abs(mel_decibels(one) - mel_decibels(other)).mean()
    assert metric("mel")(one, other, RATE) == pytest.approx(expected, rel=1e-4)


def test_log_mel_distance_of_a_gain_is_that_gain() -> None:
    noise = np.random.default_rng(4).standard_normal(RATE).astype(np.float32) * 0.1
    assert metric("mel")(noise, noise * np.float32(0.5), RATE) == pytest.approx(20 * math.log10(2), rel=1e-4)


def test_pesq_of_long_speech_is_the_mean_over_its_pieces() -> None:
    pesq = metric("pesq")
    piece = syllables(15.0)
    worse = [noisy(piece, 25), noisy(piece, 5)]
    expected = np.mean([pesq(piece, decoded, RATE) for decoded in worse])
    assert pesq(np.tile(piece, 2), np.concatenate(worse), RATE) == pytest.approx(expected, abs=1e-6)


def test_pesq_survives_more_utterances_than_its_package_holds() -> None:
    burst = np.concatenate([syllables(1.0), np.zeros(RATE, np.float32)])
    many = np.tile(burst, 60)
    assert 1.0 <= metric("pesq")(many, noisy(many, 20), RATE) <= 4.65


def test_pesq_of_silence_almost_to_the_end_is_undefined() -> None:
    late = np.zeros(6000, np.float32)
    late[-20:] = 0.1
    assert math.isnan(metric("pesq")(late, late, RATE))


@pytest.mark.parametrize("name", ["pesq", "estoi", "stoi", "speaker"])
def test_a_silent_original_is_undefined(name: str) -> None:
    silence = np.zeros(RATE, np.float32)
    assert math.isnan(metric(name)(silence, silence, RATE))
    assert math.isnan(metric(name)(silence, syllables(1.0), RATE))


@pytest.mark.parametrize("name", ["pesq", "estoi", "stoi"])
@pytest.mark.parametrize("samples", [1, 100, 3000])
def test_too_little_speech_is_undefined(name: str, samples: int) -> None:
    waveform = syllables(1.0)[2000 : 2000 + samples]
    assert math.isnan(metric(name)(waveform, waveform, RATE))


@pytest.mark.parametrize("level", [0.0, 1e-6, 1e-20])
def test_decoded_silence_never_raises(level: float) -> None:
    waveform = syllables(1.0)
    for name in ("pesq", "estoi", "mel", "mcd", "f0", "voicing", "speaker"):
        value = metric(name)(waveform, waveform * np.float32(level), RATE)
        assert math.isnan(value) or math.isfinite(value)


def test_waveforms_of_two_lengths_are_refused() -> None:
    with pytest.raises(UsageError, match="one length"):
        metrics.METRICS["mel"](np.zeros(10, np.float32), np.zeros(11, np.float32), RATE)


def test_only_a_rate_per_word_weighs_by_words() -> None:
    waveform = np.zeros(RATE, np.float32)
    for one in metrics.METRICS.values():
        assert one.weight(waveform, RATE, "three little words") == (3.0 if one.name == "wer" else 1.0)


def test_every_metric_crosses_to_another_process() -> None:
    waveform = syllables(1.0)
    for name in ("estoi", "mel", "mcd"):
        there = pickle.loads(pickle.dumps(metric(name)))
        assert there(waveform, waveform * 0.5, RATE) == metric(name)(waveform, waveform * 0.5, RATE)
    assert set(pickle.loads(pickle.dumps(metrics.METRICS))) == set(metrics.METRICS)


def test_metrics_are_selected_by_name_in_one_order() -> None:
    assert [m.name for m in metrics.select(["dnsmos", "pesq", "pesq"])] == ["pesq", "dnsmos"]


def test_an_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'estoi'"):
        metrics.select(["pesq", "esto"])


def test_what_cannot_be_loaded_of_a_package_leaves_out_the_metrics_that_need_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "librosa.feature.spectral", None)
    kept, notes = metrics.usable(metrics.select(["mel", "mcd", "f0", "voicing"]))
    assert [m.name for m in kept] == ["f0", "voicing"]
    assert all("its package librosa cannot be used" in note for note in notes)


@pytest.mark.parametrize("each", metrics.METRICS.values(), ids=metrics.METRICS)
def test_packages_are_called_as_they_are_installed(each: metrics.Metric) -> None:
    assert importlib.metadata.version(each.package)


def test_a_package_that_is_missing_leaves_its_metric_out_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pesq", None)
    kept, notes = metrics.usable(metrics.select(["pesq", "mel"]))
    assert [m.name for m in kept] == ["mel"]
    assert len(notes) == 1 and "'pesq' is left out" in notes[0] and notes[0].endswith(".")
