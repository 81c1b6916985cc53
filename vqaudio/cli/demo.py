"""`vqaudio demo`: the shipped sample through the shipped model, for a first look."""

from __future__ import annotations

import time
from pathlib import Path

import click

from vqaudio.errors import VqaudioError
from vqaudio.files import reason

FOLDER = "vqaudio-demo"


@click.command()
def demo() -> None:
    """Encode and decode a sample, for a first look.

    It comes with vqaudio. The results go to a new directory, vqaudio-demo, or vqaudio-demo-2 and so on where that is
    there already.
    """
    import vqaudio
    from vqaudio import audio
    from vqaudio.prior import for_codec
    from vqaudio.shipped import SAMPLE

    codec = vqaudio.load()
    coder = for_codec(codec)
    rate = codec.config.sample_rate
    speech = audio.read(SAMPLE, rate)
    first = codec.encode(speech, rate).to_bytes(coder)
    codec.decode(vqaudio.Codes.from_bytes(first))  # the first pass pays for what is set up only once

    started = time.perf_counter()
    codes = codec.encode(speech, rate)
    encoded = time.perf_counter()
    decoded = codec.decode(codes)
    finished = time.perf_counter()

    folder = _new_folder()
    audio.write(folder / "original.wav", speech, rate)
    codes.save(folder / "speech.codes", coder=coder)
    audio.write(folder / "decoded.wav", decoded, rate)
    size = (folder / "speech.codes").stat().st_size
    wav_size = (folder / "original.wav").stat().st_size

    click.echo(
        f"Duration  {codes.seconds:.2f} s\n"
        f"Size      {size:,} bytes, {wav_size / size:.0f} times less than the WAV's {wav_size:,}\n"
        f"Bit rate  {8 * size / codes.seconds / 1000:.2f} kb/s, measured from the file\n"
        f"Encode    {codes.seconds / (encoded - started):.1f} times faster than real time\n"
        f"Decode    {codes.seconds / (finished - encoded):.1f} times faster than real time\n"
        f"Original  {folder / 'original.wav'}\n"
        f"Codes     {folder / 'speech.codes'}\n"
        f"Decoded   {folder / 'decoded.wav'}"
    )


def _new_folder() -> Path:
    """Make a directory that was not there, so that nothing of anybody's is overwritten."""
    number = 1
    while True:
        folder = Path(FOLDER if number == 1 else f"{FOLDER}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        except OSError as error:
            raise VqaudioError(f"The directory '{folder}' cannot be made: {reason(error)}.") from error
        else:
            return folder
