"""The report of `vqaudio evaluate`: one HTML page with the tables, the figures, and utterances to see and hear."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from vqaudio.audio import SAMPLE_RATE
from vqaudio.evaluation import page, rate_quality, report_cases, report_tables
from vqaudio.evaluation.clips import DECIBELS, SECONDS
from vqaudio.evaluation.contenders import Contender
from vqaudio.evaluation.distribution import distribution
from vqaudio.evaluation.metrics import Metric
from vqaudio.evaluation.results import Evaluation
from vqaudio.evaluation.speech import Item

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Run:
    """Where an evaluation comes from.

    Attributes:
        command: the command line as it was given.
        directory: of the speech.
        versions: of the software, by name.
        notes: sentences about what was left out.
        date: when it ended.
    """

    command: str
    directory: str
    versions: dict[str, str]
    notes: Sequence[str] = ()
    date: datetime = field(default_factory=lambda: datetime.now().astimezone())


@dataclass(frozen=True)
class Section:
    """A further part of the page.

    Attributes:
        name: for links to it; letters and hyphens.
        title: its heading.
        body: HTML, from `page.render`.
    """

    name: str
    title: str
    body: Markup


def render(
    evaluation: Evaluation,
    run: Run,
    contenders: Sequence[Contender],
    items: Sequence[Item],
    sections: Sequence[Section] = (),
    advance: Callable[[], None] = lambda: None,
) -> str:
    """The page, which opens without a network.

    Args:
        contenders: those of the evaluation, in their order, without the original; they code the utterances that the
            page lets one hear once more.
        items: the files of the evaluation.
        sections: further parts, after the utterances.
        advance: called after each of the `report_cases.choose(evaluation)`.
    """
    metrics = rate_quality.shown(evaluation)
    html = page.render(
        "report.html",
        evaluation=evaluation,
        run=run,
        means=report_tables.means(evaluation),
        differences=report_tables.differences(evaluation),
        rate_quality=[_svg(rate_quality.panel(evaluation, m), "rate", m, evaluation) for m in metrics],
        distributions=[_svg(distribution(evaluation, m), "distribution", m, evaluation) for m in metrics],
        ranking=report_cases.ranking(evaluation),
        cases=report_cases.cases(evaluation, contenders, items, advance),
        clip_seconds=SECONDS,
        decibels=DECIBELS,
        sample_rate=SAMPLE_RATE,
        sections=sections,
    )
    return str(html)


def _svg(figure: Figure, kind: str, metric: Metric, evaluation: Evaluation) -> Markup:
    """A figure as SVG, and its content in words: the means, which are in the table with their intervals."""
    what = {"rate": "against the bit rate", "distribution": "as distributions over the files"}[kind]
    means = [(result.name, result.estimate(metric.name)) for result in evaluation.results]
    said = ", ".join(f"{name} {estimate.mean:.3g}" for name, estimate in means if estimate.count)
    return page.svg(figure, f"{kind}-{metric.name}", f"{rate_quality.title(metric)} {what}; means: {said}.")
