"""The layers at code rate on the CPU: convolutions that take frames in chunks of any size and remember their past.

Frames are rows, (frames, channels), their channels padded to multiples of `LANES` with zeros. Sums are chains in a
fixed order (`vqaudio.runtime.product`), so that results are the same, bit for bit, however the frames arrive. Layers
hold weights and may serve many streams; what a stream remembers is in the `Past` of each of its layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vqaudio.errors import ModelError
from vqaudio.runtime.compilation import entry
from vqaudio.runtime.functions import fill, rectify, sigmoid, tanh
from vqaudio.runtime.processor import FASTER_PAIRED
from vqaudio.runtime.product import LANES, Floats, Pairs, accumulate, aligned, fitting, paired_weights

TOGETHER = 64  # frames whose gates fit in the cache


class Weights:
    """The weights of a codec by name, each given out only in the shape that the configuration asks for.

    Args:
        paired: whether those that most of the time is spent on become pairs of bfloat16.
    """

    def __init__(self, state: Mapping[str, Floats], paired: bool = FASTER_PAIRED) -> None:
        self.state, self.paired = state, paired

    def take(self, name: str, *shape: int) -> Floats:
        """One of the weights.

        Raises:
            ModelError: where it is missing or of another shape.
        """
        if name not in self.state or self.state[name].shape != shape:
            raise ModelError(
                f"The weights do not fit the configuration beside them, or this version of vqaudio: see '{name}'."
            )
        return self.state[name]

    def shortened(self, weights: Floats) -> Floats | Pairs:
        """Weights (..., K, N), K even, in pairs where these are wanted, which is nearly twice as fast."""
        return paired_weights(weights) if self.paired else weights


def pad(array: Floats, *axes: int) -> Floats:
    """Zeros after the end of some axes, up to a multiple of `LANES`."""
    widths = [(0, -size % LANES if axis in axes else 0) for axis, size in enumerate(array.shape)]
    return np.ascontiguousarray(np.pad(array, widths), dtype=np.float32)


class Past:
    """The last inputs of a layer that looks `back` rows behind and `ahead` rows before each of its own.

    Before the first row, and after the last, there are zeros.
    """

    def __init__(self, back: int, ahead: int, channels: int) -> None:
        self.back, self.ahead = back, ahead
        self.rows = np.zeros((back, channels), np.float32)

    def push(self, rows: Floats, last: bool) -> Floats:
        """Take in rows (n, C). Returns all that m rows of output need, (m + back + ahead, C), or too few for one."""
        held = np.concatenate([self.rows, rows, np.zeros((self.ahead if last else 0, rows.shape[1]), np.float32)])
        self.rows = held[max(0, len(held) - self.back - self.ahead) :]
        return held


def centred(reach: int, channels: int) -> Past:
    """The past of a layer that sees `reach` rows besides its own, as many ahead as behind."""
    return Past(reach - reach // 2, reach // 2, channels)


class Convolution:
    """A convolution of frames that sees as far ahead as back.

    Args:
        inputs, outputs: channels.
        kernel: taps.
        dilation: frames between two taps.
        exact: whether weights and inputs stay float32 in any case, where that costs little.
    """

    def __init__(
        self,
        weights: Weights,
        name: str,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        dilation: int = 1,
        exact: bool = True,
    ) -> None:
        taps = pad(weights.take(f"{name}.weight", outputs, inputs, kernel).transpose(2, 1, 0), 1, 2)
        self.channels = taps.shape[1]
        self.weights = taps if exact else weights.shortened(taps)
        self.bias = pad(weights.take(f"{name}.bias", outputs), 0)
        self.dilation = dilation
        self.reach = (kernel - 1) * dilation

    def start(self) -> Past:
        """The past of a new stream."""
        return centred(self.reach, self.channels)

    def __call__(self, held: Floats) -> Floats:
        """What `Past.push` gives (m + reach, C) to the outputs (m, N)."""
        totals = np.empty((max(0, len(held) - self.reach), len(self.bias)), np.float32)
        totals[:] = self.bias
        add_convolution(totals, self.weights, held, self.dilation)
        return totals


class Strided:
    """A convolution from rows to fewer rows, with windows of two strides that begin half a stride early."""

    def __init__(self, weights: Weights, name: str, inputs: int, outputs: int, stride: int) -> None:
        taps = weights.take(f"{name}.weight", outputs, inputs, 2 * stride).transpose(2, 1, 0)
        taps = pad(taps, 2) if inputs == 1 else pad(taps, 1, 2)
        self.stride, self.channels = stride, taps.shape[1]
        spans = taps.reshape(2, -1, taps.shape[2])  # of the two strides that a window spans
        self.weights = spans if inputs == 1 else weights.shortened(spans)
        self.bias = pad(weights.take(f"{name}.bias", outputs), 0)

    def start(self) -> Past:
        """The past of a new stream."""
        return Past(self.stride // 2, self.stride - self.stride // 2, self.channels)

    def push(self, past: Past, rows: Floats, last: bool) -> Floats:
        """The next rows (n, C) to the outputs that they complete (m, N)."""
        after = np.zeros((past.ahead if last else 0, self.channels), np.float32)
        held = np.concatenate([past.rows, rows, after])
        totals = np.empty((max(0, len(held) // self.stride - 1), len(self.bias)), np.float32)
        totals[:] = self.bias
        if len(totals):
            strides = held[: (len(totals) + 1) * self.stride].reshape(len(totals) + 1, -1)
            add_convolution(totals, self.weights, strides, 1)
        past.rows = held[len(totals) * self.stride :]
        return totals


class GatedStack:
    """The gated layers of `vqaudio.models.gated`, where they are not causal, in pairs where these are wanted.

    Args:
        channels, skip_channels: of the residual path and of the output.
        kernel: taps.
        dilations: one per layer, in frames.
        speaker_channels: S of the speaker vector, 0 for none.
    """

    def __init__(
        self,
        weights: Weights,
        name: str,
        channels: int,
        skip_channels: int,
        kernel: int,
        dilations: Sequence[int],
        speaker_channels: int,
    ) -> None:
        self.layers = [
            _GatedLayer(weights, f"{name}.layers.{i}", channels, skip_channels, kernel, dilation)
            for i, dilation in enumerate(dilations)
        ]
        gates = 2 * channels * len(dilations)
        self.speaker = np.zeros((gates, speaker_channels), np.float32)
        self.speaker_bias = np.zeros(gates, np.float32)
        if speaker_channels:
            self.speaker = weights.take(f"{name}.speaker.weight", gates, speaker_channels)
            self.speaker_bias = weights.take(f"{name}.speaker.bias", gates)

    def start(self, speaker: Floats | None) -> GatedState:
        """The state of a new stream of a speaker (S,); None where the stack has none."""
        spoken = self.speaker_bias if speaker is None else self.speaker @ speaker + self.speaker_bias
        parts = np.split(spoken, len(self.layers))
        biases = [layer.bias + pad_gates(part) for layer, part in zip(self.layers, parts, strict=True)]
        return GatedState(biases, [layer.start() for layer in self.layers], self.layers[0].skip_channels)

    def push(self, state: GatedState, rows: Floats, last: bool) -> Floats:
        """The next frames (n, C) to the rectified sums of the skips that they complete (m, S)."""
        state.skips = np.concatenate([state.skips, np.zeros((len(rows), state.skips.shape[1]), np.float32)])
        for i, layer in enumerate(self.layers):
            held = state.pasts[i].push(rows, last)
            rows = layer(held, state.biases[i], state.skips[state.positions[i] :])
            state.positions[i] += len(rows)
        complete = state.skips[: len(rows)] * np.float32(len(self.layers) ** -0.5)
        state.skips = state.skips[len(rows) :]
        state.positions = [position - len(rows) for position in state.positions]
        return rectified(complete)


class GatedState:
    """What a stream remembers of a stack: each layer's past, and the sums of skips that wait for the later layers."""

    def __init__(self, biases: list[Floats], pasts: list[Past], skip_channels: int) -> None:
        self.biases, self.pasts = biases, pasts
        self.skips = np.zeros((0, skip_channels), np.float32)
        self.positions = [0] * len(pasts)  # the first of the waiting sums that each layer has not added to


