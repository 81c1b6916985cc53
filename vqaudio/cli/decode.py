"""`vqaudio decode`: `.codes` to audio."""

from __future__ import annotations

import contextlib
import functools
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from vqaudio.cli import options
from vqaudio.cli.coding import Direction, Tally, loaded, run, several
from vqaudio.cli.progress import Watch, note
from vqaudio.errors import FormatError, ModelError, UsageError
from vqaudio.files import reason

if TYPE_CHECKING:
    import numpy as np

    from vqaudio import Codec, Codes
    from vqaudio.container import Header


@click.command()
@options.sources
@click.argument("dst")
@options.model
@options.device
@options.decoder
@options.prior
@options.seed
@options.temperature
@click.option("--raw", is_flag=True, help="Write 16-bit samples without a header.")
@click.option("--conceal", is_flag=True, help="Bridge damaged blocks of a file instead of refusing it.")
@options.jobs
@options.force
@options.quiet
def decode(
    src: tuple[str, ...],
    dst: str,
    model: str | None,
    device: str,
    decoder: str | None,
    prior: str | None,
    seed: int,
    temperature: float,
    raw: bool,
    conceal: bool,
    jobs: int,
    force: bool,
    quiet: bool,
) -> None:
    """Decode codes to audio.

    SRC is a .codes file, several, a directory of them, or - for standard input; DST is an audio file, whose suffix
    gives the format, a directory, which gets WAV files, or - for WAV on standard output. Of a directory the tree is
    mirrored; what is in a directory already is left as it is. Codes in a pipe are decoded as they come. Without --model
    each file is decoded by the one that made it, of those that come with vqaudio.
    """
    if raw and several(src, dst):
        raise UsageError("--raw is for one file of codes and one of samples, not for directories.")
    settings = {"decoder": decoder, "seed": seed, "temperature": temperature}
    turn = functools.partial(
        _decode_one, raw=raw, conceal=conceal, prior=prior, settings=settings, any_model=model is None
    )
    run(Direction("decode", turn, frozenset({".codes"}), ".wav", model, device, force), src, dst, jobs, quiet)


def _decode_one(
    codec: Codec,
    source: Path | BinaryIO,
    target: Path | BinaryIO,
    force: bool,
    watch: Watch,
    *,
    raw: bool,
    conceal: bool,
    prior: str | None,
    settings: Mapping[str, Any],
    any_model: bool,
) -> Tally:
    """Decode one `.codes` file or stream; what had to be concealed is told on standard error.

    Args:
        prior: the file of a prior, or the name of its model.
        settings: decoder, seed and temperature, as for `Codec.decode`.
        any_model: whether codes of another model that comes with vqaudio are decoded by that one.
    """
    from vqaudio import audio
    from vqaudio.files import writing

    with _told_losses(), _streamed(source) as stream:
        found = _decoding(codec, stream, conceal, prior, settings, any_model)
        sound = watch(found.parts, (found.samples or 0) / found.rate, found.rate)
        if raw:
            with writing(target, force) as file:
                audio.write_raw(file, sound)
        else:
            audio.write(target, sound, found.rate, force, found.samples)
    return found.tally()


@contextlib.contextmanager
def _streamed(source: Path | BinaryIO) -> Iterator[Path | BinaryIO]:
    """A named pipe, whose bytes come once, as an open file; anything else as it is."""
    if not isinstance(source, Path) or os.path.isfile(source) or not os.path.exists(source):
        yield source
        return
    try:
        file = open(source, "rb")  # noqa: SIM115
    except OSError as error:
        raise FormatError(f"'{source}' cannot be read: {reason(error)}.") from error
    with file:
        yield file


@dataclass(frozen=True)
class _Decoding:
    """Sound in parts (n,), its rate in Hz, the number of samples where that is known before, and in the end what it was
    made of."""

    parts: Iterator[np.ndarray]
    rate: int
    samples: int | None
    tally: Callable[[], Tally]


def _decoding(
    given: Codec,
    source: Path | BinaryIO,
    conceal: bool,
    prior: str | None,
    settings: Mapping[str, Any],
    any_model: bool,
) -> _Decoding:
    from vqaudio import Codes
    from vqaudio.blocks import BlockReader
    from vqaudio.container import read_header
    from vqaudio.prior import find
    from vqaudio.streams import decode_live

    def maker(codes: Codes | Header) -> Codec:
        return _maker(codes, given, settings["decoder"]) if any_model else given

    coders = functools.partial(find, path=prior)
    if not isinstance(source, Path) and given.device == "cpu":
        blocks = BlockReader(source, "The input", conceal, coders)
        codec = maker(blocks.header)
        rate = codec.config.sample_rate
        parts = decode_live(codec, blocks, **settings)
        length = None if conceal else blocks.samples or None  # a truncated file says more than there is
        return _Decoding(parts, rate, length, lambda: Tally(blocks.samples / rate, blocks.size))
    if isinstance(source, Path):
        header = read_header(source)  # codes of another model may be many times as large as their file
        codec = maker(header)
        codec.check_header(header)
        codes, size = Codes.load(source, conceal=conceal, coder=coders), source.stat().st_size
    else:
        try:
            data = source.read()
        except OSError as error:
            raise FormatError(f"The input cannot be read: {reason(error)}.") from error
        codes, size = Codes.from_bytes(data, conceal=conceal, name="The input", coder=coders), len(data)
        codec = maker(codes)
    parts, rate = codec.decode_parts(codes, **settings), codec.config.sample_rate
    return _Decoding(parts, rate, codes.samples, lambda: Tally(codes.seconds, size))


def _maker(codes: Codes | Header, codec: Codec, decoder: str | None) -> Codec:
    """The model that comes with vqaudio and made the codes.

    Raises:
        ModelError: where none did, or it has not the decoder asked for.
    """
    from vqaudio.shipped import name_of

    if codes.model == codec.fingerprint:
        return codec
    name = name_of(codes.model)
    if not name:
        raise ModelError(
            f"The codes are of model {codes.model.hex()}, which vqaudio comes without; --model FILE names it."
        )
    maker = loaded(name, codec.device)
    if decoder not in (None, *maker.decoders):
        raise ModelError(f"The codes are of model {name}, which has no {decoder} decoder.")
    return maker


@contextlib.contextmanager
def _told_losses() -> Iterator[None]:
    """Tell on standard error what had to be concealed."""
    with warnings.catch_warnings(record=True) as losses:
        warnings.simplefilter("always", UserWarning)
        yield
    for loss in losses:
        note(f"Warning: {loss.message}")
