"""`vqaudio evaluate-prior`: what a prior is worth, beside simpler ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqaudio.cli import options
from vqaudio.cli.progress import progress, skipped

if TYPE_CHECKING:
    from rich.table import Table

    from vqaudio.evaluation.estimates import Estimate
    from vqaudio.evaluation.prior_report import Report


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--train",
    type=click.Path(path_type=Path),
    required=True,
    help="The speech that the prior was trained on, on which simpler priors are counted: a directory, or a manifest, "
    "of which the split 'train' counts.",
)
@options.model
@options.prior
@click.option(
    "--against", metavar="FILE", multiple=True, help="A further prior of the same codec; may be given several times."
)
@click.option("--limit", type=click.IntRange(min=2), help="So many files only, spread evenly over the directory.")
@click.option(
    "--samples", type=click.IntRange(1, 10000), default=20, show_default=True, help="To draw from each prior."
)
@click.option("--seconds", type=options.Range(1, 600), default=5.0, show_default=True, help="Of each sample.")
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True, help="Of the samples.")
@click.option(
    "--temperature",
    type=options.Range(0, 2),
    default=1.0,
    show_default=True,
    help="Of the learned prior's samples; below 1, what is likely is likelier.",
)
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write everything, file by file, to this file.")
@click.option("--figure", type=click.Path(path_type=Path), help="Draw it: a PNG or SVG file.")
@options.force
def evaluate_prior(
    directory: Path,
    train: Path,
    model: str | None,
    prior: str | None,
    against: tuple[str, ...],
    limit: int | None,
    samples: int,
    seconds: float,
    seed: int,
    temperature: float,
    target: Path | None,
    figure: Path | None,
    force: bool,
) -> None:
    """Measure a prior on the speech in DIRECTORY, of voices that it never heard.

    Bits per code and kb/s under the uniform prior, a unigram and a bigram, the prior as it was trained, in integers and
    in files; what its context is worth; and what samples of each are like. Means are over files, with 95 % bootstrap
    intervals.
    """
    from rich.console import Console

    import vqaudio
    from vqaudio.evaluation import figures, prior_figure, prior_report, records
    from vqaudio.evaluation.generated import Plan
    from vqaudio.evaluation.metrics import select, usable
    from vqaudio.evaluation.prior import count, encode
    from vqaudio.evaluation.speech import audio_files
    from vqaudio.evaluation.versions import versions
    from vqaudio.files import check_target
    from vqaudio.prior import for_codec, required

    for path in (target, figure):
        if path is not None:
            check_target(path, force)
    if figure is not None:
        figures.check(figure)
    metrics, notes = usable(select(["dnsmos"]))
    files = audio_files(directory, limit)
    codec = vqaudio.load(model, threads=1)  # the training speech is coded as many files at a time as there are cores
    chosen = required(codec, prior)
    others = {name: other for name in against if (other := for_codec(codec, name))}
    for note in notes:
        click.echo(note, err=True)
    plan = Plan(samples, seconds, seed, temperature)
    counted = count(train, codec)
    with progress("encode", len(files), quiet=False) as advance:
        speech = encode(codec, files, advance)
    for _, reason in speech.skipped:
        skipped(reason)
    pieces = prior_report.PASSES * len(speech.codes) + prior_report.KINDS * samples
    with progress("measure", pieces, quiet=False) as advance:
        result = prior_report.measure(speech, counted, chosen, others, codec, plan, metrics, advance)
    name, fingerprint = codec.config.name, codec.fingerprint.hex()
    title = f"the prior {chosen.fingerprint.hex()} of {name} ({fingerprint})"
    console = Console(markup=False)
    for table in (_costs(title, result), _context(result), _blocks(result), _samples(result)):
        console.print(table)
    if target is not None:
        record = {
            "model": {"name": name, "fingerprint": fingerprint, "path": model},
            "prior": {"fingerprint": chosen.fingerprint.hex(), "path": prior},
            "settings": {
                "directory": str(directory),
                "train": str(train),
                "limit": limit,
                **vars(plan),
            },
            "versions": versions(metric.package for metric in metrics),
            "notes": notes,
            **result.to_dict(),
        }
        records.write(target, record, force)
    if figure is not None:
        figures.write(figure, prior_figure.draw(title, result), force)


def _costs(title: str, result: Report) -> Table:
    seconds = sum(codes.seconds for codes in result.speech.codes)
    table = _table(
        f"{title}: {len(result.speech.codes)} files, {seconds:.1f} s", "", "bits per code", "95 % interval", "kb/s"
    )
    for cost in result.costs:
        table.add_row(cost.name, f"{cost.per_code.mean:.3f}", _interval(cost.per_code, 3), f"{cost.rate.mean:.3f}")
    saved = result.saving
    table.add_row("saving of files", f"{100 * saved.mean:.1f} %", f"{100 * saved.low:.1f} to {100 * saved.high:.1f} %")
    return table


def _context(result: Report) -> Table:
    table = _table("context", "frames heard", "bits per code", "more than with all", "95 % interval")
    context = result.context
    for octave in filter(lambda octave: octave.extra.count, context.octaves):
        extra = octave.extra
        table.add_row(octave.name, f"{context.whole + extra.mean:.3f}", f"{extra.mean:.3f}", _interval(extra, 3))
    table.add_row("all", f"{context.whole:.3f}")
    return table


def _blocks(result: Report) -> Table:
    from vqaudio.evaluation.context import BLOCK_SECONDS

    table = _table(
        "blocks that start anew", "seconds", "bits per code", "kb/s", "price, kb/s", "price, %", "extra bytes"
    )
    context = result.context
    for block in map(context.block, BLOCK_SECONDS):
        share = 100 * block.price / context.rate
        figures = (f"{block.per_code:.3f}", f"{block.rate:.3f}", f"{block.price:.3f}", f"{share:.1f}")
        table.add_row(f"{block.seconds:g}", *figures, f"{block.overhead:.1f}")
    return table


def _samples(result: Report) -> Table:
    heard = list(result.generated[0].metrics)
    title = "samples: codes and pairs of codes beside real ones, Jensen-Shannon divergence in bits; runs in frames"
    table = _table(title, "", "seconds", "codes", "pairs", "run", "silence", *heard)
    for drawn in result.generated:
        table.add_row(
            drawn.name,
            f"{drawn.seconds:.1f}",
            f"{drawn.unigram:.3f}",
            f"{drawn.bigram:.3f}",
            f"{drawn.run.mean:.2f}",
            f"{100 * drawn.silence.mean:.1f} %",
            *(f"{drawn.metrics[name].mean:.2f} ({_interval(drawn.metrics[name], 2)})" for name in heard),
        )
    return table


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    return Table(*columns, title=title, title_justify="left")


def _interval(estimate: Estimate, digits: int) -> str:
    return f"{estimate.low:.{digits}f} to {estimate.high:.{digits}f}"
