"""How fast a codec is, how much arithmetic that is, and how much memory it takes; beside the same networks in eager
PyTorch, and beside other codecs, on the same speech in the same process.

A measurement is the best of several runs, the one that other processes disturbed least. What is done once is left out:
compiling, loading, and the first run, which is the one whose memory is watched.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import vqaudio
from vqaudio import audio
from vqaudio.codec import Codec
from vqaudio.codes import Codes
from vqaudio.container import BLOCK_SECONDS as CODED_SECONDS
from vqaudio.errors import VqaudioError
from vqaudio.evaluation.flops import flops
from vqaudio.evaluation.memory import device_memory, peak_memory
from vqaudio.evaluation.peers import Peer
from vqaudio.models.vqvae import VQVAE
from vqaudio.prior import Prior, for_codec
from vqaudio.runtime.cpu import CpuNetworks
from vqaudio.runtime.gpu import TorchNetworks
from vqaudio.runtime.schedule import BLOCK_SECONDS, available_threads
from vqaudio.runtime.wavenet import Piece
from vqaudio.shipped import SAMPLE
from vqaudio.training.recipe import load_recipe

CPU = torch.device("cpu")
OURS, EAGER = "vqaudio", "pytorch"
DECODERS = ("spectral", "wavenet")
WARM_UP_SECONDS = 0.5
START_SECONDS = 2.0  # of the file that a whole process decodes
LOOP_SECONDS = 0.25  # of the WaveNet as a loop in PyTorch: a thousand steps of some milliseconds each
SHAPE = "speech16k"  # the recipe whose WaveNet is measured where the model has none

Work = Callable[[], object]


@dataclass(frozen=True)
class Measurement:
    """What was measured of one part of one codec.

    Attributes:
        codec: "vqaudio"; "pytorch" for the same networks in eager PyTorch; or the name of a peer.
        part: "encode"; "spectral", "wavenet" (in pieces, as `Codec.decode` does it) or "sequential" (the WaveNet in one
            pass); "to bytes" or "from bytes" of codes under a prior; "start, decode", a whole process; "encode file" or
            "decode file" of a long recording; of a peer "encode" or "decode".
        threads: that could be used.
        streams: files at once.
        seconds: of audio, in all files together.
        times: seconds that each run took.
        operations: floating-point operations per second of audio; None where they are not counted.
        memory: bytes that were allocated on a GPU at most; on the CPU by which resident memory rose, None where the
            system does not tell.
    """

    codec: str
    part: str
    threads: int
    streams: int
    seconds: float
    times: tuple[float, ...]
    operations: float | None
    memory: int | None

    @property
    def speed(self) -> float:
        """Times real time, all files together, in the best run."""
        return self.seconds / min(self.times)

    @property
    def gflops(self) -> float | None:
        """Billions of operations per second, in the best run."""
        return None if self.operations is None else self.operations * self.speed / 1e9

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {**dataclasses.asdict(self), "speed": self.speed, "gflops": self.gflops}


@dataclass(frozen=True)
class Coded:
    """Speech of whole frames and what a codec makes of it: samples (T,), codes (quantizers, frames), the speaker."""

    samples: np.ndarray
    codes: np.ndarray
    speaker: list[int] | None


def with_wavenet(codec: Codec) -> Codec:
    """A codec without a WaveNet with a random one of the recipe's shape: speed does not depend on weights.

    It has one band where the hop cannot be split into those of the recipe.
    """
    wavenet = load_recipe(SHAPE).codec.wavenet
    assert wavenet is not None
    if codec.config.hop % wavenet.bands:
        wavenet = dataclasses.replace(wavenet, bands=1)
    config = dataclasses.replace(codec.config, wavenet=wavenet)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        random = VQVAE(config).arrays()
    return Codec(config, {**random, **codec.state})


def measure(
    codec: Codec, *, seconds: float, threads: Iterable[int], streams: Iterable[int], repeat: int
) -> Iterator[Measurement]:
    """Measure a codec on the CPU, for all combinations of threads and streams.

    Args:
        codec: with every decoder that is to be measured.
        seconds: of each file.
        streams: files at once; they share the threads, or all go through the sequential WaveNet in one pass.
        repeat: timed runs.
    """
    operations = _operations(codec)
    for count in threads:
        for files in streams:
            networks = CpuNetworks(codec.config, codec.state, max(1, count // files))
            for part in operations:
                stage = functools.partial(_compiled, codec, networks, part, count, files)
                times, memory = clock(stage, seconds, repeat)
                yield Measurement(OURS, part, count, files, files * seconds, times, operations[part], memory)


def measure_prior(codec: Codec, prior: Prior, *, seconds: float, repeat: int) -> Iterator[Measurement]:
    """Measure how fast the codes of one file become bytes under a prior, and codes again.

    A file has a block for every ten seconds, and threads share blocks: up to ten seconds are the work of one.
    """

    def codes(seconds: float) -> Codes:
        return codec.encode(speech(seconds, codec.config.sample_rate), codec.config.sample_rate)

    def writing(seconds: float) -> Work:
        spoken = codes(seconds)
        return lambda: spoken.to_bytes(prior)

    def reading(seconds: float) -> Work:
        data = codes(seconds).to_bytes(prior)
        return lambda: Codes.from_bytes(data, coder=prior)

    threads = min(available_threads(), math.ceil(seconds / CODED_SECONDS))
    for part, stage in (("to bytes", writing), ("from bytes", reading)):
        times, memory = clock(stage, seconds, repeat)
        yield Measurement(OURS, part, threads, 1, seconds, times, None, memory)


def measure_device(
    codec: Codec, device: str, *, seconds: float, streams: Iterable[int], repeat: int
) -> Iterator[Measurement]:
    """Measure a codec on a device of torch: encoder and spectral decoder file after file, the WaveNet with all files in
    one pass.

    Args:
        codec: with every decoder that is to be measured.
        device: "cuda" or "cuda:N"; "cpu" runs the same there.
    """
    networks, operations = TorchNetworks(codec.config, codec.state, device), _operations(codec)
    operations.pop("wavenet", None)
    for files in streams:
        for part in operations:
            stage = functools.partial(_on_device, codec, networks, part, files)
            times, memory = clock(stage, seconds, repeat, networks.device)
            yield Measurement(OURS, part, 1, files, files * seconds, times, operations[part], memory)


def measure_eager(codec: Codec, *, seconds: float, threads: Iterable[int], repeat: int) -> Iterator[Measurement]:
    """Measure a codec's networks in eager PyTorch, one file at a time; of the WaveNet, which is a loop of steps whose
    layers keep their past in queues, a short stretch."""
    networks, operations = TorchNetworks(codec.config, codec.state, "cpu"), _operations(codec)
    operations.pop("wavenet", None)  # only the kernels sample in pieces
    for count in threads:
        for part in operations:
            stage = functools.partial(_eager, codec, networks, part)
            length = min(seconds, LOOP_SECONDS) if part == "sequential" else seconds
            with torch_threads(count):
                times, memory = clock(stage, length, repeat)
            yield Measurement(EAGER, part, count, 1, length, times, operations[part], memory)


def measure_peer(peer: Peer, *, seconds: float, threads: Iterable[int], repeat: int) -> Iterator[Measurement]:
    """Measure another codec, one file at a time, on the same speech at its own rate."""
    encode, decode = peer.build()

    def encoding(seconds: float) -> Work:
        waveform = torch.from_numpy(speech(seconds, peer.sample_rate))[None, None]
        return lambda: encode(waveform)

    def decoding(seconds: float) -> Work:
        codes = encoding(seconds)()
        return lambda: decode(codes)

    for count in threads:
        for part, stage in (("encode", encoding), ("decode", decoding)):
            with torch_threads(count), torch.inference_mode():
                times, memory = clock(stage, seconds, repeat)
            yield Measurement(peer.name, part, count, 1, seconds, times, None, memory)


def measure_start(*, model: str | None, repeat: int) -> Measurement:
    """Decode a file of two seconds as a whole process, from the start of Python to its end.

    Args:
        model: as for `vqaudio.load`.

    Raises:
        VqaudioError: where it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = str(Path(folder, "source.codes")), str(Path(folder, "target.wav"))
        codec = vqaudio.load(model)
        codes = codec.encode(speech(START_SECONDS, codec.config.sample_rate), codec.config.sample_rate)
        codes.save(source, coder=for_codec(codec))
        command = [sys.executable, "-m", "vqaudio", "decode", source, target, "--force", "--quiet"]
        command += ["--model", model] if model else []
        times = []
        for _ in range(1 + repeat):  # the first one may compile
            started = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True)
            times.append(time.perf_counter() - started)
            if done.returncode:
                told = done.stderr.strip().split("\n")[-1] or f"exit code {done.returncode}"
                raise VqaudioError(f"A process that decodes failed: {told}")
    operations = _operations(codec)[codec.decoders[0]]
    return Measurement(OURS, "start, decode", available_threads(), 1, START_SECONDS, tuple(times[1:]), operations, None)


