"""The tables of `vqaudio evaluate` on screens of every width."""

from __future__ import annotations

import io
import math
import re

import numpy as np
import pytest
from rich.console import Console

from vqaudio.cli.comparison import show
from vqaudio.evaluation.metrics import select
from vqaudio.evaluation.results import Evaluation, Result, Utterance

METRICS = select(["estoi", "mcd"])
NAMES = ("original", "ours", "\x1b[31mred", "opus:6", "opus:12")


def shown(files: int, width: int) -> str:
    """The tables of five codecs on so many files."""
    results = []
    for place, name in enumerate(NAMES):
        spread = place + np.linspace(0, 0.1, files)
        values = [{"estoi": value, "mcd": math.nan if place == 3 else 10 * value} for value in spread]
        results.append(
            Result(name, name, [Utterance("a.wav", 1.0, 99, 0.1, 0.1, 0, v, dict.fromkeys(v, 1.0)) for v in values])
        )
    screen = io.StringIO()
    show(Evaluation(METRICS, results), Console(file=screen, width=width, markup=False))
    return screen.getvalue()


@pytest.mark.parametrize("width", range(65, 161, 5))
def test_no_cell_breaks_and_every_codec_is_there(width: int) -> None:
    text = shown(9, width)
    assert max(map(len, text.splitlines())) <= width
    cell = r"(-|[+-]?\d+\.\d+ \([+-]?\d+\.\d+ to [+-]?\d+\.\d+\))"
    rows = [line.rstrip() for line in text.splitlines() if METRICS[1].heading in line]
    cells = [found[0] for row in rows for found in re.finditer(cell, row.partition("↓")[2])]
    assert len(cells) == 5 + 3 and cells.count("-") == 2
    assert [text.count(name) for name in ("original", "opus:6", "opus:12", r"\x1b[31mred")] == [1, 2, 2, 2]
    assert "\x1b" not in text and (width < 160 or len(rows) == 2)


def test_one_file_says_nothing_of_others() -> None:
    assert " to " not in shown(1, 100) and "1.000" in shown(1, 100)
