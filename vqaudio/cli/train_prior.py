"""`vqaudio train-prior`: run the recipe of a prior; also what torchrun starts."""

from __future__ import annotations

from typing import Any

import click

from vqaudio.cli import training


@click.command()
@training.arguments
def train_prior(**arguments: Any) -> None:
    """Train the prior that RECIPE declares, over the codes of a codec: a Python file, or a shipped recipe's name.

    The codec is finished by then; it encodes the corpus first, once for all runs.
    """
    from vqaudio.training.recipe import PriorRecipe

    training.run(PriorRecipe, "prior", **arguments)
