"""The rate-quality figure of `vqaudio evaluate`: every codec's bit rate against every metric."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vqaudio.evaluation import figures
from vqaudio.evaluation.estimates import Estimate
from vqaudio.evaluation.figures import OTHERS, PANEL, SUBJECT, TICK_SIZE
from vqaudio.evaluation.metrics import Metric
from vqaudio.evaluation.results import Evaluation, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 3
DPI = 150  # of a PNG
ORIGINAL = "#5f5f5f"  # colour of the originals
MARGIN = 1.6  # the bit rates shown reach so many times further, so that labels have room
LABEL_SIZE = 8.5  # points
LABEL_DISTANCE, LINE = 7.0, 4.0  # points: from a codec's point to its label; what a line takes for itself
NEAR = [(1, 0), (-1, 0), (0, 1), (0, -1), (0.8, 0.8), (0.8, -0.8), (-0.8, 0.8), (-0.8, -0.8)]
PLACES = [*NEAR, *((right * 2, up * 2) for right, up in NEAR)]  # of a label around its point, the first as good as any
OUTSIDE = 4  # how much worse it is to leave the panel than to cover something


@dataclass(frozen=True)
class Point:
    """A codec in a panel."""

    name: str
    family: str
    rate: float  # kb/s
    estimate: Estimate
    colour: str
    is_subject: bool


def draw(evaluation: Evaluation) -> Figure:
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
    figure.set_dpi(DPI)  # afterwards: labels stand where they do in an SVG, whatever the PNG's resolution
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
    return f"{metric.label} ({'higher' if metric.higher_is_better else 'lower'} is better)"


def colours(evaluation: Evaluation) -> list[str]:
    """The colours of the results: one for each family, `opus` of `opus:6`, and the subject's own."""
    families = dict.fromkeys(_family(result) for result in evaluation.others)
    by_family = {family: OTHERS[index % len(OTHERS)] for index, family in enumerate(families)}
    return [ORIGINAL, SUBJECT, *(by_family[_family(result)] for result in evaluation.others)]


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
    end = (0, height)
    where = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    axes.annotate("original", end, xytext=(0, 0), fontsize=LABEL_SIZE, color=ORIGINAL, **where)


def _point(axes: Any, point: Point) -> None:
    estimate = point.estimate
    axes.errorbar(
        [point.rate],
        [estimate.mean],
        yerr=figures.errors([estimate]),
        color=point.colour,
        marker="D" if point.is_subject else "o",
        markersize=6.5 if point.is_subject else 5,
        capsize=2.5,
        linewidth=1.2,
        zorder=4 if point.is_subject else 3,
    )


def _label(axes: Any, point: Point) -> Any:
    return axes.annotate(
        figures.label(point.name),
        (point.rate, point.estimate.mean),
        textcoords="offset points",
        xytext=(0, 0),
        fontsize=LABEL_SIZE,
        fontweight="bold" if point.is_subject else "normal",
        color=point.colour,
        zorder=5,
    )


def _dress(axes: Any, metric: Metric, rates: Sequence[float]) -> None:
    """Bit rates in kb/s, and what every panel has."""
    figures.dress(axes, title(metric))
    axes.set_xscale("log")
    axes.set_xlim(min(rates) / MARGIN, max(rates) * MARGIN)
    axes.margins(y=0.15)
    figures.plain_decades(axes.xaxis)
    axes.set_xlabel("kb/s, headers included", fontsize=TICK_SIZE)


def _place(figure: Figure, panels: Sequence[Sequence[Any]]) -> None:
    """Give every label the place around its point where it covers least of lines, points and labels already placed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.draw_without_rendering()  # settles the layout
    figure.set_layout_engine("none")
    renderer, scale = FigureCanvasAgg(figure).get_renderer(), figure.dpi / 72
    for labels in panels:
        axes = labels[0].axes
        taken = [box for line in _lines(axes) for box in _along(line, LINE * scale)]
        frame = axes.get_window_extent(renderer).extents
        for label in labels:
            size, point = label.get_window_extent(renderer).size, axes.transData.transform(label.xy)
            boxes = [_box(point, place, size, LABEL_DISTANCE * scale) for place in PLACES]
            obstacles = np.array(taken)
            costs = [_shared(b, obstacles).sum() - OUTSIDE * _shared(b, frame[None]).sum() for b in boxes]
            best = int(np.argmin(np.round(costs)))  # of places that are as good the first, whatever rounding says
            _move(label, PLACES[best])
            taken.append(boxes[best])
        for original in (text for text in axes.texts if text not in labels):
            _move_along(original, np.array(taken), renderer)


def _lines(axes: Any) -> list[np.ndarray]:
    """The ends (n, 2) of all that is drawn as a line, in pixels: of families, intervals and the original."""
    lines = [line.get_transform().transform(line.get_xydata()) for line in axes.lines]
    intervals = [axes.transData.transform(ends) for bars in axes.collections for ends in bars.get_segments()]
    return [ends for ends in (*lines, *intervals) if len(ends)]


def _along(ends: np.ndarray, size: float) -> list[np.ndarray]:
    """Boxes (left, bottom, right, top) of a size, in pixels, closely along a line through some points (n, 2)."""
    pieces = [np.linspace(a, b, int(np.hypot(*(b - a)) / size) + 1) for a, b in itertools.pairwise(ends)]
    return [np.concatenate([at - size / 2, at + size / 2]) for at in np.concatenate([ends, *pieces])]


def _box(point: np.ndarray, place: tuple[float, float], size: np.ndarray, distance: float) -> np.ndarray:
    """The box (left, bottom, right, top), in pixels, of a label of a size (2,) beside a point (2,)."""
    corner = point + distance * np.array(place) - size * (1 - np.sign(place)) / 2
    return np.concatenate([corner, corner + size])


def _shared(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The areas (n,) that a box (4,) shares with others (n, 4)."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return np.prod(np.maximum(sides, 0), axis=1)


def _move_along(original: Any, taken: np.ndarray, renderer: Any) -> None:
    """Give the label of the original the end and the side of its line where it covers least."""

    def move(right: int, up: int) -> None:
        original.xy = (right, original.xy[1])
        original.set_position((3 - 6 * right, 2 * up))
        original.set_horizontalalignment("right" if right else "left")
        original.set_verticalalignment("bottom" if up > 0 else "top")

    def cost(place: tuple[int, int]) -> float:
        move(*place)
        return float(_shared(original.get_window_extent(renderer).extents, taken).sum())

    move(*min(itertools.product((0, 1), (1, -1)), key=cost))


def _move(label: Any, place: tuple[float, float]) -> None:
    right, up = place
    label.set_position((right * LABEL_DISTANCE, up * LABEL_DISTANCE))
    label.set_horizontalalignment("left" if right > 0 else "right" if right < 0 else "center")
    label.set_verticalalignment("bottom" if up > 0 else "top" if up < 0 else "center")
