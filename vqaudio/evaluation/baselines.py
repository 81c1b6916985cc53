"""Codecs to compare with, as `--against` names them: `opus:6,codec2:1300,speex:1,encodec:1.5,vqaudio:speech16k-low`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import vqaudio
from vqaudio.errors import UsageError
from vqaudio.evaluation import programs, registry
from vqaudio.evaluation.contenders import Contender, own_codec
from vqaudio.evaluation.encodec import BANDWIDTHS, EncodecCodec
from vqaudio.prior import for_codec


class Baseline(Contender, Protocol):
    """A codec in a comparison that needs what may not be there."""

    def missing(self) -> str | None:
        """Why it cannot be used here, as the rest of a sentence."""
        ...


@dataclass(frozen=True)
class Family:
    """One make of codec.

    Attributes:
        name: before the colon.
        legal: what may be behind it, for a message.
        make: the codec at a setting; a ValueError for one that is not legal.
    """

    name: str
    legal: str
    make: Callable[[str], Baseline]


def _opus(setting: str) -> Baseline:
    kilobits = round(float(setting), 3)  # opusenc reads three digits
    if not 6 <= kilobits <= 256:
        raise ValueError
    return programs.opus(kilobits)


def _codec2(setting: str) -> Baseline:
    mode = setting.upper()
    if mode not in programs.CODEC2_MODES:
        raise ValueError
    return programs.codec2(mode)


def _speex(setting: str) -> Baseline:
    quality = int(setting)
    if not 0 <= quality <= 10:
        raise ValueError
    return programs.speex(quality)


def _encodec(setting: str) -> Baseline:
    bandwidth = float(setting)
    if bandwidth not in BANDWIDTHS:
        raise ValueError
    return EncodecCodec(bandwidth)


def _vqaudio(setting: str) -> Baseline:
    codec = vqaudio.load(setting)
    load = functools.partial(vqaudio.load, setting, threads=1)
    return own_codec(codec, load, coder=for_codec(codec), name=f"vqaudio:{setting}")


def _listed(settings: Iterable[str]) -> str:
    *most, last = settings
    return f"{', '.join(most)} or {last}"


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("opus", "a nominal rate of 6 to 256 kb/s", _opus),
        Family("codec2", f"one of its modes, {_listed(programs.CODEC2_MODES)}", _codec2),
        Family("speex", "a quality of 0 to 10", _speex),
        Family("encodec", f"a bandwidth of {_listed(f'{value:g}' for value in BANDWIDTHS)} kb/s", _encodec),
        Family("vqaudio", "a model file, or the name of a model that comes with vqaudio", _vqaudio),
    )
}


def parse(specification: str) -> Baseline:
    """The codec that a name and a setting mean: `opus:6`.

    Raises:
        UsageError: for an unknown name, of which it names the nearest, and for a setting that is missing or not legal.
        ModelError: for a model of vqaudio that is not there or damaged.
    """
    name, _, setting = (part.strip() for part in specification.partition(":"))
    family = FAMILIES.get(name.lower())
    if family is None:
        raise UsageError(f"There is no codec '{name}' to compare with; {registry.hint(name.lower(), FAMILIES)}")
    if not setting:
        raise UsageError(f"The codec '{name}' needs a setting behind a colon: {family.legal}.")
    try:
        return family.make(setting)
    except ValueError as error:
        raise UsageError(f"The codec '{name}' has no setting '{setting}'; it takes {family.legal}.") from error


def parse_all(specifications: str) -> list[Baseline]:
    """The codecs that a list with commas means, in its order.

    Raises:
        UsageError: as `parse`, and for a codec that is named twice.
    """
    found: list[Baseline] = []
    for specification in specifications.split(","):
        codec = parse(specification)
        if any(codec.name == other.name for other in found):
            raise UsageError(f"The codec '{codec.name}' is named twice.")
        found.append(codec)
    return found


def usable(codecs: Iterable[Baseline]) -> tuple[list[Baseline], list[str]]:
    """The codecs that can be used here, and one sentence for each that is left out.

    EnCodec's weights are downloaded here, where they are not in the cache of the hub.
    """
    kept, notes = [], []
    for codec in codecs:
        reason = codec.missing()
        if reason is None:
            kept.append(codec)
        else:
            notes.append(f"The codec '{codec.name}' is left out, for {reason}.")
    return kept, notes