def measure_long(codec: Codec, *, minutes: float) -> Iterator[Measurement]:
    """Take a WAV file of so many minutes to a `.codes` file and back to a WAV file, as the commands do it."""
    rate, operations, threads = codec.config.sample_rate, _operations(codec), available_threads()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source.wav"), Path(folder, "target.wav")
        sample = speech(BLOCK_SECONDS, rate)
        repeats = max(1, round(60 * minutes / BLOCK_SECONDS))
        audio.write(source, itertools.repeat(sample, repeats), rate)
        coder, coded = for_codec(codec), Path(folder, "coded.codes")
        codec.decode(Codes.from_bytes(codec.encode(sample, rate).to_bytes(coder)))  # what is made once does not count

        def encode() -> None:
            with audio.reading(source, rate) as recording:
                codec.encode(iter(recording), rate).save(coded, coder=coder)

        def decode() -> None:
            audio.write(target, codec.decode_parts(Codes.load(coded)), rate)

        for part, work, counted in (("encode", encode, "encode"), ("decode", decode, codec.decoders[0])):
            started = time.perf_counter()
            memory = peak_memory(work)
            times = (time.perf_counter() - started,)
            length = repeats * BLOCK_SECONDS
            yield Measurement(OURS, f"{part} file", threads, 1, length, times, operations[counted], memory)


