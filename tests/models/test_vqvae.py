"""The whole model: its losses by name, its bound, what a gradient reaches, and every hop."""

import dataclasses
import math

import pytest
import torch

pytest.importorskip("torchaudio")

from vqaudio.models.autoencoder import PARTS
from vqaudio.models.config import (
    CodecConfig,
    ConditioningConfig,
    EncoderConfig,
    QuantizerConfig,
    SpeakerConfig,
    SpectralConfig,
    WaveNetConfig,
    from_dict,
)
from vqaudio.models.objective import Objective
from vqaudio.models.vqvae import VQVAE

LOSSES = ("mel", "spectral", "intelligibility", "wavenet")


def config(strides: tuple[int, ...] = (8, 8), fft_size: int = 256, speaker="reference") -> CodecConfig:
    return CodecConfig(
        encoder=EncoderConfig(strides=strides, channels=(8,) * len(strides), dilations=(1,), latent_channels=8),
        quantizer=QuantizerConfig(quantizers=2, codebook_size=16, code_dim=4),
        speaker=SpeakerConfig(kind=speaker, channels=8, speakers=3, dims=4),
        conditioning=ConditioningConfig(channels=8),
        wavenet=WaveNetConfig(channels=8, skip_channels=8, dilations=(1, 2), mixtures=2),
        spectral=SpectralConfig(channels=8, skip_channels=8, dilations=(1,), fft_size=fft_size),
    )


@pytest.mark.parametrize(
    ("strides", "fft_size"), [((2,) * 6, 256), ((8, 4, 4), 512), ((8, 4, 5, 2), 1280), ((8, 4, 5, 4), 2560)]
)
def test_every_hop_trains(strides, fft_size):
    torch.manual_seed(0)
    model = VQVAE(config(strides, fft_size))
    hop = model.config.hop
    waveform = 0.1 * torch.randn(2, 1, 12 * hop)
    output = model(waveform, objective=Objective(16000, hop, 80), wanted=LOSSES)
    assert output.quantized.codes.shape == (2, 2, 12)
    assert output.decoded.shape == waveform.shape
    names = {
        "mel",
        "spectral",
        "intelligibility",
        "spectral_log_mel",
        "spectral_log_magnitude",
        "spectral_convergence",
        "wavenet",
        "wavenet_bits",
        "bound",
    }
    assert set(output.losses) == names | {"commitment", "codebook", "uniform_kl"}
    torch.stack([output.losses[name] for name in (*LOSSES, "commitment")]).sum().backward()
    for part in PARTS:
        gradients = [p.grad for p in getattr(model, part).parameters() if p.grad is not None]
        assert gradients and all(torch.isfinite(g).all() for g in gradients), part
        assert sum(float(g.abs().sum()) for g in gradients) > 0, part


def test_every_other_item_is_decoded_at_the_pitch_to_learn_in_training():
    torch.manual_seed(0)
    model = VQVAE(config())
    model.spectral.head.bias.data[-2] = -100.0  # never voiced of its own accord
    waveform, pitch = 0.1 * torch.randn(3, 1, 2048), torch.full((3, 32), 200.0)
    for training in (True, False):
        model.train(training)
        model.quantizer.eval()
        output = model(waveform, pitch=pitch, wanted=("spectral",))
        heard = model.spectral.hear(output.conditioning, output.speaker)
        told, own = (model.spectral.synthesis(heard, hertz) for hertz in (pitch, heard.pitch()))
        assert not torch.equal(told, own)
        for item in range(3):
            expected = told if training and item != 1 else own
            torch.testing.assert_close(output.decoded[item], expected[item])
        assert output.losses["pitch"] > 10
    assert "pitch" not in model(waveform, wanted=("spectral",)).losses


def test_the_bound_is_likelihood_and_uniform_prior():
    model = VQVAE(config())
    output = model(0.1 * torch.randn(1, 1, 640), wanted=("wavenet",))
    losses = {name: value.detach() for name, value in output.losses.items()}
    nats_of_codes = 2 * math.log(16) / 64
    assert model.uniform_kl == pytest.approx(nats_of_codes)
    assert float(losses["bound"]) == pytest.approx(float(losses["wavenet"]) + nats_of_codes, rel=1e-5)
    assert float(losses["wavenet_bits"]) == pytest.approx(float(losses["wavenet"]) / math.log(2), rel=1e-5)


def test_without_quantisation_there_are_no_codes_and_no_commitment():
    output = VQVAE(config())(torch.randn(1, 1, 640), quantize=False)
    assert output.quantized is None and "commitment" not in output.losses


def test_the_signal_survives_to_the_conditioning_at_the_start():
    """Untrained, the conditioning must vary with the input: a network that starts near a constant trains slowly."""
    torch.manual_seed(0)
    model = VQVAE(config(strides=(8, 4, 4), fft_size=512)).eval()
    conditioning = model(0.05 * torch.randn(4, 1, 12800), quantize=False).conditioning
    assert conditioning.std((0, 2)).mean() > 0.2 * conditioning.abs().mean()


def test_autocast_gives_finite_losses():
    model = VQVAE(config())
    with torch.autocast("cpu", torch.bfloat16):
        output = model(
            torch.zeros(1, 1, 4096), objective=Objective(16000, 64, 80), wanted=("mel", "spectral", "wavenet")
        )
    assert all(torch.isfinite(value) for value in output.losses.values())


@pytest.mark.parametrize("speaker", ["none", "lookup", "reference"])
def test_configuration_survives_json(speaker):
    original = config(speaker=speaker)
    assert from_dict(CodecConfig, dataclasses.asdict(original)) == original
