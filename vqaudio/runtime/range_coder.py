"""A range coder: symbols to bytes and back under integer frequencies, the same bytes on every machine.

Every symbol narrows an interval in proportion to its frequency; in the end the bytes name a number in what is left
(Martin 1979, "Range encoding: an algorithm for removing redundancy from a digitised message"). `low` and `range` are
64-bit integers. Whenever `range` falls below 2^48, the upper 16 bits of `low` leave for the buffer; what would later be
added to them is carried into the bytes that are there. docs/format.md specifies it for whoever writes another decoder.

All functions are called from within kernels, symbol by symbol, and compute with `uint64` alone. Where a symbol has the
frequency f of 2^24 it costs log2(2^24 / f) bits, and less than 2^-23 bits more for the rounding of the interval.

Encoding: `encoder()`, `encode` for each symbol, `finish`. Decoding: `decoder(payload)`; for each symbol `target`, to be
looked up among the cumulative frequencies, and `advance`; then `ended`, which says whether the payload was good.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vqaudio.runtime.compilation import inner

PRECISION = 24  # frequencies of all symbols sum to 2^24
TOTAL = 1 << PRECISION

State = NDArray[np.uint64]
# The places in a state: `low` and `range`; the bytes written or read; of a decoder, how far the payload's number lies
# above `low`, and whether it ever lay outside the interval.
LOW, RANGE, SIZE, ABOVE, OUTSIDE = range(5)
PLACES = 5

Bytes = NDArray[np.uint8]
_ZERO, _WHOLE, _LEAST = np.uint64(0), np.uint64((1 << 64) - 1), np.uint64(1 << 48)
_PRECISION, _TOP, _STEP, _BYTE = np.uint64(PRECISION), np.uint64(48), np.uint64(16), np.uint64(8)


@inner
def encoder() -> State:
    """The state before the first symbol."""
    state = np.zeros(PLACES, np.uint64)
    state[RANGE] = _WHOLE
    return state


@inner
def encode(state: State, buffer: Bytes, start: int, frequency: int) -> None:
    """Encode a symbol.

    Args:
        buffer: of at least `vqaudio.container.largest_payload` bytes for all symbols.
        start: the frequencies of all symbols before this one.
        frequency: its own, at least 1; at most 2^24 - start.
    """
    unit = state[RANGE] >> _PRECISION
    _raise_low(state, buffer, unit * np.uint64(start))
    state[RANGE] = unit * np.uint64(frequency)
    while state[RANGE] < _LEAST:
        _send(state, buffer)
        state[RANGE] <<= _STEP


@inner
def finish(state: State, buffer: Bytes) -> int:
    """End after the last symbol; how many bytes of the buffer are the payload, whose last one is not zero."""
    _raise_low(state, buffer, _shortest(state))
    _send(state, buffer)
    size = int(np.int64(state[SIZE]))
    while size > 0 and buffer[size - 1] == 0:
        size -= 1
    return size


@inner
def decoder(payload: Bytes) -> State:
    """The state before the first symbol, for any payload."""
    state = encoder()
    for _ in range(4):
        _receive(state, payload)
    return state


@inner
def target(state: State) -> int:
    """A number in [0, 2^24): the next symbol is the one with start <= number < start + frequency."""
    number = int(np.int64(state[ABOVE] // (state[RANGE] >> _PRECISION)))
    return min(number, TOTAL - 1)


@inner
def advance(state: State, payload: Bytes, start: int, frequency: int) -> None:
    """Go on behind the symbol that `target` has told, with what `encode` was given for it."""
    unit = state[RANGE] >> _PRECISION
    state[LOW] += unit * np.uint64(start)
    state[ABOVE] -= unit * np.uint64(start)
    state[RANGE] = unit * np.uint64(frequency)
    if state[ABOVE] >= state[RANGE]:  # no encoder writes this
        state[OUTSIDE] = 1
    while state[RANGE] < _LEAST:
        state[LOW] <<= _STEP
        state[RANGE] <<= _STEP
        _receive(state, payload)


@inner
def ended(state: State, payload: Bytes) -> bool:
    """Whether the payload is, byte for byte, what the encoder writes for the symbols that were decoded."""
    size = len(payload)
    if state[OUTSIDE] > 0 or size > np.int64(state[SIZE]) or (size > 0 and payload[size - 1] == 0):
        return False
    return state[ABOVE] == _shortest(state)


@inner
def _shortest(state: State) -> np.uint64:
    """How far above `low` the number in the interval lies that needs the fewest bytes, the others being zero.

    That is a multiple of 2^64, which is nothing but a carry, of 2^56 or of 2^48; of the last there is always one.
    """
    zeros = _WHOLE
    while (_ZERO - state[LOW]) & zeros >= state[RANGE]:
        zeros >>= _BYTE
    return (_ZERO - state[LOW]) & zeros


@inner
def _raise_low(state: State, buffer: Bytes, amount: np.uint64) -> None:
    """Add to `low`, carrying into the bytes already written. Never beyond the first: all intervals lie in [0, 1)."""
    state[LOW] += amount
    if state[LOW] < amount:
        place = np.int64(state[SIZE]) - 1
        while buffer[place] == 0xFF:
            buffer[place] = 0
            place -= 1
        buffer[place] += 1


@inner
def _send(state: State, buffer: Bytes) -> None:
    """Move the upper 16 bits of `low` to the buffer."""
    size = np.int64(state[SIZE])
    upper = state[LOW] >> _TOP
    buffer[size], buffer[size + 1] = upper >> _BYTE, upper
    state[LOW] <<= _STEP
    state[SIZE] = size + 2


@inner
def _receive(state: State, payload: Bytes) -> None:
    """Append the next 16 bits of the payload, behind whose end there are zeros."""
    for _ in range(2):
        place = np.int64(state[SIZE])
        state[ABOVE] <<= _BYTE
        if place < len(payload):
            state[ABOVE] |= np.uint64(payload[place])
        state[SIZE] = place + 1
