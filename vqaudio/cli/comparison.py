"""The tables of `vqaudio evaluate`: a row for each metric, a column for each codec, as many as the screen holds."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from vqaudio.cli.tables import table
from vqaudio.evaluation.conversion import Conversion, as_rows
from vqaudio.evaluation.estimates import Estimate, digits
from vqaudio.evaluation.results import Evaluation, Result, times_real_time

BETWEEN = 2  # characters that a table has beside each cell; and one at its end


def show(evaluation: Evaluation, console: Console) -> None:
    """Print an evaluation: what every codec measures, then how the others differ from the one that it is about."""
    results, subject, metrics = evaluation.results, evaluation.subject, evaluation.metrics
    rows = [
        ["bit rate, b/s", *(f"{result.bit_rate:.0f}" for result in results)],
        ["codes used", *(", ".join(map(str, result.used_codes)) for result in results)],
        ["perplexity of the codes", *(", ".join(f"{p:.0f}" for p in result.perplexities) for result in results)],
        ["encodes, times real time", *(times_real_time(result.encode_speed) for result in results)],
        ["decodes, times real time", *(times_real_time(result.decode_speed) for result in results)],
        *([metric.heading, *_texts([result.estimate(metric.name) for result in results])] for metric in metrics),
    ]
    _print("means, with 95 % intervals", results, rows, console)
    rows = [[m.heading, *_texts([result.less(subject, m.name) for result in evaluation.others], "+")] for m in metrics]
    _print(f"more than {subject.name} on the same files", evaluation.others, rows, console)


def voices(conversion: Conversion) -> Table:
    """What voice conversion does: a row for each kind of speech."""
    nearer = conversion.nearer().text(0, 100)
    title = (
        f"voices of {len(conversion.pairs)} pairs; once converted, nearer to the target than to the source: {nearer} %"
    )
    headings = ("like target", "like source", *(metric.heading for metric in conversion.metrics))
    return table(title, ("",), headings, ([speech, *cells] for speech, cells in as_rows(conversion)))


def _print(title: str, results: Sequence[Result], rows: Sequence[Sequence[str]], console: Console) -> None:
    """Print a table in parts, each as wide as the screen holds without breaking a cell."""
    label = BETWEEN + max((len(row[0]) for row in rows), default=0)
    column = BETWEEN + max((len(cell) for row in rows for cell in row[1:]), default=0)
    beside = max(1, (console.width - 1 - label) // column)
    for start in range(0, len(results), beside):
        shown = slice(1 + start, 1 + start + beside)
        names = [result.name for result in results[start : start + beside]]
        console.print(table(title, ("",), names, ([row[0], *row[shown]] for row in rows)))


def _texts(estimates: Sequence[Estimate], sign: str = "") -> list[str]:
    places = digits(estimates)
    return [estimate.text(places, sign=sign) for estimate in estimates]
