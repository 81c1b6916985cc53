"""Writing files whole or not at all: what vqaudio saves is written beside its target, then renamed onto it."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vqaudio.errors import UsageError, VqaudioError

log = logging.getLogger(__name__)

TEMPORARY = ".part"  # end of the name of a file that is not whole yet


def check_target(path: str | os.PathLike[str], force: bool) -> None:
    """Find, before any work, what would stop a result from being written to `path`.

    Raises:
        UsageError: where its folder is not there, it is a folder itself, or it exists and `force` is not given.
    """
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise UsageError(f"The directory '{folder}' of '{path}' is not there.")
    if os.path.isdir(path):
        raise UsageError(f"'{path}' is a directory; name the file to write.")
    if os.path.isfile(path) and not force:
        raise UsageError(f"'{path}' exists already; --force replaces it.")


def files_below(folder: str | os.PathLike[str]) -> list[Path]:
    """All files below a folder, sorted. Links to folders are not followed, and a warning names each folder that cannot
    be read."""

    def leave_out(error: OSError) -> None:
        log.warning("Left out: the directory '%s' cannot be read: %s.", error.filename, reason(error))

    found = (Path(place, name) for place, _, names in os.walk(folder, onerror=leave_out) for name in names)
    return sorted(path for path in found if os.path.isfile(path))


@contextlib.contextmanager
def replacing(
    path: str | os.PathLike[str], force: bool = False, error: type[VqaudioError] = VqaudioError
) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; what the body writes there becomes `path` when it succeeds.

    After any failure, Ctrl-C included, the temporary file is gone and `path` is as it was. A device or a named pipe is
    written directly, and a symbolic link keeps pointing at the file that is replaced.

    Raises:
        UsageError: where `path` exists and `force` is not given, or is a folder.
        error: for an `OSError` in the body or in the renaming: a missing or unwritable folder, a full disk.
    """
    if os.path.isdir(path):
        raise UsageError(f"'{path}' is a folder, not a file to write.")
    if os.path.exists(path) and not os.path.isfile(path):
        target = temporary = Path(path)
    else:
        if os.path.exists(path) and not force:
            raise UsageError(f"'{path}' exists already and is replaced only by force.")
        target = Path(os.path.realpath(path))
        temporary = target.with_name(f".{secrets.token_hex(8)}{TEMPORARY}")
    try:
        yield temporary
        if temporary != target:
            with open(temporary, "r+b") as written:  # Windows wants it writable
                os.fsync(written.fileno())  # or a crash could leave an empty file under the new name
            if force:
                os.replace(temporary, target)
            else:
                _move(temporary, target)
    except OSError as problem:
        raise error(f"'{path}' cannot be written: {reason(problem)}.") from problem
    finally:
        if temporary != target:
            with contextlib.suppress(OSError):
                temporary.unlink()


def _move(temporary: Path, target: Path) -> None:
    """Give a file another name.

    Raises:
        UsageError: where that is taken by now.
    """
    try:
        os.link(temporary, target)
    except FileExistsError:
        if not os.path.samefile(temporary, target):  # NFS may do it and still say so
            raise UsageError(f"'{target}' exists by now and is replaced only by force.") from None
    except OSError:  # not every file system has links
        os.replace(temporary, target)


def remove_torn(folder: Path, unchanged_for: float = 0.0) -> None:
    """Remove what `replacing` left in a folder, which need not be there, when a process was killed.

    Args:
        folder: where it lies.
        unchanged_for: seconds after which a file counts as left; 0 is for folders with one writer alone.

    Raises:
        OSError: where a file cannot be removed.
    """
    for torn in folder.glob(f".*{TEMPORARY}"):
        with contextlib.suppress(FileNotFoundError):  # another process removed it
            if time.time() - torn.stat().st_mtime >= unchanged_for:
                torn.unlink()


@contextlib.contextmanager
def writing(target: str | os.PathLike[str] | BinaryIO, force: bool = False) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes `target` as in `replacing`, or `target` itself where that is a file object.

    Raises: as `replacing`.
    """
    if not isinstance(target, str | os.PathLike):
        yield target
        return
    with replacing(target, force) as temporary, open(temporary, "wb") as file:
        yield file


def user_cache(kind: str) -> Path:
    """The folder in the user's cache for things of one kind; it need not be there yet.

    Raises:
        VqaudioError: where the user has no home.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vqaudio" / kind
    except RuntimeError as error:
        raise VqaudioError("There is no home for a cache; XDG_CACHE_HOME has to name a folder for it.") from error


def reason(problem: OSError) -> str:
    """What went wrong, in the words of the system, to stand after a colon: `no space left on device`."""
    text = problem.strerror or str(problem)
    return text[:1].lower() + text[1:] or type(problem).__name__
