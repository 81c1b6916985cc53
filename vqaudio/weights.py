"""Model files: one safetensors file that holds the weights, the configuration as JSON and the model card. No pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vqaudio.errors import ModelError
from vqaudio.files import reason, replacing
from vqaudio.models.config import CodecConfig, from_dict, to_dict

FORMAT = "vqaudio codec 1"
MEANING = ("encoder", "quantizer", "speaker")  # the parts that give codes their meaning
TRAINING_ONLY = (".counts", ".sums")  # the moving averages of the codebooks


@dataclass(frozen=True)
class ModelFile:
    """What a model file holds: the architecture, the weights by name, and the card as Markdown."""

    config: CodecConfig
    state: dict[str, Tensor]
    card: str


def save_model(
    path: str | os.PathLike[str],
    config: CodecConfig,
    state: Mapping[str, Tensor],
    card: str = "",
    force: bool = False,
) -> None:
    """Write a model file; weights are rounded to half precision, and what only training needs is left out.

    Raises:
        UsageError: where the file exists and `force` is not given.
        ModelError: where it cannot be written.
    """
    metadata = {"format": FORMAT, "config": json.dumps(to_dict(config)), "card": card}
    kept = {name: tensor for name, tensor in state.items() if not name.endswith(TRAINING_ONLY)}
    tensors = {name: tensor.detach().cpu().half().contiguous() for name, tensor in kept.items()}
    with replacing(path, force, ModelError) as temporary:
        temporary.write_bytes(save(tensors, metadata))


def load_model(path: str | os.PathLike[str]) -> ModelFile:
    """Read a model file; the weights come back as float32.

    Raises:
        ModelError: where it is missing, unreadable, damaged, or not a codec of vqaudio.
    """
    if not os.path.isfile(path):
        raise ModelError(f"The model file '{path}' is not there.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ModelError(f"'{path}' is not a codec of this version of vqaudio.")
            config = from_dict(CodecConfig, json.loads(metadata["config"]))
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise ModelError(f"The model file '{path}' cannot be read: {reason(error)}.") from error
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"The model file '{path}' is damaged or not a model file.") from error
    return ModelFile(config, state, metadata.get("card", ""))


def fingerprint(config: CodecConfig, state: Mapping[str, Tensor]) -> bytes:
    """Four bytes of the SHA-256 over what gives codes their meaning: configuration, and weights in half precision.

    Decoders do not count: codes stay decodable when a better decoder has been trained on them.
    """
    settings = {part: to_dict(getattr(config, part)) for part in MEANING}
    digest = hashlib.sha256(json.dumps([config.sample_rate, settings], sort_keys=True).encode())
    for name in sorted(name for name in state if name.split(".")[0] in MEANING and not name.endswith(TRAINING_ONLY)):
        tensor = state[name].detach().cpu().half().contiguous()
        digest.update(name.encode() + str(tuple(tensor.shape)).encode())
        digest.update(tensor.view(torch.uint8).numpy().tobytes())
    return digest.digest()[:4]
