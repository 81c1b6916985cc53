"""What every figure has in common: any name and any interval can be drawn."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from vqaudio.errors import UsageError
from vqaudio.evaluation import figures
from vqaudio.evaluation.estimates import Estimate


@pytest.mark.parametrize("name", ["take_$1_$2.wav", "a$\\frac$.wav", "not utf-8 \udcff.wav", "plain.wav"])
def test_any_name_can_be_drawn(name: str) -> None:
    figure = Figure()
    figure.suptitle(figures.literal(name))
    figure.savefig(io.BytesIO(), format="png")


def test_what_is_there_is_replaced_by_force_alone(tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    target.write_text("precious")
    with pytest.raises(UsageError, match="exists already"):
        figures.write(target, Figure(), force=False)
    assert target.read_text() == "precious"
    figures.write(target, Figure(), force=True)
    assert target.read_bytes().startswith(b"\x89PNG")


def test_intervals_that_do_not_hold_the_mean_can_be_drawn() -> None:
    estimates = [Estimate(0.5, 0.4, 0.7, 9, 0), Estimate(0.5, 0.6, 0.7, 9, 0), Estimate(0.5, 0.1, 0.4, 9, 0)]
    below, above = figures.errors(estimates, 100)
    assert below == pytest.approx([10, 0, 40]) and above == pytest.approx([20, 20, 0])
    Figure().subplots().barh(["a", "b", "c"], [50, 50, 50], xerr=[below, above])
