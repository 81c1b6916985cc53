"""The range coder: the bytes of an independent coder in Python's own integers, near the ideal length, for any bytes."""

from __future__ import annotations

from typing import Any

import constriction
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from tests.samples import decode_symbols, encode_symbols
from vqaudio.container import largest_payload
from vqaudio.runtime import range_coder
from vqaudio.runtime.range_coder import TOTAL


def encode(symbols: Any, frequencies: Any) -> bytes:
    """The payload; the buffer is as long as the container grants, between bytes that have to stay as they are."""
    room = np.full(largest_payload(len(symbols)) + 16, 0xA5, np.uint8)
    size = encode_symbols(np.asarray(symbols, np.int64), np.cumsum(frequencies), room[8:-8])
    assert (room[:8] == 0xA5).all() and (room[-8:] == 0xA5).all()
    assert size <= len(room) - 16
    return room[8 : 8 + size].tobytes()


def decode(payload: bytes, count: int, frequencies: Any) -> tuple[list[int], bool]:
    """The symbols, and whether the payload is good; what lies behind it in memory is none of it."""
    symbols = np.zeros(count, np.int64)
    content = np.frombuffer(payload + b"\xa5" * 8, np.uint8)[: len(payload)]
    good = decode_symbols(content, np.cumsum(frequencies), symbols)
    return symbols.tolist(), good


def encode_in_long_integers(symbols: list[int], frequencies: list[int]) -> bytes:
    return intervals_in_long_integers([(sum(frequencies[:symbol]), frequencies[symbol]) for symbol in symbols])


