"""The prior in whole numbers, as it drives the range coder: weights of 8 bits, and tables for the functions.

An entropy decoder has to come to the very frequencies that the encoder had. Floating-point networks do not, from one
machine to the next; sums of integers do. So a trained prior is rounded once, when it is saved, and its integers are
what files are coded under. docs/format.md specifies how frequencies come of them.

Activations are int16 in units of 1/256, no further from zero than `LARGEST`; weights are int8, each output with a scale
of its own; sums are int32 and cannot overflow; a sum times its scale, shifted, is in the units of the result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqaudio.errors import ModelError
from vqaudio.models.config import Alphabet, PriorConfig
from vqaudio.weights import Arrays

UNIT_BITS = 8  # activations are in units of 2^-8
LARGEST = (1 << 13) - 1  # the largest activation, about 32
GATED_BITS = 12  # products of a filter and its gate are in units of 2^-12
LOGIT_BITS = 10  # logarithms of frequencies, to the base 2, are in units of 2^-10
SCALE_BITS = 24  # by which the product of a sum and its scale is shifted
WEIGHT = 127  # the largest weight
SIGMOID_BITS, SIGMOID_RANGE = 14, 8  # the table of 1 / (1 + exp(-x)) is in units of 2^-14, for x from -8 to below 8
POWER_BITS = 24  # the table of 2^-x is in units of 2^-24

PREFIX = "integer."


def quantize(config: PriorConfig, alphabet: Alphabet, state: Mapping[str, NDArray[np.float32]]) -> Arrays:
    """The integer network of a trained prior, by name; the names begin with `PREFIX`.

    Args:
        state: the weights of a `vqaudio.models.prior.CodePrior`, in floating point.
    """
    layers, quantizers = len(config.dilations), alphabet.quantizers
    arrays: Arrays = {"codes": _activations(state["codes.weight"])}

    def put(name: str, weights: list[NDArray[np.float32]], biases: list[NDArray[np.int32]], bits: int) -> None:
        """Matrices (outputs, inputs) with biases (outputs,); `bits` tell the unit of the result from the input's."""
        quantized = [_matrix(matrix, bits) for matrix in weights]
        arrays[name] = np.stack([matrix for matrix, _ in quantized])
        arrays[f"{name}_scale"] = np.stack([scale for _, scale in quantized])
        arrays[f"{name}_bias"] = np.stack(biases)

    stack = "stack.layers"
    dilated = [state[f"{stack}.{i}.dilated.weight"] for i in range(layers)]  # (2C, C, taps)
    gates = np.stack([state[f"{stack}.{i}.dilated.bias"] for i in range(layers)])
    if alphabet.speaker:
        gates = gates + state["stack.speaker.bias"].reshape(gates.shape)
        arrays["speakers"] = _activations(state["speakers.weight"])
        arrays["speaker"], arrays["speaker_scale"] = _matrix(state["stack.speaker.weight"], 0)
    put("dilated", [w.transpose(0, 2, 1).reshape(len(w), -1) for w in dilated], list(_fixed(gates, UNIT_BITS)), 0)
    # The skip outputs of all layers are summed and divided by the root of their number.
    share = np.ones(config.channels + config.skip_channels, np.float32)
    share[config.channels :] = layers**-0.5
    outputs = [state[f"{stack}.{i}.output.weight"][:, :, 0] * share[:, None] for i in range(layers)]
    biases = [_fixed(state[f"{stack}.{i}.output.bias"] * share, UNIT_BITS) for i in range(layers)]
    put("output", outputs, biases, UNIT_BITS - GATED_BITS)
    hidden = [state[f"hidden.{q}.weight"][:, :, 0] for q in range(quantizers)]
    put("hidden", hidden, [_fixed(state[f"hidden.{q}.bias"], UNIT_BITS) for q in range(quantizers)], 0)
    earlier = [state[f"earlier.{q}.weight"] for q in range(quantizers - 1)]
    arrays["earlier"] = _activations(np.concatenate([np.zeros((0, config.skip_channels), np.float32), *earlier]))
    binary = np.float32(np.log2(np.e))
    final = [state[f"output.{q}.weight"][:, :, 0] * binary for q in range(quantizers)]
    logits = [_fixed(state[f"output.{q}.bias"] * binary, LOGIT_BITS) for q in range(quantizers)]
    put("final", final, logits, LOGIT_BITS - UNIT_BITS)
    arrays |= tables()
    return {PREFIX + name: array for name, array in arrays.items()}


