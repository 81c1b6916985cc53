"""What the terminal shows: tables of measurements, and text that comes from files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def table(title: str, words: Sequence[str], figures: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Rows of words, to the left, and of figures, to the right, under their headings; short rows leave cells empty."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(title=printable(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in words:
        made.add_column(heading, no_wrap=True)
    for heading in figures:
        made.add_column(printable(heading), justify="right")
    for row in rows:
        made.add_row(*map(printable, row))
    return made


def figure(value: float | None) -> str:
    """Three significant digits, or all whole ones."""
    return "" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def printable(text: str) -> str:
    """Text with names or a card of somebody else's file in it, whose control characters would steer a terminal."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: ascii(found[0])[1:-1], text)