def intervals_in_long_integers(intervals: list[tuple[int, int]]) -> bytes:
    """The coder of docs/format.md with a `low` of any length, in which no carry needs care."""
    low, width, bits = 0, 2**64 - 1, 64
    for start, frequency in intervals:
        unit = width >> 24
        low += unit * start
        width = unit * frequency
        while width < 1 << 48:
            low, width, bits = low << 16, width << 16, bits + 16
    for zeros in range(bits, -1, -8):
        number = -(-low >> zeros) << zeros
        if number < low + width:
            return number.to_bytes(bits // 8, "big").rstrip(b"\0")
    raise AssertionError("an interval without a number")


def ideal_bytes(symbols: Any, frequencies: Any) -> float:
    return float(-np.log2(np.asarray(frequencies)[symbols] / TOTAL).sum()) / 8


def tables() -> st.SearchStrategy[list[int]]:
    """Frequencies of a few symbols, from even to all on one."""

    def whole(size: int, random: int, concentration: float, place: int) -> list[int]:
        shares = np.random.default_rng(random).dirichlet(np.full(size, concentration))
        frequencies = 1 + np.floor(shares * (TOTAL - size)).astype(np.int64)
        frequencies[place % size] += TOTAL - frequencies.sum()
        return frequencies.tolist()

    concentrations = st.sampled_from([1e-3, 0.05, 1.0, 100.0])
    return st.builds(whole, st.integers(2, 40), st.integers(0, 1000), concentrations, st.integers(0, 39))


@st.composite
def messages(draw) -> tuple[list[int], list[int]]:
    frequencies = draw(tables())
    return draw(st.lists(st.integers(0, len(frequencies) - 1), max_size=200)), frequencies


def peaked(symbols: int, place: int) -> list[int]:
    """All but one symbol as rare as can be."""
    frequencies = [1] * symbols
    frequencies[place] = TOTAL - symbols + 1
    return frequencies


@given(messages())
def test_bytes_are_those_of_long_integers(message):
    symbols, frequencies = message
    payload = encode(symbols, frequencies)
    assert payload == encode_in_long_integers(symbols, frequencies)
    assert decode(payload, len(symbols), frequencies) == (symbols, True)


@given(messages())
def test_the_length_is_near_the_ideal(message):
    symbols, frequencies = message
    assert len(encode(symbols, frequencies)) <= 1.001 * ideal_bytes(symbols, frequencies) + 4


@pytest.mark.parametrize("concentration", [0.01, 0.1, 1.0])
def test_as_short_as_constriction(concentration):
    """512 codes, like those of a block: within 0.1 % of another range coder, and of the ideal."""
    random = np.random.default_rng(0)
    shares = random.dirichlet(np.full(512, concentration))
    frequencies = 1 + np.floor(shares * (TOTAL - 512)).astype(np.int64)
    frequencies[0] += TOTAL - frequencies.sum()
    probabilities = frequencies / TOTAL
    symbols = random.choice(512, 20000, p=probabilities)
    other = constriction.stream.queue.RangeEncoder()
    model = constriction.stream.model.Categorical(probabilities.astype(np.float32), perfect=False)
    other.encode(symbols.astype(np.int32), model)
    size = len(encode(symbols, frequencies))
    assert size == pytest.approx(4 * len(other.get_compressed()), rel=1e-3, abs=8)
    assert size <= 1.001 * ideal_bytes(symbols, frequencies) + 4


@njit
def encode_after(buffer, size, low, start, frequency):
    """Encode one symbol behind what the buffer holds, and end."""
    state = range_coder.encoder()
    state[range_coder.SIZE], state[range_coder.LOW] = size, low
    range_coder.encode(state, buffer, start, frequency)
    return range_coder.finish(state, buffer)


@pytest.mark.parametrize("run", [0, 1, 2, 100])
def test_a_carry_runs_through_all_ones(run):
    written = bytes([7, 0x12]) + b"\xff" * run
    buffer = np.zeros(len(written) + 4, np.uint8)
    buffer[: len(written)] = np.frombuffer(written, np.uint8)
    size = encode_after(buffer, len(written), np.uint64(0xFFFFFF0000000000), TOTAL // 2, TOTAL // 2)
    # Half of 2^64 - 1 is added: 0x7ffffeffff800000 is left, and the shortest number above it is 0x80.
    assert buffer[:size].tolist() == [7, 0x13, *[0] * run, 0x80]
    size = encode_after(buffer, 2, np.uint64(1 << 40), 0, TOTAL)
    assert buffer[:size].tolist() == [7, 0x14]  # the end of an interval as wide as this carries by itself


def test_carries_within_messages():
    frequencies = [1, TOTAL // 2, TOTAL // 2 - 2, 1]
    random = np.random.default_rng(0)
    for _ in range(300):
        symbols = random.integers(0, 4, 60).tolist()
        payload = encode(symbols, frequencies)
        assert payload == encode_in_long_integers(symbols, frequencies)
        assert decode(payload, len(symbols), frequencies) == (symbols, True)


@pytest.mark.parametrize("place", [0, 5, 511])
def test_the_certain_costs_next_to_nothing(place):
    frequencies = peaked(512, place)
    symbols = [place] * 10000
    payload = encode(symbols, frequencies)
    assert len(payload) <= 2
    assert decode(payload, len(symbols), frequencies) == (symbols, True)


@pytest.mark.parametrize("place", [0, 65535])
def test_the_rarest_costs_24_bits(place):
    """The bound of a payload is met, and nearly reached."""
    frequencies = peaked(65536, 65535 - place)
    symbols = [place, *[1] * 2999]
    payload = encode(symbols, frequencies)
    assert 9000 - 3 <= len(payload) <= largest_payload(3000)
    assert decode(payload, 3000, frequencies) == (symbols, True)


@njit
def there_and_back(intervals, buffer):
    """The size of the payload of some intervals (n, 2), and whether it decodes to them."""
    state = range_coder.encoder()
    for start, frequency in intervals:
        range_coder.encode(state, buffer, start, frequency)
    size = range_coder.finish(state, buffer)
    state, same = range_coder.decoder(buffer[:size]), True
    for start, frequency in intervals:
        same &= start <= range_coder.target(state) < start + frequency
        range_coder.advance(state, buffer[:size], start, frequency)
    return size, same and range_coder.ended(state, buffer[:size])


def test_a_range_of_exactly_2_to_the_48_is_wide_enough():
    # frequencies that change from symbol to symbol, as under a prior, bring the range there
    intervals = [(5, 1), (7, 131073), (0, 16777089), (TOTAL // 2, TOTAL // 2)]
    buffer = np.zeros(16, np.uint8)
    size, same = there_and_back(np.array(intervals), buffer)
    assert buffer[:size].tobytes() == intervals_in_long_integers(intervals)
    assert same


def test_nothing_is_no_byte():
    assert encode([], [TOTAL // 2, TOTAL // 2]) == b""
    assert encode_symbols(np.zeros(0, np.int64), np.array([TOTAL]), np.zeros(4, np.uint8)) == 0
    assert decode(b"", 0, [TOTAL // 2, TOTAL // 2]) == ([], True)


@given(st.binary(max_size=60), tables(), st.integers(0, 100))
def test_any_bytes_decode_to_symbols(payload, frequencies, count):
    """And they are good exactly where the encoder writes them for these symbols."""
    symbols, good = decode(payload, count, frequencies)
    assert all(0 <= symbol < len(frequencies) for symbol in symbols)
    assert good == (encode(symbols, frequencies) == payload)


@given(messages(), st.data())
def test_another_payload_of_the_same_symbols_is_not_good(message, data):
    """One that is longer, or names another number of the interval."""
    symbols, frequencies = message
    payload = encode(symbols, frequencies)
    longer = payload + bytes([*bytes(data.draw(st.integers(0, 12))), data.draw(st.integers(0, 255))])
    found, good = decode(longer, len(symbols), frequencies)
    assert not good or encode(found, frequencies) == longer
    assert not decode(payload + b"\0", len(symbols), frequencies)[1]


@pytest.mark.parametrize("size", [7, 8, 9, 40])
def test_bytes_beyond_every_interval(size):
    """No encoder writes ones alone: a first interval of 2^64 - 1 does not have the last number."""
    for frequencies in ([1, TOTAL - 1], [TOTAL - 1, 1], [TOTAL // 2, TOTAL // 2]):
        for count in (0, 1, 3, 100):
            symbols, good = decode(b"\xff" * size, count, frequencies)
            assert all(0 <= symbol < len(frequencies) for symbol in symbols)
            assert good == (encode(symbols, frequencies) == b"\xff" * size)
