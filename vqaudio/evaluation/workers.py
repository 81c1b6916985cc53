"""Work on many files spread over processes of one thread each, because one file's networks and metrics share badly."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import torch

from vqaudio.errors import VqaudioError

Piece = TypeVar("Piece")
Outcome = TypeVar("Outcome")


def spread(work: Callable[[Piece], Outcome], pieces: Sequence[Piece], jobs: int) -> Iterator[Outcome]:
    """The outcome of each piece in the order of the pieces; in this process where one will do.

    Args:
        work: crosses to each process once, so it must be picklable.
        jobs: processes.

    Raises:
        VqaudioError: where a process ends unexpectedly.
    """
    jobs = min(jobs, len(pieces))
    if jobs <= 1:
        with _one_thread():
            yield from map(work, pieces)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, context, _start, (work,)) as pool:
        try:
            yield from pool.map(_do, pieces)
        except BrokenProcessPool as error:
            raise VqaudioError("A process ended unexpectedly, perhaps for want of memory; try fewer --jobs.") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # after an error or Ctrl-C the rest is not wanted


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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent alone answers Ctrl-C
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    _work = work


def _do(piece: Any) -> Any:
    return _work(piece)
