"""`vqaudio train`: run the recipe of a codec; also what torchrun starts."""

from __future__ import annotations

from typing import Any

import click

from vqaudio.cli import training


@click.command()
@training.arguments
def train(**arguments: Any) -> None:
    """Train the codec that RECIPE declares: a Python file, or the name of a shipped recipe.

    Many processes share a run under torchrun: torchrun --nproc-per-node 4 -m vqaudio train RECIPE.
    """
    from vqaudio.training.recipe import Recipe

    training.run(Recipe, "codec", **arguments)
