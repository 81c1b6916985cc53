"""`vqaudio probe seams` and `vqaudio probe precision`: what do the fast ways through the networks cost?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqaudio.cli import options
from vqaudio.cli.progress import progress, skipped

if TYPE_CHECKING:
    from vqaudio import Codec
    from vqaudio.evaluation.probes.ways import Way


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@options.model
@options.few_files
@options.as_json
def seams(directory: Path, model: str | None, limit: int | None, as_json: bool) -> None:
    """Ask what it costs to decode by the WaveNet in pieces, on the speech in DIRECTORY.

    Every file is decoded in pieces side by side, as usual, and in one pass; differences come with 95 % bootstrap
    intervals over the files.
    """
    import vqaudio
    from vqaudio.evaluation.probes import ways

    codec = vqaudio.load(model)
    _compare("seams", codec, ways.pieces_or_pass(codec), directory, limit, as_json)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@options.model
@options.decoder
@options.few_files
@options.as_json
def precision(directory: Path, model: str | None, decoder: str | None, limit: int | None, as_json: bool) -> None:
    """Ask what it costs to multiply bfloat16, as is done where that is faster, on the speech in DIRECTORY.

    Every file is encoded and decoded so, and in float32; differences come with 95 % bootstrap intervals over the files.
    """
    import vqaudio
    from vqaudio.evaluation.probes import ways

    codec = vqaudio.load(model)
    both = ways.short_or_exact(codec, decoder or codec.decoders[0])
    _compare("precision", codec, both, directory, limit, as_json)


def _compare(what: str, codec: Codec, both: tuple[Way, Way], directory: Path, limit: int | None, as_json: bool) -> None:
    """Code the speech in a directory both ways and print what the metrics say."""
    from vqaudio.evaluation import records
    from vqaudio.evaluation.metrics import METRICS, select, usable
    from vqaudio.evaluation.probes.ways import compare
    from vqaudio.evaluation.speech import audio_files, readable

    files, rate = audio_files(directory, limit), codec.config.sample_rate
    chosen, notes = usable(select(METRICS))
    for note in notes:
        click.echo(note, err=True)
    with progress(what, len(files), quiet=False) as advance:
        result = compare(both, readable(files, rate, skipped), chosen, rate, advance=advance)
    if as_json:
        click.echo(records.dumps(result.to_dict()))
        return
    fast, slow = result.ways
    click.echo(f"{result.files} files, {result.seconds:.1f} s; {100 * result.codes_apart:.2f} % of the codes differ")
    click.echo(f"  {'':<20}{fast:>10}{slow:>10}  difference, 95 % interval")
    click.echo("  {:<20}{:10.1f}{:10.1f}".format("times real time", *result.speeds))
    for metric in chosen:
        pair = result.metrics[metric.name]
        change = pair.difference
        click.echo(f"  {metric.title:<20}{pair.fast.mean:10.3f}{pair.slow.mean:10.3f}", nl=False)
        click.echo(f"  {change.mean:+.3f}, {change.low:+.3f} to {change.high:+.3f}")
