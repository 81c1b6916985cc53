"""Model files: one safetensors file that holds the weights, the configuration as JSON and the model card. No pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vqaudio.errors import ModelError
from vqaudio.files import reason, replacing
from vqaudio.models.config import CodecConfig, from_dict, to_dict

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, NDArray[np.float32]]  # weights by name

FORMAT = "vqaudio codec 1"
MEANING = ("encoder", "quantizer", "speaker")  # the parts that give codes their meaning
TRAINING_ONLY = (".counts", ".sums")  # the moving averages of the codebooks


@dataclass(frozen=True)
class ModelFile:
    """What a model file holds: the architecture, the weights by name, and the card as Markdown."""

    config: CodecConfig
    state: State
    card: str


def save_model(
    path: str | os.PathLike[str],
    config: CodecConfig,
    state: Mapping[str, Tensor | NDArray[np.float32]],
    card: str = "",
    force: bool = False,
) -> None:
    """Write a model file; weights are rounded to half precision, and what only training needs is left out.

    Raises:
        UsageError: where the file exists and `force` is not given.
        ModelError: where it cannot be written.
    """
    metadata = {"format": FORMAT, "config": json.dumps(to_dict(config)), "card": card}
    kept = {name: weights for name, weights in state.items() if not name.endswith(TRAINING_ONLY)}
    with replacing(path, force, ModelError) as temporary:
        temporary.write_bytes(save({name: _half(weights) for name, weights in kept.items()}, metadata))


def load_model(path: str | os.PathLike[str]) -> ModelFile:
    """Read a model file; the weights come back as float32.

    Raises:
        ModelError: where it is missing, unreadable, damaged, or not a codec of vqaudio.
    """
    if not os.path.isfile(path):
        raise ModelError(f"The model file '{path}' is not there.")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ModelError(f"'{path}' is not a codec of this version of vqaudio.")
            config = from_dict(CodecConfig, json.loads(metadata["config"]))
            state = {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise ModelError(f"The model file '{path}' cannot be read: {reason(error)}.") from error
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"The model file '{path}' is damaged or not a model file.") from error
    return ModelFile(config, state, metadata.get("card", ""))


def fingerprint(config: CodecConfig, state: Mapping[str, Tensor | NDArray[np.float32]]) -> bytes:
    """Four bytes of the SHA-256 over what gives codes their meaning: configuration, and weights in half precision.

    Decoders do not count: codes stay decodable when a better decoder has been trained on them.
    """
    settings = {part: to_dict(getattr(config, part)) for part in MEANING}
    digest = hashlib.sha256(json.dumps([config.sample_rate, settings], sort_keys=True).encode())
    for name in sorted(name for name in state if name.split(".")[0] in MEANING and not name.endswith(TRAINING_ONLY)):
        weights = _half(state[name])
        digest.update(name.encode() + str(weights.shape).encode() + weights.tobytes())
    return digest.digest()[:4]


def _half(weights: Tensor | NDArray[np.float32]) -> NDArray[np.float16]:
    """Weights, of torch or not, rounded to half precision."""
    array = weights if isinstance(weights, np.ndarray) else weights.detach().cpu().numpy()
    return np.ascontiguousarray(array.astype(np.float16))
