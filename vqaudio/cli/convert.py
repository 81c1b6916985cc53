"""`vqaudio convert`: speech in another voice."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from vqaudio.cli import options
from vqaudio.cli.coding import PIPE, Direction, Tally, loaded, run, several
from vqaudio.cli.progress import Watch
from vqaudio.errors import UsageError
from vqaudio.files import check_target

if TYPE_CHECKING:
    from vqaudio import Codec, Codes
    from vqaudio.container import Coder

CODES = ".codes"


@click.command()
@options.sources
@click.argument("dst")
@click.option(
    "--to",
    required=True,
    metavar="VOICE",
    help="A recording of the voice, a .codes file in that voice, or the row of a speaker in the model's table.",
)
@options.model
@options.device
@options.decoder
@options.prior
@options.seed
@options.temperature
@options.jobs
@options.force
@options.quiet
def convert(
    src: tuple[str, ...],
    dst: str,
    to: str,
    model: str | None,
    device: str,
    decoder: str | None,
    prior: str | None,
    seed: int,
    temperature: float,
    jobs: int,
    force: bool,
    quiet: bool,
) -> None:
    """Convert speech to another voice.

    SRC is decoded into DST by its own codes and the speaker of --to. With the models that come with vqaudio most of the
    voice stays, because their codes carry it.

    SRC is an audio or .codes file, several, a directory of them, or - for audio on standard input. DST is an audio or
    .codes file, whose suffix gives the format, a directory, which gets WAV files, or - for WAV on standard output. The
    voice need not have been heard in training; its recording takes a second at least, and five seconds tell much more.
    Codes are those of --model.
    """
    from vqaudio import audio

    if dst != PIPE and not several(src, dst):
        check_target(dst, force)
        if not _codes_file(Path(dst)):
            audio.check_suffix(dst)
    codec = loaded(model, device)
    voice = voice_of(codec, to)
    settings = {"decoder": decoder, "seed": seed, "temperature": temperature}
    turn = functools.partial(_convert_one, voice=voice, prior=prior, settings=settings)
    suffixes, preface = audio.SUFFIXES | {CODES}, f"voice {voice.hex()}, "
    run(Direction("convert", turn, suffixes, ".wav", model, device, force, preface), src, dst, jobs, quiet)


def voice_of(codec: Codec, to: str) -> bytes:
    """The voice that `--to` names, as in `Codes.speaker`.

    Raises:
        UsageError: where it names none; VqaudioError: for a file that cannot be read or holds none.
    """
    from vqaudio import audio

    row = re.fullmatch(r"-?[0-9]{1,18}", to)
    if row and (codec.config.speaker.kind == "lookup" or not os.path.exists(to)):
        return codec.table_voice(int(to))
    if not os.path.exists(to):
        raise UsageError(f"'{to}' is neither a file with a voice nor the row of a speaker in a table.")
    if path := _codes_file(Path(to)):
        return _sent_voice(codec, path)
    with audio.reading(to, codec.config.sample_rate) as recording:
        return codec.voice(iter(recording), codec.config.sample_rate)


def _convert_one(
    codec: Codec,
    source: Path | BinaryIO,
    target: Path | BinaryIO,
    force: bool,
    watch: Watch,
    *,
    voice: bytes,
    prior: str | None,
    settings: Mapping[str, Any],
) -> Tally:
    """Convert one recording or `.codes` file; codes go into a file of codes as they were written, but for the voice.

    Args:
        voice: as in `Codes.speaker`.
        prior: the file of a prior, or the name of its model.
        settings: decoder, seed and temperature, as for `Codec.decode`.
    """
    from vqaudio import audio
    from vqaudio.prior import for_codec

    rate, given, wanted = codec.config.sample_rate, _codes_file(source), _codes_file(target)
    passes = (given is None) + (wanted is None)  # of the sound: in and out
    if given:
        codes, coder = _read(given, prior)
        codec.check_header(codes)
    else:
        coder = for_codec(codec, prior) if wanted else None
        with audio.reading(source, rate) as recording:
            codes = codec.encode(watch(recording, passes * recording.seconds, rate), rate, speaker=False)
    codes = codes.with_speaker(voice)
    if wanted:
        codes.save(wanted, force, coder)
        return Tally(codes.seconds, wanted.stat().st_size)
    parts = watch(codec.decode_parts(codes, **settings), passes * codes.seconds, rate)
    audio.write(target, parts, rate, force, codes.samples)
    return Tally(codes.seconds)


def _codes_file(file: Path | BinaryIO) -> Path | None:
    """The path of a `.codes` file; None for sound."""
    return file if isinstance(file, Path) and file.suffix.lower() == CODES else None


def _read(path: Path, prior: str | None) -> tuple[Codes, Coder | None]:
    """The codes of a file, and the coder that they were written by."""
    from vqaudio import Codes
    from vqaudio.prior import find

    used: list[Coder] = []

    def remembered(fingerprint: bytes) -> Coder:
        used.append(find(fingerprint, prior))
        return used[-1]

    codes = Codes.load(path, coder=remembered)
    return codes, used[-1] if used else None


def _sent_voice(codec: Codec, path: Path) -> bytes:
    """The voice in the header of a `.codes` file."""
    from vqaudio.codec import unpack_indices
    from vqaudio.container import read_header

    header = read_header(path)
    codec.check_header(header)
    if not header.speaker:
        raise UsageError(f"'{path}' was written without a voice.")
    unpack_indices(header.speaker, codec.config.speaker.sizes)  # or it is none of this model
    return header.speaker
