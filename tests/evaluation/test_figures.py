"""Names of files in figures: whatever they are, matplotlib draws them as they are."""

from __future__ import annotations

import io

import pytest
from matplotlib.figure import Figure

from vqaudio.evaluation import figures


@pytest.mark.parametrize("name", ["take_$1_$2.wav", "a$\\frac$.wav", "not utf-8 \udcff.wav", "plain.wav"])
def test_any_name_can_be_drawn(name: str) -> None:
    figure = Figure()
    figure.suptitle(figures.plain(name))
    figure.savefig(io.BytesIO(), format="png")
