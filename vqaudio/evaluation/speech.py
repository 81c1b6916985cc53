"""The speech that is measured: the audio below a directory, and what a manifest says of it."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from vqaudio import audio
from vqaudio.errors import AudioError, UsageError
from vqaudio.files import files_below

MANIFEST = "manifest.csv"

Found = TypeVar("Found")


@dataclass(frozen=True)
class Item:
    """A file of speech.

    Attributes:
        path: of the file.
        speaker: from the manifest, else the folder that the file lies in.
        text: what is said, from the manifest; None where it does not tell.
    """

    path: Path
    speaker: str
    text: str | None


def audio_files(directory: Path, limit: int | None = None) -> list[Path]:
    """The audio below a directory, sorted; of these `limit`, spread evenly, so that few files still hold many speakers.

    Raises:
        UsageError: where it is not a directory.
        AudioError: where it holds no audio.
    """
    if not os.path.isdir(directory):
        raise UsageError(f"'{directory}' is not a directory.")
    files = [path for path in files_below(directory) if path.suffix.lower() in audio.SUFFIXES]
    if not files:
        raise AudioError(f"There is no audio in the directory '{directory}'.")
    return few(files, limit)


def few(found: list[Found], limit: int | None) -> list[Found]:
    """Of what was found `limit`, spread evenly; all where there is no limit or it is as large."""
    if limit is None or limit >= len(found):
        return found
    return [found[i * len(found) // limit] for i in range(limit)]


def readable(paths: Sequence[Path], sample_rate: int, leave_out: Callable[[str], None]) -> Iterator[np.ndarray]:
    """The waveforms (T,) of some files at a rate in Hz, but for those that cannot be read.

    Args:
        leave_out: is given the sentence that says why a file is left out.

    Raises:
        AudioError: where none can be read.
    """
    good = 0
    for path in paths:
        try:
            waveform = audio.read(path, sample_rate)
        except AudioError as error:
            leave_out(str(error))
            continue
        good += 1
        yield waveform
    if not good:
        raise AudioError(f"None of the {len(paths)} files can be read.")


def items(directory: Path, limit: int | None = None, manifest: Path | None = None) -> list[Item]:
    """The audio below a directory, as `audio_files` gives it, with speakers and transcripts.

    Args:
        manifest: a CSV with the columns path, relative to it, and speaker or text or both; by default the nearest
            file `manifest.csv` in the directory or above it, where there is one.

    Raises:
        UsageError: where the directory is none, or the manifest is not there or is none.
        AudioError: where the directory holds no audio.
    """
    files = audio_files(directory, limit)
    told = _read(manifest) if manifest is not None else _nearest(directory)
    found = []
    for path in files:
        row = told.get(os.path.realpath(path), {})
        found.append(Item(path, row.get("speaker") or path.parent.name, row.get("text") or None))
    return found


def _nearest(directory: Path) -> dict[str, dict[str, str]]:
    place = Path(os.path.realpath(directory))
    for folder in (place, *place.parents):
        if (folder / MANIFEST).is_file():
            return _read(folder / MANIFEST)
    return {}


def _read(manifest: Path) -> dict[str, dict[str, str]]:
    """The rows of a manifest that name a file, by the real paths of these."""
    root = os.path.dirname(os.path.realpath(manifest))
    try:
        with open(manifest, newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
            rows = list(csv.DictReader(file))
        found = {os.path.realpath(os.path.join(root, row["path"])): row for row in rows if row.get("path")}
    except (OSError, ValueError, csv.Error) as error:  # ValueError: not UTF-8, or no path of a file
        raise UsageError(f"The manifest '{manifest}' cannot be read: {error}.") from error
    if rows and "path" not in rows[0]:
        raise UsageError(f"The manifest '{manifest}' has no column 'path'.")
    return found