def ratios(theirs: Measurement, measured: Iterable[Measurement]) -> dict[str, float]:
    """How many times faster each part of vqaudio did what another codec did, one file at a time on as many threads;
    nothing for vqaudio itself. Both decoders stand beside that of a peer."""
    if theirs.codec == OURS:
        return {}
    parts = DECODERS if theirs.part == "decode" else (theirs.part,)
    return {
        ours.part: ours.speed / theirs.speed
        for ours in measured
        if (ours.codec, ours.threads, ours.streams) == (OURS, theirs.threads, 1) and ours.part in parts
    }


def clock(
    stage: Callable[[float], Work], seconds: float, repeat: int, device: torch.device = CPU
) -> tuple[tuple[float, ...], int | None]:
    """The times of some runs and the memory of another one, after a short warm-up.

    Args:
        stage: gives the work on so many seconds of audio, with everything ready that does not count.
        device: whose memory it is.
    """
    stage(min(seconds, WARM_UP_SECONDS))()
    work, times = stage(seconds), []
    memory = device_memory(work, device)
    for _ in range(repeat):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return tuple(times), memory


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let PyTorch use so many threads in the body."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def speech(seconds: float, sample_rate: int) -> np.ndarray:
    """The sample that comes with vqaudio, repeated or cut to (T,) float32 at `sample_rate` Hz."""
    return np.resize(audio.read(SAMPLE, sample_rate), round(seconds * sample_rate))


def machine() -> dict[str, Any]:
    """The processor, its cores, and the system."""
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    processor = found[1] if found else platform.processor() or platform.machine()
    return {"processor": processor, "cores": os.cpu_count(), "system": platform.platform(terse=True)}


