"""Validation: figures that do not depend on how the items are batched."""

from __future__ import annotations

import pytest
import torch

from vqaudio.models.config import CodecConfig, EncoderConfig, QuantizerConfig, WaveNetConfig
from vqaudio.models.objective import Objective
from vqaudio.models.vqvae import VQVAE
from vqaudio.training.recipe import LossWeights, Stage
from vqaudio.training.validation import validate

CONFIG = CodecConfig(
    decoder="wavenet",
    encoder=EncoderConfig(strides=(8, 8), channels=(8, 8), dilations=(), latent_channels=8),
    quantizer=QuantizerConfig(codebook_size=16, code_dim=4),
    wavenet=WaveNetConfig(channels=8, skip_channels=8, dilations=(1, 2), mixtures=2),
)


def figures(items: int, batch_size: int) -> dict[str, float]:
    torch.manual_seed(0)
    model = VQVAE(CONFIG).eval()
    waveform = 0.1 * torch.rand(items, 1, 1) * torch.randn(items, 1, 640)
    objective = Objective(CONFIG.sample_rate, CONFIG.hop, CONFIG.conditioning.mels)
    weights = LossWeights(spectral=0.0, mel=0.0)
    stage = Stage("wavenet", 1, ("wavenet",), weights, batch_size=batch_size)
    return validate(model, (waveform, torch.zeros(items, dtype=torch.int64)), objective, stage, quantize=True)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_every_item_is_given_the_codes_of_another_in_batches_of_any_size(batch_size):
    whole, parts = figures(3, 3), figures(3, batch_size)
    assert parts == pytest.approx(whole, abs=2e-5)
    assert abs(whole["wavenet_shuffled"] - whole["wavenet"]) > 2e-4


def test_one_item_has_no_other():
    assert "wavenet_shuffled" not in figures(1, 2)
