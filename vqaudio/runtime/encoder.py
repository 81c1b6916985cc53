"""From samples to codes on the CPU, as `vqaudio.models.encoder`, `quantizer` and `speaker`, in chunks of any size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vqaudio.models.config import CodecConfig
from vqaudio.models.constants import COMPRESSED_GAIN
from vqaudio.runtime.layers import Convolution, Past, Strided, Weights, pad, rectified
from vqaudio.runtime.product import Floats, accumulate, entry, inner


class Encoder:
    """Samples to latents."""

    def __init__(self, config: CodecConfig, weights: Weights) -> None:
        self.config, self.hop = config.encoder, config.hop
        widths = (1, *config.encoder.channels)
        self.strided = [
            Strided(weights, f"encoder.strided.{i}", widths[i], widths[i + 1], stride)
            for i, stride in enumerate(config.encoder.strides)
        ]
        width, kernel = widths[-1], config.encoder.kernel
        self.residual = [
            (
                Convolution(weights, f"encoder.residual.{i}.dilated", width, width, kernel, dilation, exact=False),
                Convolution(weights, f"encoder.residual.{i}.output", width, width, exact=False),
            )
            for i, dilation in enumerate(config.encoder.dilations)
        ]
        self.output = Convolution(weights, "encoder.output", width, config.encoder.latent_channels)

    def start(self) -> EncoderState:
        """The state of a new stream."""
        return EncoderState([layer.start() for layer in self.strided], [layer.start() for layer, _ in self.residual])

    def push(self, state: EncoderState, samples: Floats, last: bool) -> Floats:
        """The next samples (n,) to the latents that they complete (m, D); the last frame is filled with silence."""
        state.samples += len(samples)
        if last:
            samples = np.concatenate([samples, np.zeros(-state.samples % self.hop, np.float32)])
        before = np.concatenate([[state.previous], samples])
        state.previous = before[-1]
        emphasised = samples - np.float32(self.config.pre_emphasis) * before[:-1]
        rows: Floats = (np.float32(self.config.gain) * emphasised).astype(np.float32)[:, None]
        for strided, past in zip(self.strided, state.strided, strict=True):
            rows = rectified(strided.push(past, rows, last))
        rows = COMPRESSED_GAIN * np.arcsinh(self.config.compression * rows)
        for (dilated, output), past in zip(self.residual, state.residual, strict=True):
            held = past.push(rows, last)
            change = output(rectified(dilated(rectified(held))))
            rows = held[past.back : past.back + len(change)] + change
        return self.output(rectified(rows))


class EncoderState:
    """What a stream remembers: the past of every layer, and the last sample."""

    def __init__(self, strided: list[Past], residual: list[Past]) -> None:
        self.strided, self.residual = strided, residual
        self.samples, self.previous = 0, np.float32(0)


@dataclass(frozen=True)
class Stage:
    """One of a quantiser's codebooks (K, d), with what the choice of each code costs, and the matrix that predicts,
    transposed (d, d padded): both zero where codes are not predictive."""

    project_in: Convolution
    codebook: Floats
    columns: Floats  # the codebook (d, K padded)
    costs: Floats
    prediction: Floats
    project_out: Convolution


class Quantizer:
    """Latents to codes and back, all stages or the first ones. What a stream remembers of the frames so far is the last
    quantised point of every stage (stages, d), from which predictive codes go on."""

    def __init__(self, config: CodecConfig, weights: Weights) -> None:
        self.config, channels = config.quantizer, config.encoder.latent_channels
        size, dim = config.quantizer.codebook_size, config.quantizer.code_dim
        self.stages = []
        for i in range(config.quantizer.quantizers):
            name = f"quantizer.stages.{i}"
            codebook = weights.take(f"{name}.codebook", size, dim)
            prediction, costs = np.zeros((dim, dim), np.float32), np.zeros(size, np.float32)
            if self.config.predictive:
                prediction = weights.take(f"{name}.prediction", dim, dim)
            elif self.config.normalize:
                codebook = codebook / np.maximum(np.sqrt((codebook * codebook).sum(1, keepdims=True)), 1e-12)
            if self.config.rate_weight > 0:
                costs = np.float32(self.config.rate_weight) * weights.take(f"{name}.bits", size)
            project_in = Convolution(weights, f"{name}.project_in", channels, dim)
            project_out = Convolution(weights, f"{name}.project_out", dim, channels)
            columns, ahead = pad(codebook.T, 1), pad(prediction.T, 1)
            self.stages.append(Stage(project_in, codebook, columns, costs, ahead, project_out))

    def start(self) -> Floats:
        """The state of a new stream."""
        return np.zeros((len(self.stages), self.config.code_dim), np.float32)

    def codes(self, state: Floats, latents: Floats, quantizers: int) -> np.ndarray:
        """The next latents (frames, D) to codes (quantizers, frames), uint16."""
        codes = np.empty((quantizers, len(latents)), np.uint16)
        config, residual = self.config, latents
        for i, stage in enumerate(self.stages[:quantizers]):
            points = np.ascontiguousarray(stage.project_in(residual)[:, : config.code_dim])
            vectors, form = (stage.columns, stage.codebook, stage.costs), (config.normalize, config.predictive)
            quantize(points, *vectors, stage.prediction, *form, state[i : i + 1], codes[i])
            if i + 1 < quantizers:
                residual = residual - stage.project_out(pad(points, 1))
        return codes

    def latents(self, state: Floats, codes: np.ndarray) -> Floats:
        """The next codes (quantizers, frames), of all stages or the first ones, to quantised latents (frames, D)."""
        total = None
        for stage, points in zip(self.stages, self.points(state, codes), strict=False):
            part = stage.project_out(pad(points, 1))
            total = part if total is None else total + part
        assert total is not None
        return total

    def points(self, state: Floats, codes: np.ndarray) -> list[Floats]:
        """The next codes (quantizers, frames) to the quantised points (frames, d) of every stage."""
        found = []
        for i, indices in enumerate(np.ascontiguousarray(codes)):
            stage, points = self.stages[i], np.empty((len(indices), self.config.code_dim), np.float32)
            follow(indices, stage.codebook, stage.prediction, self.config.predictive, state[i : i + 1], points)
            found.append(points)
        return found


class Reference:
    """Latents to the numbers of a reference speaker, from sums over all frames of a stream."""

    def __init__(self, config: CodecConfig, weights: Weights) -> None:
        speaker = config.speaker
        self.levels, self.channels = speaker.levels, speaker.channels
        self.first = Convolution(weights, "speaker.frames.0", config.encoder.latent_channels, speaker.channels)
        self.second = Convolution(weights, "speaker.frames.2", speaker.channels, speaker.channels, 3)
        self.pooled = weights.take("speaker.pooled.weight", speaker.dims, 2 * speaker.channels)
        self.pooled_bias = weights.take("speaker.pooled.bias", speaker.dims)

    def start(self) -> ReferenceState:
        """The state of a new stream."""
        return ReferenceState(self.second.start(), np.zeros((2, self.channels)))

    def push(self, state: ReferenceState, latents: Floats, last: bool) -> None:
        """Listen to the next latents (n, D)."""
        frames = rectified(self.second(state.past.push(rectified(self.first(latents)), last)))
        add_statistics(frames, state.sums)
        state.count += len(frames)

    def indices(self, state: ReferenceState) -> list[int]:
        """What is sent of the speaker, when the stream has ended."""
        mean, square = state.sums / max(1, state.count)
        deviation = np.sqrt(np.maximum(square - mean * mean, 0) + 1e-5)
        coordinates = np.tanh(self.pooled @ np.concatenate([mean, deviation]) + self.pooled_bias)
        return [round(level) for level in (coordinates + 1) / 2 * (self.levels - 1)]


class ReferenceState:
    """What a stream remembers: the past of the convolution, and sums of the frames and of their squares so far."""

    def __init__(self, past: Past, sums: np.ndarray) -> None:
        self.past, self.sums, self.count = past, sums, 0


class SpeakerVectors:
    """The speaker vector of what was sent, as `vqaudio.models.speaker`."""

    def __init__(self, config: CodecConfig, weights: Weights) -> None:
        self.config = config.speaker
        speaker = config.speaker
        if speaker.kind != "none":
            self.null = weights.take("speaker.null", speaker.channels)
        if speaker.kind == "lookup":
            self.table = weights.take("speaker.table.weight", speaker.speakers, speaker.channels)
        if speaker.kind == "reference":
            self.layers = [
                (
                    weights.take(f"speaker.vector.{i}.weight", speaker.channels, inputs),
                    weights.take(f"speaker.vector.{i}.bias", speaker.channels),
                )
                for i, inputs in ((0, speaker.dims), (2, speaker.channels))
            ]

    def vector(self, indices: list[int] | None) -> Floats | None:
        """(S,), the null speaker for None; None for a model without speakers."""
        if self.config.kind == "none":
            return None
        if indices is None:
            return self.null
        if self.config.kind == "lookup":
            return self.table[indices[0]]
        (first, first_bias), (second, second_bias) = self.layers
        numbers = np.array(indices, np.float32) / np.float32(self.config.levels - 1) * np.float32(2) - np.float32(1)
        hidden = first @ numbers + first_bias
        hidden = hidden / (1 + np.exp(-hidden))
        return (second @ hidden + second_bias).astype(np.float32)


@inner
def predict(prediction: Floats, past: Floats, ahead: Floats) -> None:
    """What the point before (1, d) tells of this one, into ahead (1, d padded)."""
    ahead[:] = np.float32(0)
    accumulate(ahead, prediction, past)


@inner
def add(ahead: Floats, vector: Floats, predictive: bool, past: Floats) -> None:
    """What was predicted and the code vector, together on the sphere, into past (1, d); only the code vector where
    codes are not predictive."""
    if not predictive:
        past[0] = vector
        return
    total = np.float32(0)
    for d in range(len(vector)):
        past[0, d] = ahead[0, d] + vector[d]
        total += past[0, d] * past[0, d]
    norm = max(np.sqrt(total), np.float32(1e-12))
    for d in range(len(vector)):
        past[0, d] /= norm


@entry
def quantize(
    points: Floats,
    columns: Floats,
    codebook: Floats,
    costs: Floats,
    prediction: Floats,
    normalize: bool,
    predictive: bool,
    past: Floats,
    codes: np.ndarray,
) -> None:
    """Points (frames, d) to the nearest codes (frames,), the first of equals, and in place to the quantised points.

    Predictive codes are those that are nearest on the sphere, together with what was predicted, costs considered.

    Args:
        columns, codebook: the code vectors (d, K padded) and (K, d).
        costs: what each of them must be nearer by (K,), as half the squared distance.
        past: the quantised point before the first one (1, d), at the end the last one.
    """
    (size, dim), width = codebook.shape, columns.shape[1]
    squares = np.zeros(size, np.float32)
    for d in range(dim):
        for code in range(size):
            squares[code] += columns[d, code] * columns[d, code]
    rows = np.empty((2 if predictive else 1, dim), np.float32)  # the point, and what was predicted of it
    products = np.empty((len(rows), width), np.float32)
    distances = np.empty(size, np.float32)
    two, least = np.float32(2), np.float32(1e-12)
    ahead = np.zeros((1, prediction.shape[1]), np.float32)
    for frame in range(len(points)):
        norm = np.float32(1)
        if normalize:
            total = np.float32(0)
            for d in range(dim):
                total += points[frame, d] * points[frame, d]
            norm = max(np.sqrt(total), least)
        rows[0] = points[frame] / norm
        if predictive:
            predict(prediction, past, ahead)
            rows[1] = ahead[0, :dim]
        products[:] = np.float32(0)
        accumulate(products, columns, rows)
        if predictive:
            along = length = np.float32(0)
            for d in range(dim):
                along += rows[0, d] * rows[1, d]
                length += rows[1, d] * rows[1, d]
            for code in range(size):
                square = max(squares[code] + two * products[1, code] + length, least)
                distances[code] = costs[code] - (along + products[0, code]) / np.sqrt(square)
        else:
            for code in range(size):
                distances[code] = squares[code] - two * products[0, code]
        best = 0
        for code in range(1, size):
            if distances[code] < distances[best]:
                best = code
        codes[frame] = best
        add(ahead, codebook[best], predictive, past)
        points[frame] = past[0]


@entry
def follow(
    codes: np.ndarray, codebook: Floats, prediction: Floats, predictive: bool, past: Floats, points: Floats
) -> None:
    """Codes (frames,) to the quantised points (frames, d) that `quantize` had with them, from the same past (1, d)."""
    ahead = np.zeros((1, prediction.shape[1]), np.float32)
    for frame in range(len(codes)):
        if predictive:
            predict(prediction, past, ahead)
        add(ahead, codebook[codes[frame]], predictive, past)
        points[frame] = past[0]


@entry
def add_statistics(frames: Floats, sums: np.ndarray) -> None:
    """Add the frames (n, C) and their squares to sums (2, channels), frame after frame."""
    for frame in range(len(frames)):
        for c in range(sums.shape[1]):
            sums[0, c] += frames[frame, c]
            sums[1, c] += frames[frame, c] * frames[frame, c]
