"""Which losses count in a stage, and how much."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from vqaudio.models.quantizer import perplexity
from vqaudio.training.recipe import LossWeights, Stage


def wanted(stage: Stage) -> tuple[str, ...]:
    """The losses of the model that a stage has to compute."""
    return tuple(name for name in ("mel", "spectral", "intelligibility", "wavenet") if getattr(stage.weights, name) > 0)


def ramped(stage: Stage, step: int) -> LossWeights:
    """The weights at a step of a stage: those of commitment and KL rise linearly once quantisation has begun."""
    weights, steps = stage.weights, max(0, step - stage.quantize_after + 1)
    commitment = weights.commitment * min(1.0, steps / max(1, stage.commitment_ramp))
    kl = weights.kl * min(1.0, steps / max(1, stage.kl_ramp))
    return dataclasses.replace(weights, commitment=commitment, kl=kl)


def weighted(losses: dict[str, Tensor], weights: LossWeights) -> Tensor:
    """The sum of the losses that have a weight."""
    terms = [
        getattr(weights, field.name) * losses[field.name]
        for field in dataclasses.fields(weights)
        if field.name in losses and getattr(weights, field.name) > 0
    ]
    return torch.stack([term.float() for term in terms]).sum()


def use_of_codes(quantizer: int | str, counts: Tensor) -> dict[str, float]:
    """What the log says of how often each code of a quantiser was used (K,)."""
    return {f"perplexity_{quantizer}": float(perplexity(counts)), f"used_codes_{quantizer}": float((counts > 0).sum())}
