"""Intelligibility against pystoi."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from vqaudio.models.intelligibility import Intelligibility

pystoi = pytest.importorskip("pystoi")
SAMPLE = Path(__file__).parents[2] / "vqaudio" / "pretrained" / "sample.flac"


def modulated(rate: int, seconds: float = 4.0) -> np.ndarray:
    """Noise in bands that swell and fade, none of them for long, so that nothing is silent."""
    rng = np.random.default_rng(0)
    time = np.arange(round(seconds * rate)) / rate
    partials = [
        (1.2 + np.sin(2 * np.pi * rng.uniform(2, 8) * time + rng.uniform(0, 6))) * np.sin(2 * np.pi * hertz * time)
        for hertz in 150 * 2 ** (np.arange(15) / 3)
    ]
    return 0.02 * np.sum(partials, 0) + 0.001 * rng.standard_normal(len(time))


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("rate, tolerance", [(10000, 0.005), (16000, 0.03)])
def test_it_is_that_of_pystoi(noise, rate, tolerance):
    clean = modulated(rate)
    noisy = clean + noise * np.random.default_rng(1).standard_normal(len(clean))
    got = Intelligibility(rate)(torch.from_numpy(noisy)[None], torch.from_numpy(clean)[None])
    assert float(got) == pytest.approx(pystoi.stoi(clean, noisy, rate, extended=True), abs=tolerance)


def test_on_speech_with_pauses_it_is_near():
    clean, rate = soundfile.read(SAMPLE)
    rng = np.random.default_rng(1)
    for level in (0.003, 0.03):
        noisy = clean + level * rng.standard_normal(len(clean))
        got = Intelligibility(rate)(torch.from_numpy(noisy)[None], torch.from_numpy(clean)[None])
        assert float(got) == pytest.approx(pystoi.stoi(clean, noisy, rate, extended=True), abs=0.06)


def test_digital_silence_lacks_nothing_of_itself():
    silence = torch.zeros(2, 8000)
    assert Intelligibility(16000)(silence, silence).tolist() == [1.0, 1.0]


def test_neither_level_nor_a_pause_counts():
    measure, clean = Intelligibility(16000), torch.from_numpy(modulated(16000))[None]
    noisy = clean + 0.05 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    pauses = 1e-6 * torch.randn((2, *clean.shape), generator=torch.Generator().manual_seed(1))
    alone = float(measure(noisy, clean))
    assert float(measure(0.1 * noisy, clean)) == pytest.approx(alone, abs=1e-3)
    assert float(measure(torch.cat([noisy, pauses[0]], 1), torch.cat([clean, pauses[1]], 1))) == pytest.approx(
        alone, abs=0.05
    )


@pytest.mark.parametrize("samples", [100, 3000, 16000])
def test_gradients_are_finite_however_short_or_silent(samples):
    measure = Intelligibility(16000)
    for clean in (torch.zeros(2, samples), torch.from_numpy(modulated(16000)[:samples]).float().repeat(2, 1)):
        for level in (0.0, 1e-7, 1e-3):
            decoded = (level * torch.randn(2, samples, generator=torch.Generator().manual_seed(0))).requires_grad_()
            measure(decoded, clean).sum().backward()
            assert torch.isfinite(decoded.grad).all()


def test_to_climb_it_makes_speech_more_intelligible():
    clean = torch.from_numpy(modulated(10000)).float()[None]
    decoded = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    before = pystoi.stoi(clean[0].numpy(), decoded[0].numpy(), 10000, extended=True)
    decoded.requires_grad_()
    optimizer = torch.optim.Adam([decoded], lr=3e-3)
    for _ in range(20):
        optimizer.zero_grad()
        (-Intelligibility(10000)(decoded, clean)).sum().backward()
        optimizer.step()
    assert pystoi.stoi(clean[0].numpy(), decoded[0].detach().numpy(), 10000, extended=True) > before + 0.1
