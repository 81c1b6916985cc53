"""Spectral distances against librosa, and in the right order."""

import numpy as np
import pytest
import torch

pytest.importorskip("torchaudio")
librosa = pytest.importorskip("librosa")

from vqaudio.models.intelligibility import Intelligibility  # noqa: E402
from vqaudio.models.objective import FLOOR, RESOLUTIONS, LogMel, Objective  # noqa: E402


def test_log_mel_is_librosas():
    waveform = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    spectrum = np.abs(librosa.stft(waveform, n_fft=512, hop_length=128, window="hann", pad_mode="constant"))
    filters = librosa.filters.mel(sr=16000, n_fft=512, n_mels=40)
    filters /= filters.sum(1, keepdims=True)
    wanted = np.log(filters @ spectrum + FLOOR)
    got = LogMel(16000, 512, 128, 40)(torch.from_numpy(waveform)[None])[0]
    np.testing.assert_allclose(got.numpy(), wanted, atol=2e-3)


@pytest.mark.parametrize("hop", [64, 128, 320, 640])
def test_the_auxiliary_log_mel_has_one_frame_per_hop_and_is_centred_on_it(hop):
    objective = Objective(16000, hop, 80)
    waveform = torch.zeros(1, 1, 40 * hop)
    waveform[0, 0, 20 * hop + hop // 2] = 1.0
    mel = objective.frame_mel(waveform[:, 0])
    assert mel.shape == (1, 80, 40)
    energy = mel.exp().sum(1)[0] - mel.exp().sum(1)[0].min()
    centre = (energy * torch.arange(40)).sum() / energy.sum()
    assert abs(float(centre) - 20) < 0.1


def test_a_waveform_has_no_distance_to_itself_and_more_noise_is_farther():
    objective = Objective(16000, 128, 80)
    rng = torch.Generator().manual_seed(0)
    waveform = 0.1 * torch.randn(2, 1, 16000, generator=rng)
    noise = torch.randn(2, 1, 16000, generator=rng)
    distances = [objective.spectral(waveform + level * noise, waveform) for level in (0.0, 0.01, 0.1)]
    for name in ("log_mel", "log_magnitude", "convergence"):
        values = [float(distance[name]) for distance in distances]
        assert values[0] == 0.0 < values[1] < values[2]


def test_distances_are_means_over_items_and_resolutions():
    objective = Objective(16000, 128, 80)
    waveform = 10 * torch.randn(2, 1, 16000, generator=torch.Generator().manual_seed(0))
    half = objective.spectral(0.5 * waveform, waveform)
    assert float(half["log_magnitude"]) == pytest.approx(np.log(2), rel=0.01)
    assert float(half["log_mel"]) == pytest.approx(np.log(2), rel=0.01)
    assert float(half["convergence"]) == pytest.approx(0.5, rel=1e-3)
    quieter = torch.tensor([1.0, 0.1])[:, None, None] * waveform
    unlike = torch.tensor([1.0, 0.5])[:, None, None] * quieter  # all is there of one, half of the quiet one
    assert float(objective.spectral(unlike, quieter)["convergence"]) == pytest.approx(0.25, rel=1e-2)
    assert [(own.fft_size, len(own.filters)) for own in objective.resolutions] == list(RESOLUTIONS)


def test_the_log_mel_and_the_intelligibility_of_a_waveform_lack_nothing_of_its_own():
    objective = Objective(16000, 128, 80)
    rng = torch.Generator().manual_seed(0)
    waveform = 0.1 * torch.randn(2, 1, 16000, generator=rng) * (1 + torch.sin(torch.arange(16000) / 800))
    noise = torch.randn(2, 1, 16000, generator=rng)
    mel = objective.frame_mel(waveform[:, 0])
    assert float(objective.mel(mel, waveform)) == 0.0
    assert float(objective.mel(mel + 0.5, waveform)) == pytest.approx(0.5)
    lacking = [float(objective.intelligibility(waveform + level * noise, waveform)) for level in (0.0, 0.03, 0.3)]
    assert lacking[0] == pytest.approx(0, abs=1e-4)
    assert 0.01 < lacking[1] < lacking[2] < 1
    paused, filled = waveform.clone(), waveform.clone()
    paused[..., 4000:12000] = 0  # what counts is what the original says, and not the pause that noise fills
    expected = 1 - Intelligibility(16000)(filled[:, 0], paused[:, 0]).mean()
    assert float(objective.intelligibility(filled, paused)) == pytest.approx(float(expected))
    assert float(objective.intelligibility(paused, filled)) != pytest.approx(float(expected), abs=0.01)


def test_gradients_are_finite_in_silence():
    objective = Objective(16000, 128, 80)
    decoded = torch.zeros(1, 1, 4096, requires_grad=True)
    torch.stack(list(objective.spectral(decoded, torch.zeros(1, 1, 4096)).values())).sum().backward()
    assert torch.isfinite(decoded.grad).all()
