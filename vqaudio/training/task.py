"""What the training loop needs of the thing that it trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from vqaudio.training.logs import Log


class Task(ABC):
    """A model, what it learns from, and how it is judged. The loop steps, averages, saves and logs it.

    The loop calls `begin` where no run is resumed, and `enter` at the start of a stage; at every step `begin_step`,
    then for every micro-batch `losses` and, when their gradients are there, `after_backward`; then `clip` and `update`.
    None of these may make the host wait for a GPU. `validate` and `log_samples` find the model in evaluation mode and
    with averaged weights, without gradients.

    Attributes:
        model: on the device of the run. Its whole state, in floating point, is averaged and goes into checkpoints.
        train_indices, held_out: which utterances of the corpus it learns from, and by which it is judged.
    """

    model: nn.Module
    train_indices: np.ndarray
    held_out: np.ndarray

    def begin(self) -> None:  # noqa: B027 # most start from nothing
        """Give the model its first weights, where a run begins and is not resumed."""

    @abstractmethod
    def enter(self, index: int) -> None:
        """Make ready for stage number `index`: which parts of the model learn, and what they hear."""

    def begin_step(self, within: int) -> bool:
        """Make ready for step number `within` of the stage.

        Returns:
            whether it gave the model new weights, so that their average has to start from them.
        """
        return False

    @abstractmethod
    def losses(self, forward: nn.Module, index: int, within: int) -> dict[str, Tensor]:
        """What one micro-batch gives, under autocast.

        Args:
            forward: the model, as it is to be called in training: compiled, or shared by many processes.
            index: number of the micro-batch in the whole run, on which its crops depend.
            within: number of the step in the stage.

        Returns:
            tensors by name, to be averaged for the log; the gradient is that of the scalar "total".
        """

    def after_backward(self) -> dict[str, Tensor]:
        """Add the gradients that what is not the model gets from the same micro-batch, under autocast.

        Returns:
            its losses by name, scalars.
        """
        return {}

    def clip(self) -> list[Tensor]:
        """Bound the gradients of what is not the model, once they are complete; their norms, scalars."""
        return []

    def update(self, rate: float, skipped: Tensor) -> None:  # noqa: B027 # most have nothing but the model
        """Move what is not the model, at the learning rate `rate`, unless the scalar `skipped` is 1.0."""

    def moving(self) -> list[Tensor]:
        """What of the model a pass in training may change by itself: all that a skipped step has to put back."""
        return list(self.model.buffers())

    @staticmethod
    def figures(means: dict[str, Tensor]) -> dict[str, float]:
        """What the log says of the means of what `losses` and `after_backward` gave."""
        return {name: float(mean) for name, mean in means.items()}

    @abstractmethod
    def validate(self, steps: int) -> dict[str, float]:
        """Figures on held-out speech after that many steps of the stage, by name, under autocast; the less their
        "total", the better the model."""

    def ready(self, steps: int) -> bool:
        """Whether the model can be of use after that many steps of the stage, and so be the best of it."""
        return True

    def log_samples(self, log: Log, step: int, steps: int) -> None:  # noqa: B027 # not everything makes a sound
        """Log audio that the model makes, at `step` of the run, `steps` into the stage."""

    @abstractmethod
    def save(self, path: Path, weights: dict[str, Tensor]) -> None:
        """Write the model with the given weights as the file that users load, in place of one that is there."""

    def tensors(self) -> dict[str, Tensor]:
        """What is needed to go on beside the model and its optimisers, by names of its own."""
        return {}

    def restore(self, tensors: dict[str, Tensor]) -> None:  # noqa: B027 # most have nothing to restore
        """Go back to what `tensors` gave, which is among these."""
