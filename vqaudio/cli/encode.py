"""`vqaudio encode`: audio to `.codes`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from vqaudio.cli import options
from vqaudio.cli.conversion import Conversion, Tally, run

if TYPE_CHECKING:
    from vqaudio import Codec


@click.command()
@click.argument("src")
@click.argument("dst")
@options.model
@options.device
@click.option("--quantizers", type=int, help="Quantisers to use: fewer give a lower rate; by default all.")
@click.option("--speaker/--no-speaker", default=True, help="Send the speaker's voice in the header; on by default.")
@options.jobs
@options.force
@options.quiet
def encode(
    src: str,
    dst: str,
    model: str | None,
    device: str,
    quantizers: int | None,
    speaker: bool,
    jobs: int,
    force: bool,
    quiet: bool,
) -> None:
    """Encode speech, SRC, as codes, DST.

    SRC is an audio file, a directory of them, or - for standard input; DST is a .codes file, a directory, or - for
    standard output. Of a directory the tree is mirrored, and what is there already is left as it is.
    """
    from vqaudio.audio import SUFFIXES

    turn = functools.partial(encode_one, quantizers=quantizers, speaker=speaker)
    run(Conversion("encode", turn, SUFFIXES, ".codes", model, device, force), src, dst, jobs, quiet)


def encode_one(
    codec: Codec,
    source: Path | BinaryIO,
    target: Path | BinaryIO,
    force: bool,
    quantizers: int | None = None,
    speaker: bool = True,
) -> Tally:
    """Encode one audio file."""
    from vqaudio import audio

    rate = codec.config.sample_rate
    codes = codec.encode(audio.read(source, rate), rate, quantizers=quantizers, speaker=speaker)
    data = codes.to_bytes()
    if isinstance(target, Path):
        codes.save(target, force)
    else:
        target.write(data)
    return Tally(codes.seconds, len(data))
