"""How a GPU computes float32 while it trains; mixed precision is the recipe's own choice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def fast_arithmetic(device: torch.device, tf32: bool) -> Iterator[None]:
    """Let a GPU choose convolutions by trying them, in the body; nothing on the CPU.

    Outside of training all stays as it was: what a codec computes must not depend on what was tried.

    Args:
        tf32: whether float32 is multiplied in TF32. Not under mixed precision, where float32 is left only for what
            must not be rounded: resampling, filter banks, the quantiser, the WaveNet's last layer.
    """
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    cudnn.allow_tf32, cudnn.benchmark = tf32, True
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        cudnn.allow_tf32, cudnn.benchmark = before[1:]
