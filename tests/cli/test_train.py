"""train and train-prior: the way from the words of the command to the training loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vqaudio.training.recipe import PriorRecipe, Recipe, from_json, load_recipe, override


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the training loop was asked to do; it does nothing."""
    asked: list[dict[str, Any]] = []

    def train(recipe: Any, directory: Any, **options: Any) -> Path:
        asked.append({"recipe": recipe, "directory": Path(directory), **options})
        return Path(directory) / "model.safetensors"

    monkeypatch.setattr("vqaudio.training.loop.train", train)
    return asked


def test_a_shipped_recipe_by_name_with_overrides(run, calls: list[dict[str, Any]]) -> None:
    result = run("train", "folder", "--set", "corpus.path=here", "--set", "seed=3", "--run-dir", "there", "--resume")
    assert result.exit_code == 0, result.stderr
    assert "there/model.safetensors" in result.stdout
    (call,) = calls
    assert (call["recipe"].corpus.path, call["recipe"].seed) == ("here", 3)
    assert (call["directory"], call["resume"], call["device"]) == (Path("there"), True, "cpu")


def test_the_run_folder_is_named_after_the_recipe(run, calls: list[dict[str, Any]]) -> None:
    run("train", "folder")
    assert calls[0]["directory"] == Path("runs") / calls[0]["recipe"].name


def test_a_prior(run, calls: list[dict[str, Any]]) -> None:
    result = run("train-prior", "speech16k_prior", "--set", "codec=here", "--set", "stages.prior.steps=7")
    assert result.exit_code == 0, result.stderr
    assert "The prior is in 'runs/speech16k_prior/model.safetensors'." in result.stdout
    (call,) = calls
    assert (call["recipe"].codec, call["recipe"].stages[0].steps, call["resume"]) == ("here", 7, False)


@pytest.mark.parametrize(
    ("verb", "name", "kind"), [("train", "folder", Recipe), ("train-prior", "speech16k_prior", PriorRecipe)]
)
def test_a_recipe_can_be_shown(run, calls: list[dict[str, Any]], verb: str, name: str, kind: type) -> None:
    result = run(verb, name, "--set", "seed=7", "--show")
    assert from_json(result.stdout, kind) == override(load_recipe(name, kind), ["seed=7"])
    assert not calls


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["train", "foldr"], "folder"),
        (["train", "missing.py"], "missing.py"),
        (["train", "folder", "--set", "seeed=1"], "seed"),
        (["train", "folder", "--set", "seed"], "key=value"),
        (["train", "folder", "--set", "seed=" + 9999 * "["], "seed"),
        (["train", "folder", "--set", f"stages.{9999 * '1'}.steps=1"], "stages"),
        (["train", "speech16k_prior"], "'vqaudio train-prior'"),
        (["train-prior", "speech16k"], "'vqaudio train'"),
        (["train-prior", "speech16k_prior", "--set", "prior.chanels=8"], "prior.channels"),
        (["train-prior", "speech16k_prior", "--set", "prior.channels=wide"], "prior.channels"),
    ],
)
def test_wrong_words_exit_with_2(run, calls: list[dict[str, Any]], words: list[str], hint: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert hint in result.stderr
    assert not calls
