"""The training loop: stages of a recipe, one after the other, resumable to the step.

A run folder holds `recipe.json`, `log.jsonl`, TensorBoard files, `last.safetensors` (everything needed to go on),
`best.safetensors` (the codec that validated best in the current stage) and `model.safetensors` (the codec at the end).
Codecs are saved with the moving average of the weights.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from vqaudio.codec import check_device
from vqaudio.errors import RecipeError, TrainingError, VqaudioError
from vqaudio.extras import tensorboard
from vqaudio.models.objective import Objective
from vqaudio.models.quantizer import histogram, perplexity
from vqaudio.models.vqvae import PARTS, VQVAE, Output
from vqaudio.training import distributed
from vqaudio.training.adversary import Adversary
from vqaudio.training.checkpoint import (
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
    with_prefix,
    without_prefix,
)
from vqaudio.training.corpus import Corpus, Crops, pack, validation_items
from vqaudio.training.logs import Log
from vqaudio.training.losses import ramped, wanted, weighted
from vqaudio.training.optimizer import optimizers
from vqaudio.training.recipe import OptimizerConfig, Recipe, Stage, resolve, to_json
from vqaudio.training.validation import validate
from vqaudio.weights import load_model, save_model

COUNTS = "counts_"  # and the number of a quantiser: how often each of its codes occurs
INITIAL_BATCHES = 8  # batches of latents from which the codebook starts


def train(
    recipe: Recipe, directory: str | os.PathLike[str], *, resume: bool = False, device: str = "cpu", quiet: bool = False
) -> Path:
    """Run a recipe to its end.

    Args:
        recipe: what to train on what.
        directory: the run folder.
        resume: go on from the run folder's last checkpoint.
        device: "cpu", "cuda" or "cuda:N"; under torchrun every process takes the GPU of its own rank.
        quiet: write to the run folder only.

    Returns:
        the path of the trained codec.

    Raises:
        KeyboardInterrupt: after Ctrl-C or SIGTERM, when everything is saved.
        RecipeError: for a run folder that is in use, or another recipe than the one to resume.
        TrainingError: for a corpus without audio, a loss that is not finite, a disk that is full.
    """
    folder = Path(directory)
    place = distributed.start(check_device(device))
    try:
        recipe.check()
        with distributed.first_alone():
            corpus = pack(recipe.corpus, recipe.codec.sample_rate, quiet=quiet)
        recipe = resolve(recipe, corpus)
        _check_folder(folder, recipe, resume)
        tensorboard()  # or its lack would be found out only when the folder is taken
        distributed.together()
        run = Run(recipe, corpus, folder, place)
        if resume:
            run.restore(*load_checkpoint(folder / "last.safetensors"))
        elif distributed.rank() == 0:
            _start_folder(folder, recipe)
            run.save()
        with Log(folder, quiet) if distributed.rank() == 0 else contextlib.nullcontext() as log:
            return run.train(log)
    finally:
        distributed.stop()


def _check_folder(folder: Path, recipe: Recipe, resume: bool) -> None:
    """See that the run folder is free, or holds the run to resume."""
    path = folder / "recipe.json"
    if resume and not path.exists():
        raise RecipeError(f"There is no run in '{folder}' to resume.")
    if resume and path.read_text() != to_json(recipe):
        raise RecipeError(f"The run in '{folder}' was started with another recipe; resume it with the same one.")
    if not resume and path.exists():
        raise RecipeError(f"'{folder}' holds a run already; resume it or choose another folder.")


def _start_folder(folder: Path, recipe: Recipe) -> None:
    """Make the run folder with the resolved recipe in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.json").write_text(to_json(recipe))
    except OSError as error:
        raise TrainingError(f"The run folder '{folder}' cannot be written: {error}.") from error


