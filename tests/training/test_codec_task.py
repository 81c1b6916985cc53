"""The codec as a training task: what its stages teach, which codec is the best, what the log says of the codes."""

from __future__ import annotations

import dataclasses

import pytest
import torch

pytest.importorskip("torchaudio")

import vqaudio
from vqaudio.errors import RecipeError
from vqaudio.training import loop
from vqaudio.training.codec_task import CodecTask
from vqaudio.training.losses import ramped
from vqaudio.training.recipe import LossWeights

NO_LOSS = LossWeights(spectral=0.0, mel=0.0, wavenet=0.0)


def test_only_the_named_parts_learn(recipe, tmp_path):
    first = loop.train(dataclasses.replace(recipe, stages=recipe.stages[:1]), tmp_path / "a", quiet=True)
    rest = dataclasses.replace(recipe, stages=recipe.stages[1:], initial=str(first))
    before, after = (vqaudio.load(p).model for p in (first, loop.train(rest, tmp_path / "b", quiet=True)))
    for part in ("encoder", "quantizer", "speaker", "conditioning", "spectral", "wavenet"):
        pairs = zip(before.part(part).state_dict().values(), after.part(part).state_dict().values(), strict=True)
        assert all(torch.equal(*pair) for pair in pairs) == (part not in ("spectral", "wavenet")), part


def test_an_initial_codec_of_another_shape_is_an_error(recipe, tmp_path, tiny_codec):
    with pytest.raises(RecipeError, match="another shape"):
        loop.train(dataclasses.replace(recipe, initial=str(tiny_codec)), tmp_path / "run", quiet=True)


def test_the_best_codec_has_been_quantised(recipe, tmp_path):
    stage = dataclasses.replace(recipe.stages[0], steps=4, quantize_after=3)
    often = dataclasses.replace(recipe.schedule, validate_every=1)
    plan = dataclasses.replace(recipe, stages=(stage,), schedule=often)
    loop.train(plan, tmp_path / "run", quiet=True)
    best = vqaudio.load(tmp_path / "run" / "best.safetensors").model.state_dict()
    last = vqaudio.load(tmp_path / "run" / "model.safetensors").model.state_dict()
    assert all(torch.equal(best[name], last[name]) for name in last)


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 0},
        {"crop_seconds": 0.0},
        {"quantize_after": 5},
        {"parts": ()},
        {"parts": ("wavenet",)},
        {"learning_rate": -1.0},
        {"weights": NO_LOSS},
    ],
)
def test_a_stage_that_makes_no_sense_is_an_error(recipe, tmp_path, change):
    stage = dataclasses.replace(recipe.stages[0], **change)
    with pytest.raises(RecipeError, match="stage 'codes'"):
        loop.train(dataclasses.replace(recipe, stages=(stage,)), tmp_path / "run", quiet=True)


def test_perplexity_is_that_of_all_steps_since_the_last_report():
    window = loop.Window(CodecTask.figures)
    for counts in ([4.0, 0.0, 0.0, 0.0], [0.0, 4.0, 0.0, 0.0]):  # each step by itself uses one code
        window.add({"total": torch.tensor(counts[0]), "counts_0": torch.tensor(counts)})
    means = window.means(batch_seconds=1.0)
    assert means.pop("times_real_time") > 0
    assert means == {"total": 2.0, "perplexity_0": pytest.approx(2.0), "used_codes_0": 2.0}


def test_the_commitment_weight_rises_once_quantisation_begins(recipe):
    stage = dataclasses.replace(recipe.stages[0], quantize_after=10, commitment_ramp=4)
    weights = [ramped(stage, step).commitment / stage.weights.commitment for step in (0, 9, 10, 11, 13, 14, 50)]
    assert weights == [0, 0, 0.25, 0.5, 1, 1, 1]
