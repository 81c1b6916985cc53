"""Training in several processes, started by torchrun: which one this is, and what all of them share."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, distributed, nn

from vqaudio.models.sharing import rank as rank
from vqaudio.models.sharing import shared
from vqaudio.models.sharing import world as world

PATIENCE = datetime.timedelta(hours=1)  # while process 0 validates, samples and saves; where one is gone, then all stop
PACKING = datetime.timedelta(days=1)  # while process 0 fetches and packs the corpus, which may take hours


def share(batch_size: int) -> int:
    """How many of a batch of all processes are each one's."""
    return batch_size // world()


def own_device(device: str) -> str:
    """The device of this process: under torchrun the GPU of its own rank on the node."""
    local_rank = os.environ.get("LOCAL_RANK")
    return f"cuda:{local_rank}" if local_rank is not None and device.startswith("cuda") else device


def start(device: str) -> torch.device:
    """Join the run that torchrun started, if it did, on the process's own device."""
    if "LOCAL_RANK" not in os.environ:
        return torch.device(device)
    place = torch.device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if not distributed.is_initialized():  # NCCL would guess the GPU by the rank, which may be that of another process
        own, backend = (place, "nccl") if place.type == "cuda" else (None, "gloo")
        distributed.init_process_group(backend, timeout=PATIENCE, device_id=own)
    return place


def stop() -> None:
    """Leave the run, all processes together: one that leaves while another still communicates with it may abort."""
    if shared():
        distributed.barrier()
        distributed.destroy_process_group()


def anywhere(flag: bool) -> bool:
    """Whether the flag is set in any process; all of them must ask."""
    if world() == 1:
        return flag
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    flags = torch.tensor(float(flag), device=device)
    distributed.all_reduce(flags)
    return bool(flags > 0)


def largest(value: Tensor) -> Tensor:
    """The largest of the values (any shape) of all processes; all of them must ask, and no host waits for it."""
    if world() > 1:
        distributed.all_reduce(value, distributed.ReduceOp.MAX)
    return value


def seed(number: int, step: int) -> None:
    """Let what a step draws depend on the seed of the run, the step and the process alone.

    So that no state of random numbers has to be kept to go on, on as many processes as there are then, and no two
    processes draw the same.
    """
    torch.manual_seed(int(np.random.SeedSequence((number, step, rank())).generate_state(1, np.uint64)[0]))


def mean(tensor: Tensor) -> Tensor:
    """The mean of a tensor, without gradient, over all processes; all of them must ask."""
    if world() == 1:
        return tensor
    total = tensor.detach().float().clone()
    distributed.all_reduce(total)
    return total / world()


def together() -> None:
    """Wait until all processes are here."""
    if world() > 1:
        distributed.barrier()


@contextlib.contextmanager
def first_alone() -> Iterator[None]:
    """Let process 0 do something before the others do it too, so that they find what it leaves behind."""
    if world() == 1:
        yield
        return
    group = distributed.new_group(backend="gloo", timeout=PACKING)  # gloo finds at once that another process is gone
    if rank() > 0:
        distributed.barrier(group)
    yield
    if rank() == 0:
        distributed.barrier(group)
    distributed.destroy_process_group(group)


def average_gradients(model: nn.Module) -> None:
    """Make the gradients of a model the same in all processes: their mean. Nothing in a run of one."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    if world() > 1 and gradients:
        joined = torch.cat([gradient.flatten() for gradient in gradients])  # one exchange, not one for each
        distributed.all_reduce(joined)
        for gradient, own in zip(gradients, (joined / world()).split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(own.view_as(gradient))
