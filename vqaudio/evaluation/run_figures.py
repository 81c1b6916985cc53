"""The curves of a training run: a panel for each figure that it logs, stages marked, a reference in grey."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vqaudio.evaluation.figures import OTHERS, PANEL, SUBJECT, TICK_SIZE, dress
from vqaudio.evaluation.run_log import TRAIN, VALIDATION, Entry, thin
from vqaudio.training.recipe import Steps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {  # of what is known, in the order of the page; what is not comes after, under its name
    "total": "total loss, weighted",
    "bits": "bits per code",
    "mel": "log-mel distance of the conditioning",
    "spectral": "spectral loss of the decoder",
    "spectral_log_mel": "of it, log-mel",
    "spectral_log_magnitude": "of it, log-magnitude",
    "spectral_convergence": "of it, spectral convergence",
    "intelligibility": "what ESTOI misses, of 1",
    "pitch": "pitch of the decoder, nats and octaves",
    "wavenet": "WaveNet, nats per sample",
    "wavenet_bits": "WaveNet, bits per sample",
    "adversarial": "adversarial loss",
    "feature": "feature matching",
    "discriminator": "loss of the discriminators",
    "commitment": "commitment loss",
    "codebook": "codebook loss",
    "kl": "KL divergence",
    "perplexity": "perplexity of the codes",
    "used_codes": "codes in use",
    "times_real_time": "speed, times real time",
    "gradient_norm": "norm of the gradient",
    "skipped_steps": "steps skipped so far",
}
CODES = ("perplexity", "used_codes")
PROGRESS = ("times_real_time", "gradient_norm", "skipped_steps")  # of the work itself, neither loss nor codes
COMPANIONS = {"wavenet_shuffled": "wavenet", "bits_uniform": "bits"}  # drawn in the panel of another figure
COLOURS = (SUBJECT, *OTHERS)
REFERENCE = "#9a9a9a"
STAGE_SIZE = 7.0  # points
POINTS = 400  # of a curve at most, about; more would only make the page larger
AHEAD = 1.25  # how far the steps go beyond those of the run, to see where the reference goes
NARROW = 0.05  # share of the width below which a stage goes without its name


@dataclass(frozen=True)
class Panel:
    """Figures that are drawn together.

    Attributes:
        name: for what belongs to it; letters, figures and underscores.
        title: in words.
        figures: names in the log.
    """

    name: str
    title: str
    figures: list[str]


def panels(entries: Sequence[Entry]) -> list[Panel]:
    """Panels for all figures that are not zero throughout: those of several quantisers share one."""
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for entry in entries for name in entry.values):
        if any(entry.values.get(name) for entry in entries):
            found.setdefault(COMPANIONS.get(name) or _family(name), []).append(name)
    order = [*TITLES, *found]
    return [Panel(name, title(name), found[name]) for name in sorted(found, key=order.index)]


def title(name: str) -> str:
    """The name of a figure of the log in words; those of one quantiser have its number behind."""
    family = _family(name)
    number = name.removeprefix(family).replace("_", ", quantiser ")
    return TITLES.get(family, family.replace("_", " ")) + number


def curves(panel: Panel, entries: Sequence[Entry], reference: Sequence[Entry], stages: Sequence[Steps]) -> Figure:
    """A panel: validation as dots on a line, training as a paler one, over the steps of the run.

    Args:
        entries: of the run.
        reference: those of another one, drawn in grey; may be empty.
        stages: of the run.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=PANEL, layout="constrained")
    axes = figure.subplots()
    last = max(entry.step for entry in entries) * (AHEAD if reference else 1.02)
    behind = [entry for entry in reference if entry.step <= last]
    for name, colour in zip(panel.figures, itertools.cycle(COLOURS), strict=False):
        _draw(axes, behind, name, REFERENCE)
        _draw(axes, entries, name, colour, title(name))
    axes.set_xlim(0, last)
    _mark(axes, stages, last)
    dress(axes, panel.title, pad=18)  # above the names of the stages
    axes.set_xlabel("steps", fontsize=TICK_SIZE)
    if len(panel.figures) > 1:
        axes.legend(fontsize=TICK_SIZE, frameon=False)
    return figure


def _draw(axes: Any, entries: Sequence[Entry], name: str, colour: str, label: str = "") -> None:
    """The curves of one figure, broken between stages, whose losses need not compare."""
    known = [entry for entry in thin(entries, POINTS) if name in entry.values]
    for kind, style in ((TRAIN, {"alpha": 0.5, "linewidth": 1}), (VALIDATION, {"marker": ".", "linewidth": 1.4})):
        of_kind = [entry for entry in known if entry.kind == kind]
        steps, values = [], []
        for _, stage in itertools.groupby(of_kind, key=lambda entry: entry.stage):
            for entry in stage:
                steps.append(float(entry.step))
                values.append(entry.values[name])
            steps.append(math.nan)
            values.append(math.nan)
        axes.plot(steps, values, color=colour, **style)
    if label:
        axes.plot([], [], color=colour, label=label)  # for the legend, once for both kinds


def _mark(axes: Any, stages: Sequence[Steps], last: float) -> None:
    """Lines where stages begin, and their names above."""
    start = 0
    for index, stage in enumerate(stages):
        if stage.steps and start < last:
            if start:
                axes.axvline(start, color=REFERENCE, linestyle=":", linewidth=1)
            if min(stage.steps, last - start) > NARROW * last:
                height = 1.01 + 0.05 * (index % 2)  # by turns, for names that are wider than their stages
                axes.text(start, height, stage.name, transform=axes.get_xaxis_transform(), fontsize=STAGE_SIZE)
        start += stage.steps


def _family(name: str) -> str:
    return re.sub(r"_\d+$", "", name)
