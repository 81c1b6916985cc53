"""`vqaudio probe phonemes`: do the codes know phonemes?"""

from __future__ import annotations

from pathlib import Path

import click

from vqaudio.cli import options
from vqaudio.cli.progress import progress, skipped


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@options.model
@click.option(
    "--limit", type=click.IntRange(min=2), help="So many files with transcripts only, spread evenly over the directory."
)
@options.all_cores
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write everything, code by code, to this file.")
@click.option("--figure", type=click.Path(path_type=Path), help="Draw it: a PNG or SVG file.")
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
    """Ask whether the codes know phonemes, on the speech in DIRECTORY, whose manifest.csv tells what is said.

    Every code of the first quantiser stands for the phoneme that is spoken most often in its frames, by forced
    alignment, on one half of the speakers, and is judged on the other half; both halves are, in turn. Means are over
    frames, with 95 % bootstrap intervals over speakers. What a code tells is a lower bound of the mutual information.
    """
    import functools

    from rich.console import Console
    from rich.table import Table

    import vqaudio
    from vqaudio.evaluation import figures, records
    from vqaudio.evaluation.probes import labelled, phonemes_figure
    from vqaudio.evaluation.probes import phonemes as probe
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
    found = probe.transcribed(items(directory), limit)
    codec = vqaudio.load(model)
    load = functools.partial(vqaudio.load, model, threads=1)
    with progress("align", len(found), quiet=False) as advance:
        speech = labelled.label(load, found, features=probe.cepstrum, jobs=jobs, advance=advance)
    for reason in speech.skipped:
        skipped(reason)
    with progress("phonemes", None, quiet=False):
        result = probe.probe(speech.utterances, codec.config.quantizer.codebook_size)
    name, fingerprint = codec.config.name, codec.fingerprint.hex()
    rate, size = codec.config.frame_rate, codec.config.quantizer.codebook_size
    title = f"{name} ({fingerprint}): {size} codes, {rate:g} a second"
    measured = f"{result.speakers} speakers, {result.utterances} utterances, {result.frames} frames with phonemes"
    table = Table("", title=f"{title}\n{measured}")
    for column in ("frames right, %", "without silence, %", "bits told"):
        table.add_column(column, justify="right")
    for score in result.scores:
        told = f"{score.information.mean:.2f} ({100 * score.share:.0f} %)"
        table.add_row(score.name, probe.percent(score.accuracy), probe.percent(score.without_silence), told)
    Console(markup=False).print(table)
    if target is not None:
        record = {
            "model": {
                "name": name,
                "fingerprint": fingerprint,
                "path": model,
                "frame_rate": rate,
                "codebook_size": size,
            },
            "settings": {"directory": str(directory), "limit": limit, "jobs": jobs},
            "versions": versions(probe.PACKAGES.values()),
            "skipped": speech.skipped,
            **result.to_dict(),
        }
        records.write(target, record, force)
    if figure is not None:
        figures.write(figure, phonemes_figure.draw(title, result), force)
