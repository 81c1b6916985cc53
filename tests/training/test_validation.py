"""Validation: figures that do not depend on how the items are batched."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vqaudio.models.config import CodecConfig, EncoderConfig, QuantizerConfig, SpeakerConfig, WaveNetConfig
from vqaudio.models.objective import Objective
from vqaudio.models.vqvae import VQVAE
from vqaudio.training.recipe import LossWeights, Stage
from vqaudio.training.validation import validate

CONFIG = CodecConfig(
    decoder="wavenet",
    encoder=EncoderConfig(strides=(8, 8), channels=(8, 8), dilations=(), latent_channels=8),
    quantizer=QuantizerConfig(codebook_size=64, code_dim=4),
    speaker=SpeakerConfig(kind="reference", channels=8, dims=4),
    wavenet=WaveNetConfig(channels=8, skip_channels=8, dilations=(1, 2), mixtures=2),
)


OBJECTIVE = Objective(CONFIG.sample_rate, CONFIG.hop, CONFIG.conditioning.mels)


def speech(items: int) -> tuple[VQVAE, tuple[Tensor, Tensor]]:
    """A model whose weights all matter, and waveforms (items, 1, T) with their speakers."""
    torch.manual_seed(0)
    model = VQVAE(CONFIG).eval().requires_grad_(False)
    for parameter in model.parameters():
        if not parameter.any():
            parameter.copy_(torch.randn_like(parameter))
    for name in ("stack.local", "stack.speaker", "output"):
        model.get_parameter(f"wavenet.{name}.weight").mul_(5)
    return model, (0.1 * torch.rand(items, 1, 1) * torch.randn(items, 1, 640), torch.zeros(items, dtype=torch.int64))


def figures(items: int, batch_size: int) -> dict[str, float]:
    stage = Stage("wavenet", 1, ("wavenet",), LossWeights(spectral=0.0, mel=0.0), batch_size=batch_size)
    return validate(*speech(items), OBJECTIVE, stage, quantize=True)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_every_item_is_given_the_codes_of_another_in_batches_of_any_size(batch_size):
    whole, parts = figures(3, 3), figures(3, batch_size)
    assert parts == pytest.approx(whole, abs=2e-5)
    assert abs(whole["wavenet_shuffled"] - whole["wavenet"]) > 2e-4


def test_they_are_those_of_all_items_at_once():
    """And under the codes of another each item keeps its speaker."""
    found, (model, (waveform, speaker)) = figures(3, 2), speech(3)
    output = model(waveform, speaker, wanted=("wavenet",), objective=OBJECTIVE, quantize=True)
    assert found["wavenet"] == pytest.approx(float(output.losses["wavenet"]), abs=2e-5)
    conditioning = model.conditioning(output.latents.roll(1, 0), output.speaker)
    shuffled = model.wavenet.loss(waveform, conditioning, output.speaker)
    assert found["wavenet_shuffled"] == pytest.approx(float(shuffled.mean()), abs=2e-5)
    counts = output.quantized.codes.flatten().unique(return_counts=True)[1]
    shares = counts / counts.sum()
    assert found["used_codes_0"] == len(counts) < 64
    assert found["perplexity_0"] == pytest.approx(float((-(shares * shares.log()).sum()).exp()), rel=1e-5)


def test_one_item_has_no_other():
    assert "wavenet_shuffled" not in figures(1, 2)
