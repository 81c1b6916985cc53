"""`vqaudio probe collapse`: has the bottleneck collapsed, and would a continuous one have?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqaudio.cli import options
from vqaudio.cli.progress import progress, skipped

if TYPE_CHECKING:
    import numpy as np

    from vqaudio.models.vae import VAE
    from vqaudio.models.vqvae import VQVAE


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@options.model
@click.option(
    "--vae",
    "vaes",
    multiple=True,
    type=click.Path(path_type=Path),
    help="The file of a continuous VAE, as the recipe 'vae' trains it, to stand beside the model; more than one may.",
)
@options.device
@options.few_files
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write everything to this file.")
@click.option("--figure", type=click.Path(path_type=Path), help="Draw it: a PNG or SVG file.")
@options.force
def collapse(
    directory: Path,
    model: str | None,
    vaes: tuple[Path, ...],
    device: str,
    limit: int | None,
    target: Path | None,
    figure: Path | None,
    force: bool,
) -> None:
    """Ask what a model's latents say, what they cost and whether the WaveNet listens, on the speech in DIRECTORY.

    The negative log-likelihood, bits per sample, of the middle four seconds of every file under the true latents and
    under wrong ones; if all are the same, the latents have collapsed. The KL divergence is that from the prior: of
    codes, which are taken as uniform, a constant. A model without WaveNet has only the rows that need none.
    """

    from rich.console import Console
    from rich.table import Table

    import vqaudio
    from vqaudio.evaluation import figures, records
    from vqaudio.evaluation.probes import collapse as probe
    from vqaudio.evaluation.probes import collapse_figure
    from vqaudio.evaluation.speech import audio_files, readable
    from vqaudio.evaluation.versions import versions
    from vqaudio.files import check_target

    for path in (target, figure):
        if path is not None:
            check_target(path, force)
    if figure is not None:
        figures.check(figure)
    files = audio_files(directory, limit)
    codec = vqaudio.load(model, device)
    models: list[VQVAE | VAE] = [codec.model, *(probe.load_vae(path, device) for path in vaes)]
    names = probe.column_names([Path(model or codec.config.name), *vaes])
    columns: list[probe.Collapse] = []
    waveforms: list[np.ndarray] = []
    with progress("collapse", len(models), quiet=False) as advance:
        for name, networks in zip(names, models, strict=True):
            told = (lambda reason: None) if columns else skipped  # once is enough
            waveforms = list(readable(files, networks.config.sample_rate, told))
            columns.append(probe.collapse(name, networks, waveforms))
            advance()
    for column in columns:
        if column.likelihood is None:
            click.echo(f"The model {column.name} has no WaveNet, so it has no likelihood to measure.", err=True)
    seconds = columns[0].bottleneck.frames * columns[0].hop / columns[0].sample_rate
    title = f"{len(waveforms)} utterances, {seconds:.1f} s"
    table = Table(title=f"{title}; bits per sample where nothing else is said")
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    for row, cells in probe.rows(columns):
        table.add_row(row, *cells)
    Console(markup=False).print(table)
    if target is not None:
        record = {
            "settings": {"directory": str(directory), "limit": limit, "model": model, "vaes": [str(p) for p in vaes]},
            "fingerprint": codec.fingerprint.hex(),
            "versions": versions(("torch",)),
            "models": [column.to_dict() for column in columns],
        }
        records.write(target, record, force)
    if figure is not None:
        figures.write(figure, collapse_figure.draw(title, columns), force)
