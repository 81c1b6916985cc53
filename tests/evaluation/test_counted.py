"""Unigrams and bigrams against counts in plain Python, and against what information theory says of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqaudio.evaluation.counted import Bigram, Unigram, pairs
from vqaudio.models.random import uniforms

SIZE = 6


def draw_pieces(seed: int, quantizers: int = 2, size: int = SIZE) -> list[np.ndarray]:
    """A few pieces (quantizers, frames), some of one frame; the last code never occurs."""
    random = np.random.default_rng(seed)
    return [random.integers(0, size - 1, (quantizers, n)).astype(np.uint16) for n in (1, 7, 20, 1, 40)]


@given(st.integers(0, 1000))
def test_are_what_plain_counts_say(seed: int) -> None:
    pieces = draw_pieces(seed)
    unigram = Unigram.counted(pieces, SIZE)
    bigram = Bigram(pieces, unigram, weight=3.0)
    for q in range(2):
        alone = Counter(int(code) for piece in pieces for code in piece[q])
        together = Counter((int(a), int(b)) for piece in pieces for a, b in zip(piece[q], piece[q][1:], strict=False))
        for a in range(SIZE):
            assert unigram.shares[q, a] == pytest.approx((alone[a] + 1) / (sum(alone.values()) + SIZE))
            after = sum(n for (first, _), n in together.items() if first == a)
            for b in range(SIZE):
                expected = (together[a, b] + 3 * unigram.shares[q, b]) / (after + 3)
                assert bigram.probabilities(q, np.array([a]), np.array([b]))[0] == pytest.approx(expected)


@given(st.integers(0, 1000))
def test_sum_to_one(seed: int) -> None:
    pieces = draw_pieces(seed)
    unigram = Unigram.counted(pieces, SIZE)
    assert unigram.shares.sum(1) == pytest.approx(1)
    bigram = Bigram(pieces, unigram)
    for q in range(2):
        for a in range(SIZE):
            assert bigram.probabilities(q, np.full(SIZE, a), np.arange(SIZE)).sum() == pytest.approx(1)


def test_bits_are_of_each_code_after_the_one_before_it() -> None:
    pieces = draw_pieces(0)
    unigram = Unigram.counted(pieces, SIZE)
    bigram, codes = Bigram(pieces, unigram), draw_pieces(1)[2]
    bits = bigram.bits(codes)
    assert bits.shape == codes.shape
    assert bits[:, 0] == pytest.approx(unigram.bits(codes)[:, 0])
    for q in range(2):
        expected = [
            -np.log2(bigram.probabilities(q, codes[q, t - 1 : t], codes[q, t : t + 1])[0]) for t in range(1, 20)
        ]
        assert bits[q, 1:] == pytest.approx(expected)


def test_the_uniform_prior_gives_all_codes_the_same_bits() -> None:
    assert Unigram.uniform(2, 512).bits(np.array([[0, 511], [3, 3]])) == pytest.approx(9)


def test_pairs_do_not_cross_pieces() -> None:
    pieces = [np.array([[1, 2, 3]]), np.array([[4]]), np.array([[5, 0]])]
    assert pairs(pieces, 0, 10).tolist() == [12, 23, 50]


def markov(frames: int, seed: int) -> tuple[np.ndarray, float, float]:
    """A first-order source: codes (1, frames), its entropy rate, and the entropy of a single code, in bits."""
    transition = np.random.default_rng(0).dirichlet(np.full(SIZE, 0.3), SIZE) + 0.01
    transition /= transition.sum(1, keepdims=True)
    stationary = np.linalg.matrix_power(transition, 1000)[0]
    numbers, ends = np.random.default_rng(seed).random(frames), transition.cumsum(1)
    codes = np.zeros((1, frames), np.uint16)
    for t in range(1, frames):
        codes[0, t] = min(np.searchsorted(ends[codes[0, t - 1]], numbers[t]), SIZE - 1)
    rate = -(stationary[:, None] * transition * np.log2(transition)).sum()
    return codes, float(rate), float(-(stationary * np.log2(stationary)).sum())


def test_on_a_markov_source_they_reach_its_entropies() -> None:
    train, rate, entropy = markov(50000, 1)
    held_out = markov(50000, 2)[0]
    unigram = Unigram.counted([train], SIZE)
    assert unigram.bits(held_out).mean() == pytest.approx(entropy, abs=0.02)
    assert Bigram([train], unigram).bits(held_out).mean() == pytest.approx(rate, abs=0.02)
    assert rate < entropy - 0.3


def test_samples_are_distributed_as_they_say() -> None:
    train = np.concatenate([markov(1000, 1)[0]] * 2)
    unigram = Unigram.counted([train], SIZE)
    numbers = uniforms(0, 0, 20000, 2)[0]
    drawn = unigram.draw(numbers)
    assert drawn.shape == (2, 20000) and drawn.dtype == np.uint16
    assert np.bincount(drawn[0], minlength=SIZE) / 20000 == pytest.approx(unigram.shares[0], abs=0.015)
    assert not np.array_equal(drawn[0], drawn[1])  # quantisers are drawn apart
    bigram = Bigram([train], unigram)
    drawn = bigram.draw(numbers)
    table = np.bincount(pairs([drawn], 0, SIZE), minlength=SIZE * SIZE).reshape(SIZE, SIZE)
    for a in range(SIZE):
        if table[a].sum() > 500:
            expected = bigram.probabilities(0, np.full(SIZE, a), np.arange(SIZE))
            assert table[a] / table[a].sum() == pytest.approx(expected, abs=0.07)


def test_a_large_codebook_takes_no_table_of_all_pairs() -> None:
    pieces = [np.array([[0, 65535, 0, 65535, 7]], np.uint16)]
    unigram = Unigram.counted(pieces, 65536)
    bits = Bigram(pieces, unigram).bits(np.array([[0, 65535, 65534]], np.uint16))
    assert bits[0, 1] < bits[0, 2]
