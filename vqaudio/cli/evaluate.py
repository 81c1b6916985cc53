"""`vqaudio evaluate`: measure a codec on a directory of speech, beside others."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqaudio.cli import options
from vqaudio.cli.progress import note, progress, skipped
from vqaudio.cli.tables import printable

if TYPE_CHECKING:
    from vqaudio import Codec
    from vqaudio.evaluation.contenders import Contender
    from vqaudio.evaluation.conversion import Conversion
    from vqaudio.evaluation.metrics import Metric
    from vqaudio.evaluation.pairs import Pair
    from vqaudio.evaluation.report import Section
    from vqaudio.evaluation.results import Evaluation
    from vqaudio.evaluation.speech import Item


@click.command()
@options.directory
@options.model
@options.decoder
@options.coder
@options.prior
@click.option(
    "--against",
    metavar="CODEC:SETTING,...",
    help="Codecs to compare with, opus:KB/S, codec2:B/S, speex:QUALITY or encodec:KB/S, say opus:6,codec2:3200; and "
    "other models, as vqaudio:FILE or vqaudio:NAME, under the prior that comes with vqaudio where they have one.",
)
@options.few_files
@click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    help="A CSV with path and text or speaker; by default the nearest manifest.csv in DIRECTORY or above it.",
)
@click.option(
    "--metrics",
    metavar="NAME,...",
    help="By default all: pesq, estoi, stoi, mel, mcd, f0, voicing, dnsmos, speaker, wer.",
)
@options.record
@options.figure
@click.option("--report", type=click.Path(path_type=Path), help="Write tables, figures and sounds as one HTML page.")
@click.option(
    "--conversion",
    "pairs",
    type=click.IntRange(min=1),
    metavar="PAIRS",
    help="Convert voices too, between so many pairs of the speakers of DIRECTORY, and measure that.",
)
@click.option("--cache/--no-cache", default=True, help="Use what an earlier run has measured.", show_default=True)
@options.all_cores
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
    figure: Path | None,
    report: Path | None,
    pairs: int | None,
    cache: bool,
    jobs: int,
    force: bool,
) -> None:
    """Measure a codec on speech, beside others.

    Every file in DIRECTORY goes to the bytes of a .codes file and back. The original and other codecs are measured on
    the same files. Means come with 95 % bootstrap intervals over the files, and differences between codecs with those
    of the paired differences; speeds are those of one thread. The figure shows quality over bit rate.
    """
    from rich.console import Console

    import vqaudio
    from vqaudio.evaluation.registry import need

    need("The evaluation", {"scipy": "scipy"})  # which all of what follows imports
    from vqaudio.cli import comparison
    from vqaudio.evaluation import baselines, conversion, figures, page, rate_quality, records
    from vqaudio.evaluation import evaluate as harness
    from vqaudio.evaluation.cache import Cache
    from vqaudio.evaluation.contenders import own_codec
    from vqaudio.evaluation.metrics import METRICS, select, usable
    from vqaudio.evaluation.pairs import pairs as choose
    from vqaudio.evaluation.speech import items
    from vqaudio.evaluation.versions import versions
    from vqaudio.prior import coder_for

    options.check_results(force, target, figure, report)
    if report is not None:
        page.check()
    chosen, notes = usable(select([name.strip() for name in metrics.split(",")] if metrics is not None else METRICS))
    others, missing = baselines.usable(baselines.parse_all(against) if against is not None else [])
    notes += missing
    speech = items(directory, limit, manifest)
    codec = vqaudio.load(model)
    load = functools.partial(vqaudio.load, model, threads=1)
    own = own_codec(codec, load, decoder, coder_for(codec, coder, prior))
    if pairs is not None:
        conversion.check(codec)
    voices = choose(items(directory, manifest=manifest), pairs) if pairs is not None else []
    for sentence in notes:
        note(sentence)
    with progress("evaluate", len(speech)) as advance:
        known = Cache() if cache else None
        result = harness.evaluate([own, *others], speech, chosen, cache=known, jobs=jobs, advance=advance)
    console = Console(markup=False)
    files, seconds = len(result.original.utterances), result.original.seconds
    click.echo(printable(f"{own.name}, {own.identity}; {files} files, {seconds:.1f} s"))
    comparison.show(result, console)
    converted = _convert(load, own.decoder, voices, chosen, jobs) if voices else None
    for _, reason in [*result.skipped, *(converted.skipped if converted else [])]:
        skipped(reason)
    if converted is not None:
        console.print(comparison.voices(converted))
    if target is not None:
        record = {
            "model": records.model(codec, model),
            "settings": {"directory": str(directory), "decoder": own.decoder, "limit": limit, "jobs": jobs},
            "prior": own.coder.fingerprint.hex() if own.coder else None,
            "versions": versions(metric.package for metric in chosen),
            "notes": notes,
            **result.to_dict(),
            "conversion": converted.to_dict() if converted else None,
        }
        records.write(target, record, force)
    if figure is not None:
        figures.write(figure, rate_quality.draw(result), force)
    if report is not None:
        sections = [_section(codec, own.decoder, converted)] if converted is not None else []
        page.write(report, _page(result, [own, *others], speech, directory, notes, sections), force)


def _convert(
    load: Callable[[], Codec], decoder: str | None, voices: Sequence[Pair], metrics: tuple[Metric, ...], jobs: int
) -> Conversion:
    """Convert pairs of voices, and measure that."""
    from vqaudio.evaluation import conversion

    with progress("convert", len(voices)) as advance:
        return conversion.evaluate(load, voices, metrics, decoder=decoder, jobs=jobs, advance=advance)


def _page(
    result: Evaluation,
    contenders: Sequence[Contender],
    speech: Sequence[Item],
    directory: Path,
    notes: Sequence[str],
    sections: Sequence[Section],
) -> str:
    """The report, of the command line as it was given."""
    from vqaudio.evaluation import report, report_cases
    from vqaudio.evaluation.versions import versions

    packages = versions(metric.package for metric in result.metrics)
    run = report.Run(shlex.join(["vqaudio", *sys.argv[1:]]), str(directory), packages, notes)
    with progress("report", len(report_cases.choose(result))) as advance:
        return report.render(result, run, contenders, speech, sections, advance)


def _section(codec: Codec, decoder: str | None, converted: Conversion) -> Section:
    """Voice conversion as a part of the report."""
    from vqaudio.evaluation import report_conversion
    from vqaudio.evaluation.report import Section

    with progress("voices", report_conversion.HEARD) as advance:
        body = report_conversion.render(converted, codec, decoder, advance)
    return Section("conversion", "Voice conversion", body)
