"""The training loop: it learns, resumes bit for bit, stops when it should, and leaves files that can be used."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("torchaudio")

import vqaudio
from tests.training.runs import entries, interrupted_after, stop_before
from vqaudio import audio
from vqaudio.errors import ModelError, RecipeError, TrainingError
from vqaudio.evaluation import run_log, run_report
from vqaudio.training import codec_task, loop
from vqaudio.training.checkpoint import load_checkpoint, save_checkpoint
from vqaudio.training.corpus import Crops
from vqaudio.training.recipe import CorpusConfig, OptimizerConfig, Plan, ScheduleConfig, Steps
from vqaudio.training.samples import find_samples
from vqaudio.training.task import Task
from vqaudio.training.window import Window


class TestRun:
    def test_leaves_a_codec_and_a_log(self, recipe, tmp_path, tone):
        path = loop.train(recipe, tmp_path / "run", quiet=True)
        codec = vqaudio.load(path)
        codes = codec.encode(tone, 16000)
        assert codec.decode(codes, decoder="spectral").shape == tone.shape
        steps = [entry["step"] for entry in entries(tmp_path / "run", "train")]
        assert steps == list(range(1, 11))
        validation = entries(tmp_path / "run", "validation")
        assert [entry["step"] for entry in validation] == [4, 5, 8, 10]
        assert {"perplexity_0", "used_codes_1", "mel", "spectral", "pitch"} <= set(validation[0])
        assert {"wavenet", "wavenet_shuffled", "wavenet_bits", "bound"} <= set(validation[-1])
        assert vqaudio.load(tmp_path / "run" / "best.safetensors").config == recipe.codec
        samples = find_samples(tmp_path / "run")  # at multiples of 4, and at the end of every stage
        assert list(samples) == [4, 5, 8, 10]
        assert set(samples[8]) == {"original", "spectral"} and set(samples[10]) == {"original", "wavenet"}
        originals = [audio.read(sounds["original"]) for sounds in samples.values()]
        assert all(np.array_equal(sound, originals[0]) for sound in originals) and len(originals[0]) == 640
        report = run_report.render(run_log.read_run(tmp_path / "run"), None)
        assert "after all its 10 steps" in report and report.count("<audio ") == 1 + 4  # the original once
        assert f"<td>{validation[-1]['wavenet']:.4g}</td>" in report

    def test_a_stage_without_a_decoder_has_nothing_to_hear(self, recipe, tmp_path):
        weights = dataclasses.replace(recipe.stages[0].weights, spectral=0.0, mel=1.0)
        stage = dataclasses.replace(recipe.stages[0], weights=weights)
        loop.train(dataclasses.replace(recipe, stages=(stage,)), tmp_path / "run", quiet=True)
        assert not find_samples(tmp_path / "run")

    def test_learns(self, recipe, tmp_path):
        stage = dataclasses.replace(recipe.stages[0], steps=60, quantize_after=5, learning_rate=5e-3)
        loop.train(dataclasses.replace(recipe, stages=(stage,)), tmp_path / "run", quiet=True)
        totals = [entry["spectral"] for entry in entries(tmp_path / "run", "train")]
        assert sum(totals[-5:]) < 0.8 * sum(totals[:5])

    def test_a_run_folder_in_use_is_an_error(self, recipe, tmp_path):
        recipe = dataclasses.replace(recipe, stages=(dataclasses.replace(recipe.stages[0], steps=3),))
        loop.train(recipe, tmp_path / "run", quiet=True)
        with pytest.raises(RecipeError, match="holds a run already"):
            loop.train(recipe, tmp_path / "run", quiet=True)
        with pytest.raises(RecipeError, match="another recipe, of another 'seed'"):
            loop.train(dataclasses.replace(recipe, seed=1), tmp_path / "run", resume=True, quiet=True)
        with pytest.raises(RecipeError, match="no run"):
            loop.train(recipe, tmp_path / "other", resume=True, quiet=True)

    def test_a_folder_that_will_not_do_is_known_before_the_corpus_is_packed(self, recipe, tmp_path, monkeypatch):
        monkeypatch.setattr(codec_task, "pack", lambda *_, **__: pytest.fail("packed"))
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "recipe.json").write_text("{}")
        with pytest.raises(RecipeError, match="holds a run already"):
            loop.train(recipe, tmp_path / "run", quiet=True)
        with pytest.raises(RecipeError, match="no run"):
            loop.train(recipe, tmp_path / "other", resume=True, quiet=True)

    def test_a_stage_starts_from_the_averaged_weights_of_the_one_before(self, recipe, tmp_path):
        one = dataclasses.replace(recipe, stages=recipe.stages[:1])
        first = vqaudio.load(loop.train(one, tmp_path / "one", quiet=True))
        two = dataclasses.replace(recipe, stages=(recipe.stages[0], recipe.stages[2]))
        second = vqaudio.load(loop.train(two, tmp_path / "two", quiet=True))
        assert second.fingerprint == first.fingerprint

    def test_a_failed_start_leaves_the_folder_free(self, recipe, tmp_path):
        with pytest.raises(ModelError):
            loop.train(dataclasses.replace(recipe, initial="gone.safetensors"), tmp_path / "run", quiet=True)
        assert not (tmp_path / "run").exists()

    def test_resuming_a_finished_run_changes_nothing(self, recipe, tmp_path):
        recipe = dataclasses.replace(recipe, stages=(dataclasses.replace(recipe.stages[0], steps=3),))
        loop.train(recipe, tmp_path / "run", quiet=True)
        before = (tmp_path / "run" / "last.safetensors").read_bytes()
        assert loop.train(recipe, tmp_path / "run", resume=True, quiet=True).is_file()
        assert (tmp_path / "run" / "last.safetensors").read_bytes() == before

    def test_resuming_a_finished_run_writes_the_codec_that_it_had_no_time_for(self, recipe, tmp_path):
        recipe = dataclasses.replace(recipe, stages=(dataclasses.replace(recipe.stages[0], steps=3),))
        path = loop.train(recipe, tmp_path / "run", quiet=True)
        finished = vqaudio.load(path).state
        path.unlink()
        loop.train(recipe, tmp_path / "run", resume=True, quiet=True)
        written = vqaudio.load(path).state
        assert all(np.array_equal(written[name], weights) for name, weights in finished.items())

    def test_figures_are_those_of_one_stage_up_to_its_end(self, recipe, tmp_path):
        recipe = dataclasses.replace(recipe, schedule=ScheduleConfig(3, 100, 100, 100))
        loop.train(recipe, tmp_path / "often", quiet=True)
        every = dataclasses.replace(recipe, schedule=ScheduleConfig(1, 100, 100, 100))
        loop.train(every, tmp_path / "every", quiet=True)
        total = {entry["step"]: entry["total"] for entry in entries(tmp_path / "every", "train")}
        ends = list(itertools.accumulate(stage.steps for stage in recipe.stages))
        after = 0
        for entry in entries(tmp_path / "often", "train"):
            steps = range(after + 1, entry["step"] + 1)
            assert entry["total"] == pytest.approx(np.mean([total[step] for step in steps]), rel=1e-5)
            assert not any(after < end < entry["step"] for end in ends)
            after = entry["step"]
        assert after == ends[-1]

    def test_samples_that_nobody_wants(self, recipe, tmp_path):
        stages = (dataclasses.replace(recipe.stages[0], steps=3),)
        silent = dataclasses.replace(recipe, stages=stages, corpus=dataclasses.replace(recipe.corpus, sample_seconds=0))
        loop.train(silent, tmp_path / "run", quiet=True)
        assert not (tmp_path / "run" / "samples").exists()
        run_report.render(run_log.read_run(tmp_path / "run"), None)

    @pytest.mark.parametrize("name", ["model.safetensors", "best.safetensors"])
    def test_a_model_of_no_run_is_kept(self, recipe, tmp_path, name):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / name).write_bytes(b"mine")
        with pytest.raises(RecipeError, match="holds a model"):
            loop.train(recipe, tmp_path / "run", quiet=True)
        assert (tmp_path / "run" / name).read_bytes() == b"mine"

    def test_a_saved_recipe_that_is_no_text(self, recipe, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "recipe.json").write_bytes(b"\xff\xfe")
        with pytest.raises(RecipeError, match="cannot be read"):
            loop.train(recipe, tmp_path / "run", resume=True, quiet=True)


class TestResume:
    @pytest.mark.parametrize("stop", [1, 4, 5, 7, 9])
    def test_ten_steps_at_once_equal_two_parts_bit_for_bit(self, recipe, tmp_path, monkeypatch, stop):
        loop.train(recipe, tmp_path / "whole", quiet=True)

        def interrupt(run):
            run.interrupted = True

        with monkeypatch.context() as patch:
            patch.setattr(loop, "Run", stop_before(loop.Run, stop - 1, interrupt))
            with pytest.raises(KeyboardInterrupt):
                loop.train(recipe, tmp_path / "parts", quiet=True)
        progress, _ = load_checkpoint(tmp_path / "parts" / "last.safetensors")
        assert progress["step"] == stop
        loop.train(recipe, tmp_path / "parts", resume=True, quiet=True)
        whole, parts = (load_checkpoint(tmp_path / name / "last.safetensors") for name in ("whole", "parts"))
        assert whole[0] == parts[0] and whole[1].keys() == parts[1].keys()
        assert [name for name in whole[1] if not torch.equal(whole[1][name], parts[1][name])] == []

    def test_ctrl_c_between_two_stages_and_again_before_the_next_step(self, recipe, tmp_path, monkeypatch):
        class Interrupted(loop.Run):
            def restore(self, progress, tensors):
                super().restore(progress, tensors)
                self.interrupted = True

        press = lambda run: setattr(run, "interrupted", True)  # noqa: E731
        for resume, kind in ((False, stop_before(loop.Run, 4, press)), (True, Interrupted)):
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(loop, "Run", kind)
                loop.train(recipe, tmp_path / "run", resume=resume, quiet=True)
            assert load_checkpoint(tmp_path / "run" / "last.safetensors")[0]["step"] == 5

    def test_ctrl_c_saves_and_stops(self, recipe, tmp_path, monkeypatch):
        press = lambda run: os.kill(os.getpid(), signal.SIGINT)  # noqa: E731
        monkeypatch.setattr(loop, "Run", stop_before(loop.Run, 2, press))
        handler = signal.getsignal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            loop.train(recipe, tmp_path / "run", quiet=True)
        assert load_checkpoint(tmp_path / "run" / "last.safetensors")[0]["step"] == 3
        assert vqaudio.load(tmp_path / "run" / "model.safetensors").config == recipe.codec
        assert signal.getsignal(signal.SIGINT) is handler

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_again_while_it_saves(self, recipe, tmp_path, monkeypatch, number):
        """As Slurm and torchrun send it, each for itself."""

        class Ended(loop.Run):
            def save(self):
                if self.step:
                    os.kill(os.getpid(), number)
                super().save()

        monkeypatch.setattr(loop, "Run", Ended)
        handler = signal.signal(number, lambda *_: pytest.fail("nobody took the signal"))
        try:
            with pytest.raises(KeyboardInterrupt):
                loop.train(recipe, tmp_path / "run", quiet=True)
        finally:
            signal.signal(number, handler)
        assert load_checkpoint(tmp_path / "run" / "last.safetensors")[0]["step"] == 2
        assert vqaudio.load(tmp_path / "run" / "model.safetensors").config == recipe.codec

    def test_a_corpus_that_has_changed_is_another(self, recipe, tmp_path):
        loop.train(recipe, tmp_path / "run", quiet=True)
        file = next(Path(recipe.corpus.path).rglob("*.wav"))
        file.rename(file.with_name("renamed.wav"))
        with pytest.raises(RecipeError, match="another corpus in the same place"):
            loop.train(recipe, tmp_path / "run", resume=True, quiet=True)

    def test_what_it_started_from_may_be_gone(self, recipe, tmp_path, monkeypatch):
        loop.train(recipe, tmp_path / "first", quiet=True)
        saved = tmp_path / "saved.safetensors"
        (tmp_path / "first" / "model.safetensors").rename(saved)
        further = dataclasses.replace(recipe, initial=str(saved))
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(loop, "Run", interrupted_after(loop.Run, 3))
            loop.train(further, tmp_path / "run", quiet=True)
        saved.unlink()
        assert loop.train(further, tmp_path / "run", resume=True, quiet=True).exists()

    def test_a_checkpoint_of_something_else_is_an_error(self, recipe, tmp_path):
        recipe = dataclasses.replace(recipe, stages=(dataclasses.replace(recipe.stages[0], steps=3),))
        loop.train(recipe, tmp_path / "run", quiet=True)
        path = tmp_path / "run" / "last.safetensors"
        progress, tensors = load_checkpoint(path)
        fewer = {name: tensor for name, tensor in tensors.items() if not name.startswith("model.")}
        for other in (({"step": 1}, tensors), (progress | {"step": None}, tensors), ([], tensors), (progress, fewer)):
            save_checkpoint(path, *other)
            with pytest.raises(TrainingError, match="does not fit the run"):
                loop.train(recipe, tmp_path / "run", resume=True, quiet=True)

    def test_a_missing_or_damaged_checkpoint_is_an_error(self, recipe, tmp_path):
        recipe = dataclasses.replace(recipe, stages=(dataclasses.replace(recipe.stages[0], steps=3),))
        loop.train(recipe, tmp_path / "run", quiet=True)
        checkpoint = tmp_path / "run" / "last.safetensors"
        checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
        with pytest.raises(TrainingError, match="no usable checkpoint"):
            loop.train(recipe, tmp_path / "run", resume=True, quiet=True)


def test_micro_batches_add_up_to_one_batch(recipe, tmp_path, monkeypatch):
    """Without anything random but the crops, two micro-batches of the same crops step as one batch of them does."""
    stage = dataclasses.replace(recipe.stages[0], steps=1, quantize_after=0, parts=("conditioning", "spectral"))
    quiet = dataclasses.replace(recipe.codec, conditioning=dataclasses.replace(recipe.codec.conditioning, jitter=0.0))
    once = dataclasses.replace(recipe, stages=(stage,), codec=quiet, gain_range_db=(0.0, 0.0), bf16=False)
    twice = dataclasses.replace(once, optimizer=dataclasses.replace(once.optimizer, accumulate=2))
    cut = Crops.batch
    monkeypatch.setattr(Crops, "batch", lambda self, step, size: cut(self, 0, size))
    one, two = (
        vqaudio.load(loop.train(plan, tmp_path / name, quiet=True)).model.state_dict()
        for name, plan in (("once", once), ("twice", twice))
    )
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)


def test_schedule_warms_up_and_decays():
    config = OptimizerConfig(warmup_steps=10, final_share=0.1)
    shares = [loop.share_of_rate(config, step, 100) for step in range(101)]
    assert shares[0] == pytest.approx(0.1, rel=0.01)
    assert max(shares) == pytest.approx(shares[10], rel=0.03)
    assert shares[100] == pytest.approx(0.1)
    assert all(a > b for a, b in itertools.pairwise(shares[10:]))


@dataclass(frozen=True, kw_only=True)
class Slopes(Plan):
    """A plan for something that is no codec."""

    verb = "slope"

    slope: float


class SlopeTask(Task):
    """A number that learns to be another one."""

    def __init__(self, plan):
        self.plan, self.model, self.entered = plan, torch.nn.Linear(1, 1, bias=False), []
        self.train_indices, self.held_out = np.arange(9), np.arange(2)

    def enter(self, index):
        self.entered.append(index)

    def losses(self, forward, index, within):
        x = torch.rand(4, 1)
        return {"total": (forward(x) - self.plan.slope * x).square().mean()}

    def validate(self, steps):
        assert not self.model.training
        return {"total": float((self.model.weight - self.plan.slope).abs())}

    def log_samples(self, log, step, steps):
        log.say("A slope makes no sound.")

    def save(self, path, weights):
        path.write_text(str(float(weights["weight"])))


def test_trains_what_is_no_codec(tmp_path, capsys):
    plan = Slopes(
        name="slope",
        corpus=CorpusConfig(),
        stages=(Steps("up", 30, learning_rate=0.1), Steps("on", 20, learning_rate=0.1)),
        optimizer=OptimizerConfig(warmup_steps=1, weight_ema=0.5),
        schedule=ScheduleConfig(validate_every=10, sample_every=10),
        slope=2.0,
    )
    tasks = []

    def prepare(given, device, quiet):
        def build():
            tasks.append(SlopeTask(given))
            return tasks[-1]

        return given, build

    path = loop.run_plan(plan, prepare, tmp_path / "run")
    opening = "9 utterances to train on, 2 held out; 50 steps (up 30, on 20) on cpu, 0 of them done.\n"
    assert capsys.readouterr().err.startswith(opening)
    assert float(path.read_text()) == pytest.approx(2.0, abs=0.3)
    assert tasks[0].entered == [0, 1] and tasks[0].model.training
    assert [entry["step"] for entry in entries(tmp_path / "run", "validation")] == [10, 20, 30, 40, 50]
    assert loop.run_plan(plan, prepare, tmp_path / "run", resume=True, quiet=True) == path
    with pytest.raises(RecipeError, match="another recipe, of another 'slope'"):
        loop.run_plan(dataclasses.replace(plan, slope=3.0), prepare, tmp_path / "run", resume=True, quiet=True)


def test_every_micro_batch_has_a_place_of_its_own_and_the_best_model_stays_the_best(tmp_path, monkeypatch):
    plan = Slopes(
        name="slope",
        corpus=CorpusConfig(),
        stages=(Steps("up", 6, learning_rate=0.1),),
        optimizer=OptimizerConfig(warmup_steps=1, accumulate=2),
        schedule=ScheduleConfig(validate_every=2, checkpoint_every=1),
        slope=2.0,
    )
    places, judged = [], iter([1.0, 3.0, 2.0])

    class Placed(SlopeTask):
        def losses(self, forward, index, within):
            places.append(index)
            return super().losses(forward, index, within)

        def validate(self, steps):
            return {"total": next(judged)}

    def prepare(given, *_):
        return given, lambda: Placed(given)

    def stop(run):
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "Run", stop_before(loop.Run, 3, stop))
        loop.run_plan(plan, prepare, tmp_path / "run", quiet=True)
    assert len(places) < 12
    best = (tmp_path / "run" / "best.safetensors").read_text()
    loop.run_plan(plan, prepare, tmp_path / "run", resume=True, quiet=True)
    assert places == list(range(12))
    assert (tmp_path / "run" / "best.safetensors").read_text() == best


def test_rates_averages_and_the_best_model_are_as_planned(tmp_path, monkeypatch):
    plan = Slopes(
        name="slope",
        corpus=CorpusConfig(),
        stages=(Steps("up", 12, learning_rate=0.1), Steps("on", 6, learning_rate=0.02)),
        optimizer=OptimizerConfig(warmup_steps=4, weight_ema=0.5, final_share=0.1),
        schedule=ScheduleConfig(validate_every=2),
        slope=2.0,
    )
    weights, rates, average, averages, heard = [], [], 0.0, {}, []
    judged = [3.0, 1.0, 2.0, 5.0, 4.0, 6.0, 9.0, 7.0, 8.0]  # the best of the first stage second, of the next second too

    class Watched(loop.Run):
        def _train_step(self, stage):
            nonlocal average
            within = self.step - self.stage_start
            if within == 0:
                average = float(self.model.weight.detach())
            found = super()._train_step(stage)
            rates.append([group["lr"] for optimizer in self.optimizers for group in optimizer.param_groups])
            weights.append(float(self.model.weight.detach()))
            kept = min(0.5, (1 + within) / (10 + within))
            average = kept * average + (1 - kept) * weights[-1]
            averages[self.step + 1] = average
            return found

    class Judged(SlopeTask):
        def validate(self, steps):
            heard.append(float(self.model.weight))
            return {"total": judged[len(heard) - 1]}

    monkeypatch.setattr(loop, "Run", Watched)
    path = loop.run_plan(plan, lambda given, *_: (given, lambda: Judged(given)), tmp_path / "run", quiet=True)
    for step, found in enumerate(rates):
        stage, within = (plan.stages[0], step) if step < 12 else (plan.stages[1], step - 12)
        expected = stage.learning_rate * loop.share_of_rate(plan.optimizer, within, stage.steps)
        assert found == [pytest.approx(expected)] * len(found) and found
    assert heard == pytest.approx([averages[step] for step in range(2, 19, 2)], rel=1e-5)
    assert heard != pytest.approx(weights[1::2], rel=1e-3)  # or it would not matter what is validated
    assert float(path.read_text()) == pytest.approx(averages[18], rel=1e-5)
    best = float((tmp_path / "run" / "best.safetensors").read_text())
    assert best == pytest.approx(averages[16], rel=1e-5)


def test_what_begins_between_two_reports_is_the_mean_of_the_steps_that_have_it():
    window = Window(SlopeTask.figures)
    for values in ({"total": 1.0}, {"total": 2.0, "kl": 5.0}, {"total": 6.0, "kl": 7.0}):
        window.add({name: torch.tensor(value) for name, value in values.items()}, torch.tensor(0.0))
    figures = window.means(1.0)
    assert (figures["total"], figures["kl"]) == (3.0, 6.0)


def test_speed_counts_training_alone(monkeypatch):
    clock = iter([0.0, 1.0, 8.0, 10.0, 10.0])
    monkeypatch.setattr("vqaudio.training.window.time.monotonic", lambda: next(clock))
    window = Window(lambda means: {})
    window.add({}, torch.tensor(0.0))
    with window.aside():
        pass
    assert window.means(6.0) == {"times_real_time": 2.0}
