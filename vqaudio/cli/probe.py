"""`vqaudio probe`: questions to a model that its users need not ask and its makers must."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqaudio.cli import options
from vqaudio.cli.progress import progress

if TYPE_CHECKING:
    from vqaudio import Codec
    from vqaudio.evaluation.ways import Way

few_files = click.option(
    "--limit", type=click.IntRange(min=1), help="So many files only, spread evenly over the directory."
)


@click.group()
def probe() -> None:
    """Look into a trained model."""


@probe.command()
@click.argument("directory", type=click.Path(path_type=Path))
@options.model
@options.device
@click.option("--limit", type=click.IntRange(min=2), help="So many files only, spread evenly over the directory.")
@options.as_json
def likelihood(directory: Path, model: str | None, device: str, limit: int | None, as_json: bool) -> None:
    """Ask whether the WaveNet listens to its codes, on the speech in DIRECTORY.

    It does if its likelihood under the true codes is clearly better, in bits per sample lower, than under wrong ones.
    """
    import dataclasses
    import json

    import vqaudio
    from vqaudio import audio
    from vqaudio.evaluation import probes
    from vqaudio.evaluation.evaluate import audio_files

    files = audio_files(directory, limit)
    codec = vqaudio.load(model, device)
    waveforms = (audio.read(path, codec.config.sample_rate) for path in files)
    with progress("likelihood", None, quiet=False):
        result = probes.likelihood(codec.model, waveforms)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(result)))
        return
    click.echo(f"{result.utterances} utterances, {result.seconds:.1f} s; bits per sample, lower is better:")
    for name in ("true", "shuffled_in_time", "other_utterance", "zero"):
        click.echo(f"  {name.replace('_', ' '):<18}{getattr(result, name):8.4f}")


@probe.command()
@click.argument("directory", type=click.Path(path_type=Path))
@options.model
@few_files
@options.as_json
def seams(directory: Path, model: str | None, limit: int | None, as_json: bool) -> None:
    """Ask what it costs to decode by the WaveNet in pieces, on the speech in DIRECTORY.

    Every file is decoded in pieces side by side, as usual, and in one pass; differences come with 95 % bootstrap
    intervals over the files.
    """
    import vqaudio
    from vqaudio.evaluation import ways

    codec = vqaudio.load(model)
    _compare("seams", codec, ways.pieces_or_pass(codec), directory, limit, as_json)


@probe.command()
@click.argument("directory", type=click.Path(path_type=Path))
@options.model
@click.option(
    "--decoder", type=click.Choice(["spectral", "wavenet"]), help="By default the one that the model prefers."
)
@few_files
@options.as_json
def precision(directory: Path, model: str | None, decoder: str | None, limit: int | None, as_json: bool) -> None:
    """Ask what it costs to multiply bfloat16, as is done where the processor can, on the speech in DIRECTORY.

    Every file is encoded and decoded so, and in float32; differences come with 95 % bootstrap intervals over the files.
    """
    import vqaudio
    from vqaudio.evaluation import ways

    codec = vqaudio.load(model)
    both = ways.short_or_exact(codec, decoder or codec.decoders[0])
    _compare("precision", codec, both, directory, limit, as_json)


def _compare(what: str, codec: Codec, both: tuple[Way, Way], directory: Path, limit: int | None, as_json: bool) -> None:
    """Code the speech in a directory both ways and print what the metrics say."""
    import json

    from vqaudio import audio
    from vqaudio.evaluation.evaluate import audio_files
    from vqaudio.evaluation.metrics import METRICS, select, usable
    from vqaudio.evaluation.ways import compare

    files, rate = audio_files(directory, limit), codec.config.sample_rate
    chosen, notes = usable(select(METRICS))
    for note in notes:
        click.echo(note, err=True)
    with progress(what, len(files), quiet=False) as advance:
        result = compare(both, (audio.read(path, rate) for path in files), chosen, rate, advance=advance)
    if as_json:
        click.echo(json.dumps(result.to_dict()))
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
