"""How fast a recipe trains, stage by stage, how much of what the machine can multiply that is, and the memory it takes.

What is measured is the loop itself: each stage runs as a recipe of its own, on speech that comes with vqaudio, and its
task notes when steps begin. A measurement is the best of several runs of steps, the one that other processes disturbed
least; the first steps, in which networks are compiled and convolutions tried out, are left out.

Operations are the multiply-adds of convolutions and matrices, two each, forward and backward, as torch counts them
while a step is done; those of the discriminators and of their own step are among them. Optimisers, Fourier transforms
and whatever goes element by element are left out. They stand beside what a product of two large matrices reaches in the
same process, not beside the figure on a data sheet, which no program reaches.
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vqaudio import audio
from vqaudio.evaluation import benchmark
from vqaudio.evaluation.memory import device_memory
from vqaudio.training.codec_task import CodecTask
from vqaudio.training.corpus import Corpus
from vqaudio.training.loop import run_plan
from vqaudio.training.precision import fast_arithmetic
from vqaudio.training.recipe import Recipe, ScheduleConfig, Stage, resolve
from vqaudio.training.task import Task

UTTERANCES, UTTERANCE_SECONDS = 8, 10.0
NEVER = 1 << 40  # steps
PRODUCTS = 10  # runs of products, of which the best counts


@dataclass(frozen=True)
class Effort:
    """How long to measure on a kind of device.

    Attributes:
        warm_up: steps that do not count.
        steps: of each run, between which the host waits for the device.
        size: rows and columns of the matrices that tell what the device can do.
        products: of these, in a run of them.
    """

    warm_up: int
    steps: int
    size: int
    products: int


EFFORTS = {"cpu": Effort(1, 1, 2048, 1), "cuda": Effort(10, 20, 8192, 10)}


@dataclass(frozen=True)
class StageSpeed:
    """What was measured of one stage.

    Attributes:
        stage: its name.
        batch: crops in a step.
        seconds: of audio in a step.
        times: seconds that a step took, in each run.
        operations: of a step, forward and backward.
        limit: operations per second of a large product.
        memory: bytes that were allocated on a GPU at most; on the CPU by which resident memory rose, None where the
            system does not tell.
    """

    stage: str
    batch: int
    seconds: float
    times: tuple[float, ...]
    operations: int
    limit: float
    memory: int | None

    @property
    def speed(self) -> float:
        """Seconds of audio per second, in the best run."""
        return self.seconds / min(self.times)

    @property
    def flops(self) -> float:
        """Operations per second, in the best run."""
        return self.operations / min(self.times)

    @property
    def share(self) -> float:
        """Of the limit that was reached."""
        return self.flops / self.limit

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {**dataclasses.asdict(self), "speed": self.speed, "flops": self.flops, "share": self.share}


def measure(recipe: Recipe, device: str, *, repeat: int, batch: int | None = None) -> Iterator[StageSpeed]:
    """Measure every stage of a recipe.

    Args:
        recipe: whose corpus and initial model do not matter.
        device: "cpu", "cuda" or "cuda:N".
        repeat: runs of steps, of which the best counts.
        batch: crops in a micro-batch, of which the recipe may accumulate several for a step, in place of its own.

    Raises:
        RecipeError: for a recipe that makes no sense.
        TrainingError: where something is missing that training needs.
    """
    recipe.check()
    place = torch.device(device)
    limit = product_speed(place, torch.bfloat16 if recipe.bf16 else torch.float32)
    corpus = spoken(recipe.codec.sample_rate, max(stage.crop_seconds for stage in recipe.stages))
    for stage in recipe.stages:
        if batch is not None:
            stage = dataclasses.replace(stage, batch_size=batch)
        operations = count(alone(recipe, stage, 1), corpus, device)
        watch = Stopwatch(place)
        plan = alone(recipe, stage, watch.steps(repeat))
        task = functools.partial(TimedTask, watch)
        memory = device_memory(lambda: _run(plan, corpus, device, task), place)  # noqa: B023 # called at once
        items = stage.batch_size * recipe.optimizer.accumulate
        yield StageSpeed(stage.name, items, items * stage.crop_seconds, watch.times, operations, limit, memory)


def effort(device: str) -> Effort:
    """How long is measured on a device."""
    return EFFORTS[torch.device(device).type]


def machine(device: str) -> dict[str, Any]:
    """What is measured: the processor and the threads that PyTorch uses, or the GPU."""
    if device == "cpu":
        return {**benchmark.machine(), "threads": torch.get_num_threads()}
    return {**benchmark.machine(), "gpu": torch.cuda.get_device_name(device)}


def product_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a product of two large matrices, in the best of several runs."""
    own, times = EFFORTS[device.type], list[float]()
    with torch.inference_mode(), fast_arithmetic(device):
        matrix = torch.randn(own.size, own.size, device=device).to(dtype)
        product = torch.empty_like(matrix)  # new memory for every product would take a third of the time
        for _ in range(1 + PRODUCTS):
            started = _now(device)
            for _ in range(own.products):
                torch.mm(matrix, matrix, out=product)
            times.append(_now(device) - started)
    return 2 * own.size**3 * own.products / min(times[1:])


