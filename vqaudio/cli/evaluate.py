"""`vqaudio evaluate`: measure a codec on a directory of speech, beside others."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqaudio.cli import options
from vqaudio.cli.progress import progress

if TYPE_CHECKING:
    from vqaudio import Codec
    from vqaudio.container import Coder
    from vqaudio.evaluation.contenders import Contender, Own
    from vqaudio.evaluation.results import Evaluation
    from vqaudio.evaluation.speech import Item


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@options.model
@click.option("--decoder", metavar="NAME", help="By default the one that the model prefers.")
@options.coder
@options.prior
@click.option(
    "--against",
    metavar="CODEC:SETTING,...",
    help="Codecs to compare with, for example opus:6,codec2:3200,speex:1,encodec:1.5: kb/s, b/s, quality, kb/s.",
)
@options.few_files
@click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    help="A CSV with path and text or speaker; by default the nearest manifest.csv in DIRECTORY or above it.",
)
@click.option("--metrics", metavar="NAME,...", help="By default all; an unknown name lists them.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write everything, file by file, to this file.")
@click.option("--report", type=click.Path(path_type=Path), help="Write tables, figures and sounds as one HTML page.")
@click.option("--cache/--no-cache", default=True, help="Whether what is known from an earlier run is measured again.")
@options.jobs
@options.force
def evaluate(
    directory: Path,
    model: str | None,
    decoder: str | None,
    coder: str | None,
    prior: str | None,
    against: str | None,
    limit: int | None,
    manifest: Path | None,
    metrics: str | None,
    target: Path | None,
    report: Path | None,
    cache: bool,
    jobs: int,
    force: bool,
) -> None:
    """Measure a codec on the speech in DIRECTORY, beside the original and other codecs.

    Every file goes to the bytes of a .codes file and back. Means come with 95 % bootstrap intervals over the files, and
    differences between codecs with those of the paired differences; speeds are those of one thread.
    """
    from rich.console import Console

    import vqaudio
    from vqaudio.cli import comparison
    from vqaudio.evaluation import baselines, page
    from vqaudio.evaluation import evaluate as harness
    from vqaudio.evaluation.cache import Cache
    from vqaudio.evaluation.metrics import METRICS, select, usable
    from vqaudio.evaluation.speech import items
    from vqaudio.evaluation.versions import versions
    from vqaudio.files import check_target, replacing
    from vqaudio.prior import coder_for

    for path in (target, report):
        if path is not None:
            check_target(path, force)
    if report is not None:
        page.check()
    chosen, notes = usable(select(metrics.split(",") if metrics is not None else METRICS))
    others, missing = baselines.usable(baselines.parse_all(against) if against is not None else [])
    notes += missing
    speech = items(directory, limit, manifest)
    codec = vqaudio.load(model)
    own = _own(codec, model, decoder, coder_for(codec, coder, prior))
    for note in notes:
        click.echo(note, err=True)
    with progress("evaluate", len(speech), quiet=False) as advance:
        known = Cache() if cache else None
        result = harness.evaluate([own, *others], speech, chosen, cache=known, jobs=jobs, advance=advance)
    for _, reason in result.skipped:
        click.echo(f"Skipped: {reason}", err=True)
    console = Console()
    files, seconds = len(result.original.utterances), result.original.seconds
    console.print(f"{own.name}, {own.identity}; {files} files, {seconds:.1f} s", highlight=False)
    comparison.show(result, console)
    if target is not None:
        record = {
            "model": {"name": own.name, "fingerprint": codec.fingerprint.hex(), "path": model},
            "settings": {"directory": str(directory), "decoder": own.decoder, "limit": limit, "jobs": jobs},
            "prior": own.coder.fingerprint.hex() if own.coder else None,
            "versions": versions(metric.package for metric in chosen),
            "notes": notes,
            **result.to_dict(),
        }
        with replacing(target, force) as temporary:
            temporary.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
    if report is not None:
        html = _page(result, [own, *others], speech, directory, notes)
        with replacing(report, force) as temporary:
            temporary.write_text(html, encoding="utf-8", errors="replace")  # names of files need not be text


def _page(
    result: Evaluation, contenders: Sequence[Contender], speech: Sequence[Item], directory: Path, notes: Sequence[str]
) -> str:
    """The report, of the command line as it was given."""
    from vqaudio.evaluation import report, report_cases
    from vqaudio.evaluation.versions import versions

    packages = versions(metric.package for metric in result.metrics)
    run = report.Run(shlex.join(["vqaudio", *sys.argv[1:]]), str(directory), packages, notes)
    with progress("report", len(report_cases.choose(result)), quiet=False) as advance:
        return report.render(result, run, contenders, speech, advance=advance)


def _own(codec: Codec, model: str | None, decoder: str | None, coder: Coder | None) -> Own:
    """The codec as it is measured."""
    import functools

    import vqaudio
    from vqaudio.evaluation.contenders import Own

    decoder = decoder or codec.decoders[0]
    written = f"under the prior {coder.fingerprint.hex()}" if coder else "of fixed width"
    identity = f"{codec.fingerprint.hex()}, {decoder} decoder, files {written}"
    return Own(codec.config.name, identity, functools.partial(vqaudio.load, model, threads=1), decoder, coder)
