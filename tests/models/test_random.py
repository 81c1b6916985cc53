"""The counter-based generator: published answers, uniformity, and independence of how positions are asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqaudio.errors import UsageError
from vqaudio.models.random import philox, plain_seed, uniforms

# The known answers of philox4x32 with 10 rounds that its authors publish with Random123.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_philox_gives_the_published_answers(
    counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]
) -> None:
    assert tuple(philox(np.array(counter, dtype=np.uint64), key).tolist()) == words


def test_seeds_of_numpy_are_plain_numbers_and_others_none() -> None:
    for kind in (np.int32, np.uint8, np.int64):
        assert type(plain_seed(kind(5))) is int
        np.testing.assert_array_equal(uniforms(kind(5), 0, 3), uniforms(5, 0, 3))
    for wrong in (1.5, "1", None, -1, 1 << 64):
        with pytest.raises(UsageError, match="seed"):
            plain_seed(wrong)  # type: ignore[arg-type]


def test_uniforms_are_the_documented_bits_of_philox() -> None:
    seed, step, band, stream = 0x0123456789ABCDEF, (7 << 32) + 11, 2, 5
    words = philox(np.array([11, 7, band, stream], dtype=np.uint64), (0x89ABCDEF, 0x01234567))
    expected = [((int(word) >> 9) + 0.5) / 2**23 for word in words[:2]]
    assert uniforms(seed, step, 1, 4, [stream])[0, 0, band].tolist() == expected


# Of this implementation, in units of 2^-24: shape (streams, steps, bands, 2).
GOLDEN = [
    [[[3306737, 8320097], [8714895, 10805125]], [[16000299, 16728353], [15166843, 7171643]]],
    [[[1887447, 13019321], [13001569, 2006759]], [[6951791, 4556095], [4092091, 10335415]]],
]


def test_golden_values_do_not_move() -> None:
    drawn = uniforms(1234, 100, 2, 2, (0, 3))
    assert (drawn.astype(np.float64) * 2**24).astype(np.int64).tolist() == GOLDEN


def test_values_lie_strictly_inside_and_are_uniform() -> None:
    drawn = uniforms(0, 0, 100_000, 4)
    assert drawn.dtype == np.float32
    assert drawn.min() > 0 and drawn.max() < 1
    counts = np.histogram(drawn, bins=256, range=(0, 1))[0]
    expected = drawn.size / 256
    chi_square = np.sum((counts - expected) ** 2 / expected)
    assert abs(chi_square - 255) < 5 * np.sqrt(2 * 255)


def test_neighbouring_positions_are_uncorrelated() -> None:
    centred = uniforms(7, 0, 20_000, 2, (0, 1)).astype(np.float64) - 0.5
    columns = np.concatenate([centred[:, 1:], centred[:, :-1]], axis=-1)  # this step and the one before
    correlation = np.corrcoef(columns.transpose(1, 0, 2, 3).reshape(19_999, -1).T)
    assert np.abs(correlation - np.eye(len(correlation))).max() < 5 / np.sqrt(20_000)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    start=st.integers(0, 2**40),
    cut=st.integers(0, 20),
    bands=st.integers(1, 4),
)
def test_chunks_and_streams_do_not_matter(seed: int, start: int, cut: int, bands: int) -> None:
    whole = uniforms(seed, start, 20, bands, (0, 1, 2))
    parts = [uniforms(seed, start, cut, bands, (0, 1, 2)), uniforms(seed, start + cut, 20 - cut, bands, (0, 1, 2))]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    np.testing.assert_array_equal(uniforms(seed, start, 20, bands, (1,))[0], whole[1])


def test_seeds_and_streams_differ() -> None:
    base = uniforms(1, 0, 50, 4)
    assert np.isclose(base, uniforms(2, 0, 50, 4)).mean() < 0.01
    assert np.isclose(base, uniforms(1 + (1 << 32), 0, 50, 4)).mean() < 0.01
    assert np.isclose(base, uniforms(1, 0, 50, 4, (1,))).mean() < 0.01


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_an_error(seed: int) -> None:
    with pytest.raises(UsageError, match="seed"):
        uniforms(seed, 0, 1)
