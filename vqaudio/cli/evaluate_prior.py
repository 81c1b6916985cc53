"""`vqaudio evaluate-prior`: what a prior is worth, beside simpler ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqaudio.cli import options
from vqaudio.cli.progress import note, progress, skipped
from vqaudio.cli.tables import table

if TYPE_CHECKING:
    from rich.table import Table

    from vqaudio.evaluation.prior_report import Report


@click.command()
@options.directory
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
@click.option(
    "--limit", type=click.IntRange(min=2), metavar="N", help="Use only N files, spread evenly over the directory."
)
@click.option(
    "--samples",
    type=click.IntRange(1, 10000),
    default=20,
    show_default=True,
    help="How many samples to draw from each prior.",
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
@options.record
@options.figure
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
    """Measure a prior on speech, beside simpler ones.

    DIRECTORY holds voices that the prior never heard. Bits per code and kb/s under the uniform prior, a unigram and a
    bigram, the prior as it was trained, in integers and in files; what its context is worth; and what samples of each
    are like. Means are over files, with 95 % bootstrap intervals.
    """
    from rich.console import Console

    import vqaudio
    from vqaudio.evaluation import figures, prior_figure, prior_report, records
    from vqaudio.evaluation.generated import Plan
    from vqaudio.evaluation.metrics import select, usable
    from vqaudio.evaluation.prior import count, encode
    from vqaudio.evaluation.speech import audio_files
    from vqaudio.evaluation.versions import versions
    from vqaudio.prior import required

    options.check_results(force, target, figure)
    metrics, notes = usable(select(["dnsmos"]))
    files = audio_files(directory, limit)
    codec = vqaudio.load(model, threads=1)  # the training speech is coded as many files at a time as there are cores
    chosen = required(codec, prior)
    others = {name: required(codec, name) for name in against}
    for sentence in notes:
        note(sentence)
    plan = Plan(samples, seconds, seed, temperature)
    counted = count(train, codec)
    with progress("encode", len(files)) as advance:
        speech = encode(codec, files, advance)
    for _, reason in speech.skipped:
        skipped(reason)
    pieces = prior_report.PASSES * len(speech.codes) + prior_report.KINDS * samples
    with progress("measure", pieces) as advance:
        result = prior_report.measure(speech, counted, chosen, others, codec, plan, metrics, advance)
    title = f"the prior {chosen.fingerprint.hex()} of {codec.config.name} ({codec.fingerprint.hex()})"
    console = Console(markup=False)
    for part in (_costs(title, result), _context(result), _blocks(result), _samples(result)):
        console.print(part)
    if target is not None:
        record = {
            "model": records.model(codec, model),
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
    rows = [(cost.name, cost.per_code.text(), cost.rate.text()) for cost in result.costs]
    saved = ("saving of files, %", result.saving.text(1, 100))
    title = f"{title}: {len(result.speech.codes)} files, {seconds:.1f} s; with 95 % intervals"
    return table(title, ("",), ("bits per code", "kb/s"), [*rows, saved])


def _context(result: Report) -> Table:
    context = result.context
    rows = [
        (octave.name, f"{context.whole + octave.extra.mean:.3f}", octave.extra.text())
        for octave in context.octaves
        if octave.extra.count
    ]
    headings = ("bits per code", "more than with all")
    return table("context", ("frames heard",), headings, [*rows, ("all", f"{context.whole:.3f}")])


def _blocks(result: Report) -> Table:
    from vqaudio.evaluation.context import BLOCK_SECONDS

    rows = []
    for block in map(result.context.block, BLOCK_SECONDS):
        share = 100 * block.price / result.context.rate
        figures = (f"{block.per_code:.3f}", f"{block.rate:.3f}", f"{block.price:.3f}", f"{share:.1f}")
        rows.append((f"{block.seconds:g}", *figures, f"{block.overhead:.1f}"))
    headings = ("bits per code", "kb/s", "price, kb/s", "price, %", "extra bytes")
    return table("blocks that start anew", ("seconds",), headings, rows)


def _samples(result: Report) -> Table:
    heard = list(result.generated[0].metrics)
    title = "samples: codes and pairs of codes beside real ones, Jensen-Shannon divergence in bits; runs in frames"
    rows = []
    for drawn in result.generated:
        figures = (f"{drawn.seconds:.1f}", f"{drawn.unigram:.3f}", f"{drawn.bigram:.3f}", drawn.run.value(2))
        judged = (drawn.metrics[name].text(2) for name in heard)
        rows.append((drawn.name, *figures, drawn.silence.value(1, 100), *judged))
    return table(title, ("",), ("seconds", "codes", "pairs", "run", "silence, %", *heard), rows)
