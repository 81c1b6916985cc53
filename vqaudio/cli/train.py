"""`vqaudio train`: run a recipe; also what torchrun starts."""

from __future__ import annotations

from pathlib import Path

import click

from vqaudio.cli import options


@click.command()
@click.argument("recipe")
@click.option(
    "--run-dir", "folder", metavar="DIR", help="Where the results go; by default runs/ and the recipe's name."
)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint of the run.")
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="Override a value of the recipe.")
@options.device
@options.quiet
def train(recipe: str, folder: str | None, resume: bool, settings: tuple[str, ...], device: str, quiet: bool) -> None:
    """Train the codec that RECIPE declares: a Python file, or the name of a shipped recipe.

    Many processes share a run under torchrun: torchrun --nproc-per-node 4 -m vqaudio train RECIPE.
    """
    from vqaudio.training import loop
    from vqaudio.training.recipe import load_recipe, override

    plan = override(load_recipe(recipe), settings)
    path = loop.train(plan, folder or Path("runs") / plan.name, resume=resume, device=device, quiet=quiet)
    if not quiet:
        click.echo(f"The codec is in '{path}'.")
