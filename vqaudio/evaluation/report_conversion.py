"""Voice conversion as a section of the report: a table of what it does to the voice, and pairs to hear."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vqaudio import audio
from vqaudio.evaluation import page
from vqaudio.evaluation.clips import Clip, clips, evenly
from vqaudio.evaluation.conversion import CONVERTED, Conversion, Measured, as_rows, sounds

if TYPE_CHECKING:
    from markupsafe import Markup

    from vqaudio.codec import Codec

HEARD = 4  # pairs, from the least like the target to the most


@dataclass(frozen=True)
class Example:
    """A pair to hear: its speakers, the likeness of the converted speech to both, and its clips."""

    source: str
    target: str
    to_target: float
    to_source: float
    clips: list[Clip]


def render(conversion: Conversion, codec: Codec, decoder: str | None, advance: Callable[[], None]) -> Markup:
    """The section's HTML.

    Args:
        codec, decoder: of the conversion, for the `HEARD` pairs that are converted once more.
        advance: called after each of them.
    """
    return page.render(
        "conversion.html",
        pairs=len(conversion.pairs),
        nearer=conversion.nearer().text(0, 100),
        columns=[
            "similarity to target ↑",
            "similarity to source ↓",
            *(metric.heading for metric in conversion.metrics),
        ],
        rows=as_rows(conversion),
        examples=[_example(measured, codec, decoder, advance) for measured in choose(conversion)],
        skipped=[sentence for _, sentence in conversion.skipped],
    )


def choose(conversion: Conversion) -> list[Measured]:
    """The pairs to hear: spread evenly from the least like the target to the most."""
    ranked = [m for m in conversion.pairs if not math.isnan(m.likeness[CONVERTED].target)]
    ranked.sort(key=lambda m: m.likeness[CONVERTED].target)
    return evenly(ranked, HEARD)


def _example(measured: Measured, codec: Codec, decoder: str | None, advance: Callable[[], None]) -> Example:
    heard = sounds(codec, measured.pair, decoder)
    likeness = measured.likeness[CONVERTED]
    advance()
    return Example(
        measured.pair.source.speaker,
        measured.pair.reference.speaker,
        likeness.target,
        likeness.source,
        clips(heard._asdict(), audio.SAMPLE_RATE),
    )
