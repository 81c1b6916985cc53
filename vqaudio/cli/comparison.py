"""The tables of `vqaudio evaluate`: a row for each metric, a column for each codec, as many as the screen holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from vqaudio.evaluation.conversion import REFERENCE, SPOKEN, Conversion
from vqaudio.evaluation.estimates import Estimate
from vqaudio.evaluation.results import Evaluation, Result, times_real_time

LABEL_WIDTH, COLUMN_WIDTH = 30, 18  # characters

Row = tuple[str, Callable[[Result], str]]  # a label, and what it says of a codec


def show(evaluation: Evaluation, console: Console) -> None:
    """Print an evaluation: what every codec measures, then how the others differ from the one that it is about."""
    subject, metrics = evaluation.subject, evaluation.metrics
    rows: list[Row] = [
        ("bit rate, b/s", lambda result: f"{result.bit_rate:.0f}"),
        ("codes used", lambda result: ", ".join(map(str, result.used_codes))),
        ("perplexity of the codes", lambda result: ", ".join(f"{value:.0f}" for value in result.perplexities)),
        ("encodes, times real time", lambda result: times_real_time(result.encode_speed)),
        ("decodes, times real time", lambda result: times_real_time(result.decode_speed)),
    ]
    means: list[Row] = [(m.heading, lambda result, m=m: _cell(result.estimate(m.name))) for m in metrics]  # type: ignore[misc]
    _print("means, ± half of the 95 % interval", evaluation.results, rows + means, console)
    differences: list[Row] = [
        (m.heading, lambda result, m=m: _cell(result.less(subject, m.name), "+"))  # type: ignore[misc]
        for m in metrics
    ]
    _print(f"more than {subject.name} on the same files", evaluation.others, differences, console)


def voices(conversion: Conversion) -> Table:
    """What voice conversion does: a row for each kind of speech."""
    share = conversion.nearer()
    title = (
        f"voices of {len(conversion.pairs)} pairs; {100 * share.mean:.0f} % ({100 * share.low:.0f} to "
        f"{100 * share.high:.0f} %) are nearer to the target than to the source once converted"
    )
    metrics = conversion.metrics
    table = Table(
        "", "like target", "like source", *(metric.heading for metric in metrics), title=title, title_justify="left"
    )
    for speech in (*SPOKEN, REFERENCE):
        cells = [_cell(conversion.likeness(speech, to)) for to in ("target", "source")]
        if speech in SPOKEN:
            cells += [_cell(conversion.estimate(metric.name, speech)) for metric in metrics]
        table.add_row(speech, *cells)
    return table


def _print(title: str, results: Sequence[Result], rows: Sequence[Row], console: Console) -> None:
    beside = max(1, (console.width - LABEL_WIDTH) // COLUMN_WIDTH)
    for start in range(0, len(results), beside):
        shown = results[start : start + beside]
        table = Table("", *(result.name for result in shown), title=title, title_justify="left")
        for label, cell in rows:
            table.add_row(label, *(cell(result) for result in shown))
        console.print(table)


def _cell(estimate: Estimate, sign: str = "") -> str:
    """A mean with half of its interval, and how often it is undefined."""
    if math.isnan(estimate.mean):
        return "-"
    half = f" ± {(estimate.high - estimate.low) / 2:.3f}" if estimate.count > 1 else ""  # one says nothing of others
    undefined = f", {estimate.undefined} undefined" if estimate.undefined else ""
    return f"{estimate.mean:{sign}.3f}{half}{undefined}"
