"""The arithmetic of the incremental WaveNet, compiled by numba: streams advance together, step after step.

Every sum is one chain of multiply-adds in the order of its terms, whatever the number of streams, so that a stream's
samples depend neither on its neighbours nor on threads. Arrays are (streams, channels); channel counts are padded to
multiples of `LANES` with zero weights. The layers are those of `vqaudio.models.gated` (van den Oord et al. 2016, arXiv
1609.03499, section 2.4).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vqaudio.models.constants import FLOOR, LAST_BIN, LOG_SCALES
from vqaudio.models.random import KEY_STEPS, MULTIPLIERS, ROUNDS
from vqaudio.runtime.compilation import entry, inner
from vqaudio.runtime.functions import fill, rectify, sigmoid, tanh
from vqaudio.runtime.product import Floats, Pairs, accumulate, aligned, put

LOWEST_SCALE, HIGHEST_SCALE = LOG_SCALES
FIRST_MULTIPLIER, SECOND_MULTIPLIER = (np.uint64(m) for m in MULTIPLIERS)
FIRST_KEY_STEP, SECOND_KEY_STEP = (np.uint64(k) for k in KEY_STEPS)
WORD, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


class Network(NamedTuple):
    """A WaveNet's weights, transposed so that the outputs of one input lie side by side.

    Attributes:
        input, input_bias: (inputs, C) and (C,); they take samples as they are.
        local: conditioning of all layers, (conditioning channels, layers * 2C).
        dilated: (layers, taps * C, 2C), the oldest tap first, the filter's outputs before the gate's; it and `flow` may
            be in pairs.
        flow, flow_bias: (layers, C, C + S) and (layers, C), the residual's outputs before the skip's.
        skip_bias: (S,), the sum over the layers.
        hidden, hidden_bias: (S, S) and (S,).
        output, output_bias: (S, bands * P) and (bands * P,).
        dilations: (layers,), in steps.
        offsets: (layers,), where a layer's past begins in the memory of all.
        levels: (bands,), root mean square of each band.
        parameters: P, numbers that describe one sample.
        mixtures: components of a mixture of logistics; 0 for a softmax over mu-law levels.
    """

    input: Floats
    input_bias: Floats
    local: Floats
    dilated: Floats | Pairs
    flow: Floats | Pairs
    flow_bias: Floats
    skip_bias: Floats
    hidden: Floats
    hidden_bias: Floats
    output: Floats
    output_bias: Floats
    dilations: NDArray[np.int64]
    offsets: NDArray[np.int64]
    levels: Floats
    parameters: int
    mixtures: int


class Scratch(NamedTuple):
    """Room for one step, (streams, ...) each; `flow` holds the residual path and the sum of the skips side by side, and
    `taps` and `factors` what the dilated weights and those of the flow are multiplied with."""

    flow: Floats
    taps: Floats | Pairs
    gates: Floats
    gated: Floats
    factors: Floats | Pairs
    skips: Floats
    hidden: Floats
    numbers: Floats


def scratch(network: Network, streams: int) -> Scratch:
    """Room for one step of so many streams."""
    _, taps, gates = network.dilated.shape
    channels, skips = gates // 2, len(network.skip_bias)
    kind: Any = network.dilated.dtype

    def zeros(width: int, kind: Any = np.float32) -> Any:
        held = aligned((streams, width), kind)
        held[:] = 0
        return held

    return Scratch(
        flow=zeros(channels + skips),
        taps=zeros(taps, kind),
        gates=zeros(gates),
        gated=zeros(channels),
        factors=zeros(network.flow.shape[1], kind),
        skips=zeros(skips),
        hidden=zeros(skips),
        numbers=zeros(len(network.output_bias)),
    )


@inner
def step(network: Network, past: Floats | Pairs, clock: int, heard: Floats, conditions: Floats, room: Scratch) -> None:
    """One step of all streams: the numbers of their distributions, into `room.numbers` (streams, bands * P).

    Args:
        past: the last inputs of every layer (sum of reaches, streams, C), each layer's a ring, in pairs where the
            weights are; moved on by this step.
        clock: number of this step, from which the places in the rings follow.
        heard: the network's inputs (streams, inputs).
        conditions: what all layers add to their gates (streams, layers * 2C).
    """
    streams, channels = room.gated.shape
    layers, width = len(network.dilations), past.shape[2]
    earlier = network.dilated.shape[1] // width - 1
    flow, taps, gates, gated, skips = room.flow, room.taps, room.gates, room.gated, room.skips
    fill(gated, network.input_bias)
    accumulate(gated, network.input, heard)
    for s in range(streams):
        for c in range(channels):
            flow[s, c] = gated[s, c]
        for c in range(len(network.skip_bias)):
            flow[s, channels + c] = network.skip_bias[c]
    for layer in range(layers):
        dilation, offset = network.dilations[layer], network.offsets[layer]
        reach = earlier * dilation
        newest = offset + clock % reach
        for s in range(streams):
            for tap in range(earlier):
                slot = offset + (clock + tap * dilation) % reach
                for c in range(width):
                    taps[s, tap * width + c] = past[slot, s, c]
        put(past[newest], flow)
        for s in range(streams):
            for c in range(width):
                taps[s, earlier * width + c] = past[newest, s, c]
            for c in range(channels):
                flow[s, c] += network.flow_bias[layer, c]
            for c in range(2 * channels):
                gates[s, c] = conditions[s, layer * 2 * channels + c]
        accumulate(gates, network.dilated[layer], taps)
        for s in range(streams):
            for c in range(channels):
                gated[s, c] = tanh(gates[s, c]) * sigmoid(gates[s, channels + c])
        put(room.factors, gated)
        accumulate(flow, network.flow[layer], room.factors)
    scale = np.float32(layers**-0.5)
    for s in range(streams):
        for c in range(skips.shape[1]):
            skips[s, c] = scale * flow[s, channels + c]
    rectify(skips)
    fill(room.hidden, network.hidden_bias)
    accumulate(room.hidden, network.hidden, skips)
    rectify(room.hidden)
    fill(room.numbers, network.output_bias)
    accumulate(room.numbers, network.output, room.hidden)


@inner
def uniform_pair(key: np.uint64, step: np.uint64, band: np.uint64, stream: np.uint64) -> tuple[float, float]:
    """The two numbers in (0, 1) of `vqaudio.models.random.uniforms` for one sample."""
    a, b, c, d = step & WORD, step >> HALF, band, stream
    low, high = key & WORD, key >> HALF
    for _ in range(ROUNDS):
        first, second = a * FIRST_MULTIPLIER, c * SECOND_MULTIPLIER
        a, b, c, d = (second >> HALF) ^ b ^ low, second & WORD, (first >> HALF) ^ d ^ high, first & WORD
        low, high = (low + FIRST_KEY_STEP) & WORD, (high + SECOND_KEY_STEP) & WORD
    return (float(a >> np.uint64(9)) + 0.5) / (1 << 23), (float(b >> np.uint64(9)) + 0.5) / (1 << 23)


@inner
def choose(logits: Floats, uniform: float, temperature: float) -> int:
    """The index at which the cumulative distribution of the tempered logits passes a uniform number; the likeliest one
    at temperature zero."""
    best = 0
    for i in range(1, len(logits)):
        if logits[i] > logits[best]:
            best = i
    if temperature == 0:
        return best
    total = 0.0
    for i in range(len(logits)):
        total += math.exp((logits[i] - logits[best]) / temperature)
    cumulative = 0.0
    for i in range(len(logits)):
        cumulative += math.exp((logits[i] - logits[best]) / temperature)
        if uniform * total < cumulative:
            return i
    return len(logits) - 1


@inner
def draw_logistic(numbers: Floats, mixtures: int, level: float, pair: tuple[float, float], temperature: float) -> float:
    """A sample of `LogisticMixture` at the level of its band."""
    chosen = choose(numbers[:mixtures], pair[0], temperature)
    log_scale = max(float(numbers[2 * mixtures + chosen]), FLOOR) + math.log(level)
    log_scale = min(max(log_scale, LOWEST_SCALE), HIGHEST_SCALE)
    noise = temperature * math.exp(log_scale) * math.log(pair[1] / (1 - pair[1]))
    return min(max(level * numbers[mixtures + chosen] + noise, -1.0), LAST_BIN)


@inner
def expand(scalar: float, mu: int) -> float:
    """The sample of a companded value, by mu-law."""
    return math.copysign(math.expm1(abs(scalar) * math.log1p(mu)) / mu, scalar)


@entry
def advance(
    network: Network,
    past: Floats | Pairs,
    clock: int,
    heard: Floats,
    conditioning: Floats,
    bias: Floats,
    counters: NDArray[np.uint64],
    seed: np.uint64,
    temperature: float,
    signal: Floats,
    room: Scratch,
) -> None:
    """Draw the samples of some frames of all streams, step after step.

    Args:
        past, clock: as for `step`, `clock` being that of the first step.
        heard: the inputs of the first step (streams, inputs); those of the next one when done.
        conditioning: (streams, frames, conditioning channels).
        bias: what speaker and biases add to the gates (streams, layers * 2C).
        counters: the number of the first step and of the stream, for the random numbers (streams, 2).
        seed, temperature: of the samples.
        signal: the samples, to be filled in (streams, bands, steps).
    """
    streams, bands, steps = signal.shape
    frames = conditioning.shape[1]
    parameters = network.parameters
    conditions = np.empty_like(bias)
    for frame in range(frames):
        conditions[:] = bias
        accumulate(conditions, network.local, conditioning[:, frame])
        for k in range(frame * (steps // frames), (frame + 1) * (steps // frames)):
            step(network, past, clock + k, heard, conditions, room)
            for s in range(streams):
                for band in range(bands):
                    numbers = room.numbers[s, band * parameters : (band + 1) * parameters]
                    pair = uniform_pair(seed, counters[s, 0] + np.uint64(k), np.uint64(band), counters[s, 1])
                    if network.mixtures > 0:
                        level = float(network.levels[band])
                        value = draw_logistic(numbers, network.mixtures, level, pair, temperature)
                        heard[s, band] = value
                        signal[s, band, k] = value
                    else:
                        scalar = choose(numbers, pair[0], temperature) * (2 / (parameters - 1)) - 1
                        heard[s, band] = scalar
                        signal[s, band, k] = expand(scalar, parameters - 1)
