"""The one door to torchaudio, which loads only beside the torch that it was built for."""

from __future__ import annotations

from types import ModuleType

from vqaudio.errors import TrainingError


def torchaudio() -> ModuleType:
    """The torchaudio module.

    Raises:
        TrainingError: where it is missing or does not load beside the installed torch.
    """
    try:
        import torchaudio as module
    except (ImportError, OSError, RuntimeError) as error:
        raise TrainingError(
            "Training needs torchaudio beside the torch that it was built for; "
            f"install the tested pair with: pip install 'vqaudio[train]' ({error})."
        ) from error
    return module
