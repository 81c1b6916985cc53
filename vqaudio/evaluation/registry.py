"""Things that need a package of their own, some of them called by name: metrics, and codecs to measure beside."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

from vqaudio.errors import UsageError


class Entry(Protocol):
    """What a registry holds: a name, the distribution that it needs as pip calls it, and a module of that."""

    @property
    def name(self) -> str:
        """What the command line calls it."""
        ...

    @property
    def package(self) -> str:
        """The distribution."""
        ...

    @property
    def module(self) -> str:
        """What is imported from it."""
        ...


Kind = TypeVar("Kind", bound=Entry)


def need(what: str, packages: Mapping[str, str]) -> None:
    """See that packages of the extra `eval` are there.

    Args:
        what: what needs them, for the message.
        packages: the name of each, as pip calls it, by a module of it.

    Raises:
        UsageError: for the first that is missing or cannot be used.
    """
    for module, package in packages.items():
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UsageError(f"{what} needs {package}; pip install 'vqaudio[eval]' brings it.") from error
        except Exception as error:  # librosa compiles, which wants a place to write to
            raise UsageError(f"{what} needs {package}, which cannot be used here: {error}.") from error


def select(registry: Mapping[str, Kind], what: str, names: Iterable[str]) -> tuple[Kind, ...]:
    """The entries of these names, in the registry's order.

    Args:
        what: the kind of entry, for messages.

    Raises:
        UsageError: for an unknown name; it names the nearest.
    """
    wanted = set(names)
    for name in sorted(wanted - set(registry)):
        raise UsageError(f"There is no {what} '{name}'; {hint(name, registry)}")
    return tuple(entry for entry in registry.values() if entry.name in wanted)


def hint(name: str, known: Iterable[str]) -> str:
    """What a name that is not known may have meant, as the rest of a sentence."""
    names = list(known)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    return f"did you mean '{nearest[0]}'?" if nearest else f"choose from {', '.join(names)}."


def usable(what: str, extra: str, entries: Iterable[Kind]) -> tuple[tuple[Kind, ...], list[str]]:
    """The entries whose packages can be imported, and one sentence for each that is left out.

    Args:
        what: the kind of entry, for messages.
        extra: of vqaudio, that brings the packages.
    """
    kept, notes = [], []
    for entry in entries:
        try:
            importlib.import_module(entry.module)
        except Exception as error:  # a package built for another numpy or torch fails in its own way
            notes.append(
                f"The {what} '{entry.name}' is left out, for its package {entry.package} cannot be used ({error}); "
                f"pip install 'vqaudio[{extra}]' brings it."
            )
        else:
            kept.append(entry)
    return tuple(kept), notes
