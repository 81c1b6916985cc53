"""How a GPU computes while it trains; mixed precision is the recipe's own choice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def fast_arithmetic(device: torch.device) -> Iterator[None]:
    """Let a GPU multiply float32 in TF32 and choose convolutions by trying them, in the body; nothing on the CPU.

    Outside of training both stay as they were: what a codec computes must not depend on what was tried.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.benchmark = before[1]
