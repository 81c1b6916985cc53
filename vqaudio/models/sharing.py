"""Batches that several processes share: which share this is, and sums over all of them."""

from __future__ import annotations

from torch import Tensor, distributed


def shared() -> bool:
    """Whether there are other processes."""
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Number of this process, 0 for the one that writes."""
    return distributed.get_rank() if shared() else 0


def world() -> int:
    """Number of processes."""
    return distributed.get_world_size() if shared() else 1


def all_reduce(*tensors: Tensor) -> None:
    """Sum over all processes, in place."""
    if shared():
        for tensor in tensors:
            distributed.all_reduce(tensor)
