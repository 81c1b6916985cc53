"""A training run as its folder tells of it: the recipe, every line of the log once, and the samples.

Reference curves are a log made thin: the same lines, without times of day, the training figures as means over stretches
of steps. Those of the recipes whose models come with vqaudio lie beside them: `pretrained/RECIPE.curves.jsonl` of runs
that went on from trained weights, and `pretrained/RECIPE.start.curves.jsonl` of one that began with none.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from vqaudio import shipped
from vqaudio.errors import RecipeError, UsageError, VqaudioError
from vqaudio.files import reason, replacing
from vqaudio.training.recipe import Plan, PriorRecipe, Recipe, Steps, from_json
from vqaudio.training.samples import find_samples

TRAIN, VALIDATION = "train", "validation"  # kinds of figures
POINTS = 120  # that thin training curves have at most, about
DIGITS = 6  # of a thin figure, as many as the log has


@dataclass(frozen=True)
class Entry:
    """A line of a log.

    Attributes:
        step: of the run, at which the figures were known.
        stage: its name.
        kind: `TRAIN`, means since the entry before, or `VALIDATION`.
        values: the figures by name.
        time: of day, local; reference curves have none.
    """

    step: int
    stage: str
    kind: str
    values: dict[str, float]
    time: datetime | None = None


@dataclass(frozen=True)
class TrainingRun:
    """A run that has logged something.

    Attributes:
        folder: of the run.
        plan: its recipe.
        entries: of its log, in the order of the steps.
        samples: files by name, by step.
    """

    folder: Path
    plan: Recipe | PriorRecipe
    entries: list[Entry]
    samples: dict[int, dict[str, Path]]


def read_run(folder: Path) -> TrainingRun:
    """Read a run folder; the run may still be going on.

    Raises:
        UsageError: where there is no run.
        VqaudioError: for a run that has logged nothing, or whose recipe or log is damaged.
    """
    recipe, log = folder / "recipe.json", folder / "log.jsonl"
    if not recipe.is_file():
        raise UsageError(f"There is no training run in '{folder}'.")
    entries = read_log(log) if log.exists() else []
    if not entries:
        raise VqaudioError(f"The run in '{folder}' has logged nothing yet.")
    return TrainingRun(folder, _plan(recipe), entries, find_samples(folder))


def read_log(path: Path) -> list[Entry]:
    """The entries of a log or of reference curves, in the order of the steps.

    Where a run was resumed before steps that it had logged already, the later lines count. A last line that a kill
    tore is passed over.

    Raises:
        UsageError: for a file that cannot be read.
        VqaudioError: for one that is damaged.
    """
    try:
        *lines, torn = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        raise UsageError(f"The log '{path}' cannot be read: {reason(error)}.") from error
    entries: list[Entry] = []
    for number, line in enumerate([*lines, torn], 1):
        try:
            entry = _entry(line)
        except (ValueError, OverflowError, OSError) as error:
            if number > len(lines):
                break
            raise VqaudioError(f"Line {number} of '{path}' is damaged: it is no entry of a log.") from error
        # at the same step a run logs "train" first, so the alphabet gives the order
        while entries and (entries[-1].step, entries[-1].kind) >= (entry.step, entry.kind):
            entries.pop()
        entries.append(entry)
    return entries


def thin(entries: Sequence[Entry], points: int = POINTS) -> list[Entry]:
    """The same curves with fewer points: validation as it is, training as means over so many stretches of steps.

    A stretch lies in one stage and has the step of its end. Figures that are not finite are left out.
    """
    train = [entry for entry in entries if entry.kind == TRAIN]
    length = math.ceil(len(train) / points)
    found = [_mean([entry]) for entry in entries if entry.kind == VALIDATION]
    for _, stage in itertools.groupby(train, key=lambda entry: entry.stage):
        stretch = list(stage)
        found += [_mean(stretch[start : start + length]) for start in range(0, len(stretch), length)]
    return sorted(found, key=lambda entry: (entry.step, entry.kind))


def aligned(reference: Sequence[Entry], stages: Sequence[Steps]) -> list[Entry]:
    """The entries of a reference, each stage of it at the step at which a run with the given stages begins that stage.

    A stage that the reference has several times goes on where it ended. Left out are stages that the run has not, and
    what would reach into its next one.
    """
    places: dict[str, tuple[int, float]] = {}
    start = before = 0
    for number, stage in enumerate(stages):
        more = any(later.steps for later in stages[number + 1 :])
        if stage.steps:
            places[stage.name] = (start, stage.steps if more else math.inf)
        start += stage.steps
    done, found = Counter[str](), []
    for name, group in itertools.groupby(reference, key=lambda entry: entry.stage):
        entries = list(group)
        start, steps = places.get(name, (0, 0))
        within = [replace(entry, step=entry.step - before + done[name]) for entry in entries]
        found += [replace(entry, step=entry.step + start) for entry in within if entry.step <= steps]
        before, done[name] = entries[-1].step, within[-1].step
    return sorted(found, key=lambda entry: (entry.step, entry.kind))


def write_curves(path: Path, entries: Sequence[Entry], force: bool, append: bool = False) -> None:
    """Write thin curves as JSON lines, rounded, in place of a file or behind the curves that it holds.

    Raises:
        UsageError: where the file exists and `force` is not given, or to append where it cannot be read.
        VqaudioError: where it is damaged or cannot be written.
    """
    there = read_log(path) if append else []
    before = there[-1].step if there else 0
    behind = [replace(entry, step=entry.step + before) for entry in thin(entries)]
    with replacing(path, force or append) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for entry in there + behind:
            figures = {name: float(f"{value:.{DIGITS}g}") for name, value in entry.values.items()}
            file.write(json.dumps({"step": entry.step, "stage": entry.stage, "kind": entry.kind} | figures) + "\n")


def shipped_curves(plan: Plan) -> Path | None:
    """The reference curves of a recipe that begins as this one does, if such come with vqaudio."""
    path = shipped.FOLDER / f"{plan.name}{'' if plan.initial else '.start'}.curves.jsonl"
    return path if path.is_file() else None


def latest(entries: Sequence[Entry], kind: str, until: Entry | None = None) -> Entry | None:
    """The last entry of a kind; of those in the stage of an entry and up to its step, if one is given; None where there
    is none."""
    known = (entry for entry in reversed(entries) if entry.kind == kind)
    return next((e for e in known if until is None or (e.stage == until.stage and e.step <= until.step)), None)


def _mean(entries: Sequence[Entry]) -> Entry:
    names = dict.fromkeys(name for entry in entries for name in entry.values)
    values = {}
    for name in names:
        known = [entry.values[name] for entry in entries if math.isfinite(entry.values.get(name, math.nan))]
        if known:
            values[name] = sum(known) / len(known)
    last = entries[-1]
    return Entry(last.step, last.stage, last.kind, values)


def _entry(line: str) -> Entry:
    """A line's entry; ValueError, or what a time out of range raises, where it is none."""
    fields: Any = json.loads(line)
    match fields:
        case {"step": int(step), "stage": str(stage), "kind": "train" | "validation" as kind, **rest}:
            values = {str(name): float(value) for name, value in rest.items() if isinstance(value, int | float)}
            seconds = values.pop("time", None)
            time = None if seconds is None else datetime.fromtimestamp(seconds).astimezone()
            if len(values) == len(rest.keys() - {"time"}):
                return Entry(step, stage, kind, values, time)
    raise ValueError(line)


def _plan(path: Path) -> Recipe | PriorRecipe:
    try:
        text = path.read_text(encoding="utf-8")
        return from_json(text, PriorRecipe) if "prior" in json.loads(text) else from_json(text, Recipe)
    except (ValueError, TypeError, RecipeError) as error:
        raise VqaudioError(f"'{path}' is damaged: {str(error).rstrip('.')}.") from error
