"""From latents to codes and back on the CPU, as `vqaudio.models.quantizer`, in chunks of any size."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass

import numpy as np

from vqaudio.models.config import CodecConfig, QuantizerConfig
from vqaudio.runtime.compilation import entry, inner
from vqaudio.runtime.layers import Convolution, Weights, pad
from vqaudio.runtime.product import Floats, accumulate


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


class Paths:
    """What the search of predictive codes remembers of a stream: the sequences of codes that it goes on with.

    Attributes:
        frames: that came so far.
        ends: the quantised point that each path has come to (paths, d).
        missed: the sum of its misses, less that of the first, which is the best (paths,); infinite where it ended.
        recent: its last codes (paths, delay + 1), the latest last; those before are decided.
    """

    def __init__(self, config: QuantizerConfig) -> None:
        self.frames = 0
        self.ends = np.zeros((config.paths, config.code_dim), np.float32)
        self.missed = np.full(config.paths, np.inf, np.float32)
        self.missed[0] = 0
        self.recent = np.zeros((config.paths, config.delay + 1), np.uint16)


@dataclass(frozen=True)
class SearchState:
    """What a stream that is encoded remembers: the paths of every stage, and the last quantised point (stages, d) of
    every one that another follows."""

    paths: list[Paths]
    past: Floats


class Quantizer:
    """Latents to codes and back, all stages or the first ones. What a stream that is decoded remembers of the frames so
    far is the last quantised point of every stage (stages, d), from which predictive codes go on."""

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

    def start_search(self) -> SearchState:
        """The state of a new stream that is to be encoded."""
        return SearchState([Paths(self.config) for _ in self.stages], self.start())

    def codes(self, state: SearchState, latents: Floats, quantizers: int, last: bool) -> np.ndarray:
        """The next latents (frames, D) to the codes (quantizers, frames), uint16, that are decided by now."""
        rows, residual = [], latents
        for i, stage in enumerate(self.stages[:quantizers]):
            points = np.ascontiguousarray(stage.project_in(residual)[:, : self.config.code_dim])
            rows.append(self._chosen(stage, state.paths[i], points, last))
            if i + 1 < quantizers:
                follow(rows[i], stage.codebook, stage.prediction, self.config.predictive, state.past[i : i + 1], points)
                residual = residual - stage.project_out(pad(points, 1))
        return np.stack(rows)

    def _chosen(self, stage: Stage, paths: Paths, points: Floats, last: bool) -> np.ndarray:
        """Projected latents (frames, d) to codes (frames,), of predictive ones those that are decided by now."""
        if not self.config.predictive:
            codes = np.empty(len(points), np.uint16)
            nearest(points, stage.columns, self.config.codebook_size, self.config.normalize, codes)
            return codes
        delay, before = self.config.delay, paths.frames
        paths.frames += len(points)
        codes = np.empty(max(0, paths.frames - delay) - max(0, before - delay), np.uint16)
        vectors = stage.columns, stage.codebook, stage.costs, stage.prediction
        search(points, *vectors, paths.ends, paths.missed, paths.recent, codes)
        undecided = min(delay, paths.frames) if last else 0
        return np.concatenate([codes, paths.recent[0, delay + 1 - undecided :]])

    def latents(self, state: Floats, codes: np.ndarray) -> Floats:
        """The next codes (quantizers, frames), of all stages or the first ones, to quantised latents (frames, D)."""
        found = zip(self.stages, self.points(state, codes), strict=False)
        return functools.reduce(operator.add, (stage.project_out(pad(points, 1)) for stage, points in found))

    def points(self, state: Floats, codes: np.ndarray) -> list[Floats]:
        """The next codes (quantizers, frames) to the quantised points (frames, d) of every stage."""
        found = []
        for i, indices in enumerate(np.ascontiguousarray(codes)):
            stage, points = self.stages[i], np.empty((len(indices), self.config.code_dim), np.float32)
            follow(indices, stage.codebook, stage.prediction, self.config.predictive, state[i : i + 1], points)
            found.append(points)
        return found


@inner
def predict(prediction: Floats, past: Floats, ahead: Floats) -> None:
    """What the point before (1, d) tells of this one, into ahead (1, d padded)."""
    ahead[:] = np.float32(0)
    accumulate(ahead, prediction, past)


@inner
def to_sphere(point: Floats) -> None:
    """A point (d,) to length 1, in place."""
    total = np.float32(0)
    for d in range(len(point)):
        total += point[d] * point[d]
    norm = max(np.sqrt(total), np.float32(1e-12))
    for d in range(len(point)):
        point[d] /= norm


@inner
def squared_lengths(columns: Floats) -> Floats:
    """Of the code vectors (d, K padded), (K padded,)."""
    squares = np.zeros(columns.shape[1], np.float32)
    for d in range(len(columns)):
        for code in range(len(squares)):
            squares[code] += columns[d, code] * columns[d, code]
    return squares


@entry
def nearest(points: Floats, columns: Floats, size: int, normalize: bool, codes: np.ndarray) -> None:
    """Points (frames, d), put on the sphere if wanted, to the nearest codes (frames,), the first of equals.

    Args:
        columns: the code vectors (d, K padded), of which `size` are there.
    """
    squares, two = squared_lengths(columns), np.float32(2)
    products = np.empty((1, columns.shape[1]), np.float32)
    for frame in range(len(points)):
        if normalize:
            to_sphere(points[frame])
        products[:] = np.float32(0)
        accumulate(products, columns, points[frame : frame + 1])
        best, least = 0, np.float32(np.inf)
        for code in range(size):
            distance = squares[code] - two * products[0, code]
            if distance < least:
                best, least = code, distance
        codes[frame] = best


@inner
def make_room(best: Floats, origin: np.ndarray, chosen: np.ndarray, miss: np.float32) -> int:
    """The place of a miss among the least so far, in rising order; those behind move on, and the last one is lost."""
    place = len(best) - 1
    while place > 0 and miss < best[place - 1]:
        best[place], origin[place], chosen[place] = best[place - 1], origin[place - 1], chosen[place - 1]
        place -= 1
    return place


@entry
def search(
    points: Floats,
    columns: Floats,
    codebook: Floats,
    costs: Floats,
    prediction: Floats,
    ends: Floats,
    missed: Floats,
    recent: np.ndarray,
    codes: np.ndarray,
) -> None:
    """Points (frames, d) to the predictive codes that are decided by then, as `vqaudio.models.quantizer` searches.

    Args:
        columns, codebook: the code vectors (d, K padded) and (K, d).
        costs: what each of them must be nearer by (K,), as half the squared distance.
        prediction: (d, d padded), transposed.
        ends, missed, recent: the `Paths` so far, which go on in place.
        codes: (n,), those that the last n frames decide.
    """
    (size, dim), paths, kept = codebook.shape, len(ends), recent.shape[1]
    first = len(points) - len(codes)  # frame that decides the first code
    squares, two, least = squared_lengths(columns), np.float32(2), np.float32(1e-12)
    rows = np.empty((1 + paths, dim), np.float32)  # the point, and what each path predicts of it
    ahead = np.empty((paths, prediction.shape[1]), np.float32)
    products = np.empty((1 + paths, columns.shape[1]), np.float32)
    misses = np.empty(size, np.float32)
    best, origin, chosen = np.empty(paths, np.float32), np.zeros(paths, np.int64), np.zeros(paths, np.int64)
    before = recent.copy()
    for frame in range(len(points)):
        rows[0] = points[frame]
        to_sphere(rows[0])
        for d in range(dim):
            if not np.isfinite(rows[0, d]):
                rows[0, d] = np.float32(0)  # or it would spoil all sums after it
        ahead[:] = np.float32(0)
        accumulate(ahead, prediction, ends)
        rows[1:] = ahead[:, :dim]
        products[:] = np.float32(0)
        accumulate(products, columns, rows)
        best[:] = np.float32(np.inf)
        for path in range(paths):
            along = length = np.float32(0)
            for d in range(dim):
                along += rows[0, d] * ahead[path, d]
                length += ahead[path, d] * ahead[path, d]
            for code in range(size):
                square = max(squares[code] + two * products[1 + path, code] + length, least)
                misses[code] = missed[path] + costs[code] - (along + products[0, code]) / np.sqrt(square)
            for code in range(size):
                if misses[code] < best[paths - 1]:
                    place = make_room(best, origin, chosen, misses[code])
                    best[place], origin[place], chosen[place] = misses[code], path, code
        before[:] = recent
        for path in range(paths):
            for d in range(dim):
                ends[path, d] = ahead[origin[path], d] + codebook[chosen[path], d]
            to_sphere(ends[path])
            missed[path] = best[path] - best[0]
            recent[path, : kept - 1] = before[origin[path], 1:]
            recent[path, kept - 1] = chosen[path]
        if frame >= first:
            codes[frame - first] = recent[0, 0]
            for path in range(paths):
                if recent[path, 0] != recent[0, 0]:
                    missed[path] = np.float32(np.inf)


@entry
def follow(
    codes: np.ndarray, codebook: Floats, prediction: Floats, predictive: bool, past: Floats, points: Floats
) -> None:
    """Codes (frames,) to the quantised points (frames, d), from the one before (1, d), which becomes the last."""
    ahead = np.zeros((1, prediction.shape[1]), np.float32)
    for frame in range(len(codes)):
        if predictive:
            predict(prediction, past, ahead)
        for d in range(codebook.shape[1]):
            past[0, d] = ahead[0, d] + codebook[codes[frame], d]
        if predictive:
            to_sphere(past[0])
        points[frame] = past[0]
