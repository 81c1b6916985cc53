"""Means and their bootstrap intervals against numpy and scipy, weights, and what is left out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from vqaudio.evaluation.estimates import Estimate, digits

VALUES = st.floats(-1e6, 1e6)
WEIGHED = st.lists(st.tuples(VALUES, st.floats(0.01, 100)), min_size=1, max_size=30)


def test_the_interval_of_a_mean_is_about_two_standard_errors() -> None:
    values = np.random.default_rng(7).normal(3.0, 0.5, 400)
    estimate = Estimate.of(values)
    error = values.std() / 20
    assert estimate.mean == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert estimate.high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)
    assert (estimate.count, estimate.undefined) == (400, 0)
    assert estimate == Estimate.of(values)


def test_a_weighted_mean_and_its_interval_are_those_of_scipy() -> None:
    """Errors in so many words: the rate is of all words, and utterances are drawn with their words."""
    random = np.random.default_rng(3)
    words = random.integers(1, 40, 200)
    errors = random.binomial(words, random.uniform(0, 0.6, 200))
    estimate = Estimate.of(errors / words, words)
    assert estimate.mean == pytest.approx(errors.sum() / words.sum())

    def rate(errors: np.ndarray, words: np.ndarray, axis: int) -> np.ndarray:
        return errors.sum(axis) / words.sum(axis)

    reference = scipy.stats.bootstrap(
        (errors, words), rate, paired=True, method="percentile", n_resamples=9999, rng=np.random.default_rng(1)
    ).confidence_interval
    width = reference.high - reference.low
    assert estimate.low == pytest.approx(reference.low, abs=0.05 * width)
    assert estimate.high == pytest.approx(reference.high, abs=0.05 * width)
    assert Estimate.of(errors / words).mean != pytest.approx(estimate.mean, abs=0.01)  # weights make a difference here


def test_two_values_by_hand() -> None:
    """Of four equally likely draws two are mixed, so that the interval runs from one value to the other."""
    estimate = Estimate.of([1.0, 4.0], [2.0, 1.0])
    assert (estimate.mean, estimate.low, estimate.high) == pytest.approx((2.0, 1.0, 4.0))


@given(WEIGHED)
def test_the_interval_holds_the_mean_and_lies_among_the_values(pairs: list[tuple[float, float]]) -> None:
    values, weights = zip(*pairs, strict=True)
    estimate = Estimate.of(values, weights)
    slack = 1e-9 * max(1.0, *map(abs, values))
    assert estimate.mean == pytest.approx(np.average(values, weights=weights), abs=slack)
    assert min(values) - slack <= estimate.low <= estimate.mean + slack
    assert estimate.mean - slack <= estimate.high <= max(values) + slack


@given(VALUES, st.lists(st.floats(0.01, 100), min_size=1, max_size=30))
def test_constant_values_have_no_width(value: float, weights: list[float]) -> None:
    estimate = Estimate.of([value] * len(weights), weights)
    assert (estimate.mean, estimate.low, estimate.high) == pytest.approx((value, value, value), rel=1e-12, abs=1e-12)


@given(WEIGHED, st.floats(0.125, 8))
def test_only_the_proportions_of_weights_count(pairs: list[tuple[float, float]], factor: float) -> None:
    values, weights = zip(*pairs, strict=True)
    one, other = Estimate.of(values, weights), Estimate.of(values, [factor * weight for weight in weights])
    slack = 1e-9 * max(1.0, *map(abs, values))
    assert (one.mean, one.low, one.high) == pytest.approx((other.mean, other.low, other.high), abs=slack)


@given(st.lists(VALUES, min_size=1, max_size=30))
def test_equal_weights_are_none(values: list[float]) -> None:
    assert Estimate.of(values, [1.0] * len(values)) == Estimate.of(values)


@given(WEIGHED, st.data())
def test_what_is_undefined_or_weighs_nothing_is_left_out(pairs: list[tuple[float, float]], data: st.DataObject) -> None:
    kept = Estimate.of(*zip(*pairs, strict=True))
    nothing = data.draw(st.lists(st.sampled_from([(math.nan, 1.0), (5.0, 0.0), (math.nan, 0.0)]), max_size=5))
    places = data.draw(st.lists(st.integers(0, len(pairs)), min_size=len(nothing), max_size=len(nothing)))
    longer = list(pairs)
    for place, pair in zip(places, nothing, strict=True):
        longer.insert(place, pair)
    found = Estimate.of(*zip(*longer, strict=True))
    assert (found.mean, found.low, found.high, found.count) == (kept.mean, kept.low, kept.high, len(pairs))
    assert found.undefined == len(nothing)


@pytest.mark.parametrize(("values", "weights"), [([], None), ([math.nan], None), ([1.0, 2.0], [0.0, 0.0])])
def test_of_nothing_there_is_no_mean(values: list[float], weights: list[float] | None) -> None:
    estimate = Estimate.of(values, weights)
    assert math.isnan(estimate.mean) and math.isnan(estimate.low) and math.isnan(estimate.high)
    assert (estimate.count, estimate.undefined) == (0, len(values))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.5, 0.5], "0.500 (0.500 to 0.500)"),
        ([0.5], "0.500"),  # which says nothing of others
        ([0.5, math.nan], "0.500, 1 undefined"),
        ([math.nan], "-"),
        ([], "-"),
    ],
)
def test_tables_show_a_mean_with_its_interval(values: list[float], text: str) -> None:
    assert Estimate.of(values).text() == text


def test_tables_show_shares_in_per_cent_and_differences_with_a_sign() -> None:
    estimate = Estimate(0.125, -0.25, 0.5, 9, 0)
    assert estimate.text(1, 100) == "12.5 (-25.0 to 50.0)" == f"{estimate.value(1, 100)} ({estimate.interval(1, 100)})"
    assert estimate.text(2, sign="+") == "+0.12 (-0.25 to +0.50)"


@pytest.mark.parametrize(("half", "places"), [(12.0, 0), (1.2, 1), (0.12, 2), (0.012, 3), (0.0012, 3), (0.0, 3)])
def test_so_many_digits_are_shown_as_the_interval_says_something_of(half: float, places: int) -> None:
    other = Estimate(math.nan, math.nan, math.nan, 0, 9)
    assert digits([other, Estimate(50.0, 50 - half, 50 + half, 9, 0)]) == places
