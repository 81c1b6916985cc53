"""Which of many pieces of speech a page has."""

from __future__ import annotations

from vqaudio.evaluation.clips import evenly


def test_of_many_samples_some_are_heard() -> None:
    assert evenly([], 8) == [] and evenly([7], 8) == [7] and evenly([1, 2], 8) == [1, 2]
    chosen = evenly(list(range(100, 2100, 100)), 8)
    assert len(chosen) == 8 and chosen[0] == 100 and chosen[-1] == 2000 and chosen == sorted(set(chosen))
