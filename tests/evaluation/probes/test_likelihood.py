"""The likelihood probe on models of which one uses its codes, with known likelihoods, and another cannot."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from vqaudio.errors import ModelError, UsageError
from vqaudio.evaluation.probes.likelihood import likelihood
from vqaudio.models.config import (
    CodecConfig,
    ConditioningConfig,
    EncoderConfig,
    SpeakerConfig,
    SpectralConfig,
    WaveNetConfig,
)
from vqaudio.models.vqvae import VQVAE

RATE = 16000


def small(speaker: SpeakerConfig | None = None, wavenet: bool = True) -> VQVAE:
    """A model of a few thousand weights, hop 64."""
    torch.manual_seed(0)
    config = CodecConfig(
        name="small",
        encoder=EncoderConfig(strides=(8, 8), channels=(8, 16), dilations=(1,), latent_channels=8),
        speaker=speaker or SpeakerConfig(),
        conditioning=ConditioningConfig(channels=8, layers=1),
        wavenet=WaveNetConfig(1, channels=8, skip_channels=8, dilations=(1, 2), output="mulaw") if wavenet else None,
        spectral=None if wavenet else SpectralConfig(channels=8, skip_channels=8, dilations=(1,)),
        decoder="wavenet" if wavenet else "spectral",
    )
    return VQVAE(config).eval()


def bursts(seed: int, seconds: float = 0.5) -> np.ndarray:
    """Noise whose level changes at random every 16 ms."""
    rng = np.random.default_rng(seed)
    samples = int(seconds * RATE)
    levels = np.repeat(rng.choice([0.001, 0.3], samples // 256 + 1), 256)[:samples]
    return (levels * rng.uniform(-1, 1, samples)).astype(np.float32)


def test_the_likelihood_under_true_codes_is_the_model_s_own_loss() -> None:
    model = small()
    waveforms = [bursts(seed, 64 * frames / RATE) for seed, frames in ((0, 100), (1, 50))]
    result = likelihood(model, waveforms)
    with torch.no_grad():
        outputs = [model(torch.from_numpy(w)[None, None], wanted=("wavenet",)) for w in waveforms]
    bits = [output.losses["wavenet_bits"].item() for output in outputs]
    assert result.true == pytest.approx((2 * bits[0] + bits[1]) / 3, rel=1e-5)
    assert (result.utterances, result.seconds) == (2, 150 * 64 / RATE)


def test_a_decoder_that_is_deaf_to_its_codes_is_found_out() -> None:
    model = small()
    assert model.wavenet is not None and model.wavenet.stack.local is not None
    torch.nn.init.zeros_(model.wavenet.stack.local.weight)
    result = likelihood(model, [bursts(0), bursts(1)])
    assert result.true == result.shuffled_in_time == result.other_utterance == result.zero


LOUD, QUIET, HOP = 0.1, 0.001, 10


class Levels(torch.nn.Module):
    """A codec whose code says whether a frame is loud, and whose decoder expects a Gaussian of that deviation."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(name="levels", hop=HOP, sample_rate=RATE, speaker=SpeakerConfig())
        self.speaker = SimpleNamespace(decode=lambda indices: None)
        self.wavenet = SimpleNamespace(loss=self.loss)
        self.place = torch.nn.Parameter(torch.zeros(()))

    def encoder(self, waveform: torch.Tensor) -> torch.Tensor:
        return waveform.unflatten(2, (-1, HOP)).square().mean(3).sqrt()

    def through_bottleneck(self, latents: torch.Tensor) -> tuple[torch.Tensor]:
        return ((latents > 0.01) * 2.0 - 1,)  # a conditioning of zero is half way

    def conditioning(self, latents: torch.Tensor, speaker: None) -> torch.Tensor:
        return latents

    def loss(self, waveform: torch.Tensor, conditioning: torch.Tensor, speaker: None) -> torch.Tensor:
        deviation = 0.01 * 10 ** conditioning.repeat_interleave(HOP, dim=2)
        return -torch.distributions.Normal(0.0, deviation).log_prob(waveform).mean(dim=(1, 2))


def frames(levels: list[float], seed: int) -> np.ndarray:
    """Noise whose frames have exactly these root mean squares."""
    noise = np.random.default_rng(seed).standard_normal((len(levels), HOP))
    noise /= np.sqrt(np.square(noise).mean(axis=1, keepdims=True))
    return (noise * np.array(levels)[:, None]).astype(np.float32).ravel()


def gaussian_bits(deviation: float, assumed: float) -> float:
    """Bits per sample of a frame of that root mean square under a Gaussian of another deviation."""
    return math.log2(assumed * math.sqrt(2 * math.pi)) + (deviation / assumed) ** 2 / 2 / math.log(2)


def test_wrong_codes_cost_what_the_decoder_s_distribution_says() -> None:
    mixed, loud = frames([LOUD, QUIET] * 100, seed=0), frames([LOUD] * 50, seed=1)
    result = likelihood(cast(VQVAE, Levels()), [mixed, loud])
    right = {level: gaussian_bits(level, level) for level in (LOUD, QUIET)}
    wrong = {LOUD: gaussian_bits(LOUD, QUIET), QUIET: gaussian_bits(QUIET, LOUD)}
    middle = {level: gaussian_bits(level, 0.01) for level in (LOUD, QUIET)}
    # 150 loud and 100 quiet frames; the loud utterance is shuffled to itself, and hears 25 loud and 25 quiet codes
    assert result.true == pytest.approx((150 * right[LOUD] + 100 * right[QUIET]) / 250, rel=1e-4)
    assert result.zero == pytest.approx((150 * middle[LOUD] + 100 * middle[QUIET]) / 250, rel=1e-4)
    others = 100 * right[LOUD] + 100 * wrong[QUIET] + 25 * right[LOUD] + 25 * wrong[LOUD]
    assert result.other_utterance == pytest.approx(others / 250, rel=1e-4)
    halves = 50 * (right[LOUD] + wrong[LOUD] + right[QUIET] + wrong[QUIET]) + 50 * right[LOUD]
    assert result.shuffled_in_time == pytest.approx(halves / 250, rel=0.3)


def test_the_probe_repeats_itself() -> None:
    waveforms = [bursts(0), bursts(1)]
    assert likelihood(small(), waveforms) == likelihood(small(), waveforms)


@pytest.mark.parametrize(
    "speaker", [SpeakerConfig("reference", channels=4, dims=2), SpeakerConfig("lookup", channels=4, speakers=3)]
)
def test_every_kind_of_speaker_can_be_probed(speaker: SpeakerConfig) -> None:
    assert math.isfinite(likelihood(small(speaker), [bursts(0), bursts(1)]).true)


def test_long_utterances_are_measured_by_their_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqaudio.evaluation.probes.likelihood.EXCERPT_SECONDS", 0.2)
    edges = np.ones(4800, np.float32)
    waveforms = [np.concatenate([edges, bursts(seed, 0.2), -edges]) for seed in (0, 1)]
    assert likelihood(small(), waveforms) == likelihood(small(), [bursts(0, 0.2), bursts(1, 0.2)])


def test_what_cannot_be_probed_is_said() -> None:
    with pytest.raises(ModelError, match="no WaveNet"):
        likelihood(small(wavenet=False), [bursts(0), bursts(1)])
    with pytest.raises(UsageError, match="at least two"):
        likelihood(small(), [bursts(0), np.zeros(10, np.float32)])
