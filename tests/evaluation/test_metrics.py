"""Metrics against values computed another way, and known degradations in their known order."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import torch

from vqaudio import audio
from vqaudio.errors import UsageError
from vqaudio.evaluation import metrics

RATE = 16000
SPEECH = Path(__file__).parents[3] / "shared" / "speech" / "eval" / "librispeech"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The voice encoder's small products only wait for one another on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def noisy(waveform: np.ndarray, snr_db: float, seed: int = 0) -> np.ndarray:
    """The waveform with white noise at that signal-to-noise ratio."""
    noise = np.random.default_rng(seed).standard_normal(len(waveform))
    return (waveform + noise * waveform.std() * 10 ** (-snr_db / 20)).astype(np.float32)


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


def metric(name: str) -> metrics.Metric:
    """The metric of this name, or a skip where its package is missing."""
    kept, notes = metrics.usable(metrics.select([name]))
    if not kept:
        pytest.skip(notes[0])
    return kept[0]


def better(name: str, one: float, other: float) -> bool:
    """Whether `one` is the better value."""
    return one > other if metrics.METRICS[name].higher_is_better else one < other


@pytest.mark.parametrize("name", ["pesq", "estoi", "stoi", "mel"])
def test_less_noise_on_syllables_is_better(name: str) -> None:
    waveform = syllables(3.0)
    values = [metric(name)(waveform, noisy(waveform, snr), RATE) for snr in (30, 15, 0)]
    assert better(name, values[0], values[1]) and better(name, values[1], values[2])
    assert better(name, metric(name)(waveform, waveform, RATE), values[0])


@pytest.mark.parametrize("name", list(metrics.METRICS))
def test_less_noise_on_speech_is_better(name: str, speech: np.ndarray) -> None:
    values = [metric(name)(speech, noisy(speech, snr), RATE) for snr in (25, 5)]
    assert better(name, values[0], values[1])
    assert better(name, metric(name)(speech, speech, RATE), values[1])


BEST = {"pesq": 4.644, "estoi": 1.0, "stoi": 1.0, "mel": 0.0, "speaker": 1.0}


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


def slaney_filters(bands: int, bins: int) -> np.ndarray:
    """Area-normalised triangles (bands, bins) on the Slaney mel scale: linear below 1 kHz, logarithmic above."""
    step = math.log(6.4) / 27
    top = 15 + math.log(RATE / 2 / 1000) / step
    mels = np.linspace(0, top, bands + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(step * (mels - 15)))
    frequencies = np.linspace(0, RATE / 2, bins)
    triangles = np.zeros((bands, bins))
    for band, (low, centre, high) in enumerate(zip(edges[:-2], edges[1:-1], edges[2:], strict=True)):
        rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
        triangles[band] = np.clip(np.minimum(rising, falling), 0, None) * 2 / (high - low)
    return triangles


def test_log_mel_distance_equals_a_computation_by_hand() -> None:
    rng = np.random.default_rng(3)
    one, other = (rng.standard_normal(4000).astype(np.float32) * scale for scale in (0.1, 0.02))

    def decibels(waveform: np.ndarray) -> np.ndarray:
        padded = np.pad(waveform.astype(np.float64), 256)
        window = scipy.signal.get_window("hann", 512)
        frames = [padded[start : start + 512] * window for start in range(0, len(padded) - 511, 160)]
        power = np.abs(np.fft.rfft(frames)) ** 2
        return 10 * np.log10(np.maximum(slaney_filters(80, 257) @ power.T, 1e-8))

    expected = np.abs(decibels(one) - decibels(other)).mean()
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
    for name in ("pesq", "estoi", "mel", "speaker"):
        value = metric(name)(waveform, waveform * np.float32(level), RATE)
        assert math.isnan(value) or math.isfinite(value)


def test_waveforms_of_two_lengths_are_refused() -> None:
    with pytest.raises(UsageError, match="one length"):
        metrics.METRICS["mel"](np.zeros(10, np.float32), np.zeros(11, np.float32), RATE)


def test_metrics_are_selected_by_name_in_one_order() -> None:
    assert [m.name for m in metrics.select(["dnsmos", "pesq", "pesq"])] == ["pesq", "dnsmos"]


def test_an_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'estoi'"):
        metrics.select(["pesq", "esto"])


def test_a_package_that_is_missing_leaves_its_metric_out_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pesq", None)
    kept, notes = metrics.usable(metrics.select(["pesq", "mel"]))
    assert [m.name for m in kept] == ["mel"]
    assert len(notes) == 1 and "'pesq' is left out" in notes[0] and notes[0].endswith(".")
