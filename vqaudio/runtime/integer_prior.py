"""The integer prior, compiled by numba: codes to frequencies, and with the range coder to bytes and back.

Integers alone, so that every machine comes to the same frequencies in whatever order it adds; what they stand for is
told in `vqaudio.runtime.integers`. While codes are encoded, frames of a block go through a layer together; while they
are decoded, one frame of several blocks. The past of every layer lies in one memory, zero before the first frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from vqaudio.models.config import Alphabet, PriorConfig, check_prior
from vqaudio.runtime import range_coder
from vqaudio.runtime.compilation import announce, entry, inner
from vqaudio.runtime.integers import (
    GATED_BITS,
    LARGEST,
    LOGIT_BITS,
    SCALE_BITS,
    SIGMOID_BITS,
    SIGMOID_RANGE,
    UNIT_BITS,
    own_arrays,
)
from vqaudio.runtime.product import LANES, Integers, Pairs, accumulate
from vqaudio.weights import Arrays

Shorts = NDArray[np.int16]
Blocks = NDArray[np.uint16]  # codes (blocks, frames, quantizers)
Intervals = NDArray[np.int32]  # (frames, quantizers, 2): the frequencies of all smaller codes, and a code's own

ROWS = 64  # frames that go through a layer together
HALF_SCALE = np.int64(1 << (SCALE_BITS - 1))
TABLE_END = SIGMOID_RANGE << UNIT_BITS
ONE = 1 << SIGMOID_BITS
GATED_SHIFT = 2 * SIGMOID_BITS - GATED_BITS
POWERS = (1 << LOGIT_BITS) - 1
INVERSE_BITS = 32  # of the reciprocal of a sum


class Network(NamedTuple):
    """An integer prior, laid out for `accumulate`: L layers, C channels, S skip channels, Q quantisers, K codes.

    Attributes:
        codes: (Q * K + 1, C), the last row before the first frame.
        dilated, dilated_scale: (L, taps * C / 2, 2C) and (L, 2C); the oldest tap first.
        output, output_scale, output_bias: (L, C / 2, C + S) and (L, C + S), the residual's outputs first.
        hidden, hidden_scale, hidden_bias: (Q, S / 2, S) and (Q, S).
        earlier: (rows, S), K rows for each code that a later one of the same frame hears.
        final, final_scale, final_bias: (Q, S / 2, N) and (Q, K), N the multiple of the lanes that K fits in.
        sigmoid, powers: tables.
        dilations: (L,), frames.
        size: K.
    """

    codes: Shorts
    dilated: Pairs
    dilated_scale: Integers
    output: Pairs
    output_scale: Integers
    output_bias: Integers
    hidden: Pairs
    hidden_scale: Integers
    hidden_bias: Integers
    earlier: Shorts
    final: Pairs
    final_scale: Integers
    final_bias: Integers
    sigmoid: Shorts
    powers: Integers
    dilations: NDArray[np.int64]
    size: int


class Room(NamedTuple):
    """What the frames that go through together need: the inputs of all layers (blocks, L, past + ROWS, C), of which the
    first `past` are of frames before, and room for some rows, one for each of the frames."""

    memory: Shorts
    past: int
    taps: Shorts
    gates: Integers
    gated: Shorts
    sums: Integers
    skips: Integers
    context: Shorts
    hidden_sums: Integers
    hidden: Shorts
    logits: Integers


class IntegerPrior:
    """The integer network of a prior, ready to run.

    Args:
        arrays: what `vqaudio.runtime.integers.quantize` gives, others may be among them.

    Raises:
        ModelError: where they do not fit the configuration.
    """

    def __init__(self, config: PriorConfig, alphabet: Alphabet, arrays: Mapping[str, NDArray[Any]]) -> None:
        check_prior(config, alphabet)
        self.alphabet = alphabet
        self._arrays: Arrays = own_arrays(config, alphabet, arrays)
        own = self._arrays
        self.network = Network(
            codes=own["codes"],
            dilated=_pairs(own["dilated"]),
            dilated_scale=own["dilated_scale"],
            output=_pairs(own["output"]),
            output_scale=own["output_scale"],
            output_bias=own["output_bias"],
            hidden=_pairs(own["hidden"]),
            hidden_scale=own["hidden_scale"],
            hidden_bias=own["hidden_bias"],
            earlier=own["earlier"],
            final=_pairs(_widened(own["final"])),
            final_scale=own["final_scale"],
            final_bias=own["final_bias"],
            sigmoid=own["sigmoid"],
            powers=own["powers"],
            dilations=np.array(config.dilations, np.int64),
            size=alphabet.codebook_size,
        )

    def gates(self, speaker: list[int] | None) -> Integers:
        """What biases and a speaker's indices, None for no one, add to the gates (L, 2C)."""
        bias = self._arrays["dilated_bias"]
        if not self.alphabet.speaker:
            return bias
        table = self._arrays["speakers"].astype(np.int64)
        offsets = np.cumsum([0, *self.alphabet.speaker[:-1]])
        rows = table[-1:] if speaker is None else table[offsets + np.array(speaker)]
        vector = np.clip(rows.sum(0), -LARGEST, LARGEST)
        sums = vector @ self._arrays["speaker"].astype(np.int64)
        scaled = (sums * self._arrays["speaker_scale"] + HALF_SCALE) >> SCALE_BITS
        return (bias + scaled.reshape(bias.shape)).astype(np.int32)

    def room(self, blocks: int, rows: int) -> Room:
        """Room for so many blocks, of which `rows` frames in all go through a layer together."""
        network = self.network
        layers, channels, both = len(network.dilations), network.codes.shape[1], network.output.shape[2]
        skips = both - channels
        taps = network.dilated.shape[1] * 2
        past = (taps // channels - 1) * int(network.dilations.max())
        return Room(
            memory=np.zeros((blocks, layers, past + ROWS, channels), np.int16),
            past=past,
            taps=np.zeros((rows, taps), np.int16),
            gates=np.zeros((rows, 2 * channels), np.int32),
            gated=np.zeros((rows, channels), np.int16),
            sums=np.zeros((rows, both), np.int32),
            skips=np.zeros((rows, skips), np.int32),
            context=np.zeros((rows, skips), np.int16),
            hidden_sums=np.zeros((rows, skips), np.int32),
            hidden=np.zeros((rows, skips), np.int16),
            logits=np.zeros((rows, network.final.shape[2]), np.int32),
        )

    def intervals(self, codes: NDArray[np.uint16], speaker: list[int] | None) -> Intervals:
        """Where the codes of a block (frames, quantizers) lie among the frequencies (frames, quantizers, 2)."""
        announce(find_intervals, "what writes under a prior")
        block = np.ascontiguousarray(codes)[None]
        return find_intervals(self.network, self.gates(speaker), block, self.room(1, ROWS))

    def encode(self, codes: NDArray[np.uint16], speaker: list[int] | None) -> bytes:
        """The payload of a block of codes (frames, quantizers)."""
        return write_intervals(self.intervals(codes, speaker).reshape(-1, 2)).tobytes()

    def decode(
        self, payloads: Sequence[bytes], frames: Sequence[int], speaker: list[int] | None
    ) -> list[NDArray[np.uint16] | None]:
        """The codes (frames, quantizers) of some payloads, None for one that `encode` does not give.

        Blocks go through the network together: a weight from the cache serves all of them.
        """
        announce(read_codes, "what reads under a prior")
        codes = np.zeros((len(payloads), max(frames), len(self.network.final)), np.uint16)
        ends = np.cumsum([0, *map(len, payloads)])
        good = read_codes(
            self.network,
            self.gates(speaker),
            np.frombuffer(b"".join(payloads), np.uint8),
            ends,
            np.array(frames, np.int64),
            codes,
            self.room(len(payloads), len(payloads)),
        )
        return [block[:count] if fine else None for block, count, fine in zip(codes, frames, good, strict=True)]


class Stepper:
    """Frequencies one frame after the other, for whoever chooses the codes.

    Args:
        frames: how many there will be.
    """

    def __init__(self, prior: IntegerPrior, speaker: list[int] | None, frames: int) -> None:
        announce(next_frequencies, "what samples a prior")
        self._network, self._gates, self._room = prior.network, prior.gates(speaker), prior.room(1, 1)
        self._codes = np.zeros((1, frames, len(prior.network.final)), np.uint16)
        self._place = 0

    def frequencies(self) -> Integers:
        """Those of the next code (K,), which sum to 2^24."""
        frame, q = divmod(self._place, self._codes.shape[2])
        return next_frequencies(self._network, self._gates, self._codes, frame, q, self._room)

    def push(self, code: int) -> None:
        """Say what the next code is, once its frequencies have been asked for."""
        self._codes.reshape(-1)[self._place] = code
        self._place += 1


@register_jitable
def scaled(total: Any, scale: Any) -> Any:
    """A sum in the units of its result."""
    return (np.int64(total) * np.int64(scale) + HALF_SCALE) >> SCALE_BITS


@register_jitable
def bounded(value: Any) -> Any:
    """A value that an activation may have."""
    return min(max(value, -LARGEST), LARGEST)


@register_jitable
def sigmoid(network: Network, x: Any) -> Any:
    """1 / (1 + exp(-x)) by the table."""
    return np.int64(network.sigmoid[min(max(x, -TABLE_END), TABLE_END - 1) + TABLE_END])


@inner
def hear(network: Network, gates: Integers, codes: Blocks, first: int, count: int, room: Room) -> None:
    """Fill the context of `count` frames from number `first` on, in all blocks; those before have been heard."""
    blocks, channels = len(codes), network.codes.shape[1]
    place = room.past + first % ROWS
    if first > 0 and first % ROWS == 0:
        _slide(room)
    for block in range(blocks):
        for i in range(count):
            target = room.memory[block, 0, place + i]
            if first + i == 0:
                target[:] = network.codes[-1]
                continue
            for c in range(channels):
                total = 0
                for q in range(codes.shape[2]):
                    total += network.codes[q * network.size + codes[block, first + i - 1, q], c]
                target[c] = bounded(total)
    rows = blocks * count
    room.skips[:rows] = 0
    for layer in range(len(network.dilations)):
        _layer(network, gates[layer], layer, place, count, room)
    for row in range(rows):
        for s in range(room.skips.shape[1]):
            x = bounded(room.skips[row, s])
            room.context[row, s] = x * sigmoid(network, x) >> SIGMOID_BITS


@inner
def _slide(room: Room) -> None:
    """Move the last frames of the memory to its start, where they are the past of those that come."""
    for block in range(room.memory.shape[0]):
        for layer in range(room.memory.shape[1]):
            for frame in range(room.past):
                room.memory[block, layer, frame] = room.memory[block, layer, frame + ROWS]


@inner
def _layer(network: Network, gates: Integers, layer: int, place: int, count: int, room: Room) -> None:
    """One gated layer: from its row of the memory to that of the next, and to the skips."""
    channels, last = network.codes.shape[1], layer + 1 == len(network.dilations)
    rows, taps = room.memory.shape[0] * count, room.taps.shape[1] // channels
    for row in range(rows):
        now = place + row % count
        for tap in range(taps):
            before = now - (taps - 1 - tap) * network.dilations[layer]
            room.taps[row, tap * channels : (tap + 1) * channels] = room.memory[row // count, layer, before]
    room.gates[:rows] = 0
    accumulate(room.gates[:rows], network.dilated[layer], room.taps[:rows].view(np.int32))
    for row in range(rows):
        for c in range(channels):
            x = scaled(room.gates[row, c], network.dilated_scale[layer, c]) + gates[c]
            y = scaled(room.gates[row, channels + c], network.dilated_scale[layer, channels + c]) + gates[channels + c]
            hyperbolic = 2 * sigmoid(network, 2 * x) - ONE  # tanh(x)
            room.gated[row, c] = hyperbolic * sigmoid(network, y) >> GATED_SHIFT
    room.sums[:rows] = 0
    accumulate(room.sums[:rows], network.output[layer], room.gated[:rows].view(np.int32))
    for row in range(rows):
        block, now = row // count, place + row % count
        if not last:
            for c in range(channels):
                more = scaled(room.sums[row, c], network.output_scale[layer, c]) + network.output_bias[layer, c]
                room.memory[block, layer + 1, now, c] = bounded(room.memory[block, layer, now, c] + more)
        for s in range(room.skips.shape[1]):
            column = channels + s
            room.skips[row, s] += (
                scaled(room.sums[row, column], network.output_scale[layer, column]) + network.output_bias[layer, column]
            )


@inner
def tell(network: Network, codes: Blocks, first: int, count: int, q: int, room: Room) -> None:
    """Fill the logits of quantiser q for the frames that were heard last, whose earlier codes are known."""
    rows = len(codes) * count
    room.hidden_sums[:rows] = 0
    accumulate(room.hidden_sums[:rows], network.hidden[q], room.context[:rows].view(np.int32))
    heard = q * (q - 1) // 2 * network.size
    for row in range(rows):
        block, frame = row // count, first + row % count
        for s in range(room.hidden.shape[1]):
            x = scaled(room.hidden_sums[row, s], network.hidden_scale[q, s]) + network.hidden_bias[q, s]
            for j in range(q):
                x += network.earlier[heard + j * network.size + codes[block, frame, j], s]
            x = bounded(x)
            room.hidden[row, s] = x * sigmoid(network, x) >> SIGMOID_BITS
    room.logits[:rows] = 0
    accumulate(room.logits[:rows], network.final[q], room.hidden[:rows].view(np.int32))
    for row in range(rows):
        for k in range(network.size):
            room.logits[row, k] = scaled(room.logits[row, k], network.final_scale[q, k]) + network.final_bias[q, k]


@inner
def frequencies(network: Network, logits: Integers) -> None:
    """Turn the logits of K codes into frequencies of at least 1 that sum to 2^24, in place."""
    size = network.size
    likeliest = 0
    for k in range(size):
        if logits[k] > logits[likeliest]:
            likeliest = k
    highest, total = logits[likeliest], np.int64(0)
    for k in range(size):
        below = highest - logits[k]
        logits[k] = network.powers[below & POWERS] >> min(below >> LOGIT_BITS, 31)
        total += logits[k]
    share = (np.int64(range_coder.TOTAL - size) << INVERSE_BITS) // total
    rest = np.int64(range_coder.TOTAL)
    for k in range(size):
        logits[k] = 1 + (np.int64(logits[k]) * share >> INVERSE_BITS)
        rest -= logits[k]
    logits[likeliest] += rest


@entry
def find_intervals(network: Network, gates: Integers, codes: Blocks, room: Room) -> Intervals:
    """Where the codes of one block (1, frames, quantizers) lie among the frequencies (frames, quantizers, 2)."""
    _, frames, quantizers = codes.shape
    found = np.zeros((frames, quantizers, 2), np.int32)
    for first in range(0, frames, ROWS):
        count = min(ROWS, frames - first)
        hear(network, gates, codes, first, count, room)
        for q in range(quantizers):
            tell(network, codes, first, count, q, room)
            for row in range(count):
                frequencies(network, room.logits[row])
                code = codes[0, first + row, q]
                found[first + row, q, 0] = room.logits[row, :code].sum()
                found[first + row, q, 1] = room.logits[row, code]
    return found


@entry
def write_intervals(intervals: Intervals) -> NDArray[np.uint8]:
    """The payload of intervals (codes, 2)."""
    buffer = np.zeros(3 * len(intervals) + 4, np.uint8)
    state = range_coder.encoder()
    for k in range(len(intervals)):
        range_coder.encode(state, buffer, intervals[k, 0], intervals[k, 1])
    return buffer[: range_coder.finish(state, buffer)]


@entry
def read_codes(
    network: Network,
    gates: Integers,
    payloads: NDArray[np.uint8],
    ends: NDArray[np.int64],
    frames: NDArray[np.int64],
    codes: Blocks,
    room: Room,
) -> NDArray[np.bool_]:
    """Fill the codes of some blocks (blocks, frames, quantizers).

    Args:
        payloads: one after the other.
        ends: (blocks + 1,), where each begins and the last one ends.
        frames: (blocks,), of each.

    Returns:
        (blocks,), whether a payload is what an encoder writes for its codes.
    """
    blocks = len(codes)
    states = np.zeros((blocks, range_coder.PLACES), np.uint64)
    for block in range(blocks):
        states[block] = range_coder.decoder(payloads[ends[block] : ends[block + 1]])
    for frame in range(codes.shape[1]):
        hear(network, gates, codes, frame, 1, room)
        for q in range(codes.shape[2]):
            tell(network, codes, frame, 1, q, room)
            for block in range(blocks):
                if frame < frames[block]:
                    payload = payloads[ends[block] : ends[block + 1]]
                    frequencies(network, room.logits[block])
                    codes[block, frame, q] = read_code(states[block], payload, room.logits[block])
    good = np.zeros(blocks, np.bool_)
    for block in range(blocks):
        good[block] = range_coder.ended(states[block], payloads[ends[block] : ends[block + 1]])
    return good


@inner
def read_code(state: range_coder.State, payload: NDArray[np.uint8], frequencies: Integers) -> int:
    """The next code of a payload under these frequencies."""
    target, code, start = range_coder.target(state), 0, 0
    while start + frequencies[code] <= target:
        start += frequencies[code]
        code += 1
    range_coder.advance(state, payload, start, frequencies[code])
    return code


@entry
def next_frequencies(network: Network, gates: Integers, codes: Blocks, frame: int, q: int, room: Room) -> Integers:
    """The frequencies (K,) of code q of a frame of one block (1, frames, quantizers), after all before it."""
    if q == 0:
        hear(network, gates, codes, frame, 1, room)
    tell(network, codes, frame, 1, q, room)
    frequencies(network, room.logits[0])
    return room.logits[0, : network.size].copy()


def _widened(weights: NDArray[np.int8]) -> NDArray[np.int8]:
    """Weights (..., outputs) with outputs of zero up to a multiple of `LANES`."""
    return np.pad(weights, [(0, 0)] * (weights.ndim - 1) + [(0, -weights.shape[-1] % LANES)])


def _pairs(weights: NDArray[np.int8]) -> Pairs:
    """Weights (..., inputs, outputs), an even number of inputs, in pairs of int16 (..., inputs / 2, outputs)."""
    transposed = np.ascontiguousarray(weights.astype(np.int16).swapaxes(-1, -2))
    return np.ascontiguousarray(transposed.view(np.int32).swapaxes(-1, -2))
