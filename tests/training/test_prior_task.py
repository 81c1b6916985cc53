"""A prior as a training task: it learns what the codes have in common, resumes bit for bit, and keeps to its codec."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

pytest.importorskip("torchaudio")

import vqaudio
from tests.training.runs import entries, interrupted_after
from vqaudio.codec import Codec
from vqaudio.errors import ModelError, RecipeError
from vqaudio.models.config import Alphabet, SpeakerConfig
from vqaudio.models.prior import CodePrior
from vqaudio.models.vqvae import VQVAE
from vqaudio.prior import Prior
from vqaudio.runtime.integers import quantize
from vqaudio.training import loop
from vqaudio.training.checkpoint import load_checkpoint
from vqaudio.training.codes_corpus import CodeCrops, pack_codes
from vqaudio.training.corpus import pack
from vqaudio.training.prior_task import PriorTask, prepare, start_from
from vqaudio.weights import load_prior_file, save_prior


def with_speaker(codec, path, **config):
    """The file of an untrained codec that differs in its speaker."""
    changed = dataclasses.replace(codec.config, speaker=SpeakerConfig(**config))
    Codec(changed, VQVAE(changed).arrays()).save(path)
    return str(path)


@pytest.fixture
def codec(tiny_codec):
    return vqaudio.load(tiny_codec)


def test_leaves_a_prior_of_its_codec_and_a_log(prior_recipe, codec, tmp_path):
    path = loop.train(prior_recipe, tmp_path / "run", quiet=True)
    prior = Prior.load(path)
    assert prior.config == prior_recipe.prior
    assert prior.alphabet == Alphabet.of(codec.config, codec.fingerprint)
    expected = quantize(prior.config, prior.alphabet, {n: p.numpy() for n, p in prior.network.state_dict().items()})
    assert all(np.array_equal(prior.state[name], array) for name, array in expected.items())
    assert [entry["step"] for entry in entries(tmp_path / "run", "train")] == list(range(1, 11))
    for entry in entries(tmp_path / "run", "train"):
        assert entry["bits"] == pytest.approx(entry["total"] / math.log(2), rel=1e-4)
    validation = entries(tmp_path / "run", "validation")
    assert [entry["step"] for entry in validation] == [4, 6, 8, 10]
    for entry in validation:
        assert entry["bits_uniform"] == 5
        assert entry["bits"] == pytest.approx((entry["bits_0"] + entry["bits_1"]) / 2, rel=1e-4)
    assert load_prior_file(tmp_path / "run" / "best.safetensors").alphabet == prior.alphabet


def test_learns(prior_recipe, tmp_path):
    stage = dataclasses.replace(prior_recipe.stages[0], steps=80, learning_rate=2e-2)
    loop.train(dataclasses.replace(prior_recipe, stages=(stage,)), tmp_path / "run", quiet=True)
    bits = [entry["bits"] for entry in entries(tmp_path / "run", "train")]
    assert bits[0] == pytest.approx(5, abs=0.05)
    assert sum(bits[-5:]) / 5 < 4
    assert entries(tmp_path / "run", "validation")[-1]["bits"] < 4.8


@pytest.mark.parametrize("stop", [1, 5, 6, 7])
def test_ten_steps_at_once_equal_two_parts_bit_for_bit(prior_recipe, tmp_path, monkeypatch, stop):
    loop.train(prior_recipe, tmp_path / "whole", quiet=True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "Run", interrupted_after(loop.Run, stop))
        loop.train(prior_recipe, tmp_path / "parts", quiet=True)
    assert load_checkpoint(tmp_path / "parts" / "last.safetensors")[0]["step"] == stop
    loop.train(prior_recipe, tmp_path / "parts", resume=True, quiet=True)
    whole, parts = (load_checkpoint(tmp_path / name / "last.safetensors") for name in ("whole", "parts"))
    assert whole[0] == parts[0] and whole[1].keys() == parts[1].keys()
    assert [name for name in whole[1] if not torch.equal(whole[1][name], parts[1][name])] == []


def test_it_learns_from_speech_at_several_speeds_and_is_judged_at_its_own(prior_recipe, codec):
    recipe = dataclasses.replace(prior_recipe, speeds=(0.8, 1.25))
    _, build = prepare(recipe, torch.device("cpu"), quiet=True)
    task = build()
    task.enter(0)
    audio = pack(recipe.corpus, 16000)
    corpora = [pack_codes(audio, codec, speed=speed) for speed in recipe.speeds]
    for crops, corpus in zip(task.crops.corpora, corpora, strict=True):
        np.testing.assert_array_equal(crops.codes, corpus.codes)
    own = pack_codes(audio, codec).codes.T
    for piece in task.validation.codes[:, :, :20].numpy():
        starts = range(own.shape[1] - piece.shape[1] + 1)
        assert any(np.array_equal(own[:, start : start + piece.shape[1]], piece) for start in starts)


def test_what_an_utterance_lacks_does_not_count(prior_recipe, codec):
    """Crops longer than all utterances: the loss is that of the codes, whatever the crops' length."""
    corpora = {1.0: pack_codes(pack(prior_recipe.corpus, 16000), codec)}
    means = []
    for seconds in (2.0, 3.0):
        stage = dataclasses.replace(prior_recipe.stages[0], crop_seconds=seconds)
        recipe = dataclasses.replace(prior_recipe, stages=(stage,))
        torch.manual_seed(0)
        task = PriorTask(recipe, Alphabet.of(codec.config, codec.fingerprint), corpora, torch.device("cpu"))
        with torch.no_grad():
            for parameter in task.model.parameters():
                parameter.normal_(std=0.3)
        task.model.eval()
        task.enter(0)
        with torch.no_grad():
            means.append((float(task.losses(task.model, 0, 0)["total"]), task.validate(0)["bits"]))
    assert means[0] == pytest.approx(means[1], rel=1e-5)