def tables() -> Arrays:
    """The functions that frequencies are computed with, rounded. They lie in the file, because another machine's
    logarithms may round otherwise."""
    x = np.arange(-SIGMOID_RANGE << UNIT_BITS, SIGMOID_RANGE << UNIT_BITS) / (1 << UNIT_BITS)
    sigmoid = np.rint((1 << SIGMOID_BITS) / (1 + np.exp(-x))).astype(np.int16)
    x = np.arange(1 << LOGIT_BITS) / (1 << LOGIT_BITS)
    return {"sigmoid": sigmoid, "powers": np.rint(np.exp2(POWER_BITS - x)).astype(np.int32)}


def layout(config: PriorConfig, alphabet: Alphabet) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The type and the shape of every array of an integer network, by name without `PREFIX`."""
    channels, skips, quantizers, size = (
        config.channels,
        config.skip_channels,
        alphabet.quantizers,
        alphabet.codebook_size,
    )
    layers, rows = len(config.dilations), quantizers * (quantizers - 1) // 2 * size
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    found |= {"codes": ("int16", (quantizers * size + 1, channels)), "earlier": ("int16", (rows, skips))}
    for name, shape in {
        "dilated": (layers, config.kernel * channels, 2 * channels),
        "output": (layers, channels, channels + skips),
        "hidden": (quantizers, skips, skips),
        "final": (quantizers, skips, size),
    }.items():
        found[name] = ("int8", shape)
        found[f"{name}_scale"] = found[f"{name}_bias"] = ("int32", (shape[0], shape[2]))
    if alphabet.speaker:
        gates = layers * 2 * channels
        found["speakers"] = ("int16", (sum(alphabet.speaker) + 1, config.speaker_channels))
        found["speaker"] = ("int8", (config.speaker_channels, gates))
        found["speaker_scale"] = ("int32", (gates,))
    return found | {name: (array.dtype.name, array.shape) for name, array in tables().items()}


def own_arrays(config: PriorConfig, alphabet: Alphabet, state: Mapping[str, NDArray[Any]]) -> Arrays:
    """The arrays of the integer network among others, by name without `PREFIX`.

    Raises:
        ModelError: where one is missing, has another type or shape, or is a table of something else.
    """
    arrays = {name.removeprefix(PREFIX): array for name, array in state.items() if name.startswith(PREFIX)}
    found = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
    if found != layout(config, alphabet):
        raise ModelError(f"The integer network of this prior for {alphabet.codec} does not fit its configuration.")
    if any(np.abs(arrays[name] - table.astype(np.int64)).max() > 1 for name, table in tables().items()):
        raise ModelError(f"The integer network of this prior for {alphabet.codec} has a wrong table.")
    return arrays


def fingerprint(config: PriorConfig, alphabet: Alphabet, state: Mapping[str, NDArray[Any]]) -> bytes:
    """Four bytes of the SHA-256 over everything that frequencies depend on: not the weights in floating point.

    Raises:
        ModelError: as `own_arrays`.
    """
    digest = hashlib.sha256(repr((config.kernel, config.dilations, alphabet.codebook_size, alphabet.speaker)).encode())
    for name, array in sorted(own_arrays(config, alphabet, state).items()):
        little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))
        digest.update(f"{name} {array.dtype.name} {array.shape}".encode() + little.tobytes())
    return digest.digest()[:4]


def _activations(values: NDArray[np.float32]) -> NDArray[np.int16]:
    return np.clip(_fixed(values, UNIT_BITS), -LARGEST, LARGEST).astype(np.int16)


def _fixed(values: NDArray[np.float32], bits: int) -> NDArray[np.int32]:
    return np.rint(values.astype(np.float64) * (1 << bits)).astype(np.int32)


def _matrix(weights: NDArray[np.float32], bits: int) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
    """A matrix (outputs, inputs) as int8 (inputs, outputs) and the scale of each output (outputs,)."""
    steps = np.abs(weights.astype(np.float64)).max(1) / WEIGHT
    scale = np.rint(steps * 2.0 ** (SCALE_BITS + bits)).astype(np.int32)
    rounded = np.rint(weights / np.where(steps > 0, steps, 1)[:, None]).astype(np.int8)
    return np.ascontiguousarray(rounded.T), scale
