"""Which codes a prior is trained on."""

from __future__ import annotations

import numpy as np
import torch

from vqaudio.models.config import Alphabet, PriorConfig
from vqaudio.training.codes_corpus import CodesCorpus
from vqaudio.training.prior_task import PriorTask
from vqaudio.training.recipe import CorpusConfig, PriorRecipe, Steps, override

ALPHABET = Alphabet("tiny", "01020304", 16000, 64, quantizers=2, codebook_size=16, speaker=())
RECIPE = PriorRecipe(
    name="prior",
    corpus=CorpusConfig(validation_speakers=0, validation_seconds=0.4),
    prior=PriorConfig(channels=16, skip_channels=16, kernel=2, dilations=(1, 2), speaker_channels=8),
    stages=(Steps("prior", 2, crop_seconds=0.4, batch_size=8),),
)


def corpus_of(code: int) -> CodesCorpus:
    """Four utterances of 200 frames that say nothing but one code."""
    return CodesCorpus(
        starts=np.arange(4) * 200,
        lengths=np.full(4, 200),
        speakers=np.zeros(4, np.int64),
        names=np.array(list("abcd")),
        speaker_names=np.array(["ann"]),
        key="",
        codes=np.full((800, 2), code, np.uint16),
        voices=np.zeros((4, 0), np.int64),
    )


def codes_trained_on(recipe: PriorRecipe) -> tuple[torch.Tensor, torch.Tensor]:
    """The codes of the first step, and those of the validation."""
    task = PriorTask(recipe, ALPHABET, {1.0: corpus_of(3)}, torch.device("cpu"))
    task.enter(0)
    heard: list[torch.Tensor] = []
    task.model.register_forward_pre_hook(lambda network, inputs: heard.append(inputs[0]))
    torch.manual_seed(0)
    task.losses(task.model, 0, 0)
    return heard[0], task.validation.codes


def test_a_prior_is_trained_on_the_codes_of_the_encoder_unless_uniform_ones_are_asked_for() -> None:
    encoded, validation = codes_trained_on(RECIPE)
    assert (encoded == 3).all()
    drawn, unchanged = codes_trained_on(override(RECIPE, ["source=uniform"]))
    assert torch.equal(unchanged, validation)
    assert drawn.shape == encoded.shape and drawn.dtype == encoded.dtype
    counts = torch.bincount(drawn.flatten(), minlength=16)
    assert len(counts) == 16 and counts.min() > 0.7 * counts.float().mean()
    again, _ = codes_trained_on(override(RECIPE, ["source=uniform"]))
    assert torch.equal(again, drawn)  # from torch's generator, whose state a checkpoint holds
