"""The speed of training: operations by hand, times of known length, and the loop itself as what is measured."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

pytest.importorskip("torchaudio")

from tests.conftest import TINY
from vqaudio.errors import RecipeError
from vqaudio.evaluation import training_speed
from vqaudio.evaluation.training_speed import Effort, StageSpeed, alone, count, measure, spoken
from vqaudio.models.config import SpeakerConfig
from vqaudio.training import loop
from vqaudio.training.codec_task import CodecTask
from vqaudio.training.recipe import CorpusConfig, LossWeights, OptimizerConfig, Recipe, Stage

WAVENET = LossWeights(spectral=0.0, mel=0.0, commitment=0.0, codebook=0.0)
SHORT: dict[str, Any] = {"crop_seconds": 0.1, "batch_size": 2}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_speed, "EFFORTS", {"cpu": Effort(1, 1, 64, 1)})


@pytest.fixture
def recipe() -> Recipe:
    """Three stages of the tiny codec, on a corpus that is not there."""
    adversarial = LossWeights(wavenet=0.0, adversarial=1.0)
    return Recipe(
        name="tiny",
        corpus=CorpusConfig(kind="manifest", path="nowhere.csv"),
        codec=TINY,
        stages=(
            Stage(
                "codes",
                100,
                ("encoder", "quantizer", "conditioning"),
                LossWeights(spectral=0.0, wavenet=0.0),
                50,
                **SHORT,
            ),
            Stage("adversarial", 100, ("spectral",), adversarial, **SHORT),
            Stage("wavenet", 100, ("wavenet",), WAVENET, **SHORT),
        ),
        bf16=False,
    )


def test_every_stage_is_measured(recipe: Recipe) -> None:
    measured = list(measure(recipe, "cpu", repeat=2))
    assert [(m.stage, m.batch, m.seconds) for m in measured] == [
        ("codes", 2, pytest.approx(0.2)),
        ("adversarial", 2, pytest.approx(0.2)),
        ("wavenet", 2, pytest.approx(0.2)),
    ]
    assert all(len(m.times) == 2 and min(m.times) > 0 and m.limit > 0 for m in measured)
    assert measured[1].operations > 10 * measured[0].operations  # discriminators are much larger than the tiny codec
    (more,) = measure(dataclasses.replace(recipe, stages=recipe.stages[2:]), "cpu", repeat=1, batch=6)
    assert (more.batch, more.seconds) == (6, pytest.approx(0.6))
    assert more.operations == pytest.approx(3 * measured[2].operations, rel=0.01)


def test_times_are_those_of_the_steps_of_the_loop(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, now = [], 0.0
    step = loop.Run._train_step

    def timed(run: loop.Run, stage: Stage) -> Any:
        nonlocal now
        steps.append(run.step)
        now += 1.0 if run.step == 0 else 0.05
        return step(run, stage)

    monkeypatch.setattr(training_speed, "_now", lambda device: now)
    monkeypatch.setattr(loop.Run, "_train_step", timed)
    monkeypatch.setattr(training_speed, "EFFORTS", {"cpu": Effort(1, 2, 64, 1)})
    monkeypatch.setattr(training_speed, "count", lambda *_: 100)
    monkeypatch.setattr(training_speed, "product_speed", lambda *_: 1e12)
    (measured,) = measure(dataclasses.replace(recipe, stages=recipe.stages[2:]), "cpu", repeat=3)
    assert steps == list(range(1 + 3 * 2 + 1))
    assert measured.times == pytest.approx([0.05] * 3)  # without the first step


def test_figures_are_those_of_the_best_run() -> None:
    stage = StageSpeed("codes", 4, 8.0, (2.0, 0.5, 1.0), 3_000_000_000, 12e9, None)
    assert (stage.speed, stage.flops, stage.share) == (16.0, 6e9, 0.5)
    assert stage.to_dict()["share"] == 0.5 and stage.to_dict()["times"] == (2.0, 0.5, 1.0)


def test_operations_of_the_backward_pass_are_those_counted_by_hand(recipe: Recipe) -> None:
    """For every product the gradients of its weights and, where what went in has learned something, of that."""
    corpus, plan = spoken(16000, 0.1), alone(recipe, recipe.stages[2], 1)
    task = CodecTask(plan, corpus, torch.device("cpu"))
    task.enter(0)
    with torch.no_grad(), FlopCounterMode(display=False) as forward:
        task.losses(task.model, 0, 0)
    own, batch, frames = TINY.wavenet, 2, 25
    assert own is not None
    layers, size, skips, steps = len(own.dilations), own.channels, own.skip_channels, frames * TINY.hop // own.bands
    stack = layers * (own.kernel * size * 2 * size + size * (size + skips)) * steps
    head = skips * (skips + own.bands * 3 * own.mixtures) * steps
    gates = layers * 2 * size * (frames * TINY.conditioning.channels + TINY.speaker.channels)
    samples = own.bands * size * steps  # like conditioning and speaker, they have learned nothing here
    backward = 2 * batch * (2 * (stack + head) + gates + samples)
    assert count(plan, corpus, "cpu") - forward.get_total_flops() == backward


def test_operations_of_all_micro_batches_count(recipe: Recipe) -> None:
    plan = alone(recipe, recipe.stages[2], 1)
    thrice = dataclasses.replace(plan, optimizer=OptimizerConfig(accumulate=3))
    assert count(thrice, spoken(16000, 0.1), "cpu") == 3 * count(plan, spoken(16000, 0.1), "cpu")


def test_products_reach_what_the_best_run_but_the_first_did(monkeypatch: pytest.MonkeyPatch) -> None:
    training_speed.EFFORTS["cpu"] = Effort(1, 1, 32, 3)
    runs = 1 + training_speed.PRODUCTS
    ticks = iter(np.cumsum([step for seconds in (0.5, *range(runs, 1, -1)) for step in (7.0, seconds)]))
    monkeypatch.setattr(training_speed, "_now", lambda device: float(next(ticks)))
    with FlopCounterMode(display=False) as counter:
        reached = training_speed.product_speed(torch.device("cpu"), torch.float32)
    assert reached == pytest.approx(counter.get_total_flops() / runs / 2)
    assert not list(ticks)


def test_the_corpus_is_the_speech_of_the_package_at_full_scale() -> None:
    corpus = spoken(16000, 12.0)
    assert len(corpus) == 8 and set(corpus.lengths) == {12 * 16000}
    assert corpus.samples.dtype == np.int16 and 3000 < np.abs(corpus.samples.astype(int)).max() <= 32767
    assert corpus.starts[-1] + corpus.lengths[-1] == len(corpus.samples)


def test_a_table_of_speakers_needs_no_rows(recipe: Recipe) -> None:
    codec = dataclasses.replace(TINY, speaker=SpeakerConfig(kind="lookup", channels=8))
    corpus = dataclasses.replace(recipe.corpus, validation_speakers=0)
    plan = dataclasses.replace(recipe, codec=codec, corpus=corpus, stages=recipe.stages[2:])
    assert len(list(measure(plan, "cpu", repeat=1))) == 1


def test_a_recipe_that_makes_no_sense_is_an_error(recipe: Recipe) -> None:
    with pytest.raises(RecipeError, match="stage 'codes'"):
        list(measure(recipe, "cpu", repeat=1, batch=0))
    with pytest.raises(RecipeError, match="at least one step"):
        list(measure(dataclasses.replace(recipe, stages=()), "cpu", repeat=1))
