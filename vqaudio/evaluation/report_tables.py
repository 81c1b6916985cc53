"""The tables of a report as its templates take them: means, and paired differences from the subject."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vqaudio.evaluation.estimates import Estimate, digits
from vqaudio.evaluation.metrics import Metric
from vqaudio.evaluation.results import Evaluation, Result, times_real_time


@dataclass(frozen=True)
class Cell:
    """A figure of a table.

    Attributes:
        text: the figure itself, "-" where it is undefined.
        interval: its 95 % interval, or empty.
        hint: how many files it comes from, and how many are undefined.
        mark: "best" of its column, or "better" or "worse" than the subject; else empty.
    """

    text: str
    interval: str = ""
    hint: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Row:
    """What a table says of one codec."""

    name: str
    is_original: bool
    is_subject: bool
    cells: list[Cell]


@dataclass(frozen=True)
class Table:
    """Columns (title, unit, arrow), and a row for each codec."""

    columns: list[tuple[str, str, str]]
    rows: list[Row]


def means(evaluation: Evaluation) -> Table:
    """Every codec by every metric, the best of each marked, with bit rates, speeds and the use of the codes."""
    results = evaluation.results
    columns = [("bit rate", "b/s", "↓")]
    cells = [[Cell(f"{result.bit_rate:,.0f}".replace(",", "\u202f")) for result in results]]
    for metric in evaluation.metrics:
        columns.append(_column(metric))
        cells.append(_mean_cells(results, metric))
    columns += [("encodes", "times real time", "↑"), ("decodes", "times real time", "↑")]
    cells.append([Cell(times_real_time(result.encode_speed)) for result in results])
    cells.append([Cell(times_real_time(result.decode_speed)) for result in results])
    if any(result.histogram is not None for result in results):
        columns += [("codes used", "", ""), ("perplexity", "", "")]
        cells.append([Cell(_used(result)) for result in results])
        cells.append([Cell(", ".join(f"{value:.0f}" for value in result.perplexities)) for result in results])
    return Table(columns, _rows(evaluation, results, cells))


def differences(evaluation: Evaluation) -> Table:
    """Every other codec's value less the subject's on the same files, marked where the interval excludes zero."""
    cells = []
    for metric in evaluation.metrics:
        estimates = [result.less(evaluation.subject, metric.name) for result in evaluation.others]
        cells.append(_cells(estimates, lambda e, metric=metric: _verdict(e, metric), "+"))  # type: ignore[misc]
    return Table([_column(metric) for metric in evaluation.metrics], _rows(evaluation, evaluation.others, cells))


def _mean_cells(results: Sequence[Result], metric: Metric) -> list[Cell]:
    estimates = [result.estimate(metric.name) for result in results]
    defined = [estimate.mean for estimate in estimates[1:] if estimate.count]
    # of one codec alone, or where all are the same, none is the best
    best = (max if metric.higher_is_better else min)(defined) if len(set(defined)) > 1 else math.nan
    codecs = estimates[1:]
    return _cells(estimates, lambda e: "best" if e.mean == best and any(e is codec for codec in codecs) else "")


def _cells(estimates: Sequence[Estimate], mark: Callable[[Estimate], str], sign: str = "") -> list[Cell]:
    places = digits(estimates)
    return [_cell(estimate, places, sign, mark(estimate)) for estimate in estimates]


def _cell(estimate: Estimate, places: int, sign: str, mark: str) -> Cell:
    undefined = f", undefined for {estimate.undefined}" if estimate.undefined else ""
    hint = f"{estimate.count} file{'' if estimate.count == 1 else 's'}{undefined}"
    return Cell(estimate.value(places, sign=sign), estimate.interval(places, sign=sign), hint, mark)


def _verdict(estimate: Estimate, metric: Metric) -> str:
    if estimate.count < 2 or not (estimate.low > 0 or estimate.high < 0):
        return ""
    return "better" if (estimate.mean > 0) == metric.higher_is_better else "worse"


def _column(metric: Metric) -> tuple[str, str, str]:
    return metric.title, metric.unit, metric.arrow


def _rows(evaluation: Evaluation, results: Sequence[Result], columns: Sequence[Sequence[Cell]]) -> list[Row]:
    return [
        Row(
            result.name,
            result is evaluation.original,
            result is evaluation.subject,
            [column[index] for column in columns],
        )
        for index, result in enumerate(results)
    ]


def _used(result: Result) -> str:
    size = "" if result.histogram is None else f" of {result.histogram.shape[1]}"
    return f"{', '.join(map(str, result.used_codes))}{size}"
