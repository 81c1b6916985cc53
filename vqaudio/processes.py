"""How processes end, this one and those that work for it: with nothing half-written, and none after it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from types import FrameType
from typing import Any

from vqaudio.errors import VqaudioError


@contextlib.contextmanager
def handling(handler: Callable[[int, FrameType | None], None], *numbers: signal.Signals) -> Iterator[None]:
    """Let signals be handled so in the body, if it runs in the main thread, to which signals belong."""
    try:
        before = {number: signal.signal(number, handler) for number in numbers}
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        for number, handled in before.items():
            signal.signal(number, handled)


def ends() -> list[signal.Signals]:
    """The signals that ask a process to end and are not ignored, as nohup has it for that of a closed terminal."""
    known = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    return [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]


@contextlib.contextmanager
def pool(jobs: int, start: Callable[..., None], *arguments: Any) -> Iterator[concurrent.futures.ProcessPoolExecutor]:
    """Processes that work for this one and end with the body, at once where that does not come to its end.

    Args:
        jobs: how many.
        start: is called with the arguments as each begins; all must be picklable.

    Raises:
        VqaudioError: where a process ends unexpectedly.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, context, _begin, (start, *arguments)) as workers:
        try:
            yield workers
        except BrokenProcessPool as error:
            raise VqaudioError("A process ended unexpectedly, perhaps for want of memory; try fewer --jobs.") from error
        except BaseException:  # Ctrl-C, what would fail with every piece, or nobody wants the rest
            _stop(workers)
            raise


def _begin(start: Callable[..., None], *arguments: Any) -> None:
    """Leave Ctrl-C and a closed terminal to the process that started this one, and end when that has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):  # Windows has none
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    start(*arguments)


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def tidily() -> Iterator[None]:
    """A piece of work in a process of a pool, which when told to end first takes away what it has half-written."""
    signal.signal(signal.SIGTERM, _unwind)
    try:
        yield
    except SystemExit:
        os._exit(1)  # or the pool would start on the next piece
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _unwind(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit


def _stop(workers: concurrent.futures.ProcessPoolExecutor) -> None:
    processes = list((workers._processes or {}).values())  # which a pool that is shut down does not know any more
    workers.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
