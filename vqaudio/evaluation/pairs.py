"""Pairs of speakers between whom voices are converted: which utterance goes to whom, and what tells how each sounds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vqaudio.errors import UsageError
from vqaudio.evaluation.speech import Item


@dataclass(frozen=True)
class Pair:
    """An utterance to convert and a voice to convert it to.

    Attributes:
        source: the utterance.
        reference: the recording of the target that the codec is given.
        source_evidence, target_evidence: other utterances of the two, for the judge.
    """

    source: Item
    reference: Item
    source_evidence: Item
    target_evidence: Item


def pairs(items: Sequence[Item], count: int) -> list[Pair]:
    """Pairs of speakers, always the same for the same items, spread evenly: in every run of as many pairs as there are
    speakers each is once source and once target, and with two such runs every pair of speakers that occurs, occurs in
    both directions. The utterances of a speaker take turns.

    Raises:
        UsageError: where fewer than two speakers have two utterances each.
    """
    by_speaker: dict[str, list[Item]] = {}
    for item in sorted(items, key=lambda item: (item.speaker, item.path)):
        by_speaker.setdefault(item.speaker, []).append(item)
    spoken = [utterances for utterances in by_speaker.values() if len(utterances) > 1]
    if len(spoken) < 2:
        raise UsageError("Voices are converted between two speakers at least, with two utterances of each.")
    turns = [0] * len(spoken)

    def take(speaker: int) -> tuple[Item, Item]:
        """The next utterance of a speaker, and another one."""
        utterances, turn = spoken[speaker], turns[speaker]
        turns[speaker] += 1
        return utterances[turn % len(utterances)], utterances[(turn + 1) % len(utterances)]

    found = []
    for source, target in itertools.islice(_directions(len(spoken)), count):
        (utterance, source_evidence), (reference, target_evidence) = take(source), take(target)
        found.append(Pair(utterance, reference, source_evidence, target_evidence))
    return found


def _directions(speakers: int) -> Iterator[tuple[int, int]]:
    """Pairs of speakers without end: to the next one, to the one before, to the one after next, and so on."""
    steps = [step for near in range(1, speakers // 2 + 1) for step in sorted({near, speakers - near})]
    for step in itertools.cycle(steps):
        for speaker in range(speakers):
            yield speaker, (speaker + step) % speakers
