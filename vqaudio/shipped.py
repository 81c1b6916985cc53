"""The models that come with vqaudio, and their priors, by name."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from vqaudio.errors import ModelError

FOLDER = Path(str(resources.files("vqaudio") / "pretrained"))
MODELS = ("speech16k", "speech16k-low")  # the default one first


def model_file(name_or_path: str | os.PathLike[str] | None = None) -> Path:
    """The file of a model: by its name, by default of the default one; or the path itself of any other.

    A name stands for the model, also where there is a file of that name; `./NAME` is the file.

    Raises:
        ModelError: for what looks like a name and is none.
    """
    return _file(name_or_path, ".safetensors")


def prior_file(name_or_path: str | os.PathLike[str] | None = None) -> Path:
    """The file of the prior of a model: by the model's name, by default of the default one; or the path itself.

    Raises:
        ModelError: as `model_file`.
    """
    return _file(name_or_path, ".prior.safetensors")


def _file(name_or_path: str | os.PathLike[str] | None, suffix: str) -> Path:
    name = os.fspath(name_or_path or MODELS[0])
    if name in MODELS:
        return FOLDER / (name + suffix)
    path = Path(name)
    if path.name == name and not path.suffix and not path.exists():
        raise ModelError(
            f"There is no file '{name}', and the models that come with vqaudio are {' and '.join(MODELS)}."
        )
    return path
