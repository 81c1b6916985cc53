"""`vqaudio probe`: questions to a model that its users need not ask and its makers must."""

from __future__ import annotations

from pathlib import Path

import click

from vqaudio.cli import options
from vqaudio.cli.progress import progress


@click.group()
def probe() -> None:
    """Look into a trained model."""


@probe.command()
@click.argument("directory", type=click.Path(path_type=Path))
@options.model
@options.device
@click.option("--limit", type=click.IntRange(min=2), help="So many files only, spread evenly over the directory.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
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
@click.option("--limit", type=click.IntRange(min=1), help="So many files only, spread evenly over the directory.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def seams(directory: Path, model: str | None, limit: int | None, as_json: bool) -> None:
    """Ask what it costs to decode by the WaveNet in pieces, on the speech in DIRECTORY.

    Every file is decoded in pieces side by side, as usual, and in one pass; differences come with 95 % bootstrap
    intervals over the files.
    """
    import json

    import vqaudio
    from vqaudio import audio
    from vqaudio.evaluation import seams as harness
    from vqaudio.evaluation.evaluate import audio_files
    from vqaudio.evaluation.metrics import METRICS, select, usable

    files = audio_files(directory, limit)
    codec = vqaudio.load(model)
    chosen, notes = usable(select(METRICS))
    for note in notes:
        click.echo(note, err=True)
    waveforms = (audio.read(path, codec.config.sample_rate) for path in files)
    with progress("seams", len(files), quiet=False) as advance:
        result = harness.seams(codec, waveforms, chosen, advance=advance)
    if as_json:
        click.echo(json.dumps(result.to_dict()))
        return
    click.echo(f"{result.files} files, {result.seconds:.1f} s; one thread, times real time: ", nl=False)
    click.echo(f"{result.pieces_speed:.2f} in pieces, {result.one_pass_speed:.2f} in one pass")
    click.echo(f"  {'':<20}{'pieces':>8}{'one pass':>10}  difference, 95 % interval")
    for metric in chosen:
        pair = result.metrics[metric.name]
        change = pair.difference
        click.echo(f"  {metric.title:<20}{pair.pieces.mean:8.3f}{pair.one_pass.mean:10.3f}", nl=False)
        click.echo(f"  {change.mean:+.3f}, {change.low:+.3f} to {change.high:+.3f}")
