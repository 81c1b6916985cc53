"""The training loop: stages of a recipe, one after the other, resumable to the step, whatever is trained.

A run folder holds `recipe.json`, `log.jsonl`, TensorBoard files, `last.safetensors` (everything needed to go on),
`best.safetensors` (the model that validated best in the current stage), `model.safetensors` (the model at the end), and
in `samples` audio that the model made.
Models are saved with the moving average of the weights. What is trained is a `Task`; `train` trains a codec or a prior.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from vqaudio.codec import check_device
from vqaudio.errors import RecipeError, TrainingError, UsageError, VqaudioError
from vqaudio.extras import tensorboard
from vqaudio.files import reason, remove_torn, replacing
from vqaudio.processes import ends, handling
from vqaudio.training import codec_task, distributed, prior_task
from vqaudio.training.checkpoint import (
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
    with_prefix,
    without_prefix,
)
from vqaudio.training.logs import Log
from vqaudio.training.optimizer import optimizers, update
from vqaudio.training.precision import fast_arithmetic
from vqaudio.training.recipe import (
    AnyPlan,
    OptimizerConfig,
    Plan,
    PriorRecipe,
    Recipe,
    Steps,
    difference,
    from_json,
    read_recipe,
    to_json,
)
from vqaudio.training.skips import MOST_IN_A_ROW, Skips
from vqaudio.training.task import Task
from vqaudio.training.window import Window

LOOK_EVERY = 10  # steps on a GPU, which must not be waited for at each

Prepare = Callable[[AnyPlan, torch.device, bool], tuple[AnyPlan, Callable[[], Task]]]


def train(
    recipe: Recipe | PriorRecipe,
    directory: str | os.PathLike[str],
    *,
    resume: bool = False,
    device: str = "cpu",
    quiet: bool = False,
) -> Path:
    """Train a codec or a prior: run its recipe to the end.

    Args:
        recipe: what to train on what.
        directory: the run folder.
        resume: go on from the run folder's last checkpoint.
        device: "cpu", "cuda" or "cuda:N"; under torchrun every process takes the GPU of its own rank.
        quiet: write to the run folder only.

    Returns:
        the path of the trained model.

    Raises:
        KeyboardInterrupt: after Ctrl-C, SIGTERM or a closed terminal, when everything is saved.
        RecipeError: for a run folder that is in use, or another recipe than the one to resume.
        TrainingError: for a corpus without audio, losses that are not finite ten times in a row, a disk that is full.
    """
    if isinstance(recipe, PriorRecipe):
        return run_plan(recipe, prior_task.prepare, directory, resume=resume, device=device, quiet=quiet)
    return run_plan(recipe, codec_task.prepare, directory, resume=resume, device=device, quiet=quiet)


def run_plan(
    plan: AnyPlan,
    prepare: Prepare[AnyPlan],
    directory: str | os.PathLike[str],
    *,
    resume: bool = False,
    device: str = "cpu",
    quiet: bool = False,
) -> Path:
    """Run a plan of any kind to its end, as `train` does.

    Args:
        plan: what to train on what.
        prepare: packs the corpus, given the plan, the device and whether to be quiet; gives the plan resolved, and
            what builds its task. Process 0 is through with it before the others begin.
        directory, resume, device, quiet: as in `train`.

    Returns:
        the path of the trained model.

    Raises:
        KeyboardInterrupt, RecipeError, TrainingError: as `train` does.
    """
    folder = Path(directory)
    place = distributed.start(check_device(distributed.own_device(device)))
    plan.check()
    _check_shares(plan)
    _check_folder(folder, resume)
    tensorboard()  # or its lack would be found out only when the folder is taken
    with distributed.first_alone():
        plan, build = prepare(plan, place, quiet)
    _check_folder(folder, resume)  # again, for packing may take hours
    if resume:
        _check_recipe(folder, plan)
    distributed.together()
    torch.manual_seed(plan.seed)
    task = build()
    if not resume:
        task.begin()
    run = Run(plan, task, folder, place)
    if distributed.rank() == 0:
        _start_folder(folder)
    if resume:
        path = folder / "last.safetensors"
        try:
            run.restore(*load_checkpoint(path))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:  # of another version, for example
            raise TrainingError(f"The checkpoint '{path}' does not fit the run.") from error
    elif distributed.rank() == 0:
        run.save()
        _take_folder(folder, plan)
    with Log(folder, quiet) if distributed.rank() == 0 else contextlib.nullcontext() as log:
        if log:
            log.say(_opening(run))
        path = run.train(log)
    distributed.stop()  # not after an error, of which the others do not know: leaving would wait for them
    return path


def _check_folder(folder: Path, resume: bool) -> None:
    """See that the run folder is free, or holds a run to resume."""
    path = folder / "recipe.json"
    if resume and not path.exists():
        raise RecipeError(f"There is no run in '{folder}' to resume.")
    if not resume and path.exists():
        raise RecipeError(f"'{folder}' holds a run already; resume it or choose another folder.")
    if not resume and any((folder / name).exists() for name in ("model.safetensors", "best.safetensors")):
        raise RecipeError(f"'{folder}' holds a model of which no run is there; choose another folder.")


def _check_recipe(folder: Path, plan: Plan) -> None:
    """See that the run folder holds a run of this recipe."""
    key = difference(read_recipe(folder / "recipe.json", type(plan)), from_json(to_json(plan), type(plan)))
    if key:
        raise RecipeError(
            f"The run in '{folder}' was started with another recipe, of another '{key}'; resume it with the same one, "
            "and the same --set."
        )


def _opening(run: Run) -> str:
    """What a run is about to do."""
    stages = ", ".join(f"{stage.name} {stage.steps:,}" for stage in run.plan.stages if stage.steps)
    return (
        f"{len(run.task.train_indices):,} utterances to train on, {len(run.task.held_out):,} held out; "
        f"{run.plan.total_steps:,} steps ({stages}) on {run.device}, {run.step:,} of them done."
    )


def _check_shares(plan: Plan) -> None:
    """See that the processes can share every batch equally."""
    for stage in plan.stages:
        if stage.steps and stage.batch_size % distributed.world():
            raise RecipeError(
                f"{distributed.world()} processes cannot share the batch of {stage.batch_size} of the stage "
                f"'{stage.name}' equally."
            )


def _start_folder(folder: Path) -> None:
    """Make the run folder, without what a run that was killed had half written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for place in (folder, folder / "samples"):
            remove_torn(place)
    except OSError as error:
        raise TrainingError(f"The run folder '{folder}' cannot be written: {reason(error)}.") from error


