"""Model files, of codecs, of priors and of VAEs: one safetensors file that holds the weights, the configuration as JSON
and the model card. No pickle.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vqaudio.errors import ModelError
from vqaudio.files import reason, replacing
from vqaudio.models.config import Alphabet, CodecConfig, PriorConfig, from_dict
from vqaudio.models.constants import MOVING_AVERAGES

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, NDArray[np.float32]]  # weights by name
Arrays = dict[str, NDArray[Any]]  # weights by name, in floating point or whole numbers

FORMAT = "vqaudio codec 1"
PRIOR_FORMAT = "vqaudio prior 1"
VAE_FORMAT = "vqaudio vae 1"
NAMES = {FORMAT: "codec", PRIOR_FORMAT: "prior", VAE_FORMAT: "continuous VAE"}
LACKS = {VAE_FORMAT: "; it has no codes and cannot encode"}
MEANING = ("encoder", "quantizer", "speaker")  # the parts that give codes their meaning


@dataclass(frozen=True)
class ModelFile:
    """What a model file holds: the architecture, the weights by name, and the card as Markdown."""

    config: CodecConfig
    state: State
    card: str


@dataclass(frozen=True)
class PriorFile:
    """What the file of a prior holds: the architecture, the codes that it is for, the weights by name, and the card."""

    config: PriorConfig
    alphabet: Alphabet
    state: Arrays
    card: str


def save_model(
    path: str | os.PathLike[str],
    config: CodecConfig,
    state: Mapping[str, Tensor | NDArray[np.float32]],
    card: str = "",
    force: bool = False,
    form: str = FORMAT,
) -> None:
    """Write a model file; weights are rounded to half precision, and what only training needs is left out.

    Args:
        form: `FORMAT` for a codec, `VAE_FORMAT` for a continuous VAE.

    Raises:
        UsageError: where the file exists and `force` is not given.
        ModelError: where it cannot be written.
    """
    metadata = {"format": form, "config": json.dumps(dataclasses.asdict(config)), "card": card}
    kept = {name: _half(weights) for name, weights in state.items() if not name.endswith(MOVING_AVERAGES)}
    _write(path, kept, metadata, force)


def load_model(path: str | os.PathLike[str], form: str = FORMAT) -> ModelFile:
    """Read a model file; the weights come back as float32.

    Args:
        form: as in `save_model`.

    Raises:
        ModelError: where it is missing, unreadable, damaged, or not of this form.
    """
    with _opened(path, form) as (metadata, arrays):
        config = from_dict(CodecConfig, json.loads(metadata["config"]))
    return ModelFile(config, {name: _single(array) for name, array in arrays.items()}, metadata.get("card", ""))


def save_prior(
    path: str | os.PathLike[str],
    config: PriorConfig,
    alphabet: Alphabet,
    state: Mapping[str, Tensor | NDArray[Any]],
    card: str = "",
    force: bool = False,
) -> None:
    """Write the file of a prior; weights in floating point are rounded to half precision, whole numbers are kept.

    Raises:
        UsageError: where the file exists and `force` is not given.
        ModelError: where it cannot be written.
    """
    described = {"config": json.dumps(dataclasses.asdict(config)), "alphabet": json.dumps(dataclasses.asdict(alphabet))}
    arrays = {name: _array(weights) for name, weights in state.items()}
    kept = {name: _half(array) if _is_floating(array) else array for name, array in arrays.items()}
    _write(path, kept, {"format": PRIOR_FORMAT, **described, "card": card}, force)


def load_prior_file(path: str | os.PathLike[str]) -> PriorFile:
    """Read the file of a prior; weights in floating point come back as float32, whole numbers as they are.

    Raises:
        ModelError: where it is missing, unreadable, damaged, or not a prior of vqaudio.
    """
    with _opened(path, PRIOR_FORMAT) as (metadata, arrays):
        config = from_dict(PriorConfig, json.loads(metadata["config"]))
        alphabet = from_dict(Alphabet, json.loads(metadata["alphabet"]))
    state = {name: _single(array) if _is_floating(array) else array for name, array in arrays.items()}
    return PriorFile(config, alphabet, state, metadata.get("card", ""))


def is_prior(path: str | os.PathLike[str]) -> bool:
    """Whether a file is that of a prior, for all that its first bytes say; a file that cannot be read is none."""
    if not os.path.isfile(path):  # a named pipe would be waited for, and Ctrl-C with it
        return False
    try:
        with safe_open(path, framework="np") as file:
            return bool((file.metadata() or {}).get("format") == PRIOR_FORMAT)
    except (OSError, SafetensorError):
        return False


def fingerprint(config: CodecConfig, state: Mapping[str, Tensor | NDArray[np.float32]]) -> bytes:
    """Four bytes of the SHA-256 over the parts that give codes their meaning: configuration, and weights in half
    precision.

    Decoders do not count: codes stay decodable when a better decoder has been trained on them. How these parts were
    trained counts as far as their configuration says it (decay, dropout), so that decoders are trained under the same.
    """
    settings = {part: dataclasses.asdict(getattr(config, part)) for part in MEANING}
    del settings["quantizer"]["paths"]  # which codes are chosen, and not what they mean
    for choice in ("predictive", "rate_weight"):
        if not settings["quantizer"][choice]:
            del settings["quantizer"][choice]  # models from before there was a choice keep their fingerprint
    names = [name for name in state if name.split(".")[0] in MEANING]
    return _digest([config.sample_rate, settings], {name: state[name] for name in names})


def whole_fingerprint(config: CodecConfig, state: Mapping[str, Tensor | NDArray[np.float32]]) -> bytes:
    """Four bytes as `fingerprint` gives them, but of everything, decoders too: what a model sounds like."""
    return _digest(dataclasses.asdict(config), state)


def _digest(settings: Any, state: Mapping[str, Tensor | NDArray[np.float32]]) -> bytes:
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name in sorted(name for name in state if not name.endswith(MOVING_AVERAGES)):
        weights = _half(state[name])
        digest.update(name.encode() + str(weights.shape).encode() + weights.tobytes())
    return digest.digest()[:4]


def _write(path: str | os.PathLike[str], arrays: Arrays, metadata: dict[str, str], force: bool) -> None:
    with replacing(path, force, ModelError) as temporary:
        temporary.write_bytes(save(arrays, metadata))


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str], expected: str) -> Iterator[tuple[dict[str, str], Arrays]]:
    """The metadata and the arrays of a file of the expected format.

    Raises:
        ModelError: for what is wrong with the file, also where the body finds it.
    """
    if not os.path.isfile(path):
        raise ModelError(f"The model file '{path}' is not there.")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            found = metadata.get("format")
            if found in NAMES and found != expected:
                raise ModelError(f"'{path}' is a {NAMES[found]}, not a {NAMES[expected]}{LACKS.get(found, '')}.")
            if found != expected:
                raise ModelError(f"'{path}' is not a {NAMES[expected]} of this version of vqaudio.")
            yield metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise ModelError(f"The model file '{path}' cannot be read: {reason(error)}.") from error
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        # numpy has neither bfloat16 nor eight bits of floating point, for example
        raise ModelError(f"The model file '{path}' is damaged or not a model file.") from error


def _array(weights: Tensor | NDArray[Any]) -> NDArray[Any]:
    """Weights, of torch or not, side by side in memory."""
    return np.ascontiguousarray(weights if isinstance(weights, np.ndarray) else weights.detach().cpu().numpy())


def _is_floating(array: NDArray[Any]) -> bool:
    return bool(np.issubdtype(array.dtype, np.floating))


def _half(weights: Tensor | NDArray[np.float32]) -> NDArray[np.float16]:
    """Weights, of torch or not, rounded to half precision."""
    return _array(weights).astype(np.float16)


def _single(array: NDArray[Any]) -> NDArray[np.float32]:
    return array.astype(np.float32)
