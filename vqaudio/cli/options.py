"""The options that several verbs share."""

from __future__ import annotations

import click

model = click.option("--model", metavar="FILE", help="A model file; by default the one that comes with vqaudio.")
device = click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
force = click.option("--force", is_flag=True, help="Replace files that exist.")
quiet = click.option("--quiet", is_flag=True, help="Print nothing but errors.")
jobs = click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that share a directory's files."
)
