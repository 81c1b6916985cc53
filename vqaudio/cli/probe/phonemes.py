"""`vqaudio probe phonemes`: do the codes know phonemes?"""

from __future__ import annotations

from pathlib import Path

import click

from vqaudio.cli import options
from vqaudio.cli.progress import progress, skipped
from vqaudio.cli.tables import table


@click.command()
@options.directory
@options.model
@click.option(
    "--limit",
    type=click.IntRange(min=2),
    metavar="N",
    help="Use only N files with transcripts, spread evenly over the directory.",
)
@options.all_cores
@options.record
@options.figure
@options.force
def phonemes(
    directory: Path,
    model: str | None,
    limit: int | None,
    jobs: int,
    target: Path | None,
    figure: Path | None,
    force: bool,
) -> None:
    """Ask whether the codes know phonemes.

    A manifest.csv has to tell what is said in the speech in DIRECTORY. Every code of the first quantiser stands for the
    phoneme that is spoken most often in its frames, by forced alignment, on one half of the speakers, and is judged on
    the other half; both halves are, in turn. Means are over frames, with 95 % bootstrap intervals over speakers. What a
    code tells is a lower bound of the mutual information.
    """
    import functools

    from rich.console import Console

    import vqaudio
    from vqaudio.evaluation import figures, records
    from vqaudio.evaluation.probes import labelled, phonemes_figure
    from vqaudio.evaluation.probes import phonemes as probe
    from vqaudio.evaluation.registry import need
    from vqaudio.evaluation.speech import items
    from vqaudio.evaluation.versions import versions

    options.check_results(force, target, figure)
    need("The probe", probe.PACKAGES)
    found = probe.transcribed(items(directory), limit)
    codec = vqaudio.load(model)
    load = functools.partial(vqaudio.load, model, threads=1)
    with progress("align", len(found)) as advance:
        speech = labelled.label(load, found, features=probe.cepstrum, jobs=jobs, advance=advance)
    for reason in speech.skipped:
        skipped(reason)
    with progress("phonemes", None):
        result = probe.probe(speech.utterances, codec.config.quantizer.codebook_size)
    rate, size = codec.config.frame_rate, codec.config.quantizer.codebook_size
    title = f"{codec.config.name} ({codec.fingerprint.hex()}): {size} codes, {rate:g} a second"
    measured = f"{result.speakers} speakers, {result.utterances} utterances, {result.frames} frames with phonemes"
    rows = []
    for score in result.scores:
        told = f"{score.information.value(2)} ({100 * score.share:.0f} %)"
        rows.append((score.name, score.accuracy.text(1, 100), score.without_silence.text(1, 100), told))
    headings = ("frames right, %", "without silence, %", "bits told")
    Console(markup=False).print(table(f"{title}\n{measured}", ("",), headings, rows))
    if target is not None:
        record = {
            "model": {**records.model(codec, model), "frame_rate": rate, "codebook_size": size},
            "settings": {"directory": str(directory), "limit": limit, "jobs": jobs},
            "versions": versions(probe.PACKAGES.values()),
            "skipped": speech.skipped,
            **result.to_dict(),
        }
        records.write(target, record, force)
    if figure is not None:
        figures.write(figure, phonemes_figure.draw(title, result), force)
