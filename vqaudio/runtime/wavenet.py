"""The WaveNet on the CPU: packed weights, and streams of samples that several threads advance in groups.

The reference is `vqaudio.models.wavenet.WaveNet.generate`; what differs is the order of additions, and where that
is faster bfloat16 in the layers, though not where samples come in and distributions go out. The samples of a
stream depend neither on the other streams beside it nor on threads.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from vqaudio.models.config import CodecConfig, WaveNetConfig
from vqaudio.models.constants import LEVELS, MU
from vqaudio.runtime import kernels
from vqaudio.runtime.compilation import announce
from vqaudio.runtime.filterbank import Bank
from vqaudio.runtime.kernels import Network
from vqaudio.runtime.layers import Weights, pad, pad_gates
from vqaudio.runtime.processor import TILED
from vqaudio.runtime.product import Floats

# Streams that a thread advances together: a weight from the cache serves all of them, or a tile has as many rows.
GROUP = 16 if TILED else 8
CHUNK = 250  # frames after which a thread sees whether it should stop


@dataclass(frozen=True)
class Piece:
    """A stretch of signal to sample, as if silence were before it.

    Attributes:
        conditioning: (frames, C), channels padded for `WaveNet`.
        speaker: (S,) or None.
        start: the step of the whole signal with which it begins, for the random numbers.
        stream: the signal that it is part of, for the random numbers.
    """

    conditioning: Floats
    speaker: Floats | None = None
    start: int = 0
    stream: int = 0


class WaveNet:
    """The weights of a WaveNet, packed for the kernels.

    Attributes:
        bands: samples per step.
        steps: steps per code frame.
        receptive_steps: steps before its own that a distribution depends on.
        group: streams that a thread advances together.
    """

    bands: int
    group = GROUP

    def __init__(self, config: CodecConfig, weights: Weights) -> None:
        assert config.wavenet is not None
        own, channels = config.wavenet, config.speaker.width
        self.bands, self.steps = own.bands, config.hop // own.bands
        self.network = pack(own, config.conditioning.channels, weights)
        gates = len(own.dilations) * 2 * own.channels
        biases = [
            weights.take(f"wavenet.stack.layers.{i}.dilated.bias", 2 * own.channels) for i in range(len(own.dilations))
        ]
        self.bias = np.concatenate(biases) + weights.take("wavenet.stack.local.bias", gates)
        self.speaker = np.zeros((gates, channels), np.float32)
        if channels:
            self.speaker = weights.take("wavenet.stack.speaker.weight", gates, channels)
            self.bias = self.bias + weights.take("wavenet.stack.speaker.bias", gates)
        self.channels = own.channels
        self.silence = float(compand(np.zeros(1, np.float32))[0]) if own.output == "mulaw" else 0.0
        self.bank = Bank(own.bands)
        self.receptive_steps = own.receptive_steps

    def gates(self, speaker: Floats | None) -> Floats:
        """What speaker (S,) and biases add to the gates of all layers (layers * 2C,)."""
        total = self.bias if speaker is None else self.bias + self.speaker @ speaker
        return pad_gates(total.reshape(-1, 2 * self.channels)).reshape(-1)

    def generate(
        self, pieces: Sequence[Piece], *, seed: int = 0, temperature: float = 1.0, threads: int = 1
    ) -> list[Floats]:
        """Sample pieces, each to its signal (bands, frames * steps)."""
        announce(kernels.advance, "the WaveNet")
        results = [np.empty((self.bands, 0), np.float32)] * len(pieces)
        longest_first = sorted(range(len(pieces)), key=lambda index: -len(pieces[index].conditioning))
        waiting, stop = deque(longest_first), threading.Event()
        group = min(GROUP, -(-len(pieces) // threads))

        def work() -> None:
            streams, running = Streams(self), list[_Running]()
            while not stop.is_set():
                while len(running) < group and (index := _next(waiting)) is not None:
                    streams.add(pieces[index])
                    running.append(_Running(index))
                if not running:
                    return
                frames = min(CHUNK, *(len(pieces[run.index].conditioning) - run.frames for run in running))
                parts = [pieces[run.index].conditioning[run.frames : run.frames + frames] for run in running]
                for run, signal in zip(running, streams.advance(np.stack(parts), seed, temperature), strict=True):
                    run.frames += frames
                    run.signal.append(signal)
                ended = [len(pieces[run.index].conditioning) == run.frames for run in running]
                for run in (run for run, over in zip(running, ended, strict=True) if over):
                    results[run.index] = np.concatenate(run.signal, axis=1)
                running = [run for run, over in zip(running, ended, strict=True) if not over]
                streams.drop(ended)

        with ThreadPoolExecutor(threads) as pool:
            futures = [pool.submit(work) for _ in range(threads)]
            try:
                for future in futures:
                    future.result()
            finally:
                stop.set()
        return results


@dataclass
class _Running:
    """A piece that a thread is sampling."""

    index: int
    frames: int = 0
    signal: list[Floats] = field(default_factory=list)


def _next(waiting: deque[int]) -> int | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None


class Streams:
    """The state of streams that advance together, one for each piece added."""

    def __init__(self, wavenet: WaveNet) -> None:
        self.wavenet = wavenet
        network = wavenet.network
        width = network.flow.shape[1]
        reaches = (network.dilated.shape[1] // width - 1) * network.dilations
        self.past = np.zeros((int(reaches.sum()), 0, width), network.dilated.dtype)
        self.heard = np.zeros((0, len(network.input)), np.float32)
        self.bias = np.zeros((0, network.local.shape[1]), np.float32)
        self.counters = np.zeros((0, 2), np.uint64)
        self.clock = 0

    def add(self, piece: Piece) -> None:
        """Begin a stream."""
        heard = np.full((1, self.heard.shape[1]), self.wavenet.silence, np.float32)
        self.past = np.pad(self.past, ((0, 0), (0, 1), (0, 0)))
        self.heard = np.concatenate([self.heard, heard])
        self.bias = np.concatenate([self.bias, self.wavenet.gates(piece.speaker)[None]])
        self.counters = np.concatenate([self.counters, np.array([[piece.start, piece.stream]], np.uint64)])

    def drop(self, ended: Sequence[bool]) -> None:
        """End the streams that are marked."""
        if any(ended):
            stay = ~np.array(ended)
            self.past = np.ascontiguousarray(self.past[:, stay])
            self.heard, self.bias, self.counters = self.heard[stay], self.bias[stay], self.counters[stay]

    def advance(self, conditioning: Floats, seed: int, temperature: float) -> Floats:
        """Draw the samples (streams, bands, frames * steps) of the next frames (streams, frames, C)."""
        streams, frames, _ = conditioning.shape
        steps = frames * self.wavenet.steps
        signal = np.empty((streams, self.wavenet.bands, steps), np.float32)
        kernels.advance(
            self.wavenet.network,
            self.past,
            self.clock,
            self.heard,
            conditioning,
            self.bias,
            self.counters,
            np.uint64(seed),
            float(temperature),
            signal,
            kernels.scratch(self.wavenet.network, streams),
        )
        self.clock += steps
        self.counters[:, 0] += np.uint64(steps)
        return signal


def pack(config: WaveNetConfig, conditioning_channels: int, weights: Weights) -> Network:
    """The weights as the kernels take them."""
    channels, skips, layers, bands = config.channels, config.skip_channels, len(config.dilations), config.bands
    logistic = config.output == "logistic"
    numbers = bands * config.sample_parameters
    levels = np.array(LEVELS[bands], np.float32)
    heard_levels = levels if logistic else compand(levels)
    name = "wavenet.stack.layers"
    taps = [weights.take(f"{name}.{i}.dilated.weight", 2 * channels, channels, config.kernel) for i in range(layers)]
    dilated = [pad(pad_gates(tap.transpose(2, 1, 0)), 1) for tap in taps]
    both = channels + skips
    outputs = [weights.take(f"{name}.{i}.output.weight", both, channels, 1)[:, :, 0].T for i in range(layers)]
    biases = np.stack([weights.take(f"{name}.{i}.output.bias", both) for i in range(layers)])
    local = weights.take("wavenet.stack.local.weight", layers * 2 * channels, conditioning_channels, 1)[:, :, 0].T
    reaches = (config.kernel - 1) * np.array(config.dilations)
    return Network(
        input=pad((weights.take("wavenet.input.weight", channels, bands, 1)[:, :, 0] / heard_levels).T, 1),
        input_bias=pad(weights.take("wavenet.input.bias", channels), 0),
        local=pad(pad_gates(local.reshape(-1, layers, 2 * channels)).reshape(len(local), -1), 0),
        dilated=weights.shortened(np.stack([weight.reshape(-1, weight.shape[2]) for weight in dilated])),
        flow=weights.shortened(
            np.stack([np.concatenate([pad(w[:, :channels], 0, 1), pad(w[:, channels:], 0, 1)], 1) for w in outputs])
        ),
        flow_bias=pad(biases[:, :channels], 1),
        skip_bias=pad(biases[:, channels:].sum(0), 0),
        hidden=pad(weights.take("wavenet.hidden.weight", skips, skips, 1)[:, :, 0].T, 0, 1),
        hidden_bias=pad(weights.take("wavenet.hidden.bias", skips), 0),
        output=pad(weights.take("wavenet.output.weight", numbers, skips, 1)[:, :, 0].T, 0, 1),
        output_bias=pad(weights.take("wavenet.output.bias", numbers), 0),
        dilations=np.array(config.dilations),
        offsets=np.cumsum(reaches) - reaches,
        levels=levels,
        parameters=config.sample_parameters,
        mixtures=config.mixtures if logistic else 0,
    )


def compand(samples: Floats) -> Floats:
    """The companded values of the mu-law levels of samples in [-1, 1], as `vqaudio.models.distributions.MuLaw`."""
    companded = np.copysign(np.log1p(MU * np.abs(samples)) / math.log1p(MU), samples)
    return (((companded + 1) / 2 * MU + 0.5).astype(np.int64) * (2 / MU) - 1).astype(np.float32)
