"""What every figure has in common: the kinds of file that it is drawn into, and what draws it."""

from __future__ import annotations

import importlib
from pathlib import Path

from vqaudio.errors import UsageError

FORMATS = (".png", ".svg")


def check(path: Path) -> None:
    """See that a figure can be drawn into a file of this name.

    Raises:
        UsageError: where its kind is not known, or matplotlib is missing.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"A figure is written as {' or '.join(FORMATS)}, not as '{path.name}'.")
    try:
        importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise UsageError("A figure needs matplotlib; pip install 'vqaudio[eval]' brings it.") from error


def plain(text: str) -> str:
    """Text that matplotlib draws as it is, whatever it is the name of: no mathematics, and nothing but characters."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("$", r"\$")
