"""What the speakers probe listens to: features of short excerpts, from every stage between samples and decoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vqaudio import audio
from vqaudio.errors import AudioError, UsageError
from vqaudio.evaluation.log_mel import decibels
from vqaudio.evaluation.speech import Item
from vqaudio.models.vqvae import VQVAE

BATCH = 32  # excerpts that go through the networks at once

TITLES = {
    "mel": "log-mel of the original",
    "latents": "latents before quantisation",
    "codes": "histogram of codes",
    "vectors": "quantised latents",
    "conditioning": "conditioning by codes alone",
    "conditioning_speaker": "conditioning by codes and speaker",
    "speaker": "speaker vector",
}
REFERENCES = ("mel", "latents")  # what is there before anything is coded


@dataclass(frozen=True)
class Utterance:
    """An utterance as the classifier sees it.

    Attributes:
        path: of its file.
        speaker: who speaks.
        features: by name, one row for each excerpt, (excerpts, F) float32.
    """

    path: str
    speaker: str
    features: dict[str, np.ndarray]

    @property
    def excerpts(self) -> int:
        """How many."""
        return len(next(iter(self.features.values())))


@dataclass(frozen=True)
class Speech:
    """What was listened to.

    Attributes:
        utterances: of at least one excerpt each.
        seconds: of an excerpt.
        skipped: a sentence for each file that cannot be read.
        notes: a sentence for what else was left out.
    """

    utterances: list[Utterance]
    seconds: float
    skipped: list[str]
    notes: list[str]


def listen(
    model: VQVAE,
    items: Sequence[Item],
    seconds: float,
    advance: Callable[[], None] = lambda: None,
) -> Speech:
    """Cut utterances into excerpts side by side, and take the features of each, which goes through the model alone.

    Args:
        model: in evaluation mode.
        seconds: of an excerpt, shortened to whole frames of codes; what is left at the end of an utterance is dropped.
        advance: called after each item.

    Raises:
        UsageError: for an excerpt shorter than a frame of codes.
        AudioError: where no utterance is left.
    """
    rate, hop = model.config.sample_rate, model.config.hop
    samples = round(seconds * rate) // hop * hop
    if not samples:
        raise UsageError(f"An excerpt of {seconds:g} s is shorter than a frame of codes, {hop / rate:g} s.")
    utterances, skipped, short = [], list[str](), 0
    for item in items:
        try:
            waveform = audio.read(item.path, rate)
        except AudioError as error:
            skipped.append(str(error))
        else:
            excerpts = waveform[: len(waveform) // samples * samples].reshape(-1, samples)
            if len(excerpts):
                utterances.append(Utterance(str(item.path), item.speaker, features(model, excerpts)))
            else:
                short += 1
        advance()
    left_out = f"Left out: {short} of {len(items)} files, shorter than an excerpt of {samples / rate:g} s."
    notes = [left_out] if short else []
    if not utterances:
        raise AudioError(f"There is nothing to listen to. {[*skipped, *notes][0]}")
    return Speech(utterances, samples / rate, skipped, notes)


def features(model: VQVAE, excerpts: np.ndarray) -> dict[str, np.ndarray]:
    """The features of excerpts (N, T) of whole frames: by name (N, F), without those that the model does not have.

    A histogram of codes is that of every quantiser in turn, under square roots (Hellinger distances). Of everything
    that runs over time there are the mean and the standard deviation of each channel. The speaker vector is what the
    decoders hear: computed from the excerpt, quantised and decoded. A table of speakers has no row for other voices,
    so that such a model is heard with the null speaker alone.
    """
    batches = [_batch(model, excerpts[start : start + BATCH]) for start in range(0, len(excerpts), BATCH)]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


@torch.inference_mode()
def _batch(model: VQVAE, excerpts: np.ndarray) -> dict[str, np.ndarray]:
    waveform = torch.from_numpy(excerpts.copy()).to(next(model.parameters()).device)[:, None]
    latents = model.encoder(waveform)
    codes = model.quantizer(latents).codes
    quantised = model.quantizer.decode(codes)
    shares = torch.nn.functional.one_hot(codes, model.config.quantizer.codebook_size).float().mean(2)
    null = model.speaker.decode(None, len(excerpts))
    found = {
        "mel": _statistics(torch.from_numpy(decibels(excerpts, model.config.sample_rate))),
        "latents": _statistics(latents),
        "codes": shares.sqrt().flatten(1),
        "vectors": _statistics(quantised),
        "conditioning": _statistics(model.conditioning(quantised, null)),
    }
    if model.config.speaker.kind == "reference":
        vector = model.speaker.decode(model.speaker.indices(*model.speaker.pool(latents)))
        assert vector is not None
        found["conditioning_speaker"] = _statistics(model.conditioning(quantised, vector))
        found["speaker"] = vector
    return {name: value.cpu().numpy() for name, value in found.items()}


def _statistics(series: Tensor) -> Tensor:
    """(N, C, T) to (N, 2 C)."""
    return torch.cat([series.mean(2), series.std(2, correction=0)], dim=1)
