"""`vqaudio probe speakers`: what can be read of the speaker from what the codec sends?"""

from __future__ import annotations

from pathlib import Path

import click

from vqaudio.cli import options
from vqaudio.cli.progress import progress


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@options.model
@options.few_files
@click.option(
    "--seconds", type=options.Range(0.1, 60), default=1.0, show_default=True, help="Of an excerpt to be recognised."
)
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write everything, file by file, to this file.")
@click.option("--figure", type=click.Path(path_type=Path), help="Draw it: a PNG or SVG file.")
@options.force
def speakers(
    directory: Path,
    model: str | None,
    limit: int | None,
    seconds: float,
    target: Path | None,
    figure: Path | None,
    force: bool,
) -> None:
    """Ask what can be read of the speaker from codes, conditioning and speaker vector, on the speech in DIRECTORY.

    A linear classifier learns to name the speakers of short excerpts, and is tested on utterances that it did not learn
    from. Where each speaker was recorded in one place, it may know the place and not the voice. Means are over
    speakers, with 95 % bootstrap intervals over utterances.
    """

    from rich.console import Console
    from rich.table import Table

    import vqaudio
    from vqaudio.evaluation import figures, records
    from vqaudio.evaluation.probes import speakers as probe
    from vqaudio.evaluation.probes import speakers_figure
    from vqaudio.evaluation.probes.speaker_features import TITLES, listen
    from vqaudio.evaluation.registry import need
    from vqaudio.evaluation.speech import items
    from vqaudio.evaluation.versions import versions
    from vqaudio.files import check_target

    for path in (target, figure):
        if path is not None:
            check_target(path, force)
    if figure is not None:
        figures.check(figure)
    need("The probe", probe.PACKAGES)
    found = items(directory, limit)
    codec = vqaudio.load(model)
    with progress("listen", len(found), quiet=False) as advance:
        speech = listen(codec.model, found, seconds, advance)
    with progress("classify", len(speech.utterances[0].features), quiet=False) as advance:
        result = probe.probe(speech, advance)
    for note in result.notes:
        click.echo(note, err=True)
    name, fingerprint = codec.config.name, codec.fingerprint.hex()
    title = f"{name} ({fingerprint}): {len(result.speakers)} speakers, {len(result.utterances)} utterances"
    table = Table(title=f"{title}, {result.excerpts} excerpts of {result.seconds:g} s")
    table.add_column("speaker named from")
    for column in ("numbers", "accuracy, %", "95 % interval"):
        table.add_column(column, justify="right")
    for row in result.rows:
        low, mean, high = (100 * value for value in (row.accuracy.low, row.accuracy.mean, row.accuracy.high))
        table.add_row(TITLES[row.name], str(row.width), f"{mean:.1f}", f"{low:.1f} to {high:.1f}")
    table.add_row("chance", "", f"{100 * result.chance:.1f}", "")
    Console(markup=False).print(table)
    if target is not None:
        record = {
            "model": {"name": name, "fingerprint": fingerprint, "path": model},
            "settings": {"directory": str(directory), "limit": limit, "seconds": seconds},
            "versions": versions(probe.PACKAGES.values()),
            **result.to_dict(),
        }
        records.write(target, record, force)
    if figure is not None:
        figures.write(figure, speakers_figure.draw(title, result), force)
