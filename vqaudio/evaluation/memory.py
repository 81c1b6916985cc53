"""How much memory a piece of work takes."""

from __future__ import annotations

import contextlib
import ctypes
import re
from collections.abc import Callable
from pathlib import Path

import torch


def peak_memory(work: Callable[[], object]) -> int | None:
    """Do the work, and say by how many bytes the process's resident memory rose at most while it was done.

    None where the system does not tell: it takes Linux, which keeps a high-water mark that can be reset. What stays
    from the first use of libraries is better done before.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)  # or what earlier work has freed would be used again unseen
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        work()
        return None
    before = _high_water_mark()
    work()
    return _high_water_mark() - before


def _high_water_mark() -> int:
    """Of this process's resident memory, bytes."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def device_memory(work: Callable[[], object], device: torch.device) -> int | None:
    """Do some work, and tell how much memory it took at most, in bytes.

    On a GPU that is all that was allocated there, what was so before the work included; on the CPU it is what
    `peak_memory` tells, the rise alone.
    """
    if device.type == "cpu":
        return peak_memory(work)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    return torch.cuda.max_memory_allocated(device)