def test_another_corpus_or_codec_in_the_same_place_is_an_error(prior_recipe, codec):
    corpora = {1.0: pack_codes(pack(prior_recipe.corpus, 16000), codec)}
    task = PriorTask(prior_recipe, Alphabet.of(codec.config, codec.fingerprint), corpora, torch.device("cpu"))
    kept = task.tensors()
    task.restore(kept)
    for name in ("corpus", "codec"):
        with pytest.raises(RecipeError, match=f"another {name}"):
            task.restore(kept | {name: kept[name] ^ 1})


def test_every_code_counts_alike_whichever_process_hears_it(prior_recipe, codec, monkeypatch):
    """The mean of what two processes lose is what one loses that hears everything, though one hears more of it."""
    corpora = {1.0: pack_codes(pack(prior_recipe.corpus, 16000), codec)}
    recipe = dataclasses.replace(
        prior_recipe, stages=(dataclasses.replace(prior_recipe.stages[0], crop_seconds=2.0, batch_size=2),)
    )
    torch.manual_seed(0)
    task = PriorTask(recipe, Alphabet.of(codec.config, codec.fingerprint), corpora, torch.device("cpu"))
    for parameter in task.model.parameters():
        parameter.data.normal_(std=0.3)
    task.model.eval()
    task.enter(0)
    whole = task.crops
    index = next(i for i in range(100) if whole.batch(i, 2).mask.sum(1).unique().numel() == 2)
    alone = float(task.losses(task.model, index, 0)["total"].detach())
    count = whole.batch(index, 2).mask.sum() / 2
    monkeypatch.setattr("vqaudio.training.prior_task.distributed.mean", lambda own: count)
    shares = []
    for rank in (0, 1):
        task.crops = CodeCrops(whole.corpora, task.train_indices, whole.length, recipe.seed, rank=rank, world=2)
        shares.append(float(task.losses(task.model, index, 0)["total"].detach()))
    assert sum(shares) / 2 == pytest.approx(alone, rel=1e-5)


