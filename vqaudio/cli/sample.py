"""`vqaudio sample`: speech out of nothing, or on from a beginning."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqaudio.cli import options

if TYPE_CHECKING:
    from vqaudio import Codec, Codes


@click.command()
@click.argument("dst")
@click.option("--seconds", type=float, default=10.0, show_default=True, help="Of each sample; at most 600.")
@click.option(
    "--count", type=click.IntRange(1, 1_000_000), default=1, show_default=True, help="How many samples to draw."
)
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same samples.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="Below 1, what is likely is likelier.")
@click.option("--top-k", type=int, metavar="N", help="Draw from the N likeliest codes only.")
@click.option(
    "--top-p",
    metavar="P",
    type=float,
    default=1.0,
    show_default=True,
    help="Draw only from the likeliest codes whose probabilities add up to P.",
)
@click.option(
    "--prompt",
    metavar="FILE",
    help="A recording or a .codes file to go on from, in its voice; the sample begins with it.",
)
@options.model
@options.prior
@options.device
@options.force
@options.quiet
def sample(
    dst: str,
    seconds: float,
    count: int,
    seed: int,
    temperature: float,
    top_k: int | None,
    top_p: float,
    prompt: str | None,
    model: str | None,
    prior: str | None,
    device: str,
    force: bool,
    quiet: bool,
) -> None:
    """Draw speech from a prior.

    Codes are drawn from the prior and decoded to audio, DST. With --count the files are numbered: out.wav becomes
    out-1.wav, out-2.wav and so on.
    """
    import vqaudio
    from vqaudio import audio
    from vqaudio.cli.progress import progress
    from vqaudio.files import check_target
    from vqaudio.prior import required

    audio.check_suffix(dst)
    targets = _numbered(Path(dst), count)
    for target in targets:
        check_target(target, force)
    codec = vqaudio.load(model, device)
    chosen = required(codec, prior)
    rate = codec.config.sample_rate
    beginning = None if prompt is None else _beginning(codec, prompt, prior)
    started = time.perf_counter()
    with progress("sample", count, quiet) as advance:
        for stream, target in enumerate(targets):
            codes = chosen.sample(
                seconds,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                seed=seed,
                stream=stream,
                prompt=beginning,
            )
            audio.write(target, codec.decode_parts(codes, seed=seed), rate, force, codes.samples)
            advance()
    if not quiet:
        elapsed = time.perf_counter() - started
        speed = count * codes.seconds / elapsed
        click.echo(f"{count} of {codes.seconds:.2f} s, {speed:.1f} times real time")


def _beginning(codec: Codec, path: str, prior: str | None) -> Codes:
    """The codes of a recording or of a `.codes` file."""
    from vqaudio import Codes, audio
    from vqaudio.prior import find

    if Path(path).suffix.lower() == ".codes":
        return Codes.load(path, coder=functools.partial(find, path=prior))
    rate = codec.config.sample_rate
    return codec.encode(audio.read(path, rate), rate)


def _numbered(path: Path, count: int) -> list[Path]:
    """The files of so many samples."""
    return [path] if count == 1 else [path.with_stem(f"{path.stem}-{number}") for number in range(1, count + 1)]
