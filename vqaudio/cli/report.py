"""`vqaudio report`: a page of a training run, or its curves for others to compare with."""

from __future__ import annotations

from pathlib import Path

import click

from vqaudio.cli import options


@click.command()
@click.argument("folder", metavar="RUN_DIR", type=click.Path(path_type=Path))
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE", help="The page; by default report.html in RUN_DIR."
)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The log or the curves of another run, drawn beside; by default those of the recipe, where they are shipped.",
)
@click.option(
    "--curves",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the run's curves as small JSON lines for --against, and no page.",
)
@click.option(
    "--append", is_flag=True, help="Put the curves behind those of FILE, of a run that this one went on from."
)
@options.force
def report(
    folder: Path, output: Path | None, against: Path | None, curves: Path | None, append: bool, force: bool
) -> None:
    """Make a page of a training run.

    The run in RUN_DIR may still be going on. One HTML file has the recipe, the curves of all figures over the steps,
    and samples to see and hear.
    """
    from vqaudio.errors import UsageError
    from vqaudio.evaluation import page, run_log, run_report
    from vqaudio.files import check_target

    if curves is not None and (output or against):
        raise UsageError("--curves makes no page, so it goes without --output and --against.")
    if append and curves is None:
        raise UsageError("--append is for --curves.")
    run = run_log.read_run(folder)
    target = curves or output or folder / "report.html"
    check_target(target, force or append)
    if curves is not None:
        run_log.write_curves(target, run.entries, force, append)
    else:
        page.check()
        page.write(target, run_report.render(run, run_report.find_reference(run, against)), force)
    click.echo(f"The {'curves are' if curves else 'page is'} in '{target}'.")
