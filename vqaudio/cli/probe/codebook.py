"""`vqaudio probe codebook`: how is the codebook used, and how do its vectors lie?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqaudio.cli import options
from vqaudio.cli.progress import note, progress, skipped
from vqaudio.cli.tables import table

if TYPE_CHECKING:
    from rich.table import Table

    from vqaudio.evaluation.probes.codebook import Codebook


@click.command()
@options.directory
@options.model
@options.few_files
@options.all_cores
@options.record
@options.figure
@options.force
def codebook(
    directory: Path,
    model: str | None,
    limit: int | None,
    jobs: int,
    target: Path | None,
    figure: Path | None,
    force: bool,
) -> None:
    """Ask how codes are used, and how they lie.

    The codes of the speech in DIRECTORY are counted, and the vectors of the first quantiser drawn in the plane. Where a
    manifest.csv tells what is said, every code of the first quantiser also has its most frequent phoneme, by
    forced alignment.
    """
    import functools

    from rich.console import Console

    import vqaudio
    from vqaudio.evaluation import figures, records
    from vqaudio.evaluation.probes import alignment, codebook_figure, labelled
    from vqaudio.evaluation.probes import codebook as probe
    from vqaudio.evaluation.registry import need
    from vqaudio.evaluation.speech import items
    from vqaudio.evaluation.versions import versions

    options.check_results(force, target, figure)
    need("The probe", {"sklearn": "scikit-learn"})
    found = items(directory, limit)
    codec = vqaudio.load(model)
    untold = alignment.missing() or labelled.untold(found)
    load = functools.partial(vqaudio.load, model, threads=1)
    with progress("encode", len(found)) as advance:
        speech = labelled.label(load, found, align=alignment.missing() is None, jobs=jobs, advance=advance)
    for reason in speech.skipped:
        skipped(reason)
    if untold:
        note(untold)
    with progress("codebook", None):
        result = probe.probe(codec, speech.utterances)
    name = f"{codec.config.name} ({codec.fingerprint.hex()})"
    title = f"{name}: {result.utterances} utterances, {result.frames / result.frame_rate:.1f} s"
    Console(markup=False).print(_table(title, result))
    if target is not None:
        record = {
            "model": records.model(codec, model),
            "settings": {"directory": str(directory), "limit": limit, "jobs": jobs},
            "versions": versions(probe.PACKAGES),
            "note": untold,
            "skipped": speech.skipped,
            **result.to_dict(),
        }
        records.write(target, record, force)
    if figure is not None:
        excerpt = probe.excerpt(codec, speech.utterances)
        figures.write(figure, codebook_figure.draw(title, result, excerpt), force)


def _table(title: str, result: Codebook) -> Table:
    size = len(result.vectors)
    rows = [
        ("codes used", *(f"{usage.used} of {size}" for usage in result.usage)),
        ("perplexity", *(f"{usage.perplexity:.1f}" for usage in result.usage)),
        ("entropy, bits", *(f"{usage.entropy:.2f}" for usage in result.usage)),
        ("codes in half of the frames", *(str(usage.half) for usage in result.usage)),
        ("frames of the commonest code, %", *(f"{100 * usage.commonest:.1f}" for usage in result.usage)),
        ("frames a code lasts", *(f"{usage.run:.2f}" for usage in result.usage)),
    ]
    if result.neighbours is not None:
        rows.append(("nearest code of the same class, %", f"{100 * result.neighbours.alike:.1f}"))
        rows.append(("the same by chance, %", f"{100 * result.neighbours.by_chance:.1f}"))
    return table(title, ("",), [f"quantiser {index}" for index in range(1, len(result.usage) + 1)], rows)
