"""Sums of products: the numbers of numpy, and the same bits however the rows come."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from vqaudio.runtime.processor import PAIRED
from vqaudio.runtime.product import (
    LANES,
    MIDDLE,
    SINGLE,
    TALL,
    VECTOR,
    accumulate,
    aligned,
    paired_weights,
    pairs,
    strip,
)

paired = pytest.mark.skipif(not PAIRED, reason="the processor does not multiply pairs of bfloat16")


@njit
def add(totals, weights, inputs):
    accumulate(totals, weights, inputs)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@given(st.integers(1, 21), st.integers(1, 40), st.integers(1, 13))
def test_equals_numpy(rows, depth, vectors):
    totals, weights, inputs = random(rows, vectors * LANES), random(depth, vectors * LANES), random(rows, depth)
    expected = totals + inputs.astype(np.float64) @ weights
    add(totals, weights, inputs)
    np.testing.assert_allclose(totals, expected, atol=1e-4)


def rounded(rows: np.ndarray) -> np.ndarray:
    return torch.from_numpy(rows).bfloat16().double().numpy()


def test_pairs_are_rounded_as_torch_rounds():
    ties = np.array([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 0, -0.0, 3.4e38], np.float32)
    for rows in (ties.reshape(2, 3).repeat(2, axis=1), random(7, 10) * 1e-3):
        halves = pairs(rows).view(np.uint16).astype(np.uint32) << 16
        np.testing.assert_array_equal(halves.view(np.float32), rounded(rows))


@paired
@given(st.integers(1, 70), st.integers(1, 40), st.integers(1, 13))
def test_pairs_equal_numpy(rows, depth, vectors):
    totals, weights, inputs = random(rows, vectors * LANES), random(2 * depth, vectors * LANES), random(rows, 2 * depth)
    expected = totals + rounded(inputs) @ rounded(weights)
    add(totals, paired_weights(weights), pairs(inputs))
    np.testing.assert_allclose(totals, expected, atol=1e-4)


@pytest.mark.parametrize("short", [False, pytest.param(True, marks=paired)])
@given(st.integers(1, 70), st.data())
def test_a_row_does_not_depend_on_the_rows_beside_it(short, rows, data):
    weights, inputs = random(34, 5 * LANES), random(rows, 34)
    if short:
        weights, inputs = paired_weights(weights), pairs(inputs)
    together = np.zeros((rows, 5 * LANES), np.float32)
    add(together, weights, inputs)
    first = data.draw(st.integers(0, rows - 1))
    last = data.draw(st.integers(first + 1, rows))
    alone = np.zeros((last - first, 5 * LANES), np.float32)
    add(alone, weights, inputs[first:last])
    np.testing.assert_array_equal(together[first:last], alone)


@pytest.mark.parametrize("short", [False, pytest.param(True, marks=paired)])
def test_rows_may_lie_apart_and_those_of_the_inputs_overlap(short):
    line, weights = rounded(random(200)).astype(np.float32), rounded(random(16, LANES)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(line, 16)[::4]
    totals = np.zeros((len(windows), 3 * LANES), np.float32)
    inputs, step = (pairs(line), 8) if short else (line, 16)
    overlapping = np.lib.stride_tricks.as_strided(inputs, (len(windows), 8 if short else 16), (step, 4))
    add(totals[:, LANES : 2 * LANES], paired_weights(weights) if short else weights, overlapping)
    np.testing.assert_allclose(totals[:, LANES : 2 * LANES], windows @ weights, atol=1e-5)
    assert not totals[:, :LANES].any() and not totals[:, 2 * LANES :].any()


@pytest.mark.parametrize("lanes", [8, 16])
def test_wide_and_narrow_vectors_give_the_same_bits(lanes):
    weights, inputs = random(70, 3 * LANES), random(4, 70)
    add_four = strip(4, (3, 1), lanes)

    @njit
    def by_four(totals, weights, inputs):
        add_four(totals, weights, inputs, 0, 0)

    expected, totals = np.zeros((4, 3 * LANES), np.float32), np.zeros((4, 3 * LANES), np.float32)
    add(expected, weights, inputs)
    by_four(totals, weights, inputs)
    np.testing.assert_array_equal(totals, expected)


def test_blocks_that_differ_have_names_that_differ():
    """By which code from the caches of several processes is linked: another block of that name would be called."""
    made = [(r, w[i:], lanes) for r, w in (TALL, MIDDLE, SINGLE) for i in range(len(w)) for lanes in (VECTOR, 4)]
    names = {strip(*block).py_func.__qualname__ for block in made}
    assert len(names) == len(made) == 2 * sum(len(widths) for _, widths in (TALL, MIDDLE, SINGLE))


@given(st.tuples(st.integers(1, 5), st.integers(1, 40)), st.sampled_from([np.float32, np.uint16, np.int32]))
def test_what_is_aligned_begins_with_a_line_of_the_cache(shape, kind):
    found = aligned(shape, kind)
    assert found.shape == shape and found.dtype == kind and found.ctypes.data % 64 == 0
    assert found.flags.c_contiguous and paired_weights(np.zeros((4, LANES), np.float32)).ctypes.data % 64 == 0