def _operations(codec: Codec) -> dict[str, float]:
    """The parts that a codec has, and their operations per second of audio."""
    counted = flops(codec.config)
    return counted | {"sequential": counted["wavenet"]} if "wavenet" in counted else counted


def _coded(codec: Codec, seconds: float) -> Coded:
    """So many seconds of speech, to the next frame, and their codes."""
    frames = max(1, round(seconds * codec.config.frame_rate))
    samples = speech(frames * codec.config.hop / codec.config.sample_rate, codec.config.sample_rate)
    return Coded(samples, *codec.networks.encode([samples], codec.config.quantizer.quantizers, True))


def _compiled(codec: Codec, networks: CpuNetworks, part: str, threads: int, files: int, seconds: float) -> Work:
    coded = _coded(codec, seconds)
    if part == "sequential":
        return lambda: _one_pass(networks, coded, threads, files)
    return lambda: _side_by_side(networks, part, coded, threads, files)


def _eager(codec: Codec, networks: TorchNetworks, part: str, seconds: float) -> Work:
    coded = _coded(codec, seconds)
    return lambda: _run(networks, part, coded, 0)


def _on_device(codec: Codec, networks: TorchNetworks, part: str, files: int, seconds: float) -> Work:
    coded = _coded(codec, seconds)
    if part == "sequential":
        return lambda: _one_pass_on_device(networks, coded, files)
    return lambda: [_run(networks, part, coded, 0) for _ in range(files)]


@torch.inference_mode()
def _one_pass_on_device(networks: TorchNetworks, coded: Coded, files: int) -> object:
    assert networks.wavenet is not None
    conditioning, spoken = networks.conditioned(coded.codes, coded.speaker)
    pieces = [Piece(conditioning, spoken, stream=stream) for stream in range(files)]
    bank = networks.wavenet.bank
    return [bank.push(bank.start(), signal, True) for signal in networks.wavenet.generate(pieces, seed=0)]


def _run(networks: CpuNetworks | TorchNetworks, part: str, coded: Coded, stream: int) -> object:
    """One file."""
    if part == "encode":
        return networks.encode([coded.samples], len(coded.codes), True)
    if part == "spectral":
        return list(networks.decode_spectral(coded.codes, coded.speaker))
    if isinstance(networks, TorchNetworks):
        return _loop(networks.model, coded)
    return list(networks.decode_wavenet(coded.codes, coded.speaker, stream, 1.0))


@torch.inference_mode()
def _loop(model: VQVAE, coded: Coded) -> Tensor:
    """The WaveNet step by step, as PyTorch is usually made to do it: every layer keeps its past in a queue."""
    assert model.wavenet is not None
    vector = model.speaker.decode(None if coded.speaker is None else torch.tensor([coded.speaker]))
    latents = model.quantizer.decode(torch.from_numpy(coded.codes.astype(np.int64))[None])
    return model.wavenet.generate(model.conditioning(latents, vector), vector)


def _side_by_side(networks: CpuNetworks, part: str, coded: Coded, threads: int, files: int) -> object:
    with ThreadPoolExecutor(min(threads, files)) as pool:
        return list(pool.map(lambda stream: _run(networks, part, coded, stream), range(files)))


def _one_pass(networks: CpuNetworks, coded: Coded, threads: int, files: int) -> object:
    """Every file from its beginning to its end, all of them through the WaveNet's kernel together."""
    assert networks.wavenet is not None
    vector, bank = networks.speakers.vector(coded.speaker), networks.wavenet.bank
    pieces = []
    for stream in range(files):
        latents = networks.quantizer.latents(networks.quantizer.start(), coded.codes)
        conditioning = networks.conditioning.push(networks.conditioning.start(vector), latents, True)
        pieces.append(Piece(conditioning, vector, stream=stream))
    return [bank.push(bank.start(), signal, True) for signal in networks.wavenet.generate(pieces, threads=threads)]
