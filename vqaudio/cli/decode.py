"""`vqaudio decode`: `.codes` to audio."""

from __future__ import annotations

import functools
import warnings
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
@click.option(
    "--decoder", type=click.Choice(["spectral", "wavenet"]), help="By default the one that the model prefers."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the WaveNet's samples.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="Of the WaveNet's samples.")
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
    seed: int,
    temperature: float,
    conceal: bool,
    jobs: int,
    force: bool,
    quiet: bool,
) -> None:
    """Decode codes, SRC, to audio, DST.

    SRC is a .codes file, a directory of them, or - for standard input; DST is an audio file, whose suffix gives the
    format, a directory, which gets WAV files, or - for WAV on standard output. Of a directory the tree is mirrored, and
    what is there already is left as it is.
    """
    turn = functools.partial(decode_one, decoder=decoder, seed=seed, temperature=temperature, conceal=conceal)
    run(Conversion("decode", turn, frozenset({".codes"}), ".wav", model, device, force), src, dst, jobs, quiet)


def decode_one(
    codec: Codec,
    source: Path | BinaryIO,
    target: Path | BinaryIO,
    force: bool,
    decoder: str | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    conceal: bool = False,
) -> Tally:
    """Decode one `.codes` file; what had to be concealed is told on standard error."""
    from vqaudio import Codes, audio

    with warnings.catch_warnings(record=True) as losses:
        warnings.simplefilter("always", UserWarning)
        if isinstance(source, Path):
            codes, size = Codes.load(source, conceal=conceal), source.stat().st_size
        else:
            data = source.read()
            codes, size = Codes.from_bytes(data, conceal=conceal, name="The input"), len(data)
    for loss in losses:
        click.echo(f"Warning: {loss.message}", err=True)
    waveform = codec.decode(codes, decoder=decoder, seed=seed, temperature=temperature)
    audio.write(target, waveform, codes.sample_rate, force)
    return Tally(codes.seconds, size)
