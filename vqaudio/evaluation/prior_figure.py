"""The figure of `vqaudio evaluate-prior`: bits under every prior, context, blocks, and samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vqaudio.evaluation import figures
from vqaudio.evaluation.context import BLOCK_SECONDS, Context
from vqaudio.evaluation.generated import Generated
from vqaudio.evaluation.prior import Cost
from vqaudio.evaluation.prior_report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INCHES = (11.0, 7.5)


def draw(title: str, report: Report) -> Figure:
    """The four parts of a report, a panel each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=INCHES, layout="constrained")
    figure.suptitle(figures.literal(f"{title}; error bars are 95 % intervals"))
    (upper_left, upper_right), (lower_left, lower_right) = figure.subplots(2, 2)
    _bits(upper_left, report.costs)
    _context(upper_right, report.context)
    _blocks(lower_left, report.context)
    _samples(lower_right, report.generated)
    return figure


def _bits(axes: Any, costs: Sequence[Cost]) -> None:
    names, estimates = [figures.label(cost.name) for cost in costs], [cost.per_code for cost in costs]
    axes.barh(names, [estimate.mean for estimate in estimates], xerr=figures.errors(estimates))
    axes.invert_yaxis()
    axes.set_xlabel("bits per code, held-out speech")


def _context(axes: Any, context: Context) -> None:
    octaves = [octave for octave in context.octaves if octave.extra.count]
    extra = [octave.extra for octave in octaves]
    names, bits = [octave.name for octave in octaves], [context.whole + e.mean for e in extra]
    axes.errorbar(names, bits, yerr=figures.errors(extra), marker="o")
    axes.axhline(context.whole, linestyle=":", color="grey", label="all frames")
    axes.legend(frameon=False)
    axes.set_xlabel("frames of context")
    axes.set_ylabel("bits per code")
    axes.tick_params(axis="x", rotation=45)


def _blocks(axes: Any, context: Context) -> None:
    blocks = [context.block(seconds) for seconds in BLOCK_SECONDS]
    axes.semilogx(BLOCK_SECONDS, [block.rate for block in blocks], marker="o")
    axes.set_xticks(BLOCK_SECONDS, [f"{seconds:g}" for seconds in BLOCK_SECONDS])
    axes.minorticks_off()
    axes.axhline(context.rate, linestyle=":", color="grey", label="one block for all")
    axes.legend(frameon=False)
    axes.set_xlabel("seconds of a block")
    axes.set_ylabel("kb/s, blocks counted in")


def _samples(axes: Any, generated: Sequence[Generated]) -> None:
    places, width = range(len(generated)), 0.4
    axes.bar([place - width / 2 for place in places], [g.unigram for g in generated], width, label="codes")
    axes.bar([place + width / 2 for place in places], [g.bigram for g in generated], width, label="pairs of codes")
    axes.set_xticks(list(places), [figures.label(g.name) for g in generated])
    axes.set_ylabel("divergence from real speech, bits")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
