"""How a long signal is cut into blocks and chunks, and how threads share them.

Blocks lie on a fixed grid and come with all that the networks hear around them, so that no result depends on how the
input arrived.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from vqaudio.models.config import CodecConfig

if TYPE_CHECKING:
    from vqaudio.runtime.product import Floats

BLOCK_SECONDS = 10.0  # at most, between two stretches of context
SHORTEST_BLOCK_SECONDS = 1.0

Place = tuple[int, int, int, int]  # frames: where a block's context starts, its own [first, stop), the context's end
Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_threads() -> int:
    """As many as `cores`, or what OMP_NUM_THREADS says."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdigit() and int(wanted) > 0 else cores()


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """`map` on threads, in order, with no more results waiting than there are threads."""
    if threads == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque[Future[Result]]()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def blocks(config: CodecConfig, parts: Iterable[Floats], threads: int) -> Iterator[tuple[Floats, int, int]]:
    """Samples that come in parts, in blocks with their context: (samples, first, stop), where the frames [first, stop)
    of these samples count. No more is held than all threads need."""
    hop = config.hop
    back, ahead = (-(-reach // hop) for reach in config.encoder.reach)
    longest = round(BLOCK_SECONDS * config.frame_rate)
    source, held, ended = iter(parts), np.zeros(0, np.float32), False
    origin = first = block = 0  # frames; the first ones of what is held and of the next block
    while True:
        arrived, count = [held], len(held)
        while not ended and count <= (first + threads * longest + ahead - origin) * hop:
            part = next(source, None)
            ended = part is None
            if part is not None:
                arrived.append(part)
                count += len(part)
        held = np.concatenate(arrived)
        frames = origin + -(-count // hop)
        block = block or (shared(config, frames - first, threads) if ended else 0)
        stop = min(first + (block or longest), frames)
        start, end = max(origin, first - back), min(stop + ahead, frames)
        yield held[(start - origin) * hop : (end - origin) * hop], first - start, stop - start
        if ended and stop == frames:
            return
        first = stop
        kept = max(origin, first - back)
        held, origin = held[(kept - origin) * hop :], kept


def shared(config: CodecConfig, frames: int, threads: int) -> int:
    """Frames of a block: there is one for each thread, if that does not make them very short or long."""
    share = max(round(SHORTEST_BLOCK_SECONDS * config.frame_rate), -(-frames // threads))
    return max(1, min(share, round(BLOCK_SECONDS * config.frame_rate)))


def grid(frames: int, block: int, back: int, ahead: int) -> Iterator[Place]:
    """Blocks of `block` frames with their context, in frames, as far as there is any: (start, first, stop, end)."""
    for first in range(0, frames, block):
        stop = min(first + block, frames)
        yield max(0, first - back), first, stop, min(frames, stop + ahead)


def relayed(blocks: Iterable[Item]) -> Iterator[tuple[Item, Future[int], Future[int]]]:
    """Blocks, each with the phase of its first frame, which the block before tells, and what it tells the next one."""
    before = Future[int]()
    before.set_result(0)
    for block in blocks:
        after = Future[int]()
        yield block, before, after
        before = after


def chunks(start: int, end: int, size: int) -> Iterator[tuple[int, int, bool]]:
    """[start, end) in chunks: begin, end, and whether it is the last one."""
    for begin in range(start, end, size):
        yield begin, min(begin + size, end), begin + size >= end