class TestFits:
    def test_without_speakers(self, prior_recipe, codec, tmp_path):
        path = with_speaker(codec, tmp_path / "none", kind="none")
        trained = loop.train(dataclasses.replace(prior_recipe, codec=path), tmp_path / "run", quiet=True)
        assert load_prior_file(trained).alphabet.speaker == ()

    def test_with_a_table_of_speakers(self, prior_recipe, codec, tmp_path):
        recipe = dataclasses.replace(
            prior_recipe, codec=with_speaker(codec, tmp_path / "four", kind="lookup", speakers=4)
        )
        with pytest.raises(RecipeError, match=r"corpus\.validation_speakers=0"):
            loop.train(recipe, tmp_path / "run", quiet=True)
        recipe = dataclasses.replace(recipe, corpus=dataclasses.replace(recipe.corpus, validation_speakers=0))
        assert load_prior_file(loop.train(recipe, tmp_path / "run", quiet=True)).alphabet.speaker == (4,)
        few = dataclasses.replace(recipe, codec=with_speaker(codec, tmp_path / "two", kind="lookup", speakers=2))
        with pytest.raises(RecipeError, match="room for 2 speakers, and the corpus has 4"):
            loop.train(few, tmp_path / "other", quiet=True)

    def test_that_is_none(self, prior_recipe, tmp_path):
        for path, message in ((tmp_path / "gone", "not there"), (tmp_path, "not there")):
            with pytest.raises(ModelError, match=message):
                loop.train(dataclasses.replace(prior_recipe, codec=str(path)), tmp_path / "run", quiet=True)
        prior = loop.train(prior_recipe, tmp_path / "first", quiet=True)
        with pytest.raises(ModelError, match="is a prior, not a codec"):
            loop.train(dataclasses.replace(prior_recipe, codec=str(prior)), tmp_path / "run", quiet=True)

    def test_another_one_in_its_place_when_a_run_is_resumed(self, prior_recipe, codec, tmp_path):
        recipe = dataclasses.replace(prior_recipe, codec=str(tmp_path / "codec"))
        codec.save(tmp_path / "codec")
        loop.train(recipe, tmp_path / "run", quiet=True)
        state = {name: np.roll(weights, 1) for name, weights in codec.state.items()}
        Codec(codec.config, state).save(tmp_path / "codec", force=True)
        with pytest.raises(RecipeError, match="another codec"):
            loop.train(recipe, tmp_path / "run", resume=True, quiet=True)

    def test_a_share_without_a_meaning(self, prior_recipe, tmp_path):
        prior = dataclasses.replace(prior_recipe.prior, speaker_dropout=1.5)
        with pytest.raises(RecipeError, match="between 0 and 1"):
            loop.train(dataclasses.replace(prior_recipe, prior=prior), tmp_path / "run", quiet=True)

    def test_crops_of_less_than_a_frame_of_it(self, prior_recipe, tmp_path):
        stage = dataclasses.replace(prior_recipe.stages[1], crop_seconds=0.003)
        with pytest.raises(RecipeError, match="stage 'second' has crops of a frame or more"):
            loop.train(dataclasses.replace(prior_recipe, stages=(stage,)), tmp_path / "run", quiet=True)


class TestInitial:
    def test_training_starts_from_it(self, prior_recipe, tmp_path):
        first = loop.train(prior_recipe, tmp_path / "first", quiet=True)
        still = dataclasses.replace(prior_recipe.stages[0], steps=1, learning_rate=1e-12)
        again = dataclasses.replace(prior_recipe, stages=(still,), initial=str(first))
        saved, kept = (load_prior_file(p).state for p in (first, loop.train(again, tmp_path / "again", quiet=True)))
        assert all(np.array_equal(kept[name], array) for name, array in saved.items())

    def test_of_another_codec_or_shape_is_an_error(self, prior_recipe, codec, tiny_codec, tmp_path):
        alphabet = Alphabet.of(codec.config, codec.fingerprint)
        model = CodePrior(prior_recipe.prior, alphabet)
        other = dataclasses.replace(alphabet, codec="other", fingerprint="deadbeef")
        save_prior(tmp_path / "other", prior_recipe.prior, other, model.state_dict())
        with pytest.raises(RecipeError, match=r"of the codec other \(deadbeef\), not of tiny"):
            start_from(model, str(tmp_path / "other"))
        save_prior(tmp_path / "same", prior_recipe.prior, alphabet, model.state_dict())
        wide = CodePrior(dataclasses.replace(prior_recipe.prior, channels=32), alphabet)
        deep = CodePrior(dataclasses.replace(prior_recipe.prior, dilations=(1, 2, 4, 8)), alphabet)
        for shape in (wide, deep):
            with pytest.raises(RecipeError, match="another shape"):
                start_from(shape, str(tmp_path / "same"))
        with pytest.raises(ModelError, match="is a codec, not a prior"):
            start_from(model, str(tiny_codec))
        with pytest.raises(RecipeError, match="of the codec speech16k "):
            start_from(model, "speech16k")
