"""Validation on held-out speech: the losses, the codes in use, whether the WaveNet listens to its latents at all."""

from __future__ import annotations

import torch
from torch import Tensor

from vqaudio.models.autoencoder import Autoencoder
from vqaudio.models.objective import Objective
from vqaudio.models.quantizer import histogram
from vqaudio.training import distributed
from vqaudio.training.losses import use_of_codes, wanted, weighted
from vqaudio.training.recipe import Stage


@torch.no_grad()
def validate(
    model: Autoencoder, items: tuple[Tensor, Tensor], objective: Objective, stage: Stage, quantize: bool
) -> dict[str, float]:
    """Means over held-out crops.

    Args:
        model: in evaluation mode.
        items: waveform (N, 1, T) and speaker (N,).
        objective: spectral targets.
        stage: which losses count.
        quantize: whether the stage has begun to quantise.

    Returns:
        the losses by name and their weighted `total`; `wavenet_shuffled`, nats per sample when every item is given the
        codes of another, where there is another; per quantiser `perplexity_i` and `used_codes_i`, over all items.
    """
    means: dict[str, float] = {}
    codes, heard = [], []
    own = distributed.share(stage.batch_size)  # which is what one process has memory for
    for waveform, speaker in zip(*(tensor.split(own) for tensor in items), strict=True):
        pitch = objective.pitch(waveform) if "spectral" in wanted(stage) else None
        output = model(waveform, speaker, pitch=pitch, wanted=wanted(stage), objective=objective, quantize=quantize)
        losses = dict(output.losses)
        losses["total"] = weighted(losses, stage.weights)
        if output.quantized is not None:
            codes.append(output.quantized.codes)
        heard.append((waveform, output.latents, output.speaker))
        for name, value in losses.items():
            means[name] = means.get(name, 0.0) + float(value) * len(waveform) / len(items[0])
    if codes:
        for i, used in enumerate(torch.cat(codes).unbind(1)):
            means |= use_of_codes(i, histogram(used, model.config.quantizer.codebook_size))
    if quantize and "wavenet" in means and len(items[0]) > 1:
        means["wavenet_shuffled"] = shuffled_likelihood(model, heard)
    return means


def shuffled_likelihood(model: Autoencoder, heard: list[tuple[Tensor, Tensor, Tensor | None]]) -> float:
    """The WaveNet's loss in nats per sample when every item is given the latents of the item before it.

    Args:
        model: in evaluation mode.
        heard: batches of waveforms (B, 1, T), their latents (B, D, frames) and speaker vectors (B, S), if any.
    """
    assert model.wavenet is not None
    others = torch.cat([latents for _, latents, _ in heard]).roll(1, 0)  # across batches: the last may hold one item
    total = 0.0
    for waveform, latents, speaker in heard:
        conditioning = model.conditioning(others[: len(latents)], speaker)
        others = others[len(latents) :]
        total += float(model.wavenet.loss(waveform, conditioning, speaker).mean()) * len(waveform)
    return total / sum(len(waveform) for waveform, _, _ in heard)
