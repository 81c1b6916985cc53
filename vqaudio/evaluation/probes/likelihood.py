"""Does the WaveNet listen to its latents? Its likelihood under the true codes beside that under wrong ones.

A strong autoregressive decoder can predict the next sample without its latents (posterior collapse; van den Oord et al.
2017, sections 2 and 4.2): then the likelihood is the same whatever the codes say. A continuous VAE can be asked as
well; its latents are sampled.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vqaudio.errors import ModelError, UsageError
from vqaudio.models.autoencoder import Autoencoder

EXCERPT_SECONDS = 4.0  # from the middle of each utterance, so that the memory for a pass is bounded
SEED = 0  # of the order of the shuffled latents, and of those that are sampled


@dataclass(frozen=True)
class Likelihood:
    """Negative log-likelihood in bits per sample, teacher forced, the mean over all samples; lower is better.

    Attributes:
        true: under the codes, or other latents, of the utterance itself.
        shuffled_in_time: under its own latents in random order.
        other_utterance: under the codes of another utterance, repeated or cut to length.
        zero: under a conditioning of zeros.
        utterances, seconds: how much was measured.
    """

    true: float
    shuffled_in_time: float
    other_utterance: float
    zero: float
    utterances: int
    seconds: float


@dataclass(frozen=True)
class _Heard:
    """An excerpt (1, 1, T) of whole frames, what its bottleneck lets through (1, D, frames), and its speaker (1, S)."""

    waveform: Tensor
    latents: Tensor
    speaker: Tensor | None


@torch.inference_mode()
def likelihood(model: Autoencoder, waveforms: Iterable[np.ndarray]) -> Likelihood:
    """Measure how much the WaveNet's likelihood owes to the latents; the speaker vector is the true one throughout.

    Args:
        model: in evaluation mode.
        waveforms: (T,) float32 each, at the model's rate, in [-1, 1]; at least two.

    Raises:
        ModelError: for a model without a WaveNet decoder.
        UsageError: for fewer than two utterances of at least one code frame.
    """
    if model.wavenet is None:
        raise ModelError(f"The model {model.config.name} has no WaveNet decoder, whose likelihood could be measured.")
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        heard = [_listen(model, wave) for wave in waveforms if len(wave) >= model.config.hop]
    if len(heard) < 2:
        raise UsageError("The likelihood under the codes of another utterance needs at least two utterances.")
    generator = torch.Generator().manual_seed(SEED)
    totals = dict.fromkeys(("true", "shuffled_in_time", "other_utterance", "zero"), 0.0)
    for item, other in zip(heard, heard[1:] + heard[:1], strict=True):
        latents, frames = item.latents, item.latents.shape[2]
        order = torch.randperm(frames, generator=generator).to(latents.device)
        repeated = torch.arange(frames, device=latents.device) % other.latents.shape[2]
        true = model.conditioning(latents, item.speaker)
        conditionings = {
            "true": true,
            "shuffled_in_time": model.conditioning(latents[:, :, order], item.speaker),
            "other_utterance": model.conditioning(other.latents[:, :, repeated], item.speaker),
            "zero": torch.zeros_like(true),
        }
        for name, conditioning in conditionings.items():
            nats = model.wavenet.loss(item.waveform, conditioning, item.speaker).item()
            totals[name] += nats * item.waveform.shape[2]
    samples = sum(item.waveform.shape[2] for item in heard)
    bits = {name: total / samples / math.log(2) for name, total in totals.items()}
    return Likelihood(**bits, utterances=len(heard), seconds=samples / model.config.sample_rate)


def excerpt(model: Autoencoder, waveform: np.ndarray) -> Tensor:
    """The middle of a waveform (T,), whole frames of it, as the model takes them: (1, 1, T)."""
    hop = model.config.hop
    samples = min(len(waveform), round(EXCERPT_SECONDS * model.config.sample_rate)) // hop * hop
    start = (len(waveform) - samples) // 2
    device = next(model.parameters()).device
    return torch.from_numpy(waveform[start : start + samples].copy()).to(device)[None, None]


def _listen(model: Autoencoder, waveform: np.ndarray) -> _Heard:
    """The middle of a waveform (T,) through encoder and bottleneck."""
    middle = excerpt(model, waveform)
    latents = model.encoder(middle)
    hears = model.config.speaker.kind == "reference"
    speaker = model.speaker(latents) if hears else model.speaker.decode(None)  # a table has no row for new voices
    return _Heard(middle, model.through_bottleneck(latents)[0], speaker)
