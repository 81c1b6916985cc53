"""What is known of files of speech: the rows of a manifest, a CSV with a path in each, or else the folders they lie in.

Columns that are known beside path: speaker, text, what is said, and split, what the file is for.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from vqaudio.errors import UsageError, VqaudioError
from vqaudio.files import reason

NAME = "manifest.csv"  # under which a manifest is found where none is named

Row = tuple[Path, dict[str, Any]]  # the file, and the values by column


def read(manifest: Path, *columns: str, error: type[VqaudioError] = UsageError) -> list[Row]:
    """The rows of a manifest, each with the path of its file. Relative paths count from the folder of `manifest` as it
    is given: a symbolic link is not followed first.

    Args:
        columns: that every row has to fill, beside path.

    Raises:
        error: where the manifest is not there or is none, or lacks a column or a row's part of it, which is named.
    """
    found = []
    try:
        with open(manifest, newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
            rows = csv.DictReader(file)
            for column in ("path", *columns):
                if column not in (rows.fieldnames or ()):
                    raise error(f"The manifest '{manifest}' has no column '{column}'.")
            for row in rows:
                for column in ("path", *columns):
                    if not row[column]:
                        raise error(f"Line {rows.line_num} of the manifest '{manifest}' lacks a {column}.")
                if "\0" in row["path"]:
                    raise ValueError("no path has this")
                found.append((manifest.parent / row["path"], row))
    except OSError as problem:
        raise error(f"The manifest '{manifest}' cannot be read: {reason(problem)}.") from problem
    except (ValueError, csv.Error) as problem:
        raise error(f"The manifest '{manifest}' cannot be read: it is not a CSV file in UTF-8.") from problem
    return found


def folder(path: Path, root: Path) -> str:
    """Who speaks in a file below a directory as far as only folders tell: the one that it lies in, as it is called from
    that directory, so that folders of one name in different places stay apart."""
    return path.parent.relative_to(root).as_posix()