def _take_folder(folder: Path, plan: Plan) -> None:
    """Leave the resolved recipe: from here on the folder holds a run to resume."""
    with replacing(folder / "recipe.json", error=TrainingError) as path:
        path.write_text(to_json(plan))


class Run:
    """The state of a training run and what moves it forward."""

    def __init__(self, plan: Plan, task: Task, folder: Path, device: torch.device) -> None:
        self.plan, self.task, self.folder, self.device = plan, task, folder, device
        self.model = task.model
        self._start_average()
        self.step, self.best = 0, math.inf
        self.stage_index, self.stage_start = -1, 0
        self.optimizers: tuple[Optimizer, ...] = ()
        self.skips = Skips(device)
        self.look_every = LOOK_EVERY if device.type == "cuda" else 1
        self.interrupted = False

    def train(self, log: Log | None) -> Path:
        """Step until the end or an interruption; save then. Returns the path of the model."""
        path = self.folder / "model.safetensors"
        with handling(self._interrupt, signal.SIGINT, *ends()):
            if self.step < self.plan.total_steps:  # a run at its end may have been stopped before it wrote its model
                try:
                    self._advance(log)
                except torch.cuda.OutOfMemoryError as error:
                    stage = self.plan.stages[self.stage_index]
                    crops = distributed.share(stage.batch_size)
                    raise TrainingError(
                        f"The GPU has no memory for {crops} crops of {stage.crop_seconds:g} s at once; "
                        f"'stages.{stage.name}.batch_size' says how many there are in all processes."
                    ) from error
                self.save()
            if distributed.rank() == 0:
                self.task.save(path, self.average)
            distributed.together()  # who leaves before process 0 has saved may take it along
        if self.step < self.plan.total_steps:
            if log:
                log.say(f"Stopped at step {self.step} of {self.plan.total_steps}; --resume goes on from there.")
            raise KeyboardInterrupt
        return path

    def _advance(self, log: Log | None) -> None:
        """Step until the end or an interruption."""
        window = Window(self.task.figures)
        with fast_arithmetic(self.device, tf32=not self.plan.bf16):
            while self.step < self.plan.total_steps and not self._interrupted_anywhere():
                stage = self._enter_stage()
                losses, skipped = self._train_step(stage)
                self.step += 1
                window.add(losses, skipped)
                schedule = self.plan.schedule
                last = self.step - self.stage_start == stage.steps
                if self.step % schedule.log_every == 0 or last:
                    self._log_figures(window, stage, log)
                if self.step % self.look_every == 0 or last:
                    self._check_skips()
                with window.aside():
                    if self.step % schedule.validate_every == 0 or last:
                        self._validate(stage, log)
                    if self.step % schedule.checkpoint_every == 0:
                        self.save()
                    due = self.step % schedule.sample_every == 0 or last
                    if log and due and not self.interrupted:  # a WaveNet's may take longer than who stops it waits
                        self._log_samples(log)

    def _interrupted_anywhere(self) -> bool:
        """Whether to stop here. Processes on GPUs, which have to wait for the answer, ask only now and then."""
        if distributed.world() > 1 and self.step % self.look_every:
            return False
        return distributed.anywhere(self.interrupted)

    def _check_skips(self) -> None:
        """Give up where too many steps in a row were skipped."""
        if self.skips.in_a_row >= MOST_IN_A_ROW:
            self.save()
            distributed.together()  # as in `train`
            raise TrainingError(
                f"The loss or its gradient was not finite in {MOST_IN_A_ROW} steps in a row, up to step {self.step}; "
                f"'{self.folder / 'last.safetensors'}' has the weights before them, and --resume goes on from there."
            )

    def save(self) -> None:
        """Write the checkpoint `last.safetensors`."""
        if distributed.rank() != 0:
            return
        in_a_row = self.skips.in_a_row % MOST_IN_A_ROW  # who resumes after the last gets as many tries again
        progress = {"step": self.step, "best": self.best, "stage": self.stage_index}
        progress |= {"skipped": self.skips.total, "in_a_row": in_a_row}
        save_checkpoint(self.folder / "last.safetensors", progress, self.tensors())

    def tensors(self) -> dict[str, Tensor]:
        """Everything needed to go on but for the progress, by name."""
        tensors = with_prefix("model", self.model.state_dict()) | with_prefix("average", self.average)
        for optimizer in self.optimizers:
            tensors |= with_prefix("optimizer", optimizer_tensors(optimizer, self.model))
        tensors |= self.task.tensors()
        return tensors

    def restore(self, progress: dict[str, float], tensors: dict[str, Tensor]) -> None:
        """Go back to the state of a checkpoint."""
        self.model.load_state_dict(without_prefix("model", tensors))
        self.average = {name: t.to(self.device) for name, t in without_prefix("average", tensors).items()}
        self.step = int(progress["step"])
        self.skips = Skips(self.device, int(progress.get("skipped", 0)), int(progress.get("in_a_row", 0)))
        stage = int(progress["stage"])
        if self._stage_at(self.step) != stage:
            self.stage_index = stage  # finished; the next one starts as it does without an interruption
        elif self.step < self.plan.total_steps:
            self._enter_stage()
            for optimizer in self.optimizers:
                restore_optimizer(optimizer, self.model, without_prefix("optimizer", tensors))
            self.best = progress["best"]
        self.task.restore(tensors)

    def _stage_at(self, step: int) -> int:
        """Number of the stage that a step belongs to, that of all stages after the last step."""
        return bisect.bisect_right(list(itertools.accumulate(stage.steps for stage in self.plan.stages)), step)

    def _enter_stage(self) -> Steps:
        """The stage of the current step; where it is a new one, it starts from the averaged weights of the last."""
        index = self._stage_at(self.step)
        stage = self.plan.stages[index]
        if index != self.stage_index:
            if self.stage_index >= 0:
                self.model.load_state_dict(self.average)
            self.stage_index, self.best = index, math.inf
            self.stage_start = sum(before.steps for before in self.plan.stages[:index])
            self.task.enter(index)
            self.model.zero_grad(set_to_none=True)  # what the last stage left must not count when gradients are clipped
            self.optimizers = optimizers(self.model, self.plan.optimizer)
            self.forward: nn.Module = self.model
            if self.plan.compile:
                # every stage has shapes of its own, for which the graph is to be made anew and not for any shape
                self.forward = torch.compile(self.forward, dynamic=False)  # type: ignore[assignment]
                torch._dynamo.config.optimize_ddp = False  # or many processes would cut it into several graphs
            if distributed.world() > 1:
                self.forward = DistributedDataParallel(self.forward, find_unused_parameters=True)
        return stage

    def _train_step(self, stage: Steps) -> tuple[dict[str, Tensor], Tensor]:
        """One update of everything that learns, nowhere waiting for a GPU.

        Returns:
            the named losses, averaged over the micro-batches; 1.0 where they were not finite and nothing has changed.
        """
        config, within = self.plan.optimizer, self.step - self.stage_start
        distributed.seed(self.plan.seed, self.step)
        if self.task.begin_step(within):
            self._start_average()
        rate = stage.learning_rate * share_of_rate(config, within, stage.steps)
        self.model.zero_grad(set_to_none=True)
        before = [(tensor, tensor.detach().clone()) for tensor in self.task.moving()]
        losses: dict[str, Tensor] = {}
        for micro in range(config.accumulate):
            with self._unshared(micro + 1 < config.accumulate):
                found = self._micro_step(self.step * config.accumulate + micro, within)
            for name, value in found.items():
                losses[name] = losses.get(name, 0) + value.detach() / config.accumulate
        losses["gradient_norm"] = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        skipped = self.skips.judge([losses["total"], losses["gradient_norm"], *self.task.clip()])
        update(self.optimizers, rate, skipped)
        self.task.update(rate, skipped)
        with torch.no_grad():
            for tensor, old in before:
                tensor.copy_(torch.where(skipped > 0, old, tensor))
        self._update_average(config.weight_ema, skipped)
        return losses, skipped

    def _unshared(self, more: bool) -> contextlib.AbstractContextManager[None]:
        """Keep gradients from the other processes where more of them will be added."""
        if more and isinstance(self.forward, DistributedDataParallel):
            return self.forward.no_sync()
        return contextlib.nullcontext()

    def _micro_step(self, index: int, within: int) -> dict[str, Tensor]:
        """Add the gradients of one micro-batch; what the task tells of it."""
        with self._autocast():
            losses = self.task.losses(self.forward, index, within)
        (losses["total"] / self.plan.optimizer.accumulate).backward()
        with self._autocast():
            return losses | self.task.after_backward()

    def _start_average(self) -> None:
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}

    @torch.no_grad()
    def _update_average(self, decay: float, skipped: Tensor) -> None:
        share = min(decay, (1 + self.step - self.stage_start) / (10 + self.step - self.stage_start))
        weight = (1 - share) * (1 - skipped)
        for name, value in self.model.state_dict().items():
            self.average[name].lerp_(value, weight)

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """The model in evaluation mode, with the averaged weights."""
        own = {name: value.clone() for name, value in self.model.state_dict().items()}
        modes = {module: module.training for module in self.model.modules()}
        self.model.load_state_dict(self.average)
        self.model.eval()
        try:
            yield
        finally:
            self.model.load_state_dict(own)
            for module, training in modes.items():
                module.training = training

    def _log_figures(self, window: Window, stage: Steps, log: Log | None) -> None:
        """Tell of the steps since the last time; every process takes part."""
        seconds = stage.batch_size * stage.crop_seconds * self.plan.optimizer.accumulate
        figures = window.means(seconds) | {"skipped_steps": self.skips.total}
        if log:
            log.numbers(self.step, stage.name, "train", figures)

    @torch.no_grad()
    def _validate(self, stage: Steps, log: Log | None) -> None:
        """Figures on held-out speech; the best model of the stage is kept."""
        if distributed.rank() != 0:
            return
        steps = self.step - self.stage_start
        with self._averaged(), self._autocast():
            values = self.task.validate(steps)
        if self.task.ready(steps) and values["total"] < self.best:
            self.best = values["total"]
            self.task.save(self.folder / "best.safetensors", self.average)
        if log:
            log.numbers(self.step, stage.name, "validation", values)

    @torch.no_grad()
    def _log_samples(self, log: Log) -> None:
        with self._averaged():
            self.task.log_samples(log, self.step, self.step - self.stage_start)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.bf16)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Finish the step at Ctrl-C, SIGTERM or a closed terminal. Ctrl-C again stops at once; SIGTERM may come twice,
        from Slurm and from torchrun."""
        if self.interrupted and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.interrupted = True


def share_of_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """Share of the learning rate at a step of a stage: linear warm-up, then a cosine down to `config.final_share`."""
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    return warmup * (config.final_share + (1 - config.final_share) * 0.5 * (1 + math.cos(math.pi * step / steps)))


def main(recipe: Recipe | PriorRecipe) -> None:
    """Train a recipe that is run as a script, into `runs/` and its name, on a GPU where there is one."""
    try:
        if len(sys.argv) > 1:
            raise UsageError(f"'vqaudio train {sys.argv[0]}' has options; a recipe that is run as a script has none.")
        train(recipe, Path("runs") / recipe.name, device="cuda" if torch.cuda.is_available() else "cpu")
    except VqaudioError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
