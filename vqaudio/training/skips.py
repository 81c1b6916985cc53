"""Steps that are skipped because their loss or gradient is not finite: one bad batch must not cost a run.

Which steps these are is known on the device alone. Everything that a step moves is moved there by a share of one or of
zero, so that the host can prepare the next steps meanwhile instead of waiting for the answer.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from vqaudio.training import distributed

MOST_IN_A_ROW = 10


class Skips:
    """Counts of skipped steps, on the device.

    After `MOST_IN_A_ROW` of them in a row all further ones are skipped too: the run is over as soon as the host looks.

    Args:
        device: of the run.
        total, in_a_row: from where to count on.
    """

    def __init__(self, device: torch.device, total: int = 0, in_a_row: int = 0) -> None:
        self._total = torch.tensor(total, device=device)
        self._in_a_row = torch.tensor(in_a_row, device=device)

    def judge(self, values: Iterable[Tensor]) -> Tensor:
        """Whether the step that gave these scalars is to be skipped, 1.0 or 0.0, the same in all processes."""
        infinite = ~torch.isfinite(torch.stack([value.detach().float() for value in values])).all()
        bad = distributed.largest(infinite.float())
        over = self._in_a_row >= MOST_IN_A_ROW
        self._in_a_row = torch.where(over, self._in_a_row, (self._in_a_row + 1) * bad.long())
        skipped = torch.maximum(bad, over.float())
        self._total = self._total + skipped.long()
        return skipped

    @property
    def total(self) -> int:
        """Skipped steps of the whole run. Waits for the device."""
        return int(self._total)

    @property
    def in_a_row(self) -> int:
        """Those since the last step that was not skipped. Waits for the device."""
        return int(self._in_a_row)
