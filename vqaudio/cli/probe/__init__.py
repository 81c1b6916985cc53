"""`vqaudio probe`: questions to a model that its users need not ask and its makers must. Each question is one file."""

from __future__ import annotations

import click

from vqaudio.cli.probe.codebook import codebook
from vqaudio.cli.probe.collapse import collapse
from vqaudio.cli.probe.phonemes import phonemes
from vqaudio.cli.probe.speakers import speakers
from vqaudio.cli.probe.ways import precision, seams


@click.group()
def probe() -> None:
    """Look into a trained model."""


for question in (collapse, phonemes, speakers, codebook, seams, precision):
    probe.add_command(question)
