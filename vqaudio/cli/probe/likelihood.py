"""`vqaudio probe likelihood`: does the WaveNet listen to its codes?"""

from __future__ import annotations

from pathlib import Path

import click

from vqaudio.cli import options
from vqaudio.cli.progress import progress, skipped


@click.command()
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

    import vqaudio
    from vqaudio.evaluation import records
    from vqaudio.evaluation.probes import likelihood as probe
    from vqaudio.evaluation.speech import audio_files, readable

    files = audio_files(directory, limit)
    codec = vqaudio.load(model, device)
    waveforms = readable(files, codec.config.sample_rate, skipped)
    with progress("likelihood", None, quiet=False):
        result = probe.likelihood(codec.model, waveforms)
    if as_json:
        click.echo(records.dumps(dataclasses.asdict(result)))
        return
    click.echo(f"{result.utterances} utterances, {result.seconds:.1f} s; bits per sample, lower is better:")
    for name in ("true", "shuffled_in_time", "other_utterance", "zero"):
        click.echo(f"  {name.replace('_', ' '):<18}{getattr(result, name):8.4f}")
