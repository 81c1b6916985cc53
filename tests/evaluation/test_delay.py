"""Delays that were put there, and those of real coders, are found; speech without one comes back as it is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.degraded import RATE, SAMPLE, metric, noisy
from vqaudio import audio
from vqaudio.evaluation.delay import delay, earlier, judged

WAVEFORM = audio.read(SAMPLE)[: 3 * RATE]


def delayed(waveform: np.ndarray, samples: int) -> np.ndarray:
    """The waveform that many samples later, or earlier, of the same length."""
    if samples >= 0:
        return np.pad(waveform, (samples, 0))[: len(waveform)]
    return np.pad(waveform[-samples:], (0, -samples))


def reshaped(waveform: np.ndarray) -> np.ndarray:
    """Speech with the same envelope and another waveform: every frequency bin's phase is drawn anew."""
    _, _, frames = scipy.signal.stft(waveform, nperseg=512, noverlap=384)
    phases = np.exp(2j * np.pi * np.random.default_rng(0).random(frames.shape))
    return scipy.signal.istft(frames * phases, nperseg=512, noverlap=384)[1][: len(waveform)].astype(np.float32)


@settings(max_examples=15)
@given(st.integers(-1500, 1500), st.sampled_from([0.05, 1.0, -1.0]))
def test_a_delay_is_found_to_a_millisecond_at_any_level(samples: int, gain: float) -> None:
    found = delay(WAVEFORM, delayed(WAVEFORM, samples) * np.float32(gain), RATE)
    assert abs(found - samples) <= (32 if found == 0 else 16)  # a millisecond off, of lags of which one more is none
    assert found % 16 == 0


@pytest.mark.parametrize("samples", [-640, 0, 320, 1200])
def test_it_is_found_where_the_waveform_is_not_kept(samples: int) -> None:
    changed = reshaped(WAVEFORM)
    assert np.corrcoef(changed, WAVEFORM)[0, 1] < 0.3
    assert abs(delay(WAVEFORM, delayed(changed, samples), RATE) - samples) <= 32


def test_it_is_found_in_noise_and_in_telephone_speech() -> None:
    telephone = scipy.signal.sosfilt(scipy.signal.butter(4, [300, 3400], "bandpass", fs=RATE, output="sos"), WAVEFORM)
    assert abs(delay(WAVEFORM, delayed(noisy(WAVEFORM, 10), 400), RATE) - 400) <= 32
    assert abs(delay(WAVEFORM, delayed(telephone.astype(np.float32), 400), RATE) - 400) <= 32


@pytest.mark.parametrize("rate", [8000, 44100])
def test_it_counts_samples_of_the_given_rate(rate: int) -> None:
    waveform = audio.read(SAMPLE, rate)[: 2 * rate]
    assert delay(waveform, delayed(waveform, rate // 20), rate) == pytest.approx(rate // 20, abs=rate / 500)


@pytest.mark.parametrize(("milliseconds", "found"), [(-2, -32), (-1, 0), (1, 0), (2, 32)])
def test_a_lag_of_a_millisecond_counts_as_none(milliseconds: int, found: int) -> None:
    assert delay(WAVEFORM, delayed(WAVEFORM, 16 * milliseconds), RATE) == found


def test_a_waveform_fainter_than_its_squares_can_be_has_no_delay() -> None:
    faint = np.float32(1e-30) * WAVEFORM
    assert faint.any() and delay(faint, faint, RATE) == delay(WAVEFORM, faint, RATE) == 0
    assert delay(WAVEFORM, delayed(faint, 480), RATE) == 0


def test_silence_comes_in_where_nothing_was_decoded() -> None:
    ramp = np.arange(1, 6, dtype=np.float32)
    assert earlier(ramp, 2, 5).tolist() == [3, 4, 5, 0, 0]
    assert earlier(ramp, -2, 5).tolist() == [0, 0, 1, 2, 3]
    assert earlier(ramp, 0, 7).tolist() == [1, 2, 3, 4, 5, 0, 0]


def test_without_delay_the_decoded_speech_comes_back_as_it_is() -> None:
    for decoded in (WAVEFORM, reshaped(WAVEFORM)):
        heard, lag = judged(WAVEFORM, decoded, RATE)
        assert lag == 0
        np.testing.assert_array_equal(heard, decoded)


def test_what_is_judged_is_clipped_as_in_a_file() -> None:
    heard, _ = judged(WAVEFORM, 3 * WAVEFORM / np.abs(WAVEFORM).max(), RATE)
    assert np.abs(heard).max() == 1


@pytest.mark.parametrize("change", [-1000, -1, 0, 1, 5000])
@pytest.mark.parametrize("samples", [-480, 0, 480])
def test_what_is_aligned_has_the_length_and_the_place_of_the_original(samples: int, change: int) -> None:
    moved = delayed(np.pad(WAVEFORM, (0, 6000)), samples)[: len(WAVEFORM) + change]
    result, lag = judged(WAVEFORM, moved, RATE)
    assert lag == samples
    assert result.shape == WAVEFORM.shape and result.dtype == np.float32
    middle = slice(1000, len(WAVEFORM) - 2000)
    np.testing.assert_array_equal(result[middle], WAVEFORM[middle])


@pytest.mark.parametrize("decoded", [np.zeros(3 * RATE, np.float32), np.zeros(1, np.float32), WAVEFORM[:1]])
def test_silence_and_next_to_nothing_have_no_delay(decoded: np.ndarray) -> None:
    assert delay(WAVEFORM, decoded, RATE) == 0 or decoded.any()
    assert delay(decoded, decoded, RATE) == 0
    assert judged(WAVEFORM, decoded, RATE)[0].shape == WAVEFORM.shape


def test_metrics_of_delayed_speech_are_those_of_speech_in_place() -> None:
    changed = noisy(WAVEFORM, 15)
    late = np.pad(changed, (480, 0))
    for name in ("estoi", "mcd"):
        before = metric(name)(WAVEFORM, late[: len(WAVEFORM)], RATE)
        in_place, after = (metric(name)(WAVEFORM, x, RATE) for x in (changed, judged(WAVEFORM, late, RATE)[0]))
        assert after == pytest.approx(in_place, rel=1e-3)
        assert abs(before - in_place) > 0.05 * in_place


def test_codec2_lags_by_what_it_looks_ahead(tmp_path: Path) -> None:
    """Its delay of about 20 ms is the same for every stretch of speech, though it keeps no waveform."""
    if not (shutil.which("c2enc") and shutil.which("c2dec")):
        pytest.skip("Codec2's programs are not there")
    lags = []
    for part in np.array_split(audio.read(SAMPLE), 2):
        narrow = scipy.signal.resample_poly(part, 1, 2)
        (tmp_path / "in.raw").write_bytes(np.int16(np.clip(narrow * 32767, -32768, 32767)).tobytes())
        subprocess.run(["c2enc", "3200", tmp_path / "in.raw", tmp_path / "coded"], check=True, capture_output=True)
        subprocess.run(["c2dec", "3200", tmp_path / "coded", tmp_path / "out.raw"], check=True, capture_output=True)
        decoded = np.frombuffer((tmp_path / "out.raw").read_bytes(), np.int16) / np.float32(32768)
        lags.append(delay(part, scipy.signal.resample_poly(decoded, 2, 1).astype(np.float32), RATE))
    assert all(16 * 15 <= lag <= 16 * 23 for lag in lags)
    assert abs(lags[0] - lags[1]) <= 48
