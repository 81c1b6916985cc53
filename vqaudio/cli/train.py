"""`vqaudio train` and `vqaudio train-prior`: run the recipe of a codec or of a prior; also what torchrun starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vqaudio.cli import options

if TYPE_CHECKING:
    from vqaudio.training.recipe import PriorRecipe, Recipe

ARGUMENTS = (
    click.argument("recipe"),
    click.option(
        "--run-dir", "folder", metavar="DIR", help="Where the results go; by default runs/ and the recipe's name."
    ),
    click.option("--resume", is_flag=True, help="Go on from the last checkpoint of the run."),
    click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="Override a value of the recipe."),
    click.option("--show", is_flag=True, help="Print the recipe with all its settings as JSON, and stop."),
    options.device,
    options.quiet,
)


def _arguments(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the arguments of `_run`, but for the kind of recipe and what it makes."""
    for argument in reversed(ARGUMENTS):
        verb = argument(verb)
    return verb


def _run(
    kind: type[Recipe] | type[PriorRecipe],
    made: str,
    *,
    recipe: str,
    folder: str | None,
    resume: bool,
    settings: tuple[str, ...],
    show: bool,
    device: str,
    quiet: bool,
) -> None:
    """Run a recipe of a kind, and say where that lies which it made; or show it."""
    from vqaudio.training import loop
    from vqaudio.training.recipe import load_recipe, override, to_json

    plan: Any = override(load_recipe(recipe, kind), settings)
    if show:
        click.echo(to_json(plan), nl=False)
        return
    path = loop.train(plan, folder or Path("runs") / plan.name, resume=resume, device=device, quiet=quiet)
    if not quiet:
        click.echo(f"The {made} is in '{path}'.")


@click.command()
@_arguments
def train(**arguments: Any) -> None:
    """Train a codec by a recipe.

    RECIPE is a Python file, or the name of a shipped recipe. Many processes share a run under torchrun: torchrun
    --nproc-per-node 4 -m vqaudio train RECIPE.
    """
    from vqaudio.training.recipe import Recipe

    _run(Recipe, "codec", **arguments)


@click.command()
@_arguments
def train_prior(**arguments: Any) -> None:
    """Train a prior over the codes of a codec.

    RECIPE is a Python file, or the name of a shipped recipe. The codec is finished by then; it encodes the corpus
    first, once for all runs.
    """
    from vqaudio.training.recipe import PriorRecipe

    _run(PriorRecipe, "prior", **arguments)
