"""`vqaudio probe collapse`: has the bottleneck collapsed, and would a continuous one have?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqaudio.cli import options
from vqaudio.cli.progress import note, progress, skipped
from vqaudio.cli.tables import table

if TYPE_CHECKING:
    import numpy as np

    from vqaudio.models.vae import VAE
    from vqaudio.models.vqvae import VQVAE


@click.command()
@options.directory
@options.model
@click.option(
    "--vae",
    "vaes",
    multiple=True,
    type=click.Path(path_type=Path),
    help="The file of a continuous VAE, as the recipe 'vae' trains it, to stand beside the model; may be given several "
    "times.",
)
@options.device
@options.few_files
@options.record
@options.figure
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
    """Ask whether the latents are used.

    What they say, what they cost, and whether the WaveNet listens to them, on the speech in DIRECTORY: the negative
    log-likelihood, bits per sample, of the middle four seconds of every file under the true latents and under wrong
    ones; if all are the same, the latents have collapsed. The KL divergence is that from the prior: of codes, which are
    taken as uniform, a constant. A model without WaveNet has only the rows that need none.
    """

    from rich.console import Console

    import vqaudio
    from vqaudio.evaluation import figures, records
    from vqaudio.evaluation.probes import collapse as probe
    from vqaudio.evaluation.probes import collapse_figure
    from vqaudio.evaluation.speech import audio_files, readable
    from vqaudio.evaluation.versions import versions

    options.check_results(force, target, figure)
    files = audio_files(directory, limit)
    codec = vqaudio.load(model, device)
    models: list[VQVAE | VAE] = [codec.model, *(probe.load_vae(path, device) for path in vaes)]
    names = probe.column_names([Path(model or codec.config.name), *vaes])
    columns: list[probe.Collapse] = []
    waveforms: list[np.ndarray] = []
    with progress("collapse", len(models)) as advance:
        for name, networks in zip(names, models, strict=True):
            told = (lambda reason: None) if columns else skipped  # once is enough
            waveforms = list(readable(files, networks.config.sample_rate, told))
            columns.append(probe.collapse(name, networks, waveforms))
            advance()
    for column in columns:
        if column.likelihood is None:
            note(f"The model {column.name} has no WaveNet, so it has no likelihood to measure.")
    seconds = columns[0].bottleneck.frames * columns[0].hop / columns[0].sample_rate
    title = f"{len(waveforms)} utterances, {seconds:.1f} s"
    rows = [(row, *cells) for row, cells in probe.rows(columns)]
    Console(markup=False).print(table(f"{title}; bits per sample where nothing else is said", ("",), names, rows))
    if target is not None:
        record = {
            "model": records.model(codec, model),
            "settings": {"directory": str(directory), "limit": limit, "vaes": [str(p) for p in vaes]},
            "versions": versions(()),
            "models": [column.to_dict() for column in columns],
        }
        records.write(target, record, force)
    if figure is not None:
        figures.write(figure, collapse_figure.draw(title, columns), force)
