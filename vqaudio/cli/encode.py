"""`vqaudio encode`: audio to `.codes`."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from vqaudio.cli import options
from vqaudio.cli.coding import Direction, Tally, run, several
from vqaudio.cli.progress import Watch
from vqaudio.errors import UsageError

if TYPE_CHECKING:
    from vqaudio import Codec


@click.command()
@options.sources
@click.argument("dst")
@options.model
@options.device
@click.option("--quantizers", type=int, help="Quantisers to use: fewer give a lower rate; by default all.")
@click.option("--speaker/--no-speaker", default=True, help="Send the speaker's voice in the header; on by default.")
@click.option("--row", type=int, metavar="N", help="The row of the speaker in the table of a model that has one.")
@options.coder
@options.prior
@click.option("--live", is_flag=True, help="Code the sound as it comes, in blocks of half a second.")
@click.option("--raw", type=int, metavar="HZ", help="SRC has no header: 16-bit samples of one channel at this rate.")
@options.jobs
@options.force
@options.quiet
def encode(
    src: tuple[str, ...],
    dst: str,
    model: str | None,
    device: str,
    quantizers: int | None,
    speaker: bool,
    row: int | None,
    coder: str | None,
    prior: str | None,
    live: bool,
    raw: int | None,
    jobs: int,
    force: bool,
    quiet: bool,
) -> None:
    """Encode speech as codes.

    SRC is an audio file, several, a directory of them, or - for standard input; DST is a .codes file, a directory, or -
    for standard output. Of a directory the tree is mirrored; what is in a directory already is left as it is.

    With --live, codes leave while the sound still comes, so the header cannot carry the speaker's voice; SRC is then
    WAV or, with --raw, plain samples: arecord -f S16_LE -r 16000 -t raw | vqaudio encode - - --live --raw 16000
    """
    from vqaudio.audio import SUFFIXES

    if os.path.splitext(dst)[1].lower() in SUFFIXES and not several(src, dst):
        raise UsageError(f"'{dst}' has the name of an audio file; codes go into a file whose name ends in .codes.")
    if (live or raw is not None) and several(src, dst):
        raise UsageError("--live and --raw are for one recording and one file of codes, not for directories.")
    if row is not None and (live or not speaker):
        raise UsageError("--row says who speaks, which --live and --no-speaker leave out.")
    voice = speaker if row is None else row
    turn = functools.partial(
        _encode_one, quantizers=quantizers, speaker=voice, coder=coder, prior=prior, live=live, raw=raw
    )
    run(Direction("encode", turn, SUFFIXES, ".codes", model, device, force), src, dst, jobs, quiet)


def _encode_one(
    codec: Codec,
    source: Path | BinaryIO,
    target: Path | BinaryIO,
    force: bool,
    watch: Watch,
    *,
    quantizers: int | None,
    speaker: bool | int,
    coder: str | None,
    prior: str | None,
    live: bool,
    raw: int | None,
) -> Tally:
    """Encode one recording."""
    from vqaudio import audio
    from vqaudio.files import writing
    from vqaudio.prior import coder_for
    from vqaudio.streams import encode_live

    rate = codec.config.sample_rate
    writer = coder_for(codec, coder, prior, quantizers)
    with audio.reading(source, rate, live=live, raw_rate=raw) as recording:
        sound = watch(recording, recording.seconds, rate)
        if live:
            with writing(target, force) as file:
                samples, size = encode_live(codec, sound, file, quantizers, writer)
            return Tally(samples / rate, size)
        codes = codec.encode(sound, rate, quantizers=quantizers, speaker=speaker)
    data = codes.to_bytes(writer)
    with writing(target, force) as file:
        file.write(data)
    return Tally(codes.seconds, len(data))
