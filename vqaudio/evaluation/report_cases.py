"""The utterances that a report lets one hear: the worst first, some around the median, and the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vqaudio import audio
from vqaudio.errors import AudioError
from vqaudio.evaluation.clips import Clip, clips
from vqaudio.evaluation.contenders import Contender, Original
from vqaudio.evaluation.delay import judged
from vqaudio.evaluation.metrics import Metric
from vqaudio.evaluation.results import Evaluation
from vqaudio.evaluation.speech import Item

WORST, MIDDLE, BEST = 4, 2, 2  # utterances
RANKED_BY = "estoi"  # where it was measured


@dataclass(frozen=True)
class Case:
    """One utterance by every codec.

    Attributes:
        rank: its place, counted from the worst.
        path: of the file.
        seconds: of audio.
        text: what is said, where the manifest tells.
        values: of each metric, by codec, as text.
        notes: by codec, what the caption of its clip says beside the name: the value of the metric that ranks.
        clips: of the original and of every codec.
        problem: the sentence that says why there are no clips; else empty.
    """

    rank: str
    path: str
    seconds: float
    text: str | None
    values: list[tuple[str, list[str]]]
    notes: dict[str, str]
    clips: list[Clip]
    problem: str = ""


def ranking(evaluation: Evaluation) -> Metric | None:
    """The metric by which the subject's utterances are ranked: ESTOI, else the first that is defined for some."""
    defined = [
        metric
        for metric in evaluation.metrics
        if any(not math.isnan(u.values[metric.name]) for u in evaluation.subject.utterances)
    ]
    return next((metric for metric in defined if metric.name == RANKED_BY), defined[0] if defined else None)


def choose(evaluation: Evaluation) -> list[tuple[str, int]]:
    """The utterances to show, the worst first: (place in words, index among the utterances).

    Where no metric is defined, the first in the order of the files.
    """
    metric = ranking(evaluation)
    utterances = evaluation.subject.utterances
    if metric is None:
        return [(f"file {index + 1}", index) for index in range(len(utterances))][: WORST + MIDDLE + BEST]
    values = [u.values[metric.name] for u in utterances]
    order = [index for index in range(len(values)) if not math.isnan(values[index])]
    order.sort(key=lambda index: values[index], reverse=not metric.higher_is_better)
    count = len(order)
    middle = (count - MIDDLE + 1) // 2
    ranks = {*range(WORST), *range(middle, middle + MIDDLE), *range(count - BEST, count)}
    return [(_in_words(rank, count), order[rank]) for rank in sorted(ranks) if 0 <= rank < count]


def cases(
    evaluation: Evaluation,
    contenders: Sequence[Contender],
    items: Sequence[Item],
    advance: Callable[[], None] = lambda: None,
) -> list[Case]:
    """The chosen utterances, coded once more to be heard; a file that cannot be says so in its place.

    Args: as for `report.render`.
    """
    everybody = (Original(), *contenders)
    by_path = {str(item.path): item for item in items}
    metric = ranking(evaluation)
    found = []
    for rank, index in choose(evaluation):
        ours = evaluation.subject.utterances[index]
        try:
            heard, problem = _listen(Path(ours.path), everybody), ""
        except AudioError as error:
            heard, problem = [], str(error)
        values = [
            (result.name, [_figure(result.utterances[index].values[m.name]) for m in evaluation.metrics])
            for result in evaluation.results
        ]
        notes = {
            result.name: f"{metric.title} {_figure(result.utterances[index].values[metric.name])}"
            for result in evaluation.results
            if metric is not None
        }
        item = by_path.get(ours.path)
        found.append(Case(rank, ours.path, ours.seconds, item.text if item else None, values, notes, heard, problem))
        advance()
    return found


def _listen(path: Path, contenders: Sequence[Contender]) -> list[Clip]:
    rate = audio.SAMPLE_RATE
    reference = audio.read(path, rate)
    heard = {c.name: judged(reference, c.code(reference, rate).decoded, rate)[0] for c in contenders}
    return clips(heard, rate)


def _in_words(rank: int, count: int) -> str:
    if rank == 0:
        return "worst"
    return "best" if rank == count - 1 else f"{rank + 1} of {count}"


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
