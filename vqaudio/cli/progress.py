"""Progress on standard error, on a terminal only, and what was left out."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import click

from vqaudio.cli.tables import printable

if TYPE_CHECKING:
    import numpy as np

Watch = Callable[["Iterable[np.ndarray]", float, int], "Iterator[np.ndarray]"]


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()  # who starts a process may close it


@contextlib.contextmanager
def progress(what: str, total: int | None, quiet: bool) -> Iterator[Callable[[], None]]:
    """Show a bar for the body, which calls the function that it is given after each of `total` pieces of work.

    With a `total` of None the bar only shows that something goes on.
    """
    if quiet or not _on_terminal():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()]
    if total is not None:
        columns += [MofNCompleteColumn(), TextColumn("left:"), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def skipped(reason: str) -> None:
    """Say that a file is left out, and why."""
    click.echo(printable(f"Skipped: {reason}"), err=True)


def unwatched(parts: Iterable[np.ndarray], seconds: float, sample_rate: int) -> Iterator[np.ndarray]:
    """Sound in parts (n,), as `watching` gives it where there is nobody to look."""
    return iter(parts)


@contextlib.contextmanager
def watching(what: str, quiet: bool) -> Iterator[Watch]:
    """Show a bar with the time left while sound goes through the function that the body is given.

    That takes parts (n,), their seconds in all (0 where nobody knows) and the sample rate in Hz, and gives the parts.
    """
    if quiet or not _on_terminal():
        yield unwatched
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = [TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(), TextColumn("left:")]
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def watch(parts: Iterable[np.ndarray], seconds: float, sample_rate: int) -> Iterator[np.ndarray]:
            bar.update(task, total=seconds or None)
            for part in parts:
                bar.advance(task, len(part) / sample_rate)
                yield part

        yield watch
