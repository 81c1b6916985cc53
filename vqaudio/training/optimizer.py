"""The optimisers of the networks: Muon for the weights of convolutions and linear layers, AdamW for everything else.

Muon (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks") makes every update of a matrix
nearly orthogonal, so that all its directions learn at one rate. Updates have the size of AdamW's (Liu et al. 2025,
arXiv 2502.16982, section 2.2), so that one learning rate serves both. PyTorch's own takes matrices only, one by one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from vqaudio.training.recipe import OptimizerConfig

MOMENTUM = 0.95
NARROWEST = 16  # rows or columns; smaller matrices have few directions to even out
ROOT_MEAN_SQUARE = 0.2  # of an update, in learning rates, as AdamW's usually has
ROUNDS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)  # brings singular values between 1e-3 and 1 near 1 in five rounds


def optimizers(model: nn.Module, config: OptimizerConfig) -> tuple[Optimizer, ...]:
    """What moves the parameters of a model that learn, each of them in one optimiser; the caller sets the rates.

    The rows of an embedding or a codebook are looked up, not multiplied: most have no gradient in a step, and there are
    no directions that should learn alike. AdamW moves them.
    """
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    tables |= {id(parameter) for name, parameter in model.named_parameters() if name.endswith(".codebook")}
    weights = [p for p in learned if p.ndim > 1 and id(p) not in tables and min(p.shape[0], p[0].numel()) >= NARROWEST]
    taken = set(map(id, weights))
    rest = [p for p in learned if id(p) not in taken]
    built: list[Optimizer] = []
    if weights:
        built.append(Muon(weights, config.weight_decay))
    if rest:
        built.append(adamw(rest, config))
    return tuple(built)


def adamw(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> AdamW:
    """AdamW, fused: it is the faster one, and the one that can skip a step on the device."""
    return AdamW(parameters, betas=config.betas, weight_decay=config.weight_decay, fused=True)


def update(built: Iterable[Optimizer], rate: float, skipped: Tensor) -> None:
    """One step of optimisers at a learning rate; it changes nothing, their state included, where `skipped` is 1.0.

    Args:
        skipped: scalar on the device, 0.0 or 1.0. It goes to the optimisers as `GradScaler` of torch would tell them.
    """
    for optimizer in built:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.found_inf = skipped  # type: ignore[attr-defined]
        optimizer.step()


class Muon(Optimizer):
    """Nesterov momentum whose matrices are made orthogonal.

    Args:
        parameters: weights (out, in, ...) of two dimensions or more.
        weight_decay: share of the learning rate by which weights shrink at each step.

    Attributes:
        found_inf: scalar on the device, 1.0 where the next step is to change nothing, whatever the gradients; or None.
    """

    found_inf: Tensor | None

    def __init__(self, parameters: Iterable[nn.Parameter], weight_decay: float, lr: float = 1e-3) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})
        self.found_inf = None

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override] # no closures, which nothing here uses
        """Move the weights that have a gradient."""
        share = 1.0 if self.found_inf is None else 1 - self.found_inf
        for group in self.param_groups:
            alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    update = matrices(self._momentum(weight, share))
                    alike[update.shape[1:]].append((weight, update))
            for members in alike.values():
                weights, updates = zip(*members, strict=True)
                directions = orthogonal(torch.cat(updates)).split([len(update) for update in updates])
                for weight, direction in zip(weights, directions, strict=True):
                    size = ROOT_MEAN_SQUARE * max(direction.shape[1:]) ** 0.5
                    weight.mul_(1 - share * (group["lr"] * group["weight_decay"]))
                    weight.sub_(direction.reshape(weight.shape) * (share * (group["lr"] * size)))

    def _momentum(self, weight: Tensor, share: Tensor | float) -> Tensor:
        """The gradient looking ahead along its moving average, which it moves on by a share of one or zero."""
        assert weight.grad is not None
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        gradient = weight.grad.nan_to_num(0.0, 0.0, 0.0)  # a share of zero of NaN is NaN
        state["momentum"].lerp_(gradient, share * (1 - MOMENTUM))
        return gradient.lerp(state["momentum"], MOMENTUM)


def matrices(weight: Tensor) -> Tensor:
    """The matrices (n, rows, columns) of a weight (out, in, ...), all taps of an input side by side.

    A layer whose outputs are several times its inputs holds as many matrices: filter and gate, or residual and skip.
    """
    outputs, inputs = weight.shape[:2]
    several = inputs >= NARROWEST and outputs % inputs == 0
    return weight.reshape(outputs // inputs if several else 1, -1, weight[0].numel())


def orthogonal(updates: Tensor) -> Tensor:
    """Nearly orthogonal matrices with the singular vectors of the given ones (n, rows, columns), in bf16.

    The singular values come to lie between 0.7 and 1.2, by a Newton-Schulz iteration on the shorter side.
    """
    tall = updates.shape[1] > updates.shape[2]
    x = (updates.mT if tall else updates).bfloat16()
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    a, b, c = QUINTIC
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(updates.dtype)
