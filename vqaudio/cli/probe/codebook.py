"""`vqaudio probe codebook`: how is the codebook used, and how do its vectors lie?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqaudio.cli import options
from vqaudio.cli.progress import progress

if TYPE_CHECKING:
    from rich.table import Table

    from vqaudio.evaluation.probes.codebook import Codebook


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@options.model
@options.few_files
@options.all_cores
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write everything, code by code, to this file.")
@click.option("--figure", type=click.Path(path_type=Path), help="Draw it: a PNG or SVG file.")
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
    """Ask how the codebook is used, and how its vectors lie, on the speech in DIRECTORY.

    Where a manifest.csv tells what is said, every code of the first quantiser also has its most frequent phoneme, by
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
    from vqaudio.files import check_target

    for path in (target, figure):
        if path is not None:
            check_target(path, force)
    if figure is not None:
        figures.check(figure)
    need("The probe", {"sklearn": "scikit-learn"})
    found = items(directory, limit)
    codec = vqaudio.load(model)
    note = alignment.missing() or labelled.untold(found)
    load = functools.partial(vqaudio.load, model, threads=1)
    with progress("encode", len(found), quiet=False) as advance:
        speech = labelled.label(load, found, align=alignment.missing() is None, jobs=jobs, advance=advance)
    for line in (*(f"Skipped: {reason}" for reason in speech.skipped), *([note] if note else [])):
        click.echo(line, err=True)
    with progress("codebook", None, quiet=False):
        result = probe.probe(codec, speech.utterances)
    name, fingerprint = codec.config.name, codec.fingerprint.hex()
    title = f"{name} ({fingerprint}): {result.utterances} utterances, {result.frames / result.frame_rate:.1f} s"
    Console(markup=False).print(_table(title, result))
    if target is not None:
        record = {
            "model": {"name": name, "fingerprint": fingerprint, "path": model},
            "settings": {"directory": str(directory), "limit": limit, "jobs": jobs},
            "versions": versions(probe.PACKAGES),
            "note": note,
            "skipped": speech.skipped,
            **result.to_dict(),
        }
        records.write(target, record, force)
    if figure is not None:
        excerpt = probe.excerpt(codec, speech.utterances)
        figures.write(figure, codebook_figure.draw(title, result, excerpt), force)


def _table(title: str, result: Codebook) -> Table:
    from rich.table import Table

    table, size = Table("", title=title), len(result.vectors)
    for index in range(1, len(result.usage) + 1):
        table.add_column(f"quantiser {index}", justify="right")
    rows = {
        "codes used": [f"{usage.used} of {size}" for usage in result.usage],
        "perplexity": [f"{usage.perplexity:.1f}" for usage in result.usage],
        "entropy, bits": [f"{usage.entropy:.2f}" for usage in result.usage],
        "codes in half of the frames": [str(usage.half) for usage in result.usage],
        "frames of the commonest code": [f"{100 * usage.commonest:.1f} %" for usage in result.usage],
        "frames a code lasts": [f"{usage.run:.2f}" for usage in result.usage],
    }
    for name, cells in rows.items():
        table.add_row(name, *cells)
    if result.neighbours is not None:
        table.add_row("nearest code of the same class", f"{100 * result.neighbours.alike:.1f} %")
        table.add_row("the same by chance", f"{100 * result.neighbours.by_chance:.1f} %")
    return table
