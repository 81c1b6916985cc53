"""Checkpoints: the whole state of a run as one safetensors file, written beside and renamed, so that a kill never costs
the one before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from vqaudio.errors import RecipeError, TrainingError
from vqaudio.files import replacing


def save_checkpoint(path: Path, progress: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write tensors by name and the progress of a run, as JSON values, to one file.

    Raises:
        TrainingError: where it cannot be written; the file that was there before is untouched.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path, force=True, error=TrainingError) as temporary:
        temporary.write_bytes(save(contiguous, {"progress": json.dumps(progress)}))


def load_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `save_checkpoint` wrote.

    Raises:
        TrainingError: where there is none or it is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            progress = json.loads((file.metadata() or {})["progress"])
            # copies, for the file itself stays in use otherwise, and is replaced by the next checkpoint
            return progress, {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise TrainingError(f"There is no usable checkpoint at '{path}' to resume from.") from error


def with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put `prefix.` before every name."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix.`, without it."""
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}


def optimizer_tensors(optimizer: Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimiser's state by the names of the model's parameters."""
    return {
        f"{name}/{key}": torch.as_tensor(value)
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
        for key, value in optimizer.state[parameter].items()
    }


def restore_optimizer(optimizer: Optimizer, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Give the optimiser, of the state that `optimizer_tensors` took, what belongs to its own parameters."""
    parameters = dict(model.named_parameters())
    own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for name, tensor in tensors.items():
        parameter, key = name.rsplit("/", 1)
        target = parameters[parameter]
        if id(target) in own:
            optimizer.state[target][key] = tensor.to(target.device)


def as_tensor(data: bytes) -> Tensor:
    """Bytes as a checkpoint holds them, (n,) uint8."""
    return torch.tensor(list(data), dtype=torch.uint8)


def check_same(found: Tensor, data: bytes, what: str) -> None:
    """See that what a recipe names only by its place is what it was when the checkpoint was written.

    Raises:
        RecipeError: where it is not.
    """
    if not torch.equal(found, as_tensor(data)):
        raise RecipeError(f"The run was started with another {what} in the same place; resume it with that one.")