class Run:
    """The state of a training run and what moves it forward."""

    def __init__(self, recipe: Recipe, corpus: Corpus, folder: Path, device: torch.device) -> None:
        self.recipe, self.folder, self.device, self.corpus = recipe, folder, device, corpus
        torch.manual_seed(recipe.seed)
        self.model = VQVAE(recipe.codec)
        if recipe.initial:
            load_parts(self.model, recipe.initial)
        self.model.to(device)
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        codec = recipe.codec
        self.objective = Objective(codec.sample_rate, codec.hop, codec.conditioning.mels).to(device)
        adversarial = any(stage.weights.adversarial > 0 for stage in recipe.stages)
        self.adversary = Adversary(recipe.optimizer, device) if adversarial else None
        self.train_indices, self.held_out = corpus.split(recipe.corpus.validation_speakers)
        self.step, self.best = 0, math.inf
        self.stage_index, self.stage_start = -1, 0
        self.optimizers: tuple[Optimizer, ...] = ()
        self.interrupted = False

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.recipe.stages)

    def train(self, log: Log | None) -> Path:
        """Step until the end or an interruption; save then. Returns the path of the codec."""
        if self.step < self.total_steps:  # a run at its end may have been stopped before it wrote its codec
            self._advance(log)
            self.save()
        path = self.folder / "model.safetensors"
        if distributed.rank() == 0:
            save_model(path, self.recipe.codec, self.average, force=True)
        if self.step < self.total_steps:
            if log:
                log.say(f"Stopped at step {self.step} of {self.total_steps}; --resume goes on from there.")
            raise KeyboardInterrupt
        return path

    def _advance(self, log: Log | None) -> None:
        """Step until the end or an interruption."""
        window = Window()
        with self._signals():
            while self.step < self.total_steps and not distributed.anywhere(self.interrupted):
                stage = self._enter_stage()
                try:
                    losses = self._train_step(stage)
                except TrainingError:
                    self.save()
                    raise
                self.step += 1
                if log:
                    window.add(losses)
                schedule = self.recipe.schedule
                last = self.step - self.stage_start == stage.steps
                if log and self.step % schedule.log_every == 0:
                    log.numbers(self.step, stage.name, "train", window.means(self._batch_seconds(stage)))
                if self.step % schedule.validate_every == 0 or last:
                    self._validate(stage, log)
                if log and self.step % schedule.sample_every == 0:
                    self._log_samples(stage, log)
                if self.step % schedule.checkpoint_every == 0:
                    self.save()

    def save(self) -> None:
        """Write the checkpoint `last.safetensors`."""
        if distributed.rank() != 0:
            return
        tensors = with_prefix("model", self.model.state_dict()) | with_prefix("average", self.average)
        for optimizer in self.optimizers:
            tensors |= with_prefix("optimizer", optimizer_tensors(optimizer, self.model))
        if self.adversary:
            tensors |= with_prefix("adversary", self.adversary.tensors())
        tensors["random"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random_cuda"] = torch.cuda.get_rng_state(self.device)
        progress = {"step": self.step, "best": self.best, "stage": self.stage_index}
        save_checkpoint(self.folder / "last.safetensors", progress, tensors)

    def restore(self, progress: dict[str, float], tensors: dict[str, Tensor]) -> None:
        """Go back to the state of a checkpoint."""
        self.model.load_state_dict(without_prefix("model", tensors))
        self.average = {name: t.to(self.device) for name, t in without_prefix("average", tensors).items()}
        self.step = int(progress["step"])
        stage = int(progress["stage"])
        if self._stage_at(self.step) != stage:
            self.stage_index = stage  # finished; the next one starts as it does without an interruption
        elif self.step < self.total_steps:
            self._enter_stage()
            for optimizer in self.optimizers:
                restore_optimizer(optimizer, self.model, without_prefix("optimizer", tensors))
            self.best = progress["best"]
        if self.adversary:
            self.adversary.restore(without_prefix("adversary", tensors))
        torch.set_rng_state(tensors["random"])
        if "random_cuda" in tensors and self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random_cuda"], self.device)

    def _stage_at(self, step: int) -> int:
        """Number of the stage that a step belongs to, that of all stages after the last step."""
        return bisect.bisect_right(list(itertools.accumulate(stage.steps for stage in self.recipe.stages)), step)

    def _enter_stage(self) -> Stage:
        """The stage of the current step; where it is a new one, it starts from the averaged weights of the last."""
        index = self._stage_at(self.step)
        stage = self.recipe.stages[index]
        if index != self.stage_index:
            if self.stage_index >= 0:
                self.model.load_state_dict(self.average)
            self.stage_index, self.best = index, math.inf
            self.stage_start = sum(before.steps for before in self.recipe.stages[:index])
            for name in PARTS:
                if part := self.model.part(name):
                    part.train(name in stage.parts)
                    part.requires_grad_(name in stage.parts)
            self.model.zero_grad(set_to_none=True)  # what the last stage left must not count when gradients are clipped
            self.optimizers = optimizers(self.model, self.recipe.optimizer)
            self.forward: nn.Module = self.model
            if self.recipe.compile:
                self.forward = torch.compile(self.forward)  # type: ignore[assignment]
            if distributed.world() > 1:
                self.forward = DistributedDataParallel(self.forward, find_unused_parameters=True)
            codec = self.recipe.codec
            length = round(stage.crop_seconds * codec.frame_rate) * codec.hop
            crop = (self.corpus, self.train_indices, length, self.recipe.seed, self.device)
            self.crops = Crops(*crop, distributed.rank(), distributed.world())
            self.validation = validation_items(
                self.corpus, self.held_out, self.recipe.corpus.validation_seconds, length, self.device
            )
        return stage

    def _train_step(self, stage: Stage) -> dict[str, Tensor]:
        """One update of the weights; the named losses, averaged over the micro-batches."""
        config, within = self.recipe.optimizer, self.step - self.stage_start
        if stage.quantize_after and within == stage.quantize_after:
            self._start_codebook(stage)
        rate = stage.learning_rate * schedule(config, within, stage.steps)
        self.model.zero_grad(set_to_none=True)
        losses: dict[str, Tensor] = {}
        for micro in range(config.accumulate):
            for name, value in self._micro_step(stage, self.step * config.accumulate + micro, rate).items():
                losses[name] = losses.get(name, 0) + value.detach() / config.accumulate
        losses["gradient_norm"] = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        self._check_finite(losses["gradient_norm"])
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        self._update_average(config.weight_ema)
        return losses

    def _micro_step(self, stage: Stage, index: int, rate: float) -> dict[str, Tensor]:
        """Add the gradients of one micro-batch; its named losses, and how often each code occurs in it (K,).

        Discriminators take their own step at once, at the learning rate `rate`.
        """
        waveform, speaker = self._batch(stage, index)
        within = self.step - self.stage_start
        with self._autocast():
            output: Output = self.forward(
                waveform,
                speaker,
                wanted=wanted(stage),
                objective=self.objective,
                quantize=within >= stage.quantize_after,
            )
            losses = dict(output.losses)
            rival = self.adversary if stage.weights.adversarial > 0 and output.decoded is not None else None
            if rival and output.decoded is not None:
                losses |= rival.judge(output.decoded, waveform)
            losses["total"] = weighted(losses, ramped(stage, within))
        self._check_finite(losses["total"])
        (losses["total"] / self.recipe.optimizer.accumulate).backward()
        if rival and output.decoded is not None:
            with self._autocast():
                losses["discriminator"] = rival.learn(output.decoded.detach(), waveform, rate)
            self._check_finite(losses["discriminator"])
        if output.quantized is not None:
            size = self.recipe.codec.quantizer.codebook_size
            losses |= {
                f"{COUNTS}{i}": histogram(codes, size) for i, codes in enumerate(output.quantized.codes.unbind(1))
            }
        return losses

    def _check_finite(self, value: Tensor) -> None:
        if distributed.anywhere(not torch.isfinite(value)):
            raise TrainingError(
                f"The loss or its gradient is not finite at step {self.step}; "
                f"the state before that step is saved in '{self.folder / 'last.safetensors'}'."
            )

    def _batch(self, stage: Stage, index: int) -> tuple[Tensor, Tensor]:
        """Crops (B, 1, T) at a random level, and their speakers (B,)."""
        waveform, speaker = self.crops.batch(index, stage.batch_size)
        low, high = self.recipe.gain_range_db
        level = low + (high - low) * torch.rand(len(waveform), 1, 1, device=waveform.device)
        return (waveform * 10 ** (level / 20)).clamp(-1, 1), speaker

    def _start_codebook(self, stage: Stage) -> None:
        with torch.no_grad():
            batches = [self._batch(stage, -1 - i)[0] for i in range(INITIAL_BATCHES)]
            self.model.quantizer.initialize(torch.cat([self.model.encoder(batch) for batch in batches]))
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}

    @torch.no_grad()
    def _update_average(self, decay: float) -> None:
        share = min(decay, (1 + self.step - self.stage_start) / (10 + self.step - self.stage_start))
        for name, value in self.model.state_dict().items():
            self.average[name].lerp_(value, 1 - share)

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """The model in evaluation mode, with the averaged weights."""
        own = {name: value.clone() for name, value in self.model.state_dict().items()}
        modes = {name: part.training for name in PARTS if (part := self.model.part(name))}
        self.model.load_state_dict(self.average)
        self.model.eval()
        try:
            yield
        finally:
            self.model.load_state_dict(own)
            for name, training in modes.items():
                part = self.model.part(name)
                assert part is not None
                part.train(training)

    @torch.no_grad()
    def _validate(self, stage: Stage, log: Log | None) -> None:
        """Losses on held-out speech, the codes in use, and whether the decoder listens to them."""
        if distributed.rank() != 0:
            return
        quantize = self.step - self.stage_start > stage.quantize_after
        with self._averaged(), self._autocast(), torch.random.fork_rng(self._devices()):
            values = validate(self.model, self.validation, self.objective, stage, quantize)
        if quantize and values["total"] < self.best:
            self.best = values["total"]
            save_model(self.folder / "best.safetensors", self.recipe.codec, self.average, force=True)
        if log:
            log.numbers(self.step, stage.name, "validation", values)

    @torch.no_grad()
    def _log_samples(self, stage: Stage, log: Log) -> None:
        """An original and what the decoders of the stage make of it."""
        waveform, speaker = self.validation[0][:1], self.validation[1][:1]
        with self._averaged():
            output = self.model(waveform, speaker, wanted=("spectral",))
            sounds = {"original": waveform, "spectral": output.decoded}
            if "wavenet" in wanted(stage) and self.model.wavenet is not None:
                sounds["wavenet"] = self.model.wavenet.generate(output.conditioning, output.speaker)
        for name, sound in sounds.items():
            if sound is not None:
                log.audio(self.step, name, sound[0, 0], self.recipe.codec.sample_rate)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16)

    def _devices(self) -> list[torch.device]:
        """The devices, beside the CPU, whose random numbers a run draws."""
        return [self.device] if self.device.type == "cuda" else []

    def _batch_seconds(self, stage: Stage) -> float:
        return stage.batch_size * stage.crop_seconds * self.recipe.optimizer.accumulate * distributed.world()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Finish the step at Ctrl-C or SIGTERM; a second one stops at once."""

        def interrupt(number: int, frame: FrameType | None) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True

        try:
            before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # signals belong to the main thread
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Window:
    """Named numbers since they were last asked for, without waiting for the device in between."""

    def __init__(self) -> None:
        self._items: list[dict[str, Tensor]] = []
        self._since = time.monotonic()

    def add(self, values: dict[str, Tensor]) -> None:
        """Take the numbers of one step."""
        self._items.append(values)

    def means(self, batch_seconds: float) -> dict[str, float]:
        """The mean of each, the perplexity of all codes together, and the seconds of audio trained on per second."""
        means: dict[str, float] = {}
        for name in self._items[-1]:
            mean = torch.stack([item[name] for item in self._items if name in item]).mean(0)
            if name.startswith(COUNTS):
                stage = name.removeprefix(COUNTS)
                means |= {
                    f"perplexity_{stage}": float(perplexity(mean)),
                    f"used_codes_{stage}": float((mean > 0).sum()),
                }
            else:
                means[name] = float(mean)
        means["times_real_time"] = len(self._items) * batch_seconds / (time.monotonic() - self._since)
        self._items, self._since = [], time.monotonic()
        return means


def schedule(config: OptimizerConfig, step: int, steps: int) -> float:
    """Share of the learning rate at a step of a stage: linear warm-up, then a cosine down to `config.final_share`."""
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    return warmup * (config.final_share + (1 - config.final_share) * 0.5 * (1 + math.cos(math.pi * step / steps)))


def load_parts(model: VQVAE, path: str) -> None:
    """Start the parts that a saved codec has from its weights; parts that it lacks keep their own.

    Raises:
        ModelError: where there is no such codec.
        RecipeError: where a part has another shape.
    """
    own = model.state_dict()
    saved = {name: torch.from_numpy(value) for name, value in load_model(path).state.items() if name in own}
    for name, value in saved.items():
        if own[name].shape != value.shape:
            raise RecipeError(f"'{path}' does not fit the recipe: '{name}' has another shape.")
    model.load_weights({**own, **saved})


def main(recipe: Recipe) -> None:
    """Train a recipe that is run as a script, into `runs/` and its name, on a GPU where there is one."""
    try:
        train(recipe, Path("runs") / recipe.name, device="cuda" if torch.cuda.is_available() else "cpu")
    except VqaudioError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
