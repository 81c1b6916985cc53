"""Work on many files spread over processes of one thread each, because one file's networks and metrics share badly."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import torch

from vqaudio.errors import AudioError, VqaudioError
from vqaudio.processes import follow, stop, tidily

Piece = TypeVar("Piece")
Outcome = TypeVar("Outcome")


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
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, context, _start, (work,)) as pool:
        try:
            yield from pool.map(_do, pieces)
        except BrokenProcessPool as error:
            raise VqaudioError("A process ended unexpectedly, perhaps for want of memory; try fewer --jobs.") from error
        except BaseException:  # Ctrl-C, or nobody wants the rest
            stop(pool)
            raise


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
    follow()
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
