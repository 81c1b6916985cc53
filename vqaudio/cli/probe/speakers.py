"""`vqaudio probe speakers`: what can be read of the speaker from what the codec sends?"""

from __future__ import annotations

from pathlib import Path

import click

from vqaudio.cli import options
from vqaudio.cli.progress import note, progress, skipped
from vqaudio.cli.tables import table


@click.command()
@options.directory
@options.model
@options.few_files
@click.option(
    "--seconds", type=options.Range(0.1, 60), default=1.0, show_default=True, help="Of an excerpt to be recognised."
)
@options.record
@options.figure
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
    """Ask what can be read of the speaker.

    From codes, conditioning and speaker vector of the speech in DIRECTORY: a linear classifier learns to name the
    speakers of short excerpts, and is tested on utterances that it did not learn from. Where each speaker was recorded
    in one place, it may know the place and not the voice. Means are over speakers, with 95 % bootstrap intervals over
    utterances.
    """

    from rich.console import Console

    import vqaudio
    from vqaudio.evaluation import figures, records
    from vqaudio.evaluation.probes import speakers as probe
    from vqaudio.evaluation.probes import speakers_figure
    from vqaudio.evaluation.probes.speaker_features import TITLES, listen
    from vqaudio.evaluation.registry import need
    from vqaudio.evaluation.speech import items
    from vqaudio.evaluation.versions import versions

    options.check_results(force, target, figure)
    need("The probe", probe.PACKAGES)
    found = items(directory, limit)
    codec = vqaudio.load(model)
    with progress("listen", len(found)) as advance:
        speech = listen(codec.model, found, seconds, advance)
    with progress("classify", len(speech.utterances[0].features)) as advance:
        result = probe.probe(speech, advance)
    for reason in speech.skipped:
        skipped(reason)
    for sentence in result.notes:
        note(sentence)
    heard = f"{len(result.speakers)} speakers, {len(result.utterances)} utterances"
    title = f"{codec.config.name} ({codec.fingerprint.hex()}): {heard}"
    rows = [(TITLES[row.name], str(row.width), row.accuracy.text(1, 100)) for row in result.rows]
    rows.append(("chance", "", f"{100 * result.chance:.1f}"))
    heading = f"{title}, {result.excerpts} excerpts of {result.seconds:g} s"
    Console(markup=False).print(table(heading, ("speaker named from",), ("numbers", "accuracy, %"), rows))
    if target is not None:
        record = {
            "model": records.model(codec, model),
            "settings": {"directory": str(directory), "limit": limit, "seconds": seconds},
            "versions": versions(probe.PACKAGES.values()),
            "skipped": speech.skipped,
            **result.to_dict(),
        }
        records.write(target, record, force)
    if figure is not None:
        figures.write(figure, speakers_figure.draw(title, result), force)
