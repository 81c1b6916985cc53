"""The WaveNet on a GPU: many streams advance together, and a step of all of them is one CUDA graph, replayed.

The reference is `vqaudio.models.wavenet.WaveNet.generate`; what differs is only the order of additions. A step is some
hundred small kernels, whose launches would take longer than their work: captured once, they cost one launch. A graph
knows neither the host nor Python, so everything that changes from step to step is read from tensors that stay where
they are, and found by counters on the device. Without a GPU the same function runs step by step.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from vqaudio.models.random import KEY_STEPS, MULTIPLIERS, ROUNDS
from vqaudio.models.wavenet import WaveNet
from vqaudio.runtime.filterbank import Bank
from vqaudio.runtime.product import Floats
from vqaudio.runtime.wavenet import Piece

SIZES = (8, 64, 256, 1024)  # streams of a graph; a few idle ones cost nothing, but every graph costs its capture
CHUNK = 512  # steps, or a frame, after which the host looks which streams have ended
WARM_UP = 3  # steps before a capture, in which libraries allocate what a graph must find allocated
KEPT = 8  # graphs
WORD = 0xFFFFFFFF

_capturing = threading.Lock()  # there may be only one capture at a time in a process


class TorchWaveNet:
    """A WaveNet's weights, arranged for products of matrices, on the device where the module lies.

    Calls of `generate` wait for each other: they share the tensors of the graphs.

    Attributes:
        bands: samples per step.
        steps: steps per code frame.
        receptive_steps: steps before its own that a distribution depends on.
        group: pieces of one file that `vqaudio.runtime.segments.Sampler` gathers before it has them sampled together.
    """

    bands: int

    def __init__(self, module: WaveNet) -> None:
        stack, layers = module.stack, module.stack.layers
        assert stack.local is not None
        self.bands, self.steps = module.bands, module.hop // module.bands
        self.receptive_steps, self.group = module.config.receptive_steps, SIZES[-2]
        self.bank = Bank(module.bands)
        self.distribution, self.levels = module.distribution, module.levels
        self.device = module.levels.device
        self.channels, self.skips = layers[0].channels, module.hidden.in_channels

        heard_levels = module.distribution.compand(module.levels)
        room = (0, self.skips)  # a row of the flow is the residual path and, from zero, the sum of the skips
        self.input = F.pad((module.input.weight[:, :, 0] / heard_levels).T, room).T, F.pad(_bias(module.input), room)
        self.dilated = [layer.dilated.weight.permute(2, 1, 0).flatten(0, 1) for layer in layers]  # (taps * C, 2C)
        self.flow = [(layer.output.weight[:, :, 0], _bias(layer.output)) for layer in layers]
        self.hidden = module.hidden.weight[:, :, 0], _bias(module.hidden)
        self.output = module.output.weight[:, :, 0], _bias(module.output)
        self.local = stack.local.weight.view(len(layers), 2 * self.channels, -1).transpose(1, 2)  # (layers, inputs, 2C)
        biases = torch.stack([_bias(layer.dilated) for layer in layers])
        self.bias = biases + _bias(stack.local).view_as(biases)  # (layers, 2C)
        self.speaker = stack.speaker

        # Each layer's past is a ring of as many places as its kernel spans; all rings lie in one memory.
        lags = [[layer.reach - tap for tap in range(0, layer.reach + 1, layer.dilated.dilation[0])] for layer in layers]
        self.spans = torch.tensor([[layer.reach + 1] for layer in layers], device=self.device)  # (layers, 1)
        self.offsets = self.spans.cumsum(0) - self.spans
        self.lags = torch.tensor(lags, device=self.device)  # (layers, taps), the oldest tap first
        self.places = sum(layer.reach + 1 for layer in layers)

        self._streams = functools.lru_cache(KEPT)(functools.partial(Streams, weakref.proxy(self)))  # graphs go with it
        self._lock = threading.Lock()

    def gates(self, speaker: Floats | None) -> Tensor:
        """What speaker (S,) and biases add to the gates of all layers (layers, 2C)."""
        if speaker is None or self.speaker is None:
            return self.bias
        return self.bias + self.speaker(torch.from_numpy(speaker).to(self.device)).view_as(self.bias)

    def generate(
        self, pieces: Sequence[Piece], *, seed: int = 0, temperature: float = 1.0, threads: int = 1
    ) -> list[Floats]:
        """Sample pieces, each to its signal (bands, frames * steps).

        Args:
            pieces: their conditioning has just the channels that the module takes.
            threads: without effect, there is one device.
        """
        size = next((size for size in SIZES if size >= len(pieces)), SIZES[-1])
        # Not in inference mode, whatever the caller is in: what the first graph of a process allocates for random
        # numbers is that of all graphs, and of those that the caller may capture.
        with self._lock, torch.inference_mode(False), torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            return _sample(self._streams(size, temperature), pieces, seed)


def _sample(streams: Streams, pieces: Sequence[Piece], seed: int) -> list[Floats]:
    """The signals of pieces, the longest ones first, each in the first stream that is free."""
    frames, steps = streams.frames, streams.wavenet.steps
    waiting = deque(sorted(range(len(pieces)), key=lambda index: -len(pieces[index].conditioning)))
    done, signals = [0] * len(pieces), [list[Floats]() for _ in pieces]
    running = dict[int, int]()  # the stream of each piece that is being sampled
    while waiting or running:
        for stream in range(streams.size):
            if stream not in running and waiting:
                running[stream] = waiting.popleft()
                streams.begin(stream, pieces[running[stream]].speaker)
        rows = np.zeros((frames, streams.size, streams.wavenet.local.shape[1]), np.float32)
        counters = np.zeros((streams.size, 2), np.int64)
        for stream, index in running.items():
            piece = pieces[index]
            part = piece.conditioning[done[index] : done[index] + frames]
            rows[: len(part), stream] = part
            counters[stream] = piece.start + done[index] * steps, piece.stream
        signal = streams.advance(rows, counters, seed)
        for stream, index in list(running.items()):
            signals[index].append(signal[stream])
            done[index] += frames
            if done[index] >= len(pieces[index].conditioning):
                del running[stream]
    return [
        np.concatenate(parts, axis=1)[:, : len(piece.conditioning) * steps]
        for piece, parts in zip(pieces, signals, strict=True)
    ]


class Streams:
    """The state of a fixed number of streams that advance together, and the step that advances them.

    Args:
        size: streams.
        temperature: of the samples; part of the graph.

    Attributes:
        frames: of the chunks in which the streams advance.
    """

    def __init__(self, wavenet: TorchWaveNet, size: int, temperature: float) -> None:
        self.wavenet, self.size, self.temperature = wavenet, size, temperature
        self.frames = max(1, CHUNK // wavenet.steps)
        steps, bands, device = self.frames * wavenet.steps, wavenet.bands, wavenet.device
        gates = len(wavenet.dilated), size, 2 * wavenet.channels
        self.past = torch.zeros(size, wavenet.places, wavenet.channels, device=device)
        self.heard = torch.zeros(size, bands, device=device)
        self.bias = torch.zeros(gates, device=device)
        self.conditions = torch.zeros(gates, device=device)
        self.uniforms = torch.full((steps, size, bands, 2), 0.5, device=device)
        self.signal = torch.zeros(steps, size, bands, device=device)
        self.clock = torch.zeros(1, dtype=torch.int64, device=device)  # steps so far: the place in the rings
        self.row = torch.zeros_like(self.clock)  # steps of this chunk so far
        self.step = captured(self._step, device) if device.type == "cuda" else self._step

    def begin(self, stream: int, speaker: Floats | None) -> None:
        """Begin a stream of a speaker (S,) anew, after silence."""
        self.past[stream].zero_()
        self.heard[stream].zero_()
        self.bias[:, stream] = self.wavenet.gates(speaker)

    def advance(self, conditioning: Floats, counters: NDArray[np.int64], seed: int) -> Floats:
        """Draw the samples (streams, bands, frames * steps) of the next chunk.

        Args:
            conditioning: (frames, streams, C).
            counters: the numbers of the first step and of the stream, for the random numbers (streams, 2).
        """
        wavenet = self.wavenet
        rows = torch.from_numpy(conditioning).to(wavenet.device)
        first, stream = torch.from_numpy(counters).to(wavenet.device).unbind(dim=1)
        self.uniforms.copy_(uniforms(seed, first, len(self.uniforms), wavenet.bands, stream))
        self.row.zero_()
        for frame in rows:
            torch.baddbmm(self.bias, frame.expand(len(self.bias), -1, -1), wavenet.local, out=self.conditions)
            for _ in range(wavenet.steps):
                self.step()
        return self.signal.permute(1, 2, 0).to("cpu", copy=True).numpy()

    def _step(self) -> None:
        """One step of all streams, from and to tensors that stay where they are, without a look from the host."""
        net = self.wavenet
        places = net.offsets + (self.clock - net.lags) % net.spans  # (layers, taps)
        flow = F.linear(net.distribution.compand(self.heard), *net.input)
        conditions = self.conditions.clone()
        for place, gates, dilated, output in zip(places, conditions, net.dilated, net.flow, strict=True):
            self.past.index_copy_(1, place[-1:], flow[:, None, : net.channels])
            gates.addmm_(self.past.index_select(1, place).flatten(1), dilated)
            gates[:, : net.channels].tanh_()
            flow += F.linear(F.glu(gates, dim=1), *output)
        hidden = F.silu(flow[:, net.channels :] * len(net.dilated) ** -0.5)
        numbers = F.linear(F.silu(F.linear(hidden, *net.hidden)), *net.output)
        parameters = net.distribution.at_level(numbers.view(self.size, net.bands, -1, 1), net.levels).squeeze(3)
        drawn = self.uniforms.index_select(0, self.row).squeeze(0)
        self.heard.copy_(net.distribution.sample(parameters, drawn, self.temperature))
        self.signal.index_copy_(0, self.row, self.heard[None])
        self.clock += 1
        self.row += 1


def captured(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Capture a step as a CUDA graph; what replays it.

    Args:
        step: reads and writes only tensors that stay where they are. It is run `WARM_UP` times before the capture.
    """
    with _capturing, torch.cuda.device(device):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # that of the capture, since libraries keep their handles by stream
            for _ in range(WARM_UP):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may compute meanwhile, which neither is part of the graph nor spoils it, but must not draw
        # random numbers on this GPU.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            step()
    return graph.replay


def uniforms(seed: int, first: Tensor, steps: int, bands: int, streams: Tensor) -> Tensor:
    """The numbers of `vqaudio.models.random.uniforms`, on a device.

    Args:
        first: the first step of each stream (B,), int64.
        streams: their numbers (B,), int64.

    Returns:
        (steps, B, bands, 2).
    """
    step = first[:, None] + torch.arange(steps, device=first.device)[:, None, None]
    a, b, c, d = step & WORD, step >> 32, torch.arange(bands, device=first.device), streams[:, None]
    low, high = seed & WORD, seed >> 32
    for _ in range(ROUNDS):
        # Products wrap around to below zero, and a shift draws the sign in: the mask undoes that.
        one, two = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b, c, d = (two >> 32 & WORD) ^ b ^ low, two & WORD, (one >> 32 & WORD) ^ d ^ high, one & WORD
        low, high = (low + KEY_STEPS[0]) & WORD, (high + KEY_STEPS[1]) & WORD
    return (torch.stack([a, b], dim=3) >> 9).float().add(0.5).div(1 << 23)


def _bias(layer: torch.nn.Conv1d) -> Tensor:
    assert layer.bias is not None
    return layer.bias
