"""The rate-quality figure of `vqaudio evaluate`: every codec's bit rate against every metric."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqaudio.evaluation.estimates import Estimate
from vqaudio.evaluation.metrics import Metric
from vqaudio.evaluation.results import Evaluation, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANEL = (4.0, 3.0)  # inches
COLUMNS = 3
DPI = 150  # of a PNG
SUBJECT, ORIGINAL = "#b3261e", "#5f5f5f"  # colours of the codec that it is about, and of the originals
OTHERS = ("#0b5fa5", "#b35c00", "#00755e", "#7a3e9d", "#5c5c00", "#8c4a3c", "#3d5a80")  # of the families beside it
GRID = "#e3e3e3"
MARGIN = 1.6  # the bit rates shown reach so many times further, so that labels have room
TITLE_SIZE, TICK_SIZE, LABEL_SIZE = 9.5, 8.5, 8.5  # points
LABEL_DISTANCE, POINT = 7.0, 4.5  # points: from a codec's point to its label, and half of what a point takes
TICKS = (1.0, 2.0, 5.0)  # of each decade
PLACES = [(1, 0), (0, 1), (0, -1), (-1, 0), (0.8, 0.8), (0.8, -0.8), (-0.8, 0.8), (-0.8, -0.8)]  # of a label


@dataclass(frozen=True)
class Point:
    """A codec in a panel."""

    name: str
    family: str
    rate: float  # kb/s
    estimate: Estimate
    colour: str
    is_subject: bool


def draw(path: Path, kind: str, evaluation: Evaluation) -> None:
    """Draw an evaluation into a file of a kind, "png" or "svg"."""
    rate_quality(evaluation).savefig(path, format=kind, dpi=DPI)


def rate_quality(evaluation: Evaluation) -> Figure:
    """A panel for each metric: bit rate (log) against the mean with its 95 % interval, the original as a line."""
    from matplotlib.figure import Figure

    metrics = shown(evaluation)
    columns = max(1, min(COLUMNS, len(metrics)))
    rows = max(1, math.ceil(len(metrics) / columns))
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows), layout="constrained")
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in places[len(metrics) :]:
        axes.remove()
    labels = [_panel(axes, evaluation, metric) for axes, metric in zip(places, metrics, strict=False)]
    _place(figure, labels)
    return figure


def panel(evaluation: Evaluation, metric: Metric) -> Figure:
    """The panel of one metric alone, which must be defined for some codec."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=PANEL, layout="constrained")
    _place(figure, [_panel(figure.subplots(), evaluation, metric)])
    return figure


def shown(evaluation: Evaluation) -> list[Metric]:
    """The metrics that are defined for some utterance by some codec."""
    utterances = [utterance for result in evaluation.results[1:] for utterance in result.utterances]
    return [m for m in evaluation.metrics if any(not math.isnan(u.values[m.name]) for u in utterances)]


def title(metric: Metric) -> str:
    """A metric with its unit and direction, as figures call it."""
    unit = f", {metric.unit}" if metric.unit else ""
    return f"{metric.title}{unit} ({'higher' if metric.higher_is_better else 'lower'} is better)"


def colours(evaluation: Evaluation) -> list[str]:
    """The colours of the results: one for each family, `opus` of `opus:6`, and the subject's own."""
    families = dict.fromkeys(_family(result) for result in evaluation.results[2:])
    by_family = {family: OTHERS[index % len(OTHERS)] for index, family in enumerate(families)}
    return [ORIGINAL, SUBJECT, *(by_family[_family(result)] for result in evaluation.results[2:])]


def _family(result: Result) -> str:
    return result.name.partition(":")[0]


def _panel(axes: Any, evaluation: Evaluation, metric: Metric) -> list[Any]:
    """Draw one metric; the labels of the codecs, still to be placed."""
    coloured = list(zip(evaluation.results, colours(evaluation), strict=True))[1:]
    estimates = [
        Point(
            result.name,
            "" if result is evaluation.subject else _family(result),
            result.bit_rate / 1000,
            result.estimate(metric.name),
            colour,
            result is evaluation.subject,
        )
        for result, colour in coloured
    ]
    points = [point for point in estimates if point.estimate.count]
    original = evaluation.original.estimate(metric.name)
    if original.count:
        _line(axes, original.mean)
    ordered = sorted(points, key=lambda point: (point.family, point.rate))
    for _, members in itertools.groupby(ordered, key=lambda point: point.family):
        family = list(members)
        axes.plot(
            [point.rate for point in family], [point.estimate.mean for point in family], color=family[0].colour, lw=1
        )
    for point in points:
        _point(axes, point)
    _dress(axes, metric, [point.rate for point in points])
    return [_label(axes, point) for point in points]


