"""`vqaudio benchmark --train`: how fast a recipe trains on this machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from vqaudio.cli import options
from vqaudio.cli.progress import progress
from vqaudio.cli.tables import figure, table
from vqaudio.errors import UsageError

if TYPE_CHECKING:
    from vqaudio.evaluation.training_speed import StageSpeed

RECIPE = "speech16k"
CODING = {"model", "seconds", "threads", "streams", "minutes", "against"}  # options that say how to code
TRAINING = {"batch", "settings"}  # and how to train


def check_options(context: click.Context) -> None:
    """See that no option is given which says something of training where coding is measured, or the reverse.

    Raises:
        UsageError: with the first one.
    """
    training = context.params["recipe"] is not None
    for option in context.command.params:
        given = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if given and option.name in (CODING if training else TRAINING):
            hint = "cannot be combined with" if training else "needs"
            raise UsageError(f"The option {option.opts[0]} {hint} --train.")


def report(
    recipe: str,
    settings: tuple[str, ...],
    batch: int | None,
    device: str,
    repeat: int,
    target: Path | None,
    force: bool,
) -> None:
    """Measure every stage of a recipe; print a table, and write everything to a file where that is asked for."""
    from rich.console import Console

    from vqaudio.codec import check_device
    from vqaudio.evaluation import records, training_speed
    from vqaudio.evaluation.versions import versions
    from vqaudio.training.recipe import load_recipe, override

    check_device(device)
    options.check_results(force, target)
    plan = override(load_recipe(recipe), settings)
    measured = []
    with progress("benchmark", len(plan.stages)) as advance:
        for stage in training_speed.measure(plan, device, repeat=repeat, batch=batch):
            measured.append(stage)
            advance()
    machine, packages = training_speed.machine(device), versions(())
    effort, precision = training_speed.effort(device), "bfloat16" if plan.bf16 else "float32"
    rows = [_row(stage) for stage in measured]
    headings = ("batch", "crop s", "speed", "ms/step", "GFLOP/s", "% of limit", "MB")
    console = Console(markup=False)
    console.print(table(f"{plan.name}, training", ("stage",), headings, rows))
    console.print(
        f"speed: seconds of audio per second, best of {repeat} times {effort.steps} steps after {effort.warm_up} that "
        "do not count. GFLOP/s: products of convolutions and matrices, forward and backward, discriminators included, "
        "without optimiser and spectra.",
        f"limit: {figure(measured[0].limit / 1e9)} GFLOP/s, what a product of two matrices of "
        f"{effort.size} x {effort.size} in {precision} reached before. MB: "
        + ("by which memory rose." if device == "cpu" else "allocated at most."),
        ", ".join(f"{key} {value}" for key, value in {**machine, **packages}.items()),
        sep="\n",
        highlight=False,
        markup=False,
    )
    if target is not None:
        record = {
            "recipe": dataclasses.asdict(plan),
            "settings": {"device": device, "repeat": repeat, "batch": batch},
            "machine": machine,
            "versions": packages,
            "stages": [stage.to_dict() for stage in measured],
        }
        records.write(target, record, force)


def _row(stage: StageSpeed) -> list[str]:
    times, memory = (stage.speed, 1e3 * min(stage.times)), None if stage.memory is None else stage.memory / 1e6
    figures = (stage.seconds / stage.batch, *times, stage.flops / 1e9, 100 * stage.share, memory)
    return [stage.stage, str(stage.batch), *map(figure, figures)]
