"""Work on many files spread over processes of one thread each, because one file's networks and metrics share badly."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch

from vqaudio.errors import AudioError
from vqaudio.processes import pool, tidily

Piece = TypeVar("Piece")
Outcome = TypeVar("Outcome")


def gather(
    work: Callable[[Piece], Outcome],
    pieces: Sequence[Piece],
    kind: str,
    jobs: int = 1,
    advance: Callable[[], None] = lambda: None,
) -> tuple[list[Outcome], list[tuple[Piece, str]]]:
    """The outcomes in the order of the pieces, and (piece, sentence) of each piece without one.

    Args:
        work, pieces, jobs: as for `spread`.
        kind: what an error calls the pieces.
        advance: called after each piece.

    Raises:
        AudioError: where not one piece has an outcome.
        VqaudioError: where a process ends unexpectedly.
    """
    outcomes, skipped = list[Outcome](), list[tuple[Piece, str]]()
    for piece, outcome in zip(pieces, spread(work, pieces, jobs), strict=True):
        if isinstance(outcome, str):
            skipped.append((piece, outcome))
        else:
            outcomes.append(outcome)
        advance()
    if not outcomes:
        raise AudioError(f"None of the {len(pieces)} {kind} could be measured: {skipped[0][1]}")
    return outcomes, skipped


def spread(work: Callable[[Piece], Outcome], pieces: Sequence[Piece], jobs: int) -> Iterator[Outcome | str]:
    """The outcome of each piece in the order of the pieces, or the sentence of the AudioError that it ends with.

    Args:
        work: crosses to each process once, so it must be picklable.
        jobs: processes; the work is done in this one where one will do.

    Raises:
        VqaudioError: where a process ends unexpectedly.
    """
    jobs = min(jobs, len(pieces))
    if jobs <= 1:
        with _one_thread():
            yield from (_attempt(work, piece) for piece in pieces)
        return
    with pool(jobs, _start, work) as workers:
        yield from workers.map(_do, pieces)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for torch, and for what goes by OMP_NUM_THREADS, as a prior does."""
    threads, wanted = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if wanted is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = wanted


_work: Callable[[Any], Any]


def _start(work: Callable[[Any], Any]) -> None:
    global _work
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    _work = work


def _do(piece: Any) -> Any:
    with tidily():
        return _attempt(_work, piece)


def _attempt(work: Callable[[Piece], Outcome], piece: Piece) -> Outcome | str:
    try:
        return work(piece)
    except AudioError as error:
        return str(error)
