"""How the numbers of a pack get to the device that trains: all of them at once where they fit, else piece by piece.

Where pieces lie is known to the host, which must be free to prepare the next step while a GPU is at this one: copies to
it start in pinned memory and are not waited for, and what it gathers has a shape that the host knows beforehand.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

PARTS = 3  # a pack goes into GPU memory where it takes one part of so many of what is free there


class Packed:
    """A packed array (total, ...), a map of its file, and its copies in the memory of GPUs."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self._copies: dict[torch.device, Tensor] = {}

    def on(self, device: str | torch.device) -> Tensor:
        """All of it (total, ...): in GPU memory where it takes at most a third of what is free, else mapped."""
        device = torch.device(device)
        if device not in self._copies:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # torch has no read-only tensors; nothing writes here
                mapped = torch.from_numpy(self.array)
            fits = device.type == "cuda" and PARTS * self.array.nbytes <= torch.cuda.mem_get_info(device)[0]
            self._copies[device] = mapped.to(device) if fits else mapped
        return self._copies[device]

    def pieces(
        self, starts: np.ndarray, lengths: np.ndarray, length: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Pieces that begin at `starts` (B,), of which `lengths` (B,) numbers may be taken.

        Returns:
            the pieces (B, length, ...), zero from where they may not be taken, and a mask (B, length) of what is there,
            both on the device.
        """
        data = self.on(device)
        first, there = send(np.stack([starts, lengths]), data.device)
        offsets = torch.arange(length, device=data.device)
        mask = offsets < there[:, None]
        values = data[torch.where(mask, first[:, None] + offsets, 0)]
        values = values * mask.reshape(mask.shape + (1,) * (values.ndim - 2))
        return send(values, device), send(mask, device)


def send(values: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """The same values on the device. The host does not wait for a copy to a GPU."""
    tensor = torch.as_tensor(values)
    if device.type != "cuda" or tensor.is_cuda:
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