def alone(recipe: Recipe, stage: Stage, steps: int) -> Recipe:
    """A recipe of one stage at its full cost from the first step on, with next to nothing beside its steps."""
    corpus = dataclasses.replace(
        recipe.corpus, validation_speakers=0, validation_seconds=stage.crop_seconds, sample_seconds=0.0
    )
    stage = dataclasses.replace(stage, steps=steps, quantize_after=0)
    schedule = ScheduleConfig(NEVER, NEVER, NEVER, NEVER)
    return dataclasses.replace(recipe, corpus=corpus, stages=(stage,), schedule=schedule, initial="")


def count(recipe: Recipe, corpus: Corpus, device: str) -> int:
    """Operations of the first step of a recipe, by eager networks, which do what compiled ones do."""
    counter = Counter()
    _run(dataclasses.replace(recipe, compile=False), corpus, device, functools.partial(CountedTask, counter))
    return counter.operations


def spoken(sample_rate: int, crop_seconds: float) -> Corpus:
    """Some utterances of the speech that comes with vqaudio, no shorter than the crops."""
    length = round(max(UTTERANCE_SECONDS, crop_seconds) * sample_rate)
    samples = benchmark.speech(UTTERANCES * length / sample_rate, sample_rate)
    return Corpus(
        starts=np.arange(UTTERANCES) * length,
        lengths=np.full(UTTERANCES, length),
        speakers=np.arange(UTTERANCES) % 2,
        names=np.array([str(i) for i in range(UTTERANCES)]),
        speaker_names=np.array(["one", "other"]),  # as many as a table of speakers has at least
        key="",
        samples=audio.integers(samples),
        sample_rate=sample_rate,
    )


class Stopwatch:
    """Notes when runs of steps begin, with nothing left for the device to do."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.effort = device, EFFORTS[device.type]
        self._marks: list[float] = []

    def steps(self, runs: int) -> int:
        """How many steps it takes for so many runs; at the start of the last one the last run ends."""
        return self.effort.warm_up + runs * self.effort.steps + 1

    def begin(self, step: int) -> None:
        """Take note of step number `step`."""
        counted = step - self.effort.warm_up
        if counted >= 0 and counted % self.effort.steps == 0:
            self._marks.append(_now(self.device))

    @property
    def times(self) -> tuple[float, ...]:
        """Seconds that a step took, in each run."""
        return tuple(float(time) / self.effort.steps for time in np.diff(self._marks))


class TimedTask(CodecTask):
    """A codec that trains under a stopwatch."""

    def __init__(self, watch: Stopwatch, recipe: Recipe, corpus: Corpus, device: torch.device) -> None:
        super().__init__(recipe, corpus, device)
        self.watch = watch

    def begin_step(self, within: int) -> bool:
        self.watch.begin(within)
        return super().begin_step(within)


class Counter:
    """Adds up the operations of stretches of work."""

    def __init__(self) -> None:
        self.operations = 0
        self._mode = FlopCounterMode(display=False)

    def start(self) -> None:
        """Count from here."""
        self._mode.__enter__()

    def stop(self) -> None:
        """Count up to here."""
        self._mode.__exit__(None, None, None)
        self.operations += self._mode.get_total_flops()


class CountedTask(CodecTask):
    """A codec whose operations are counted while it trains, from the forward pass to the discriminators' gradients."""

    def __init__(self, counter: Counter, recipe: Recipe, corpus: Corpus, device: torch.device) -> None:
        super().__init__(recipe, corpus, device)
        self.counter = counter

    def losses(self, forward: nn.Module, index: int, within: int) -> dict[str, Tensor]:
        self.counter.start()
        return super().losses(forward, index, within)

    def after_backward(self) -> dict[str, Tensor]:
        others = super().after_backward()
        self.counter.stop()
        return others


def _run(recipe: Recipe, corpus: Corpus, device: str, build: Callable[[Recipe, Corpus, torch.device], Task]) -> None:
    """Train a recipe on a corpus that is packed already, and keep nothing."""

    def prepare(recipe: Recipe, place: torch.device, quiet: bool) -> tuple[Recipe, Callable[[], Task]]:
        resolved = resolve(recipe, corpus)
        return resolved, lambda: build(resolved, corpus, place)

    with tempfile.TemporaryDirectory() as folder:
        run_plan(recipe, prepare, Path(folder, "run"), device=device, quiet=True)


def _now(device: torch.device) -> float:
    """Seconds on a clock, when the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