def _line(axes: Any, height: float) -> None:
    """The original, which has no bit rate to compare."""
    axes.axhline(height, color=ORIGINAL, linestyle="--", linewidth=1)
    axes.annotate(
        "original",
        (0.01, height),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2),
        textcoords="offset points",
        fontsize=LABEL_SIZE,
        color=ORIGINAL,
    )


def _point(axes: Any, point: Point) -> None:
    estimate = point.estimate
    axes.errorbar(
        [point.rate],
        [estimate.mean],
        # a bootstrap interval of very skewed values need not hold the mean
        yerr=[[max(0.0, estimate.mean - estimate.low)], [max(0.0, estimate.high - estimate.mean)]],
        color=point.colour,
        marker="D" if point.is_subject else "o",
        markersize=6.5 if point.is_subject else 5,
        capsize=2.5,
        linewidth=1.2,
        zorder=4 if point.is_subject else 3,
    )


def _label(axes: Any, point: Point) -> Any:
    return axes.annotate(
        point.name,
        (point.rate, point.estimate.mean),
        textcoords="offset points",
        xytext=(0, 0),
        fontsize=LABEL_SIZE,
        fontweight="bold" if point.is_subject else "normal",
        color=point.colour,
        zorder=5,
    )


def _dress(axes: Any, metric: Metric, rates: Sequence[float]) -> None:
    """Title, bit rates in kb/s, and a grid behind everything."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.set_xlim(min(rates) / MARGIN, max(rates) * MARGIN)
    axes.margins(y=0.15)
    axes.xaxis.set_major_locator(LogLocator(subs=TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("kb/s, headers included", fontsize=TICK_SIZE)
    axes.set_title(title(metric), fontsize=TITLE_SIZE, loc="left")
    axes.tick_params(labelsize=TICK_SIZE)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _place(figure: Figure, panels: Sequence[Sequence[Any]]) -> None:
    """Give every label the place around its point where it covers least of the points and of the texts there are."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.draw_without_rendering()  # settles the layout
    figure.set_layout_engine("none")
    renderer = FigureCanvasAgg(figure).get_renderer()
    for labels in panels:
        others = [text for text in labels[0].axes.texts if text not in labels]
        taken = [text.get_window_extent(renderer) for text in others] + [_around_point(label) for label in labels]
        for label in labels:
            covered = [_covered(label, place, taken, renderer) for place in PLACES]
            _move(label, PLACES[covered.index(min(covered))])
            taken.append(label.get_window_extent(renderer))


def _move(label: Any, place: tuple[float, float]) -> None:
    right, up = place
    label.set_position((right * LABEL_DISTANCE, up * LABEL_DISTANCE))
    label.set_horizontalalignment("left" if right > 0 else "right" if right < 0 else "center")
    label.set_verticalalignment("bottom" if up > 0 else "top" if up < 0 else "center")


def _covered(label: Any, place: tuple[float, float], taken: Sequence[Any], renderer: Any) -> float:
    """How much of what is taken, and of what lies outside the panel, a label covers in one place, in pixels."""
    from matplotlib.transforms import Bbox

    _move(label, place)
    box, frame = label.get_window_extent(renderer), label.axes.get_window_extent(renderer)
    shared = [Bbox.intersection(box, other) for other in (frame, *taken)]
    areas = [common.width * common.height if common else 0.0 for common in shared]
    return box.width * box.height - areas[0] + sum(areas[1:])


def _around_point(label: Any) -> Any:
    """The box of the point that a label belongs to."""
    from matplotlib.transforms import Bbox

    x, y = label.axes.transData.transform(label.xy)
    half = POINT * label.figure.dpi / 72
    return Bbox.from_extents(x - half, y - half, x + half, y + half)
