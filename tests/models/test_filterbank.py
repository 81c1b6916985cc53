"""The pseudo-QMF bank: reconstruction, alignment, sub-bands where they belong, amplitude, float32 under autocast."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from vqaudio.errors import UsageError
from vqaudio.models.filterbank import PQMF

SPEECH = Path(__file__).parents[3] / "shared" / "speech" / "eval" / "librispeech"


@pytest.fixture(scope="module")
def bank() -> PQMF:
    return PQMF(4)


def error_db(bank: PQMF, waveform: Tensor) -> float:
    """Of the reconstruction without the ends, where steps are missing."""
    inner = slice(bank.delay, -bank.delay)
    residual = (bank.synthesis(bank.analysis(waveform)) - waveform)[..., inner]
    return 10 * math.log10(residual.square().sum() / waveform[..., inner].square().sum())


def test_noise_is_reconstructed(bank: PQMF) -> None:
    waveform = torch.randn(2, 1, 16000, generator=torch.Generator().manual_seed(0))
    assert bank.synthesis(bank.analysis(waveform)).shape == waveform.shape
    assert error_db(bank, waveform) < -80


@pytest.mark.parametrize("cycles", [0.0, 0.01, 0.1249, 0.125, 0.2, 0.25, 0.375, 0.49])
def test_tones_are_reconstructed(bank: PQMF, cycles: float) -> None:
    tone = torch.cos(2 * math.pi * cycles * torch.arange(4000.0) + 0.3)[None, None]
    assert error_db(bank, tone) < -70


def test_speech_is_reconstructed(bank: PQMF) -> None:
    if not SPEECH.is_dir():
        pytest.skip("the shared speech is not beside the repository")
    for path in sorted(SPEECH.rglob("*.flac"))[::25]:
        samples, _ = soundfile.read(path, dtype="float32")
        assert error_db(bank, torch.from_numpy(samples[: len(samples) // 4 * 4])[None, None]) < -70


def test_silent_ends_lose_nothing(bank: PQMF) -> None:
    waveform = torch.zeros(1, 1, 400)
    waveform[..., 100:300] = torch.randn(200, generator=torch.Generator().manual_seed(0))
    residual = bank.synthesis(bank.analysis(waveform)) - waveform
    assert 10 * math.log10(residual.square().sum() / waveform.square().sum()) < -70


@pytest.mark.parametrize("position", [200, 201, 202, 203])
def test_filters_are_centred(bank: PQMF, position: int) -> None:
    pulse = torch.zeros(1, 1, 400)
    pulse[..., position] = 1
    touched = bank.analysis(pulse)[0].abs().sum(0).nonzero()[:, 0] * 4
    assert touched.min() >= position - bank.delay / 2 and touched.max() <= position + bank.delay / 2
    assert int(bank.synthesis(bank.analysis(pulse)).argmax()) == position


def test_each_band_hears_its_quarter_of_the_spectrum(bank: PQMF) -> None:
    for band in range(4):
        tone = torch.cos(2 * math.pi * (band + 0.5) / 8 * torch.arange(4000.0))[None, None]
        power = bank.analysis(tone)[0, :, 20:-20].square().mean(1)
        others = torch.cat([power[:band], power[band + 1 :]])
        assert others.max() < 1e-5 * power[band]


def test_amplitude_is_kept_and_energy_is_that_of_half_an_orthonormal_bank(bank: PQMF) -> None:
    tone = torch.cos(2 * math.pi / 16 * torch.arange(4000.0))[None, None]
    assert float(bank.analysis(tone)[0, 0, 20:-20].square().mean()) == pytest.approx(0.5, abs=0.01)
    noise = torch.randn(1, 1, 40000, generator=torch.Generator().manual_seed(0))
    noise[..., :40] = noise[..., -40:] = 0
    assert float(4 * bank.analysis(noise).square().sum() / noise.square().sum()) == pytest.approx(1, abs=1e-3)


def test_analysis_equals_filtering_and_dropping(bank: PQMF) -> None:
    waveform = np.random.default_rng(0).standard_normal(64)
    measured = bank.analysis(torch.from_numpy(waveform)[None, None])[0].numpy()
    for band in range(4):
        impulse_response = bank.analysis_filters[band, 0].double().numpy()[::-1]
        full = np.convolve(waveform, impulse_response)[bank.delay // 2 :][:64:4]
        np.testing.assert_allclose(measured[band], full, atol=1e-6)


def test_autocast_changes_nothing(bank: PQMF) -> None:
    waveform = torch.randn(1, 1, 400, generator=torch.Generator().manual_seed(0))
    subbands = bank.analysis(waveform)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(bank.analysis(waveform), subbands)
        joined = bank.synthesis(subbands)
    assert torch.equal(joined, bank.synthesis(subbands))


def test_a_length_that_cannot_be_split_is_an_error(bank: PQMF) -> None:
    with pytest.raises(UsageError, match="401 samples"):
        bank.analysis(torch.zeros(1, 1, 401))
