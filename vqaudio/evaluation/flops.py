"""How much arithmetic a codec's networks take, counted from their configuration.

Multiply-adds of convolutions, matrices and the search of the codebook, two operations each. What is computed once per
file (the speaker vector), nonlinearities, pulses, FFTs and the filter bank are left out; so is the context that a
block or a piece is computed with, which is a price of cutting and not work of the networks.
"""

from __future__ import annotations

from vqaudio.models.config import CodecConfig


def flops(config: CodecConfig) -> dict[str, float]:
    """Operations per second of audio of each part that the configuration has: "encode", "spectral" and "wavenet", a
    decoder's from the codes on."""
    counted = {"encode": _encoder(config)}
    shared = _conditioning(config)
    if config.spectral is not None:
        counted["spectral"] = shared + _spectral(config)
    if config.wavenet is not None:
        counted["wavenet"] = shared + _wavenet(config)
    return {part: 2 * products for part, products in counted.items()}


def _encoder(config: CodecConfig) -> float:
    encoder, quantizer, speaker = config.encoder, config.quantizer, config.speaker
    products, rate, inputs = 0.0, float(config.sample_rate), 1
    for stride, outputs in zip(encoder.strides, encoder.channels, strict=True):
        rate /= stride
        products += rate * 2 * stride * inputs * outputs
        inputs = outputs
    frame = len(encoder.dilations) * (encoder.kernel + 1) * inputs**2 + inputs * encoder.latent_channels
    paths = quantizer.predictive * quantizer.paths
    compared = (1 + paths) * quantizer.codebook_size  # with the latent, and what each path predicts of it
    search = (encoder.latent_channels + compared) * quantizer.code_dim + paths * quantizer.code_dim**2
    residual = encoder.latent_channels * quantizer.code_dim + _prediction(config)  # which the next quantiser is left
    frame += quantizer.quantizers * search + (quantizer.quantizers - 1) * residual
    if speaker.kind == "reference":
        frame += encoder.latent_channels * speaker.channels + 3 * speaker.channels**2
    return products + config.frame_rate * frame


def _prediction(config: CodecConfig) -> int:
    return config.quantizer.predictive * config.quantizer.code_dim**2


def _conditioning(config: CodecConfig) -> float:
    own, latents = config.conditioning, config.encoder.latent_channels
    quantizer = config.quantizer
    frame = quantizer.quantizers * (quantizer.code_dim * latents + _prediction(config))
    frame += own.kernel * latents * own.channels
    return config.frame_rate * (frame + _gated(own.channels, own.channels, own.kernel, own.layers))


def _spectral(config: CodecConfig) -> float:
    own = config.spectral
    assert own is not None
    frame = config.conditioning.channels * own.channels + own.skip_channels * (2 * own.fft_size + 6)
    return config.frame_rate * (frame + _gated(own.channels, own.skip_channels, own.kernel, len(own.dilations)))


def _wavenet(config: CodecConfig) -> float:
    own = config.wavenet
    assert own is not None
    frame = config.conditioning.channels * len(own.dilations) * 2 * own.channels
    step = own.bands * own.channels + own.skip_channels * (own.skip_channels + own.bands * own.sample_parameters)
    step += _gated(own.channels, own.skip_channels, own.kernel, len(own.dilations))
    return config.frame_rate * frame + config.sample_rate / own.bands * step


def _gated(channels: int, skip_channels: int, kernel: int, layers: int) -> int:
    """Products per step of a gated stack."""
    return layers * channels * (2 * kernel * channels + channels + skip_channels)
