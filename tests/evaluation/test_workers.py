"""Measurements spread over processes come back in order, whatever becomes of them."""

from __future__ import annotations

import math
import os

import pytest
import torch

from vqaudio.errors import AudioError, VqaudioError
from vqaudio.evaluation.workers import gather, spread
from vqaudio.runtime.schedule import available_threads


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_are_in_order(jobs: int) -> None:
    squares = [number**2 for number in range(9)]
    assert list(spread(math.sqrt, squares, jobs)) == list(range(9))


def _root(number: int) -> float:
    if number < 0:
        raise AudioError(f"{number} has no root.")
    return math.sqrt(number)


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_cannot_be_done_is_a_sentence_in_its_place(jobs: int) -> None:
    assert list(spread(_root, [4, -1, 9], jobs)) == [2.0, "-1 has no root.", 3.0]


def test_one_process_is_this_one_with_one_thread() -> None:
    before, wanted = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    found = spread(lambda _: (os.getpid(), torch.get_num_threads(), available_threads()), [0], 8)
    assert list(found) == [(os.getpid(), 1, 1)]
    assert torch.get_num_threads() == before and os.environ.get("OMP_NUM_THREADS") == wanted
    assert list(spread(math.sqrt, [], 8)) == []


def test_a_process_that_dies_is_one_sentence() -> None:
    with pytest.raises(VqaudioError, match="ended unexpectedly"):
        list(spread(os._exit, [1, 1], 2))


@pytest.mark.parametrize("jobs", [1, 2])
def test_outcomes_are_gathered_beside_what_has_none(jobs: int) -> None:
    done: list[None] = []
    gathered = gather(_root, [4, -1, 9], "numbers", jobs, lambda: done.append(None))
    assert gathered == ([2.0, 3.0], [(-1, "-1 has no root.")])
    assert len(done) == 3
    with pytest.raises(AudioError, match=r"^None of the 2 numbers could be measured: -2 has no root\.$"):
        gather(_root, [-2, -1], "numbers", jobs)
