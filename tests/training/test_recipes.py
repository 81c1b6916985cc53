"""Every shipped recipe is built and takes two steps of each of its stages, on made-up speech in its corpus's layout."""

from __future__ import annotations

import json
import math
import runpy
from pathlib import Path

import pytest

import vqaudio
from vqaudio.models.config import check
from vqaudio.models.vqvae import VQVAE
from vqaudio.training import loop
from vqaudio.training.recipe import PriorRecipe, Recipe, from_json, load_recipe, override, recipes_directory, to_json
from vqaudio.weights import VAE_FORMAT, load_model, load_prior_file

PRIORS = ["speech16k_prior"]
CONTINUOUS = ["vae"]  # recipes of models that are no codecs
SHIPPED = sorted({path.stem for path in recipes_directory().glob("*.py")} - set(PRIORS))
PUBLIC = ("librispeech", "vctk", "ljspeech")
CODES = {"vctk": (64, 512), "librispeech": (128, 512), "phonemes": (640, 128)}  # the paper's samples per code, and K


def small(recipe, path):
    """The same recipe, short and narrow: two steps of each stage, the codebook starting at the second of the first."""
    settings = ["initial=", f"corpus.path={path}", "corpus.validation_seconds=0.5", "corpus.sample_seconds=0.01"]
    settings += ["schedule.log_every=1", "compile=false"]
    settings += ["codec.encoder.channels=" + json.dumps([8] * len(recipe.codec.encoder.channels))]
    settings += ["codec.conditioning.channels=16", "codec.quantizer.codebook_size=16"]
    for decoder in ("wavenet", "spectral"):
        if getattr(recipe.codec, decoder):
            settings += [f"codec.{decoder}.channels=8", f"codec.{decoder}.skip_channels=8"]
    for i, stage in enumerate(recipe.stages):
        settings += [f"stages.{i}.steps=2", f"stages.{i}.batch_size=2", f"stages.{i}.crop_seconds=0.1"]
        settings += [f"stages.{i}.quantize_after=1"] * (stage.quantize_after > 0)
    return override(recipe, settings)


def test_the_promised_recipes_are_shipped():
    assert {"speech16k", "speech16k-low", "vctk", "librispeech", "phonemes", "ljspeech", "folder", "vae"} <= set(
        SHIPPED
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_declares_what_can_be_saved(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert from_json(to_json(recipe), Recipe) == recipe
    codec = recipe.codec
    if codec.speaker.kind == "lookup":
        codec = override(recipe, ["codec.speaker.speakers=109"]).codec
    assert VQVAE(codec).part(codec.decoder) is not None
    first = recipe.stages[0]
    assert {"encoder", "quantizer", "conditioning"} <= set(first.parts) and first.quantize_after < first.steps


@pytest.mark.parametrize("name", CODES)
def test_has_the_codes_of_the_paper(name):
    codec = load_recipe(name).codec
    assert (codec.hop, codec.quantizer.codebook_size) == CODES[name]
    assert codec.quantizer.quantizers == 1 and codec.wavenet.bands == 1 and codec.decoder == "wavenet"


@pytest.mark.parametrize("name", SHIPPED)
def test_takes_two_steps_of_each_stage(name, make_corpus, tmp_path):
    recipe = load_recipe(name)
    if recipe.corpus.kind in PUBLIC:
        pytest.importorskip("torchaudio")
    recipe = small(recipe, make_corpus(recipe.corpus.kind))
    path = loop.train(recipe, tmp_path / "run", quiet=True)
    codec = load_model(path, VAE_FORMAT).config if name in CONTINUOUS else vqaudio.load(path).config
    assert codec.hop == recipe.codec.hop
    assert codec.speaker.speakers == (3 if recipe.codec.speaker.kind == "lookup" else recipe.codec.speaker.speakers)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    validated = {line["stage"]: line for line in log if line["kind"] == "validation"}
    assert set(validated) == {stage.name for stage in recipe.stages}
    assert all(math.isfinite(value) for line in log for value in line.values() if isinstance(value, float))


@pytest.mark.parametrize("name", ["speech16k", "speech16k-low"])
def test_the_shipped_models_may_do_without_predictive_codes(name):
    """By what README and docs/codes.md say."""
    recipe = load_recipe(name)
    changed = override(recipe, ["codec.quantizer.predictive=false", "codec.quantizer.paths=1"])
    check(changed.codec)
    assert recipe.codec.quantizer.predictive and not changed.codec.quantizer.predictive


@pytest.mark.parametrize("name", CONTINUOUS)
def test_takes_codes_in_place_of_a_gaussian(name, make_corpus, tmp_path):
    recipe = load_recipe(name)
    recipe = override(small(recipe, make_corpus(recipe.corpus.kind)), ["bottleneck=codes"])
    assert vqaudio.load(loop.train(recipe, tmp_path / "run", quiet=True)).config == recipe.codec


@pytest.mark.parametrize("name", PRIORS)
def test_a_prior_takes_two_steps_of_each_stage(name, make_corpus, tiny_codec, tmp_path):
    recipe = load_recipe(name, PriorRecipe)
    assert recipe.name == name and from_json(to_json(recipe), PriorRecipe) == recipe
    settings = [
        f"codec={tiny_codec}",
        f"corpus.path={make_corpus(recipe.corpus.kind)}",
        "corpus.validation_seconds=0.5",
    ]
    settings += ["prior.channels=16", "prior.skip_channels=16", "schedule.log_every=1"]
    settings += [f"stages.{i}.{key}=2" for i in range(len(recipe.stages)) for key in ("steps", "batch_size")]
    prior = load_prior_file(loop.train(override(recipe, settings), tmp_path / "run", quiet=True))
    assert prior.alphabet.codec == "tiny" and prior.config.dilations == recipe.prior.dilations
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in log if line["kind"] == "validation"} == {stage.name for stage in recipe.stages}
    assert all(math.isfinite(value) for line in log for value in line.values() if isinstance(value, float))


@pytest.mark.parametrize(("name", "kind"), [(n, Recipe) for n in SHIPPED] + [(n, PriorRecipe) for n in PRIORS])
def test_runs_as_a_script(name, kind, monkeypatch):
    ran = []
    monkeypatch.setattr(loop, "train", lambda recipe, folder, device: ran.append((recipe, folder)))
    path = str(recipes_directory() / f"{name}.py")
    monkeypatch.setattr("sys.argv", [path, "--help"])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(path, run_name="__main__")
    monkeypatch.setattr("sys.argv", [path])
    runpy.run_path(path, run_name="__main__")
    assert ran == [(load_recipe(name, kind), Path("runs") / name)]