class _GatedLayer:
    def __init__(
        self, weights: Weights, name: str, channels: int, skip_channels: int, kernel: int, dilation: int
    ) -> None:
        taps = weights.take(f"{name}.dilated.weight", 2 * channels, channels, kernel)
        self.weights = weights.shortened(pad(pad_gates(taps.transpose(2, 1, 0)), 1))
        self.bias = pad_gates(weights.take(f"{name}.dilated.bias", 2 * channels))
        output = weights.take(f"{name}.output.weight", channels + skip_channels, channels, 1)[:, :, 0].T
        bias = weights.take(f"{name}.output.bias", channels + skip_channels)
        parts = [pad(output[:, :channels], 0, 1), pad(output[:, channels:], 0, 1)]
        self.output = weights.shortened(np.concatenate(parts, axis=1))
        self.output_bias = np.concatenate([pad(bias[:channels], 0), pad(bias[channels:], 0)])
        self.dilation, self.reach = dilation, (kernel - 1) * dilation
        self.channels = len(self.bias) // 2
        self.skip_channels = len(self.output_bias) - self.channels

    def start(self) -> Past:
        return centred(self.reach, self.channels)

    def __call__(self, held: Floats, bias: Floats, skips: Floats) -> Floats:
        frames = max(0, len(held) - self.reach)
        back = self.reach - self.reach // 2
        residual = held[back : back + frames].copy()
        gated_layer(held, self.weights, bias, self.output, self.output_bias, self.dilation, residual, skips[:frames])
        return residual


