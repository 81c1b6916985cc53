"""The distribution of a metric over the files: a box for every codec."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vqaudio.evaluation import figures
from vqaudio.evaluation.metrics import Metric
from vqaudio.evaluation.rate_quality import colours, title
from vqaudio.evaluation.results import Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, FRAME, ROW = 4.0, 0.8, 0.26  # inches: of the figure; of what is around the boxes, and of a box, in height
WHISKERS = (5, 95)  # percentiles


def distribution(evaluation: Evaluation, metric: Metric) -> Figure:
    """Quartiles as boxes with a line at the median, the 5th and 95th percentile as whiskers, files beyond as dots."""
    from matplotlib.figure import Figure

    measured = [
        (result.name, colour, values)
        for result, colour in zip(evaluation.results, colours(evaluation), strict=True)
        if (values := [v for u in result.utterances if not math.isnan(v := u.values[metric.name])])
    ]
    figure = Figure(figsize=(WIDTH, FRAME + ROW * len(measured)), layout="constrained")
    axes = figure.subplots()
    for place, (_, colour, values) in enumerate(measured):
        axes.boxplot(
            values,
            positions=[place],
            orientation="horizontal",
            whis=WHISKERS,
            widths=0.6,
            patch_artist=True,
            boxprops={"facecolor": f"{colour}33", "edgecolor": colour},
            medianprops={"color": colour, "linewidth": 2},
            whiskerprops={"color": colour},
            capprops={"color": colour},
            flierprops={"marker": ".", "markersize": 4, "markerfacecolor": colour, "markeredgecolor": colour},
        )
    axes.set_yticks(range(len(measured)), [figures.label(name) for name, *_ in measured])
    axes.invert_yaxis()
    figures.dress(axes, "", grid="x")
    figure.suptitle(title(metric), x=0.01, ha="left", fontsize=figures.TITLE_SIZE)  # names of codecs may be long
    return figure
