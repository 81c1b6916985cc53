"""Progress on standard error, on a terminal only, and what else is said there beside the results."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import click

from vqaudio.cli.tables import printable

if TYPE_CHECKING:
    import numpy as np
    from rich.progress import Progress

Watch = Callable[["Iterable[np.ndarray]", float, int], "Iterator[np.ndarray]"]


@contextlib.contextmanager
def progress(what: str, total: int | None, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """Show a bar for the body, which calls the function that it is given after each of `total` pieces of work.

    With a `total` of None the bar only shows that something goes on.
    """
    with _bar(quiet, counts=total is not None, ends=total is not None) as bar:
        if bar is None:
            yield lambda: None
        else:
            task = bar.add_task(what, total=total)
            yield lambda: bar.advance(task)


def note(text: str) -> None:
    """Say something beside the results, with names of files or a card in it as they may be."""
    click.echo(printable(text), err=True)


def skipped(reason: str) -> None:
    """Say that a file is left out, and why."""
    note(f"Skipped: {reason}")


def unwatched(parts: Iterable[np.ndarray], seconds: float, sample_rate: int) -> Iterator[np.ndarray]:
    """Sound in parts (n,), as `watching` gives it where there is nobody to look."""
    return iter(parts)


@contextlib.contextmanager
def watching(what: str, quiet: bool) -> Iterator[Watch]:
    """Show a bar with the time left while sound goes through the function that the body is given.

    That takes parts (n,), their seconds in all (0 where nobody knows) and the sample rate in Hz, and gives the parts.
    """
    with _bar(quiet, counts=False, ends=True) as bar:
        if bar is None:
            yield unwatched
            return
        task = bar.add_task(what, total=None)

        def watch(parts: Iterable[np.ndarray], seconds: float, sample_rate: int) -> Iterator[np.ndarray]:
            bar.update(task, total=seconds or None)
            for part in parts:
                bar.advance(task, len(part) / sample_rate)
                yield part

        yield watch


@contextlib.contextmanager
def _bar(quiet: bool, counts: bool, ends: bool) -> Iterator[Progress | None]:
    """A bar for one task, with a count of its pieces and the time left where asked for; None where nobody looks."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():  # who starts a process may close it
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()]
    if counts:
        columns.append(MofNCompleteColumn())
    if ends:
        columns += [TextColumn("left:"), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield bar