def pad_gates(array: Floats) -> Floats:
    """Pad filters and gates, which lie side by side in the last axis (..., 2C), each by itself."""
    halves = array.reshape(*array.shape[:-1], 2, -1)
    return pad(halves, halves.ndim - 1).reshape(*array.shape[:-1], -1)


@entry
def add_convolution(totals: Floats, weights: Floats | Pairs, inputs: Floats, dilation: int) -> None:
    """totals (m, N) += the convolution of inputs (m + reach, C) with weights (taps, C, N), perhaps in pairs, tap after
    tap."""
    factors = fitting(inputs, weights)
    for tap in range(len(weights)):
        accumulate(totals, weights[tap], factors[tap * dilation : tap * dilation + len(totals)])


@entry
def rectified(rows: Floats) -> Floats:
    """silu of (m, C), as a new array."""
    result = rows.copy()
    rectify(result)
    return result


@entry
def gated_layer(
    inputs: Floats,
    weights: Floats | Pairs,
    bias: Floats,
    output: Floats | Pairs,
    output_bias: Floats,
    dilation: int,
    residual: Floats,
    skips: Floats,
) -> None:
    """One layer of the stack.

    Args:
        inputs: (m + reach, C).
        weights, bias: of the dilated convolution, (taps, C, 2C) and, the speaker's part included, (2C,).
        output, output_bias: of the residual and skip outputs, (C, C + S) and (C + S,); these weights and those of the
            convolution may be in pairs.
        residual: (m, C), the layer's own inputs, to which the residual outputs are added.
        skips: (m, S), to which the skip outputs are added.
    """
    frames, channels = residual.shape
    factors = fitting(inputs, weights)
    gates = aligned((TOGETHER, 2 * channels), np.float32)
    gated = aligned((TOGETHER, channels), np.float32)
    flow = aligned((TOGETHER, output.shape[1]), np.float32)
    for first in range(0, frames, TOGETHER):
        rows = min(TOGETHER, frames - first)
        fill(gates[:rows], bias)
        for tap in range(len(weights)):
            start = first + tap * dilation
            accumulate(gates[:rows], weights[tap], factors[start : start + rows])
        for row in range(rows):
            for c in range(channels):
                gated[row, c] = tanh(gates[row, c]) * sigmoid(gates[row, channels + c])
        fill(flow[:rows], output_bias)
        accumulate(flow[:rows], output, fitting(gated[:rows], output))
        for row in range(rows):
            for c in range(channels):
                residual[first + row, c] += flow[row, c]
            for c in range(skips.shape[1]):
                skips[first + row, c] += flow[row, channels + c]
