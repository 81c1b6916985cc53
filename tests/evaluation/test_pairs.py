"""Which utterance is converted to whose voice: balanced, in both directions, and never judged by what took part."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqaudio.errors import UsageError
from vqaudio.evaluation.pairs import pairs
from vqaudio.evaluation.speech import Item


def speakers(counts: list[int]) -> list[Item]:
    return [Item(Path(f"{s}/{u}.wav"), f"speaker{s}", None) for s, count in enumerate(counts) for u in range(count)]


@given(st.lists(st.integers(0, 5), min_size=2, max_size=8), st.integers(0, 80), st.randoms())
def test_what_holds_for_any_speakers(counts: list[int], wanted: int, random) -> None:
    items = speakers(counts)
    able = {f"speaker{s}" for s, count in enumerate(counts) if count > 1}
    if len(able) < 2:
        with pytest.raises(UsageError, match="two speakers"):
            pairs(items, wanted)
        return
    found = pairs(items, wanted)
    assert len(found) == wanted
    random.shuffle(items)
    assert pairs(items, wanted) == found
    for pair in found:
        assert pair.source.speaker == pair.source_evidence.speaker != pair.reference.speaker
        assert pair.reference.speaker == pair.target_evidence.speaker
        assert len({pair.source.path, pair.source_evidence.path, pair.reference.path, pair.target_evidence.path}) == 4
    for role in ("source", "reference"):
        times = Counter(getattr(pair, role).speaker for pair in found)
        assert set(times) <= able
        assert max((times[name] for name in able), default=0) - min(times[name] for name in able) <= 1
    directions = len(able) * (len(able) - 1)
    times = Counter((pair.source.speaker, pair.reference.speaker) for pair in found)
    assert set(times.values()) <= {wanted // directions, wanted // directions + 1}
    if wanted == directions:
        assert set(times.values()) == {1}


@pytest.mark.parametrize("count", [3, 4, 7, 10])
def test_two_rounds_go_in_both_directions(count: int) -> None:
    found = {(pair.source.speaker, pair.reference.speaker) for pair in pairs(speakers([2] * count), 2 * count)}
    assert len(found) == 2 * count
    if count > 4:  # with four speakers the second round has begun on the ones opposite
        assert found == {(target, source) for source, target in found}


def test_the_utterances_of_a_speaker_take_turns() -> None:
    used = Counter(path for pair in pairs(speakers([6] * 4), 12) for path in (pair.source.path, pair.reference.path))
    assert len(used) == 24
    assert set(used.values()) == {1}
