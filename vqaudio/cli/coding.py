"""What `encode`, `decode` and `convert` share: a file, pipe, list or tree goes through a codec; one line tells what it
cost.

The files of a list go into a directory, where a tree is mirrored. What is there already is skipped, so that a run that
was cut short goes on where it stopped, and a bad file is named while the rest goes on.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

import click

from vqaudio.cli.progress import note, progress, unwatched, watching
from vqaudio.errors import UsageError, VqaudioError
from vqaudio.files import check_target, files_below, reason
from vqaudio.processes import pool, tidily

if TYPE_CHECKING:
    from vqaudio import Codec

PIPE = "-"


@dataclass(frozen=True)
class Tally:
    """How much speech went through, in how many bytes of `.codes`, if any were read or written."""

    seconds: float = 0.0
    size: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.seconds + other.seconds, self.size + other.size)

    def line(self, elapsed: float) -> str:
        """For people: seconds, bytes and the rate that these are, and the speed."""
        rate = 8 * self.size / self.seconds / 1000
        coded = f"{self.size:,} bytes, {rate:.2f} kb/s, " if self.size else ""
        return f"{self.seconds:.2f} s, {coded}{self.seconds / elapsed:.1f} times real time"


@dataclass(frozen=True)
class Direction:
    """One direction through the codec, ready to be sent to another process.

    Attributes:
        verb: what messages call it.
        turn: (codec, source, target, force, watch) -> Tally; source and target are paths or binary files, and sound
            goes through watch.
        suffixes: of the files that are taken from a directory.
        suffix: of the files that they become.
        preface: what the line in the end begins with where something was turned.
    """

    verb: str
    turn: Callable[..., Tally]
    suffixes: frozenset[str]
    suffix: str
    model: str | None
    device: str
    force: bool
    preface: str = ""

    @property
    def codec(self) -> Codec:
        """The codec, loaded once in each process."""
        return loaded(self.model, self.device)

    def attempt(self, source: Path, target: Path) -> Tally | str:
        """Turn one file of many: its tally, or a sentence that names it. What fails with every file is raised."""
        codec = self.codec
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            return f"'{source}' has no place: the directory '{target.parent}' cannot be made: {reason(error)}."
        try:
            return self.turn(codec, source, target, self.force, unwatched)
        except UsageError as error:
            if self.force or not os.path.exists(target):
                raise
            return f"'{source}': {error}"  # another process wrote the target meanwhile
        except OSError as error:
            return f"'{source}': reading or writing failed: {reason(error)}."
        except VqaudioError as error:
            return str(error) if f"'{source}'" in str(error) else f"'{source}': {error}"


def several(sources: tuple[str, ...], target: str) -> bool:
    """Whether `target` is the directory of what `sources` become, and not one file or pipe."""
    first = sources[0]
    return len(sources) > 1 or (first != PIPE and (os.path.isdir(first) or _is_directory(target)))


def _is_directory(target: str) -> bool:
    """Whether `target` is a directory, or will be, as the slash behind it says."""
    return target != PIPE and (os.path.isdir(target) or target.endswith(("/", os.sep)))


def run(direction: Direction, sources: tuple[str, ...], target: str, jobs: int, quiet: bool) -> None:
    """Turn a file or pipe into `target`, or files or a directory into the directory `target`, and print one line.

    Raises:
        VqaudioError: for anything that cannot be read, coded or written.
    """
    if several(sources, target):
        line = _many(direction, sources, target, jobs, quiet)
    else:
        line = _single(direction, sources[0], target, quiet)
    if not quiet:
        click.echo(line, err=target == PIPE)


def _single(direction: Direction, source: str, target: str, quiet: bool) -> str:
    if target != PIPE:
        _check_apart([source], [target])
        check_target(target, direction.force)
    read_from = _binary(sys.stdin, "input") if source == PIPE else Path(source)
    write_to = _binary(sys.stdout, "output") if target == PIPE else Path(target)
    codec = direction.codec
    line = _timer()
    with watching(direction.verb, quiet) as watch, _output_errors():
        tally = direction.turn(codec, read_from, write_to, direction.force, watch)
        if not isinstance(write_to, Path):
            write_to.flush()
    return direction.preface + line(tally)


def _timer() -> Callable[[Tally], str]:
    """What tells how much went through since now, and whether some of the time went into compiling."""
    from vqaudio.runtime.compilation import announced

    before, started = announced(), time.perf_counter()

    def line(tally: Tally) -> str:
        compiling = ", compiling included" if announced() > before else ""
        return tally.line(time.perf_counter() - started) + compiling

    return line


def _binary(stream: TextIO | None, name: str) -> BinaryIO:
    """Standard input or output, which who starts a process may leave out."""
    if stream is None:
        raise UsageError(f"Standard {name} is closed.")
    return stream.buffer


@contextlib.contextmanager
def _output_errors() -> Iterator[None]:
    """One sentence for what stops standard output."""
    try:
        yield
    except BrokenPipeError:
        raise  # the reader has had enough, which is its right
    except OSError as error:
        raise VqaudioError(f"Standard output cannot be written: {reason(error)}.") from error


def _check_apart(sources: Iterable[str | Path], targets: Iterable[str | Path]) -> None:
    """Refuse to write what is read."""
    read = {os.path.realpath(source) for source in sources}
    for target in targets:
        if os.path.realpath(target) in read:
            raise UsageError(f"'{target}' cannot be read and written at once.")


def _many(direction: Direction, sources: tuple[str, ...], target: str, jobs: int, quiet: bool) -> str:
    if target == PIPE:
        raise UsageError("Several files cannot go to standard output; name a directory as DST.")
    if not _is_directory(target) and (len(sources) > 1 or os.path.exists(target)):
        remedy = "" if os.path.exists(target) else "; end it in / to make one"
        raise UsageError(f"'{target}' is no directory, which several files need as DST{remedy}.")
    pairs = _pairs(direction, sources, Path(target))
    if direction.force:
        _check_apart(*zip(*pairs, strict=True))
    todo = pairs if direction.force else [pair for pair in pairs if not os.path.exists(pair[1])]
    skipped = f"; {len(pairs) - len(todo)} were there already" if len(todo) < len(pairs) else ""
    if not todo:
        return f"Nothing to {direction.verb}{skipped}."
    from vqaudio.runtime.schedule import cores

    jobs = min(jobs, len(todo), cores())
    if jobs == 1:
        _ = direction.codec  # so that loading it does not count
    total, failed, line = Tally(), 0, _timer()
    with progress(direction.verb, len(todo), quiet) as advance:
        for result in _results(direction, todo, jobs):
            if isinstance(result, Tally):
                total += result
            else:
                failed += 1
                note(f"Error: {result}")
            advance()
    if failed:
        others = "; the others are done" if failed < len(todo) else ""
        raise VqaudioError(f"{failed} of {len(todo)} files failed to {direction.verb}{others}.")
    return f"{direction.preface}{len(todo)} files, {line(total)}{skipped}"


def _pairs(direction: Direction, sources: tuple[str, ...], target: Path) -> list[tuple[Path, Path]]:
    """The files that `sources` are, or that are in a directory, each with its place in the directory `target`."""
    tree = len(sources) == 1 and os.path.isdir(sources[0])
    found = _below(direction, Path(sources[0]), target) if tree else _listed(sources, target)
    pairs: dict[Path, Path] = {}
    for path, beside in found:
        place = beside.with_suffix(direction.suffix)
        if pairs.setdefault(place, path) != path:
            raise UsageError(f"'{pairs[place]}' and '{path}' would both become '{place}'; rename one of them.")
    if not pairs:
        raise VqaudioError(f"There is nothing to {direction.verb} in the directory '{sources[0]}'.")
    return [(path, place) for place, path in pairs.items()]


def _listed(sources: tuple[str, ...], target: Path) -> Iterator[tuple[Path, Path]]:
    """Files with their names in `target`."""
    for source in sources:
        if source == PIPE or os.path.isdir(source):
            raise UsageError(f"'{source}' is not a file, which each of several sources has to be.")
        yield Path(source), target / Path(source).name


def _below(direction: Direction, source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    """The files of the directory `source`, sorted, with their paths in `target`, which may lie in there itself."""
    root, made = Path(os.path.abspath(source)), Path(os.path.abspath(target))
    for path in files_below(source):
        name = path.relative_to(source)
        if root in made.parents and made in (root / name).parents:
            continue
        if path.suffix.lower() in direction.suffixes:
            yield path, target / name


def _results(direction: Direction, pairs: list[tuple[Path, Path]], jobs: int) -> Iterator[Tally | str]:
    """What became of each pair, in the order in which they are done, in this process where one will do."""
    if jobs == 1:
        for pair in pairs:
            yield direction.attempt(*pair)
        return
    with pool(jobs, _start_worker, jobs) as workers:
        futures = [workers.submit(_work, direction, *pair) for pair in pairs]
        for future in concurrent.futures.as_completed(futures):
            yield future.result()


def _start_worker(jobs: int) -> None:
    """Share the cores between the processes."""
    from vqaudio.runtime.schedule import available_threads

    os.environ["OMP_NUM_THREADS"] = str(max(1, available_threads() // jobs))  # what the codec goes by


def _work(direction: Direction, source: Path, target: Path) -> Tally | str:
    with tidily():
        return direction.attempt(source, target)


@functools.cache
def loaded(model: str | None, device: str) -> Codec:
    """A codec, loaded once."""
    import vqaudio

    return vqaudio.load(model, device)
