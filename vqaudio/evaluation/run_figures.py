"""The curves of a training run: a panel for each figure that it logs, stages marked, a reference in grey."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vqaudio.evaluation.figures import OTHERS, PANEL, SUBJECT, TICK_SIZE, dress, literal, plain_decades
from vqaudio.evaluation.run_log import TRAIN, VALIDATION, Entry, thin
from vqaudio.training.recipe import Steps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {  # of what is known, in the order of the page; what is not comes after, under its name
    "total": "total loss, weighted",
    "bits": "bits per code",
    "bits_uniform": "under the uniform prior",
    "mel": "log-mel distance of the conditioning",
    "spectral": "spectral loss of the decoder",
    "spectral_log_mel": "of it, log-mel",
    "spectral_log_magnitude": "of it, log-magnitude",
    "spectral_convergence": "of it, spectral convergence",
    "intelligibility": "what ESTOI misses, of 1",
    "pitch": "pitch of the decoder, nats and octaves",
    "wavenet": "WaveNet, nats per sample",
    "wavenet_shuffled": "with shuffled codes",
    "wavenet_bits": "WaveNet, bits per sample",
    "adversarial": "adversarial loss",
    "feature": "feature matching",
    "discriminator": "loss of the discriminators",
    "commitment": "commitment loss",
    "codebook": "codebook loss",
    "kl": "KL divergence",
    "uniform_kl": "KL from the uniform prior, nats per sample",
    "bound": "likelihood and KL, nats per sample",
    "perplexity": "perplexity of the codes",
    "used_codes": "codes in use",
    "times_real_time": "speed, times real time",
    "gradient_norm": "norm of the gradient",
    "skipped_steps": "steps skipped so far",
}
CODES = ("perplexity", "used_codes")
PROGRESS = ("times_real_time", "gradient_norm", "skipped_steps")  # of the work itself, neither loss nor codes
COUNTS = ("used_codes", "skipped_steps")
COMPANIONS = {"wavenet_shuffled": "wavenet", "bits_uniform": "bits"}  # drawn in the panel of another figure
COLOURS = (SUBJECT, *OTHERS)
REFERENCE = "#757575"
LINES = ("-", "--")  # by turns, for those who cannot tell the colours apart
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
    from matplotlib.ticker import EngFormatter, MaxNLocator

    figure = Figure(figsize=PANEL, layout="constrained")
    axes = figure.subplots()
    last = max(1, *(entry.step for entry in entries)) * (AHEAD if reference else 1.02)
    behind = [entry for entry in reference if entry.step <= last]
    for name, colour, line in zip(panel.figures, itertools.cycle(COLOURS), itertools.cycle(LINES), strict=False):
        _draw(axes, behind, name, REFERENCE, line)
        _draw(axes, entries, name, colour, line)
        own = title(name).removeprefix(f"{panel.title}, ")
        axes.plot([], [], color=colour, linestyle=line, label=literal(own))  # for the legend, once for both kinds
    if panel.name == "gradient_norm":
        axes.set_yscale("log")
        plain_decades(axes.yaxis)
    if panel.name in COUNTS:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(0, last)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    _mark(axes, stages, last)
    dress(axes, literal(panel.title), pad=18)  # above the names of the stages
    axes.set_xlabel("steps", fontsize=TICK_SIZE)
    if len(panel.figures) > 1:
        figure.legend(loc="outside lower center", ncols=2, fontsize=TICK_SIZE, frameon=False)
    return figure


def _draw(axes: Any, entries: Sequence[Entry], name: str, colour: str, line: str) -> None:
    """The curves of one figure, broken where it is not known and between stages, whose losses need not compare."""
    known = thin(entries, POINTS)
    for kind, style in ((TRAIN, {"alpha": 0.7, "linewidth": 0.9}), (VALIDATION, {"linewidth": 1.4})):
        of_kind = [entry for entry in known if entry.kind == kind]
        steps: list[float] = []
        values: list[float] = []
        for _, stage in itertools.groupby(of_kind, key=lambda entry: entry.stage):
            for entry in stage:
                steps.append(float(entry.step))
                values.append(entry.values.get(name, math.nan))
            steps.append(math.nan)
            values.append(math.nan)
        around = [values[max(0, i - 1) : i] + values[i + 1 : i + 2] for i in range(len(values))]
        # a point that no line leads to or from would not be seen without a dot
        dots = [i for i, near in enumerate(around) if kind == VALIDATION or all(map(math.isnan, near))]
        axes.plot(steps, values, color=colour, linestyle=line, marker=".", markevery=dots, **style)


def _mark(axes: Any, stages: Sequence[Steps], last: float) -> None:
    """Lines where stages begin, and their names above."""
    start = 0
    for index, stage in enumerate(stages):
        if stage.steps and start < last:
            if start:
                axes.axvline(start, color=REFERENCE, linestyle=":", linewidth=1)
            if min(stage.steps, last - start) > NARROW * last:
                height = 1.01 + 0.05 * (index % 2)  # by turns, for names that are wider than their stages
                axes.text(start, height, literal(stage.name), transform=axes.get_xaxis_transform(), fontsize=STAGE_SIZE)
        start += stage.steps


def _family(name: str) -> str:
    return re.sub(r"_\d+$", "", name)
