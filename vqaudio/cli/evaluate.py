"""`vqaudio evaluate`: measure a codec on a directory of speech."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqaudio.cli import options
from vqaudio.cli.progress import progress

if TYPE_CHECKING:
    from rich.table import Table

    from vqaudio.evaluation.evaluate import Evaluation


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@options.model
@click.option("--decoder", metavar="NAME", help="By default the one that the model prefers.")
@options.coder
@options.prior
@options.few_files
@click.option("--metrics", metavar="NAME,...", help="By default all: pesq, estoi, stoi, mel, dnsmos, speaker.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write everything, file by file, to this file.")
@options.jobs
@options.force
def evaluate(
    directory: Path,
    model: str | None,
    decoder: str | None,
    coder: str | None,
    prior: str | None,
    limit: int | None,
    metrics: str | None,
    target: Path | None,
    jobs: int,
    force: bool,
) -> None:
    """Measure a codec on the speech in DIRECTORY.

    Every file goes to the bytes of a .codes file and back. Means come with 95 % bootstrap intervals over the files;
    speeds are those of one thread.
    """
    import functools

    from rich.console import Console

    import vqaudio
    from vqaudio.evaluation import evaluate as harness
    from vqaudio.evaluation.metrics import METRICS, select, usable
    from vqaudio.evaluation.speech import audio_files
    from vqaudio.evaluation.versions import versions
    from vqaudio.files import check_target, replacing
    from vqaudio.prior import coder_for

    if target is not None:
        check_target(target, force)
    chosen, notes = usable(select(metrics.split(",") if metrics is not None else METRICS))
    files = audio_files(directory, limit)
    codec = vqaudio.load(model)
    writer = coder_for(codec, coder, prior)
    for note in notes:
        click.echo(note, err=True)
    with progress("evaluate", len(files), quiet=False) as advance:
        load = functools.partial(vqaudio.load, model, threads=1)
        result = harness.evaluate(load, files, chosen, decoder=decoder, coder=writer, jobs=jobs, advance=advance)
    for _, reason in result.skipped:
        click.echo(f"Skipped: {reason}", err=True)
    name, fingerprint = codec.config.name, codec.fingerprint.hex()
    decoder = decoder or codec.decoders[0]
    written = f"under the prior {writer.fingerprint.hex()}" if writer else "of fixed width"
    Console().print(_table(f"{name} ({fingerprint}), {decoder} decoder, files {written}", result))
    if target is not None:
        record = {
            "model": {"name": name, "fingerprint": fingerprint, "path": model},
            "settings": {"directory": str(directory), "decoder": decoder, "limit": limit, "jobs": jobs},
            "prior": writer.fingerprint.hex() if writer else None,
            "versions": versions(metric.package for metric in chosen),
            "notes": notes,
            **result.to_dict(),
        }
        with replacing(target, force) as temporary:
            temporary.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")


def _table(title: str, result: Evaluation) -> Table:
    from rich.table import Table

    table = Table("", "value", "95 % interval", "originals", title=title, title_justify="left")
    size = result.histogram.shape[1]
    table.add_row("speech", f"{len(result.utterances)} files, {result.seconds:.1f} s")
    table.add_row("bit rate", f"{result.bit_rate:.0f} b/s")
    for index, (used, effective) in enumerate(zip(result.used_codes, result.perplexities, strict=True), start=1):
        table.add_row(f"codes of quantiser {index}", f"{used} of {size} used, perplexity {effective:.1f}")
    table.add_row("encoder speed", f"{result.encode_speed:.1f} times real time")
    table.add_row("decoder speed", f"{result.decode_speed:.1f} times real time")
    for metric in result.metrics:
        estimate = result.estimate(metric.name)
        arrow = "higher" if metric.higher_is_better else "lower"
        undefined = f" ({estimate.undefined} undefined)" if estimate.undefined else ""
        table.add_row(
            f"{metric.title}, {arrow} is better",
            f"{estimate.mean:.3f} {metric.unit}".strip() + undefined,
            f"{estimate.low:.3f} to {estimate.high:.3f}",
            f"{result.original(metric.name).mean:.3f}" if metric.judges_decoded_alone else "",
        )
    return table
