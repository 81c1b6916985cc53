"""Packs: what is made of a corpus once and then read by every run, a flat array file beside its index.

Packs lie in the user's cache. They are opened by memory map, and made again where they are damaged or of other data.
"""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import track

from vqaudio.errors import TrainingError
from vqaudio.files import reason, remove_torn, replacing, user_cache
from vqaudio.training.index import Index

TORN_AFTER = 3600.0  # seconds in which who packs the same at the same time would have written something
FIELDS = ("starts", "lengths", "speakers", "names", "speaker_names")  # of every index, beside its key

AnyIndex = TypeVar("AnyIndex", bound=Index)
Item = TypeVar("Item")


def cache() -> Path:
    """The folder of all packs."""
    return user_cache("corpora")


def ready(directory: Path, key: str, load: Callable[[Path], AnyIndex], make: Callable[[Path], None]) -> AnyIndex:
    """The pack of a key in a folder: what `load` opens there, after `make` where that is nothing, damaged or of another
    key.

    Raises:
        TrainingError: where the pack cannot be made.
    """
    with contextlib.suppress(TrainingError):
        pack = load(directory)
        if pack.key == key:
            return pack
    try:
        directory.mkdir(parents=True, exist_ok=True)
        remove_torn(directory, unchanged_for=TORN_AFTER)
    except OSError as error:
        raise TrainingError(f"The corpus cannot be packed into '{directory}': {reason(error)}.") from error
    make(directory)
    return load(directory)


def write_index(directory: Path, lengths: Sequence[int], **fields: Any) -> None:
    """Write the index of utterances packed one after the other: the places that follow from their lengths, and fields.

    Raises:
        TrainingError: where it cannot be written.
    """
    starts = np.cumsum([0, *lengths[:-1]], dtype=np.int64)
    with replacing(directory / "index.npz", force=True, error=TrainingError) as path, open(path, "wb") as file:
        np.savez_compressed(file, starts=starts, lengths=np.array(lengths, np.int64), **fields)


def read(directory: str | Path, data: str, kind: str, *also: str) -> tuple[dict[str, Any], dict[str, Any], np.ndarray]:
    """Open a pack.

    Args:
        directory: in which it lies.
        data: name of its array file.
        kind: type of its numbers.
        also: further fields of its index.

    Returns:
        what an `Index` is made of, by name; the further fields; and the numbers (n,), a read-only map.

    Raises:
        TrainingError: where anything is missing or damaged.
    """
    try:
        with np.load(Path(directory) / "index.npz", allow_pickle=False) as index:
            fields = {name: index[name] for name in FIELDS} | {"key": str(index["key"])}
            further = {name: index[name] for name in also}
        return fields, further, np.memmap(Path(directory) / data, dtype=kind, mode="r")
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise TrainingError(f"The packed corpus in '{directory}' cannot be opened: {error}.") from error


def check_length(directory: str | Path, numbers: np.ndarray, expected: int) -> None:
    """See that a pack holds as many numbers as its index says.

    Raises:
        TrainingError: where it does not.
    """
    if len(numbers) != expected:
        raise TrainingError(f"The packed corpus in '{directory}' does not have the length that its index states.")


def watched(items: Iterable[Item], what: str, total: int, quiet: bool) -> Iterable[Item]:
    """The same items, with a bar on standard error where that is a terminal."""
    console = Console(stderr=True)
    return track(items, what, total=total, console=console, disable=quiet or not console.is_terminal)
