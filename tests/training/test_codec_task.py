"""The codec as a training task: what its stages teach, which codec is the best, what the log says of the codes."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

pytest.importorskip("torchaudio")

import vqaudio
from vqaudio.errors import ModelError, RecipeError
from vqaudio.models.vae import VAE
from vqaudio.models.vqvae import VQVAE
from vqaudio.training import loop
from vqaudio.training.codec_task import CodecTask, load_parts
from vqaudio.training.corpus import pack
from vqaudio.training.losses import ramped
from vqaudio.training.recipe import LossWeights, load_recipe
from vqaudio.training.window import Window
from vqaudio.weights import VAE_FORMAT, load_model

NO_LOSS = LossWeights(spectral=0.0, mel=0.0, wavenet=0.0)


def test_only_the_named_parts_learn(recipe, tmp_path):
    first = loop.train(dataclasses.replace(recipe, stages=recipe.stages[:1]), tmp_path / "a", quiet=True)
    rest = dataclasses.replace(recipe, stages=recipe.stages[1:], initial=str(first))
    before, after = (vqaudio.load(p).model for p in (first, loop.train(rest, tmp_path / "b", quiet=True)))
    for part in ("encoder", "quantizer", "speaker", "conditioning", "spectral", "wavenet"):
        pairs = zip(before.part(part).state_dict().values(), after.part(part).state_dict().values(), strict=True)
        assert all(torch.equal(*pair) for pair in pairs) == (part not in ("spectral", "wavenet")), part


def test_codes_stay_those_of_the_initial_codec_where_only_decoders_learn(recipe, tmp_path):
    quantizer = dataclasses.replace(recipe.codec.quantizer, predictive=True, rate_weight=0.05)
    recipe = dataclasses.replace(recipe, codec=dataclasses.replace(recipe.codec, quantizer=quantizer))
    first = loop.train(dataclasses.replace(recipe, stages=recipe.stages[:1]), tmp_path / "a", quiet=True)
    bits = vqaudio.load(first).model.quantizer.stages[0].bits
    assert bits.std() > 0.1
    rest = dataclasses.replace(recipe, stages=recipe.stages[1:], initial=str(first))
    after = vqaudio.load(loop.train(rest, tmp_path / "b", quiet=True))
    assert after.fingerprint == vqaudio.load(first).fingerprint
    assert torch.equal(after.model.quantizer.stages[0].bits, bits)


def test_an_initial_codec_of_another_shape_is_an_error(recipe, tmp_path, tiny_codec):
    with pytest.raises(RecipeError, match="another shape"):
        loop.train(dataclasses.replace(recipe, initial=str(tiny_codec)), tmp_path / "run", quiet=True)


def test_a_codebook_of_another_size_starts_from_the_data(recipe, tmp_path):
    """All else goes on from the initial codec."""
    first = loop.train(dataclasses.replace(recipe, stages=recipe.stages[:1]), tmp_path / "a", quiet=True)
    quantizer = dataclasses.replace(recipe.codec.quantizer, codebook_size=8)
    codec = dataclasses.replace(recipe.codec, quantizer=quantizer)
    stage = dataclasses.replace(recipe.stages[0], steps=2, quantize_after=1, learning_rate=1e-9)
    rest = dataclasses.replace(recipe, codec=codec, stages=(stage,), initial=str(first))
    before, after = (vqaudio.load(p).model for p in (first, loop.train(rest, tmp_path / "b", quiet=True)))
    for name, weights in after.state_dict().items():
        if name.endswith(".codebook"):
            assert len(weights) == 8 and len(weights.unique(dim=0)) == 8
        elif name in dict(before.named_parameters()):
            torch.testing.assert_close(weights, before.state_dict()[name], atol=1e-3, rtol=1e-3)
    at_once = dataclasses.replace(stage, quantize_after=0)
    for stages in ((at_once,), (at_once, dataclasses.replace(stage, name="later"))):
        with pytest.raises(RecipeError, match="another shape"):
            loop.train(dataclasses.replace(rest, stages=stages), tmp_path / "c", quiet=True)


def test_a_recipe_starts_from_a_model_that_comes_with_vqaudio():
    recipe, shipped = load_recipe("speech16k-low"), vqaudio.load("speech16k")
    model = VQVAE(recipe.codec)
    load_parts(model, recipe.initial, anew=recipe.stages[0].quantize_after > 0)
    for name, weights in model.state_dict().items():
        if name.split(".")[0] in ("encoder", "spectral"):
            np.testing.assert_array_equal(weights, shipped.state[name])
    with pytest.raises(ModelError, match="is a codec, not a continuous VAE"):
        load_parts(VAE(recipe.codec), "speech16k")


def test_an_initial_codec_that_hears_at_another_level_is_an_error(recipe, tmp_path):
    one = dataclasses.replace(recipe, stages=(dataclasses.replace(recipe.stages[0], steps=3),))
    first = loop.train(one, tmp_path / "first", quiet=True)
    louder = dataclasses.replace(one.codec, encoder=dataclasses.replace(one.codec.encoder, gain=2.5))
    with pytest.raises(RecipeError, match=r"its encoder's gain is 25\.0, not 2\.5"):
        loop.train(dataclasses.replace(one, codec=louder, initial=str(first)), tmp_path / "run", quiet=True)


def test_predictive_codes_do_not_start_a_codec_of_plain_ones(recipe, tmp_path):
    plain = dataclasses.replace(recipe, stages=(dataclasses.replace(recipe.stages[0], steps=3),))
    quantizer = dataclasses.replace(plain.codec.quantizer, predictive=True)
    predictive = dataclasses.replace(plain, codec=dataclasses.replace(plain.codec, quantizer=quantizer))
    first = loop.train(predictive, tmp_path / "first", quiet=True)
    with pytest.raises(RecipeError, match="its codes are predictive"):
        loop.train(dataclasses.replace(plain, initial=str(first)), tmp_path / "run", quiet=True)
    again = loop.train(dataclasses.replace(predictive, initial=str(first)), tmp_path / "again", quiet=True)
    assert vqaudio.load(again).config.quantizer.predictive


def test_the_best_codec_has_been_quantised(recipe, tmp_path):
    stage = dataclasses.replace(recipe.stages[0], steps=4, quantize_after=3)
    often = dataclasses.replace(recipe.schedule, validate_every=1)
    plan = dataclasses.replace(recipe, stages=(stage,), schedule=often)
    loop.train(plan, tmp_path / "run", quiet=True)
    best = vqaudio.load(tmp_path / "run" / "best.safetensors").model.state_dict()
    last = vqaudio.load(tmp_path / "run" / "model.safetensors").model.state_dict()
    assert all(torch.equal(best[name], last[name]) for name in last)


def test_levels_reach_from_faint_to_full_scale_and_nothing_is_clipped(recipe):
    recipe = dataclasses.replace(recipe, gain_range_db=(-60.0, 40.0))
    task = CodecTask(recipe, pack(recipe.corpus, recipe.codec.sample_rate, quiet=True), torch.device("cpu"))
    task.enter(0)
    heard, peaks = [], []

    def forward(waveform, *arguments, **options):
        heard.append(waveform)
        return task.model(waveform, *arguments, **options)

    for index in range(8):
        task.losses(forward, index, 0)
        original = task.crops.batch(index, task.stage.batch_size)[0]
        peak = heard[index].abs().amax(2, keepdim=True)
        gain = peak / original.abs().amax(2, keepdim=True)
        torch.testing.assert_close(heard[index], gain * original)
        peaks += peak.flatten().tolist()
    assert max(peaks) == pytest.approx(1.0) and min(peaks) < 0.05 and len(set(peaks)) > len(peaks) // 3


def test_every_crop_is_heard_at_a_level_of_its_own(recipe):
    stages = (dataclasses.replace(recipe.stages[0], batch_size=16),)
    recipe = dataclasses.replace(recipe, gain_range_db=(-30.0, -10.0), stages=stages)
    task = CodecTask(recipe, pack(recipe.corpus, recipe.codec.sample_rate, quiet=True), torch.device("cpu"))
    task.enter(0)
    gains = task._batch(3)[0].abs().amax(2) / task.crops.batch(3, 16)[0].abs().amax(2)
    levels = 20 * gains.log10().flatten()
    assert levels.min() > -30.01 and levels.max() < -9.99
    assert len(levels.unique()) == 16


def test_the_codebook_starts_from_crops_that_no_step_hears(recipe):
    task = CodecTask(recipe, pack(recipe.corpus, recipe.codec.sample_rate, quiet=True), torch.device("cpu"))
    task.enter(0)
    heard, batch = [], task.crops.batch
    task.crops.batch = lambda index, size: heard.append(index) or batch(index, size)
    before = [stage.codebook.clone() for stage in task.model.quantizer.stages]
    assert not any(task.begin_step(within) for within in (0, 1, 3)) and not heard
    assert task.begin_step(2)
    assert len(set(heard)) == len(heard) > 1 and max(heard) < 0
    assert not any(map(torch.equal, before, (stage.codebook for stage in task.model.quantizer.stages)))


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
        {"weights": dataclasses.replace(NO_LOSS, mel=1.0, intelligibility=1.0)},
    ],
)
def test_a_stage_that_makes_no_sense_is_an_error(recipe, tmp_path, change):
    stage = dataclasses.replace(recipe.stages[0], **change)
    with pytest.raises(RecipeError, match="stage 'codes'"):
        loop.train(dataclasses.replace(recipe, stages=(stage,)), tmp_path / "run", quiet=True)


def test_perplexity_is_that_of_all_steps_since_the_last_report():
    window = Window(CodecTask.figures)
    for counts in ([8.0, 0.0, 0.0, 0.0], [0.0, 7.0, 1.0, 0.0]):
        window.add({"total": torch.tensor(counts[0]), "counts_0": torch.tensor(counts)}, torch.tensor(0.0))
    means = window.means(batch_seconds=1.0)
    assert means.pop("times_real_time") > 0
    shares = np.array([8, 7, 1]) / 16
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert means == {"total": 4.0, "perplexity_0": pytest.approx(expected), "used_codes_0": 3.0}


def test_the_weight_of_the_kl_rises_once_the_bottleneck_is_in_use(recipe):
    stage = dataclasses.replace(recipe.stages[0], quantize_after=10, kl_ramp=4, weights=LossWeights(kl=2.0))
    assert [ramped(stage, step).kl for step in (0, 9, 10, 11, 13, 14, 50)] == [0, 0, 0.5, 1.0, 2, 2, 2]
    at_once = dataclasses.replace(stage, quantize_after=0, kl_ramp=0)
    assert ramped(at_once, 0).kl == 2


class TestGaussian:
    @pytest.fixture
    def plan(self, recipe):
        """Four steps of everything but discriminators, the first two without noise."""
        parts = ("encoder", "quantizer", "conditioning", "wavenet")
        weights = LossWeights(spectral=0.0, mel=1.0)
        stage = dataclasses.replace(
            recipe.stages[0], steps=4, quantize_after=2, kl_ramp=2, parts=parts, weights=weights
        )
        often = dataclasses.replace(recipe.schedule, validate_every=1)
        return dataclasses.replace(recipe, bottleneck="gaussian", stages=(stage,), schedule=often)

    def test_leaves_a_vae_and_a_log(self, plan, tmp_path):
        file = load_model(loop.train(plan, tmp_path / "run", quiet=True), VAE_FORMAT)
        assert file.config == plan.codec and file.state.keys() == VAE(plan.codec).state_dict().keys()
        lines = map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines())
        log = {(line["kind"], line["step"]): line for line in lines}
        assert not {"kl", "bound"} & (set(log["train", 2]) | set(log["validation", 2]))
        last = log["train", 4]  # the weights of mel and likelihood are 1, and that of the KL divergence has come to it
        assert last["total"] == pytest.approx(last["mel"] + last["wavenet"] + last["kl"], rel=1e-4)
        assert log["train", 3]["total"] == pytest.approx(
            log["train", 3]["mel"] + log["train", 3]["wavenet"] + log["train", 3]["kl"] / 2, rel=1e-4
        )
        judged = log["validation", 4]
        assert judged["bound"] == pytest.approx(judged["wavenet"] + judged["kl"], rel=1e-4)
        assert "wavenet_shuffled" in judged and "perplexity_0" not in judged

    def test_resumes_bit_for_bit(self, plan, tmp_path):
        whole = load_model(loop.train(plan, tmp_path / "whole", quiet=True), VAE_FORMAT).state
        half = dataclasses.replace(plan, stages=(dataclasses.replace(plan.stages[0], steps=4),))
        with pytest.MonkeyPatch.context() as patch:
            step = loop.Run._train_step

            def stop(run, stage):
                run.interrupted = run.step == 2
                return step(run, stage)

            patch.setattr(loop.Run, "_train_step", stop)
            with pytest.raises(KeyboardInterrupt):
                loop.train(half, tmp_path / "halves", quiet=True)
        resumed = load_model(loop.train(half, tmp_path / "halves", resume=True, quiet=True), VAE_FORMAT).state
        assert all((resumed[name] == value).all() for name, value in whole.items())

    def test_starts_from_another_vae_and_from_no_codec(self, plan, tmp_path, tiny_codec):
        first = loop.train(plan, tmp_path / "first", quiet=True)
        frozen = dataclasses.replace(plan.stages[0], parts=("wavenet",), quantize_after=0)
        second = loop.train(
            dataclasses.replace(plan, initial=str(first), stages=(frozen,)), tmp_path / "second", quiet=True
        )
        before, after = (load_model(path, VAE_FORMAT).state for path in (first, second))
        same = {name: bool((before[name] == after[name]).all()) for name in before}
        assert all(same[name] for name in same if not name.startswith("wavenet")) and not all(same.values())
        with pytest.raises(ModelError, match="is a codec, not a continuous VAE"):
            loop.train(dataclasses.replace(plan, initial=str(tiny_codec)), tmp_path / "third", quiet=True)


def test_the_commitment_weight_rises_once_quantisation_begins(recipe):
    stage = dataclasses.replace(recipe.stages[0], quantize_after=10, commitment_ramp=4)
    weights = [ramped(stage, step).commitment / stage.weights.commitment for step in (0, 9, 10, 11, 13, 14, 50)]
    assert weights == [0, 0, 0.25, 0.5, 1, 1, 1]


def test_decoders_hear_null_speakers_and_jitter_of_parts_that_are_done(recipe):
    task = CodecTask(recipe, pack(recipe.corpus, recipe.codec.sample_rate, quiet=True), torch.device("cpu"))
    task.enter(len(recipe.stages) - 1)  # of the WaveNet alone
    model = task.model
    assert model.speaker.training and model.conditioning.training and model.quantizer.training
    assert not any(stage.training for stage in model.quantizer.stages)  # their averages are done
    assert not model.encoder.training and not model.spectral.training
    assert next(name for name, parameter in model.named_parameters() if parameter.requires_grad).startswith("wavenet")


def test_nothing_learns_to_tell_the_mel_spectrum_where_it_has_no_weight(recipe):
    silent = dataclasses.replace(recipe.stages[0], name="silent", weights=LossWeights(mel=0.0))
    recipe = dataclasses.replace(recipe, stages=(silent, recipe.stages[0]))
    task = CodecTask(recipe, pack(recipe.corpus, recipe.codec.sample_rate, quiet=True), torch.device("cpu"))
    for stage, learns in ((0, False), (1, True)):
        task.enter(stage)
        assert all(parameter.requires_grad == learns for parameter in task.model.conditioning.mel.parameters())
    task.enter(0)
    task.losses(task.model, 0, 0)["total"].backward()
    assert all(p.grad is not None for p in task.model.conditioning.parameters() if p.requires_grad)
