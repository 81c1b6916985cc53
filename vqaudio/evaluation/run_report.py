"""The report of a training run: one HTML page with its curves beside a reference, its samples, and its recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from vqaudio import audio
from vqaudio.errors import AudioError, VqaudioError
from vqaudio.evaluation import page, run_figures
from vqaudio.evaluation.clips import DECIBELS, SECONDS, Clip, clips, evenly
from vqaudio.evaluation.run_figures import AHEAD, CODES, PROGRESS, Panel, panels, title
from vqaudio.evaluation.run_log import TRAIN, VALIDATION, Entry, TrainingRun, aligned, latest, read_log, shipped_curves
from vqaudio.training.recipe import Recipe

if TYPE_CHECKING:
    from markupsafe import Markup

HEARD = 8  # steps whose samples the page has, at most


@dataclass(frozen=True)
class Reference:
    """Curves to draw beside those of a run.

    Attributes:
        name: what they are, for people.
        entries: as in a log, each stage from where the run begins it.
    """

    name: str
    entries: Sequence[Entry]


def find_reference(run: TrainingRun, path: Path | None) -> Reference | None:
    """The curves in a file, or those that are shipped for such a run; None where these begin only after its steps.

    Raises:
        UsageError: for a file that cannot be read.
        VqaudioError: for one that is damaged, or has none of the stages of the run.
    """
    place = path or shipped_curves(run.plan)
    if place is None:
        return None
    entries = aligned(read_log(place), run.plan.stages)
    if path and not entries:
        raise VqaudioError(f"There are no curves in '{path}' of the stages of this run.")
    if not any(entry.step <= AHEAD * run.entries[-1].step for entry in entries):
        return None
    shipped = "the shipped {}, going on from trained weights" if run.plan.initial else "a run of {} from nothing"
    return Reference(str(path) if path else shipped.format(run.plan.name), entries)


@dataclass(frozen=True)
class Sample:
    """What a run let one hear at a step, or the sentence that says why it cannot be heard."""

    step: int
    clips: list[Clip]
    problem: str = ""


def render(run: TrainingRun, reference: Reference | None) -> str:
    """The page, which opens without a network."""
    beside = reference.entries if reference else []
    rate = run.plan.codec.sample_rate if isinstance(run.plan, Recipe) else audio.SAMPLE_RATE
    return str(
        page.render(
            "run.html",
            run=run,
            kind="codec" if isinstance(run.plan, Recipe) else "prior",
            reference=reference,
            last=run.entries[-1],
            times=_times(run.entries),
            columns=columns(run.entries, beside),
            rows=rows(run.entries, beside),
            groups=[(name, heading, svgs) for name, heading, svgs in _groups(run, beside) if svgs],
            stages=[stage for stage in run.plan.stages if stage.steps],
            samples=_samples(run, rate),
            clip_seconds=SECONDS,
            decibels=DECIBELS,
            sample_rate=rate,
        )
    )


def columns(entries: Sequence[Entry], reference: Sequence[Entry]) -> list[tuple[str, Entry]]:
    """What the table of the latest figures shows: headings and entries.

    They are the last of each kind and, behind each, those of the reference that were known at that step of the stage.
    """
    found = []
    for kind, name in ((TRAIN, "training"), (VALIDATION, "validation")):
        if own := latest(entries, kind):
            found.append((name, own))
            if other := latest(reference, kind, own):
                found.append(("reference", other))
    return found


def rows(entries: Sequence[Entry], reference: Sequence[Entry]) -> list[tuple[str, list[str]]]:
    """The table of the latest figures: names in words, and the figures of the columns, "-" where one is missing."""
    shown = [entry for _, entry in columns(entries, reference)]
    names = [name for panel in panels(entries) for name in panel.figures]
    return [
        (title(name), [f"{entry.values[name]:.4g}" if name in entry.values else "-" for entry in shown])
        for name in names
        if any(name in entry.values for entry in shown)
    ]


def _groups(run: TrainingRun, reference: Sequence[Entry]) -> Iterator[tuple[str, str, list[Markup]]]:
    """The sections with curves: name, heading, figures."""
    found = panels(run.entries)
    apart = (*CODES, *PROGRESS)
    yield "losses", "Losses", [_svg(p, run, reference) for p in found if p.name not in apart]
    yield "codes", "Use of the codes", [_svg(p, run, reference) for p in found if p.name in CODES]
    yield "progress", "Speed and gradients", [_svg(p, run, reference) for p in found if p.name in PROGRESS]


def _svg(panel: Panel, run: TrainingRun, reference: Sequence[Entry]) -> Markup:
    """A panel as SVG, and its content in words: the latest figures, which are in the table too."""
    figure = run_figures.curves(panel, run.entries, reference, run.plan.stages)
    said = "; ".join(
        f"{title(name)}, {kind}, step {entry.step}: {entry.values[name]:.4g}"
        for kind, entry in columns(run.entries, reference)
        for name in panel.figures
        if name in entry.values
    )
    return page.svg(figure, f"curve-{panel.name}", f"{panel.title} over steps. {said}.")


def _samples(run: TrainingRun, rate: int) -> list[Sample]:
    """The latest first; an original that stands there already is left out."""
    found, originals = [], set[str]()
    for step in reversed(evenly(list(run.samples), HEARD)):
        names = sorted(run.samples[step], key=lambda name: (name != "original", name))
        try:
            heard = clips({name: audio.read(run.samples[step][name], rate) for name in names}, rate)
            found.append(Sample(step, [clip for clip in heard if clip.sound not in originals]))
            originals.update(clip.sound for clip in heard if clip.name == "original")
        except AudioError as error:
            found.append(Sample(step, [], str(error)))
    return found


def _times(entries: Sequence[Entry]) -> list[datetime]:
    """When the first and the last line were logged, in local time; empty where that is not known."""
    known = [entry.time for entry in entries if entry.time is not None]
    return [known[0], known[-1]] if known else []
