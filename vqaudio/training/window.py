"""The figures of the steps since they were last told, and how fast these steps were."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vqaudio.training import distributed


class Window:
    """Tensors by name since they were last asked for, without waiting for the device in between.

    Args:
        figures: what is to be told of their means.
    """

    def __init__(self, figures: Callable[[dict[str, Tensor]], dict[str, float]]) -> None:
        self._figures = figures
        self._items: list[tuple[dict[str, Tensor], Tensor]] = []
        self._since = time.monotonic()

    def add(self, values: dict[str, Tensor], skipped: Tensor) -> None:
        """Take the tensors of one step, which count for nothing where the scalar `skipped` is 1.0."""
        self._items.append((values, skipped))

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """What the speed does not count."""
        start = time.monotonic()
        yield
        self._since += time.monotonic() - start

    def means(self, batch_seconds: float) -> dict[str, float]:
        """The figures of the means over all processes, if any step counts, and the seconds of audio per second."""
        skipped = torch.stack([skipped for _, skipped in self._items]).tolist()
        counted = [values for (values, _), skip in zip(self._items, skipped, strict=True) if not skip]
        names = counted[-1] if counted else {}
        means = {name: torch.stack([values[name] for values in counted if name in values]).mean(0) for name in names}
        figures = self._figures({name: distributed.mean(mean) for name, mean in means.items()})
        figures["times_real_time"] = len(self._items) * batch_seconds / (time.monotonic() - self._since)
        self._items, self._since = [], time.monotonic()
        return figures
