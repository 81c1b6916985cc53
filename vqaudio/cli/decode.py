"""`vqaudio decode`: `.codes` to audio."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from vqaudio.cli import options
from vqaudio.cli.conversion import Conversion, Tally, run
from vqaudio.cli.progress import Watch, unwatched

if TYPE_CHECKING:
    import numpy as np

    from vqaudio import Codec


@click.command()
@click.argument("src")
@click.argument("dst")
@options.model
@options.device
@click.option(
    "--decoder", type=click.Choice(["spectral", "wavenet"]), help="By default the one that the model prefers."
)
@options.prior
@click.option("--seed", type=int, default=0, show_default=True, help="Of the WaveNet's samples.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="Of the WaveNet's samples.")
@click.option("--raw", is_flag=True, help="Write 16-bit samples without a header.")
@click.option("--conceal", is_flag=True, help="Bridge damaged blocks of a file instead of refusing it.")
@options.jobs
@options.force
@options.quiet
def decode(
    src: str,
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
    """Decode codes, SRC, to audio, DST.

    SRC is a .codes file, a directory of them, or - for standard input; DST is an audio file, whose suffix gives the
    format, a directory, which gets WAV files, or - for WAV on standard output. Of a directory the tree is mirrored, and
    what is there already is left as it is. Codes in a pipe are decoded as they come.
    """
    settings = {"decoder": decoder, "seed": seed, "temperature": temperature}
    turn = functools.partial(decode_one, raw=raw, conceal=conceal, prior=prior, settings=settings)
    run(Conversion("decode", turn, frozenset({".codes"}), ".wav", model, device, force), src, dst, jobs, quiet)


def decode_one(
    codec: Codec,
    source: Path | BinaryIO,
    target: Path | BinaryIO,
    force: bool,
    watch: Watch = unwatched,
    raw: bool = False,
    conceal: bool = False,
    prior: str | None = None,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> Tally:
    """Decode one `.codes` file or stream; what had to be concealed is told on standard error.

    Args:
        prior: the file of a prior.
        settings: decoder, seed and temperature, as for `Codec.decode`.
    """
    from vqaudio import audio
    from vqaudio.files import writing

    with _told_losses():
        found = _decoding(codec, source, conceal, prior, settings)
        sound = watch(found.parts, (found.samples or 0) / codec.config.sample_rate, codec.config.sample_rate)
        if raw:
            with writing(target, force) as file:
                audio.write_raw(file, sound)
        else:
            audio.write(target, sound, codec.config.sample_rate, force, found.samples)
    return found.tally()


@dataclass(frozen=True)
class _Decoding:
    """Sound in parts (n,), the number of samples where that is known before, and in the end what it was made of."""

    parts: Iterator[np.ndarray]
    samples: int | None
    tally: Callable[[], Tally]


def _decoding(
    codec: Codec, source: Path | BinaryIO, conceal: bool, prior: str | None, settings: Mapping[str, Any]
) -> _Decoding:
    from vqaudio import Codes
    from vqaudio.container import BlockReader
    from vqaudio.prior import find
    from vqaudio.streams import decode_live

    rate = codec.config.sample_rate
    coders = functools.partial(find, path=prior)
    if not isinstance(source, Path) and codec.device == "cpu":
        blocks = BlockReader(source, "The input", conceal, coders)
        parts = decode_live(codec, blocks, **settings)
        length = None if conceal else blocks.samples or None  # a truncated file says more than there is
        return _Decoding(parts, length, lambda: Tally(blocks.samples / rate, blocks.size))
    if isinstance(source, Path):
        codes, size = Codes.load(source, conceal=conceal, coders=coders), source.stat().st_size
    else:
        data = source.read()
        codes, size = Codes.from_bytes(data, conceal=conceal, name="The input", coders=coders), len(data)
    return _Decoding(codec.decode_parts(codes, **settings), codes.samples, lambda: Tally(codes.seconds, size))


@contextlib.contextmanager
def _told_losses() -> Iterator[None]:
    """Tell on standard error what had to be concealed."""
    with warnings.catch_warnings(record=True) as losses:
        warnings.simplefilter("always", UserWarning)
        yield
    for loss in losses:
        click.echo(f"Warning: {loss.message}", err=True)
