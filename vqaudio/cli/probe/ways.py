"""`vqaudio probe seams` and `vqaudio probe precision`: what do the fast ways through the networks cost?"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqaudio.cli import options
from vqaudio.cli.progress import note, progress, skipped
from vqaudio.cli.tables import table

if TYPE_CHECKING:
    from vqaudio import Codec
    from vqaudio.evaluation.probes.ways import Way


@click.command()
@options.directory
@options.model
@options.few_files
@options.record
@options.force
def seams(directory: Path, model: str | None, limit: int | None, target: Path | None, force: bool) -> None:
    """Ask what it costs to decode in pieces.

    Every file in DIRECTORY is decoded by the WaveNet in pieces side by side, as usual, and in one pass; differences
    come with 95 % bootstrap intervals over the files.
    """
    from vqaudio.evaluation.probes.ways import pieces_or_pass

    _compare(pieces_or_pass, directory, model, limit, target, force, codes_differ=False)


@click.command()
@options.directory
@options.model
@options.decoder
@options.few_files
@options.record
@options.force
def precision(
    directory: Path, model: str | None, decoder: str | None, limit: int | None, target: Path | None, force: bool
) -> None:
    """Ask what bfloat16 costs.

    Every file in DIRECTORY is encoded and decoded so, as is done where that is faster, and in float32; differences come
    with 95 % bootstrap intervals over the files.
    """
    from vqaudio.evaluation.probes.ways import short_or_exact

    both = functools.partial(short_or_exact, decoder=decoder)
    _compare(both, directory, model, limit, target, force, codes_differ=True)


def _compare(
    both: Callable[[Codec], tuple[Way, Way]],
    directory: Path,
    model: str | None,
    limit: int | None,
    target: Path | None,
    force: bool,
    codes_differ: bool,
) -> None:
    """Code the speech in a directory both ways and say what the metrics say."""
    from rich.console import Console

    import vqaudio
    from vqaudio.evaluation import records
    from vqaudio.evaluation.metrics import METRICS, select, usable
    from vqaudio.evaluation.probes.ways import compare
    from vqaudio.evaluation.speech import audio_files, readable
    from vqaudio.evaluation.versions import versions

    options.check_results(force, target)
    files = audio_files(directory, limit)
    codec = vqaudio.load(model)
    ways, rate = both(codec), codec.config.sample_rate
    chosen, notes = usable(select(METRICS))
    for sentence in notes:
        note(sentence)
    with progress("compare", len(files)) as advance:
        result = compare(ways, readable(files, rate, skipped), chosen, rate, advance=advance)
    rows = [("times real time", *(f"{speed:.1f}" for speed in result.speeds))]
    for metric in chosen:
        pair = result.metrics[metric.name]
        rows.append((metric.heading, pair.fast.value(), pair.slow.value(), pair.difference.text(sign="+")))
    apart = f"; {100 * result.codes_apart:.2f} % of the codes differ" if codes_differ else ""
    title = f"{result.files} files, {result.seconds:.1f} s{apart}"
    Console(markup=False).print(table(title, ("",), (*result.ways, "difference, 95 % interval"), rows))
    if target is not None:
        record = {
            "model": records.model(codec, model),
            "settings": {"directory": str(directory), "limit": limit},
            "versions": versions(metric.package for metric in chosen),
            "notes": notes,
            **result.to_dict(),
        }
        records.write(target, record, force)
