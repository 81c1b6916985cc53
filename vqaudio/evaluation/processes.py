"""Measurements spread over processes, one thread in each."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, TypeVar

import torch

from vqaudio.errors import VqaudioError

Thing = TypeVar("Thing", contravariant=True)
Result = TypeVar("Result", covariant=True)


class Bench(Protocol[Thing, Result]):
    """What measures one thing after another. It crosses to other processes, and loads what is heavy there."""

    def attempt(self, thing: Thing, /) -> Result:
        """What was measured, or a sentence that says why it could not be."""
        ...


def side_by_side(bench: Bench[Thing, Result], things: Sequence[Thing], jobs: int) -> Iterator[Result]:
    """What a bench makes of each thing, in their order; in this process where one will do.

    Raises:
        VqaudioError: where a process ends unexpectedly.
    """
    jobs = min(jobs, len(things))
    if jobs <= 1:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield from map(bench.attempt, things)
        finally:
            torch.set_num_threads(threads)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, context, _start_worker, (bench,)) as pool:
        try:
            yield from pool.map(_work, things)
        except BrokenProcessPool as error:
            raise VqaudioError("A process ended unexpectedly, perhaps for want of memory; try fewer --jobs.") from error


_bench: Bench[Any, Any]


def _start_worker(bench: Bench[Any, Any]) -> None:
    global _bench
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent alone answers Ctrl-C
    torch.set_num_threads(1)
    _bench = bench


def _work(thing: Any) -> Any:
    return _bench.attempt(thing)
