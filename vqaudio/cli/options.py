"""The arguments and options that several verbs share, and what is checked of them."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path
from typing import Any

import click

from vqaudio.errors import UsageError
from vqaudio.files import check_target


class Range(click.FloatRange):
    """Numbers of a range, of which nan is none and infinity never one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read a number; what is none is wrong usage."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no number of this range.", param, ctx)
        return number


def _hush(context: click.Context, parameter: click.Parameter, quiet: bool) -> bool:
    """Keep back what the library has to say, where nothing but errors is wanted."""
    logger = logging.getLogger("vqaudio")
    if quiet:
        logger.setLevel(logging.ERROR)
        context.call_on_close(lambda: logger.setLevel(logging.NOTSET))
    return quiet


def _some(context: click.Context, parameter: click.Parameter, sources: tuple[str, ...]) -> tuple[str, ...]:
    """One source at least: where a single word is given, that is taken for DST."""
    if not sources:
        raise click.UsageError("Name what to read, SRC, and then where it goes, DST.", context)
    return sources


def _drawable(context: click.Context, parameter: click.Parameter, figure: Path | None) -> Path | None:
    """See that a figure can be drawn, where one is wanted."""
    if figure is not None:
        from vqaudio.evaluation import figures

        figures.check(figure)
    return figure


def check_results(force: bool, *targets: Path | None) -> None:
    """Find, before any work, what would stop results from being written to these files; None is not wanted.

    Raises:
        UsageError: as `check_target` raises it, or where two of them are one file.
    """
    wanted = [target for target in targets if target is not None]
    for target in wanted:
        check_target(target, force)
    if len({os.path.realpath(target) for target in wanted}) < len(wanted):
        raise UsageError("Two results cannot go to one file.")


def _cores() -> int:
    from vqaudio.runtime.schedule import cores

    return cores()


directory = click.argument("directory", type=click.Path(path_type=Path))
sources = click.argument("src", nargs=-1, metavar="SRC...", callback=_some)
model = click.option(
    "--model",
    metavar="FILE|NAME",
    help="A model file, or a name of a model that comes with vqaudio: speech16k, the default, or speech16k-low.",
)
coder = click.option(
    "--coder",
    type=click.Choice(["prior", "fixed"]),
    help="prior: under the prior, where there is one (the default); fixed: every code at its full width.",
)
prior = click.option(
    "--prior",
    metavar="FILE|NAME",
    help="The file of a prior, or the name of a model whose prior comes with vqaudio; by default that of the model.",
)
decoder = click.option(
    "--decoder", type=click.Choice(["spectral", "wavenet"]), help="By default the one that the model prefers."
)
seed = click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Of the WaveNet's samples; the spectral decoder draws nothing at random.",
)
temperature = click.option(
    "--temperature",
    type=float,
    default=1.0,
    show_default=True,
    help="Of the WaveNet's samples; the spectral decoder draws nothing at random.",
)
device = click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
force = click.option("--force", is_flag=True, help="Replace files that exist.")
quiet = click.option("--quiet", is_flag=True, callback=_hush, help="Print nothing but errors.")
jobs = click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that share a directory's files."
)
all_cores = click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=_cores,
    show_default="one for each core",
    help="Processes that share the files.",
)
few_files = click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Use only N files, spread evenly over the directory."
)
record = click.option(
    "--json",
    "target",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write everything that is measured to FILE, as JSON.",
)
figure = click.option(
    "--figure",
    type=click.Path(path_type=Path),
    metavar="FILE",
    callback=_drawable,
    help="Draw it: a PNG or SVG file.",
)
