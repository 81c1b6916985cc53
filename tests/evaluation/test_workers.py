"""Measurements spread over processes come back in order, whatever becomes of them."""

from __future__ import annotations

import math
import os

import pytest
import torch

from vqaudio.errors import VqaudioError
from vqaudio.evaluation.workers import spread


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_are_in_order(jobs: int) -> None:
    squares = [number**2 for number in range(9)]
    assert list(spread(math.sqrt, squares, jobs)) == list(range(9))


def test_one_process_is_this_one_with_one_thread() -> None:
    before = torch.get_num_threads()
    assert list(spread(lambda _: (os.getpid(), torch.get_num_threads()), [0], 8)) == [(os.getpid(), 1)]
    assert torch.get_num_threads() == before
    assert list(spread(math.sqrt, [], 8)) == []


def test_a_process_that_dies_is_one_sentence() -> None:
    with pytest.raises(VqaudioError, match="ended unexpectedly"):
        list(spread(os._exit, [1, 1], 2))
