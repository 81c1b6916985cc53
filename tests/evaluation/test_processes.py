"""Measurements spread over processes come back in order, whatever becomes of them."""

from __future__ import annotations

import math
import os
from types import SimpleNamespace

import pytest
import torch

from vqaudio.errors import VqaudioError
from vqaudio.evaluation.processes import side_by_side


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_are_in_order(jobs: int) -> None:
    squares = [number**2 for number in range(9)]
    assert list(side_by_side(SimpleNamespace(attempt=math.sqrt), squares, jobs)) == list(range(9))


def test_one_process_is_this_one_with_one_thread() -> None:
    before = torch.get_num_threads()
    bench = SimpleNamespace(attempt=lambda _: (os.getpid(), torch.get_num_threads()))
    assert list(side_by_side(bench, [0], 8)) == [(os.getpid(), 1)]
    assert torch.get_num_threads() == before
    assert list(side_by_side(bench, [], 8)) == []


def test_a_process_that_dies_is_one_sentence() -> None:
    with pytest.raises(VqaudioError, match="ended unexpectedly"):
        list(side_by_side(SimpleNamespace(attempt=os._exit), [1, 1], 2))
