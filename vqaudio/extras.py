"""The one door to what only training needs: torchaudio, which loads only beside its own torch, and TensorBoard."""

from __future__ import annotations

import importlib
from types import ModuleType

from vqaudio.errors import TrainingError


def torchaudio() -> ModuleType:
    """The module torchaudio, with its data sets.

    Raises:
        TrainingError: where it is missing or does not load beside the installed torch.
    """
    _training_module("torchaudio.datasets")
    return _training_module("torchaudio")


def tensorboard() -> ModuleType:
    """The module torch.utils.tensorboard.

    Raises:
        TrainingError: where TensorBoard is missing.
    """
    return _training_module("torch.utils.tensorboard")


def _training_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        raise TrainingError(
            f"Training needs {name}, beside the torch that it was built for, and it does not load ({error}); install "
            "the tested set with the extra 'train': pip install 'vqaudio[train]', or '.[train]' in a clone."
        ) from error
