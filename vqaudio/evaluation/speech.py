"""The speech that is measured: the audio below a directory, and what a manifest says of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from vqaudio import audio
from vqaudio.errors import AudioError, UsageError
from vqaudio.manifest import NAME, Row, folder, read

Found = TypeVar("Found")


@dataclass(frozen=True)
class Item:
    """A file of speech.

    Attributes:
        path: of the file.
        speaker: from the manifest, else the folder that the file lies in, as `manifest.folder` gives it.
        text: what is said, from the manifest; None where it does not tell.
    """

    path: Path
    speaker: str
    text: str | None


@contextlib.contextmanager
def naming(item: Item) -> Iterator[None]:
    """Work on what was read of a file, of which an AudioError then names the file."""
    try:
        yield
    except AudioError as error:
        raise AudioError(f"'{item.path}': {error}") from error


def audio_files(directory: Path, limit: int | None = None) -> list[Path]:
    """The audio below a directory, sorted; of these `limit`, spread evenly, so that few files still hold many speakers.

    Raises:
        UsageError: where it is not a directory.
        AudioError: where it holds no audio.
    """
    if not os.path.isdir(directory):
        raise UsageError(f"'{directory}' is not a directory.")
    files = audio.files_below(directory)
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
        UsageError: where the directory is none, or the manifest that is given is not there, is none, or names none of
            the files.
        AudioError: where the directory holds no audio.
    """
    files = audio_files(directory)
    rows = read(manifest) if manifest is not None else _nearest(directory)
    told = {os.path.realpath(path): row for path, row in rows}
    if manifest is not None and told.keys().isdisjoint(map(os.path.realpath, files)):
        raise UsageError(f"The manifest '{manifest}' names none of the files in '{directory}'.")
    found = []
    for path in few(files, limit):
        row = told.get(os.path.realpath(path), {})
        found.append(Item(path, row.get("speaker") or folder(path, directory), row.get("text") or None))
    return found


def _nearest(directory: Path) -> list[Row]:
    place = Path(os.path.realpath(directory))
    return next((read(above / NAME) for above in (place, *place.parents) if (above / NAME).is_file()), [])
