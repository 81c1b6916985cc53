"""What comes with vqaudio: models and their priors, by name, and a sample of speech."""

from __future__ import annotations

import functools
import os
from importlib import resources
from pathlib import Path

from vqaudio.errors import ModelError
from vqaudio.weights import fingerprint, load_model

FOLDER = Path(str(resources.files("vqaudio") / "pretrained"))
SAMPLE = FOLDER / "sample.flac"
MODELS = ("speech16k", "speech16k-low")  # the default one first


def model_file(name_or_path: str | os.PathLike[str] | None = None) -> Path:
    """The file of a model: by its name, by default of the default one; or the path itself of any other.

    A name stands for the model, also where there is a file of that name; `./NAME` is the file, and so is a `Path`.

    Raises:
        ModelError: for what looks like a name and is none, or is empty.
    """
    return _file(name_or_path, ".safetensors")


def prior_file(name_or_path: str | os.PathLike[str] | None = None) -> Path:
    """The file of the prior of a model: by the model's name, by default of the default one; or the path itself.

    Raises:
        ModelError: as `model_file`.
    """
    return _file(name_or_path, ".prior.safetensors")


def name_of(model: bytes) -> str | None:
    """The name of the model with this fingerprint, where it comes with vqaudio."""
    return next((name for name in MODELS if _fingerprint(model_file(name)) == model), None)


@functools.cache
def _fingerprint(path: Path) -> bytes | None:
    """Of a model file; None where it cannot be loaded."""
    try:
        model = load_model(path)
    except ModelError:
        return None
    return fingerprint(model.config, model.state)


def _file(name_or_path: str | os.PathLike[str] | None, suffix: str) -> Path:
    name = MODELS[0] if name_or_path is None else os.fspath(name_or_path)
    if name in MODELS and not isinstance(name_or_path, Path):  # which has lost its "./"
        return FOLDER / (name + suffix)
    if not name:
        raise ModelError("A model has a name or a file, and this is empty.")
    path = Path(name)
    if path.name == name and not path.suffix and not os.path.exists(path):
        raise ModelError(
            f"There is no file '{name}', and the models that come with vqaudio are {' and '.join(MODELS)}."
        )
    return path
