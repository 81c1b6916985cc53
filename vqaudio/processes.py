"""How processes end, this one and those that work for it: with nothing half-written, and none after it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from types import FrameType


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


def follow() -> None:
    """In a process of a pool: leave Ctrl-C to the process that started it, and end when that has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


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


def stop(pool: ProcessPoolExecutor) -> None:
    """End a pool whose work is not wanted any more, after an error or Ctrl-C."""
    processes = list((pool._processes or {}).values())  # which a pool that is shut down does not know any more
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
