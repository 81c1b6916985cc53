"""What damage costs: the blocks that it hits, whatever becomes of their lengths, and no more."""

from __future__ import annotations

import io

import numpy as np
import pytest

from tests.samples import (
    BLOCKS,
    EXAMPLE,
    MINUTE,
    PRIOR,
    as_stream,
    conceal,
    damaged_at,
    make,
    parts_of,
    raw_header,
    varint,
)
from vqaudio.blocks import MOST_UNFOUND, BlockReader
from vqaudio.codes import Codes
from vqaudio.errors import FormatError

FILE, LIVE = MINUTE.to_bytes(PRIOR), as_stream(MINUTE, *[1250] * 5, coder=PRIOR)
PARTS = parts_of(FILE, PRIOR)


def test_bytes_of_all_blocks_are_counted():
    blocks = BlockReader(io.BytesIO(MINUTE.to_bytes()), "a file")
    frames = [count for count, _ in blocks]
    bits = MINUTE.quantizers * (MINUTE.codebook_size - 1).bit_length()
    assert len(frames) > 2 and blocks.payload_bytes == sum(-(-count * bits // 8) for count in frames)


def test_a_damaged_block_is_named_with_its_seconds():
    with pytest.raises(FormatError, match=r"^Block 1 \(10 s to 20 s\) of '<bytes>' is damaged: its checksum is wrong"):
        Codes.from_bytes(damaged_at(1))
    with pytest.raises(FormatError, match=r"Block 2 \(20 s to 24\.0001 s\)"):
        Codes.from_bytes(damaged_at(2))


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0, [4, 4, 4, 4, 4, 4, 3, 2, 1, 0, 0, 2, 4]),
        (1, [0, 1, 2, 3, 4, 4, 4, 4, 4, 4, 0, 2, 4]),
        (2, [0, 1, 2, 3, 4, 4, 3, 2, 1, 0, 0, 0, 0]),
    ],
)
def test_a_damaged_block_costs_that_block(index, expected):
    codes, problems = conceal(damaged_at(index))
    assert codes.numpy().tolist() == [expected]
    assert codes.samples == BLOCKS.samples
    assert len(problems) == 1 and f"Block {index} " in problems[0]


def test_a_damaged_length_costs_that_block():
    data = bytearray(BLOCKS.to_bytes())
    data[-21] = 0xFF  # the length of block 0
    codes, problems = conceal(bytes(data))
    assert codes.numpy()[0, 5:].tolist() == BLOCKS.numpy()[0, 5:].tolist()
    assert len(problems) == 1 and "length" in problems[0]


def test_without_a_good_block_the_codes_are_zero():
    data = bytearray(EXAMPLE.to_bytes())
    data[-1] ^= 1
    codes, problems = conceal(bytes(data))
    assert not codes.numpy().any() and codes.samples == EXAMPLE.samples and len(problems) == 1


def test_a_truncated_file_ends_after_its_last_whole_block():
    data = BLOCKS.to_bytes()
    for lost in range(1, 15):
        with pytest.raises(FormatError, match=r"block [12] \(\d+ s to [\d.]+ s\)"):
            Codes.from_bytes(data[:-lost])
        codes, problems = conceal(data[:-lost])
        kept = 10 if lost <= 7 else 5
        assert codes.numpy().tolist() == BLOCKS.numpy()[:, :kept].tolist()
        assert codes.samples == kept * BLOCKS.hop and len(problems) == 1
    with pytest.raises(FormatError, match="block 0"):
        Codes.from_bytes(data[:-15], conceal=True)


def test_damage_in_a_stream():
    data = bytearray(as_stream(BLOCKS, 2, 7))
    data[-11] ^= 1  # the last byte of the codes; the end is frames, three bytes of samples and a checksum
    with pytest.raises(FormatError, match=r"^Block 3 \(from 18 s\)"):
        Codes.from_bytes(bytes(data))
    codes, problems = conceal(bytes(data))
    assert codes.numpy()[0, :9].tolist() == BLOCKS.numpy()[0, :9].tolist() and codes.samples == BLOCKS.samples
    assert codes.numpy()[0, 9:].tolist() == [BLOCKS.numpy()[0, 8]] * 4 and len(problems) == 1
    blocks = BlockReader(io.BytesIO(as_stream(BLOCKS, 2, 7)), "'it'")
    next(iter(blocks))
    for lost in (b"\x7f", b"\xff" * 9):  # more frames than a block may have, or no number at all
        data = bytearray(as_stream(BLOCKS, 2, 7))
        data[blocks.size : blocks.size + len(lost)] = lost
        with pytest.raises(FormatError, match=r"does not say where block 1 \(from 4 s\) ends"):
            Codes.from_bytes(bytes(data))
        codes, problems = conceal(bytes(data))
        assert codes.numpy().tolist() == BLOCKS.numpy()[:, :2].tolist() and len(problems) == 1
    codes, problems = conceal(as_stream(BLOCKS, 2, 7)[:-1])
    assert codes.numpy().tolist() == BLOCKS.numpy().tolist() and codes.samples == 13 * BLOCKS.hop
    assert len(problems) == 1
    with pytest.raises(FormatError, match="does not say where block 0"):
        Codes.from_bytes(raw_header(samples=0) + varint(1251))
    with pytest.raises(FormatError, match=r"holds no codes|end of"):
        Codes.from_bytes(raw_header(samples=0) + varint(0) + varint(5) + bytes(4))


def concealed(data: bytes, *damaged: int) -> None:
    """See that all blocks of `MINUTE` but the damaged ones are there, and that one warning tells of each of those."""
    codes, problems = conceal(data, PRIOR)
    rows, size = MINUTE.numpy().T.copy(), 1250
    for block in damaged:
        rows[block * size : (block + 1) * size] = rows[block * size - 1] if block else rows[size]
    assert (rows == codes.numpy().T).all() and codes.samples == MINUTE.samples
    assert len(problems) == len(damaged)
    assert all(f"Block {block} " in problem for block, problem in zip(damaged, problems, strict=True))


@pytest.mark.parametrize("data", [FILE, LIVE])
def test_a_damaged_payload_under_a_prior_costs_its_block(data):
    parts = parts_of(data, PRIOR)
    for block in range(6):
        changed = bytearray(data)
        changed[sum(map(len, parts[: block + 1])) + 500] ^= 0x10
        with pytest.raises(FormatError, match=rf"^Block {block} \(.*checksum is wrong\.$"):
            Codes.from_bytes(bytes(changed), coder=PRIOR)
        concealed(bytes(changed), block)


@pytest.mark.parametrize("length", ["longer", "shorter", "beyond the end", "too long", "no number"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_damaged_length_under_a_prior_costs_its_block(length, stream):
    parts = parts_of(LIVE if stream else FILE, PRIOR)
    for block in (0, 2, 4):
        content = bytearray(parts[block + 1])
        at = 2 if stream else 0  # behind the number of frames
        stated = content[at] % 128 + content[at + 1] * 128
        changed = {"longer": stated + 3, "shorter": stated - 3, "beyond the end": 7000, "too long": 7505}
        content[at : at + 2] = b"\xff" * 9 if length == "no number" else varint(changed.get(length, 0))
        data = b"".join([*parts[: block + 1], content, *parts[block + 2 :]])
        with pytest.raises(FormatError, match=rf"[Bb]lock {block} "):
            Codes.from_bytes(data, coder=PRIOR)
        concealed(data, block)


@pytest.mark.parametrize("stream", [False, True])
def test_a_length_beyond_the_end_of_the_file_costs_its_block(stream):
    codes = make(51)
    data = as_stream(codes, *[1250] * 5, coder=PRIOR) if stream else codes.to_bytes(PRIOR)
    parts = parts_of(data, PRIOR)
    at = sum(map(len, parts[:5])) + 2 * stream
    changed = data[:at] + varint(7000) + data[at + 2 :]
    assert at + 7000 > len(data)
    with pytest.warns(UserWarning, match="Block 4 .* its length is wrong"):
        blocks = BlockReader(io.BytesIO(changed), "'it'", conceal=True, coders=lambda _: PRIOR)
        found = [codes is None for _, codes in blocks]
    assert found == [False] * 4 + [True, False]
    assert blocks.size == len(data)


def test_the_end_of_a_stream_states_what_its_blocks_hold():
    good = as_stream(BLOCKS)
    header = BlockReader(io.BytesIO(good), "'it'").header
    end = len(header.end(3, BLOCKS.samples))
    for samples in (12 * BLOCKS.hop, 13 * BLOCKS.hop + 1):
        data = good[:-end] + header.end(3, samples)
        with pytest.raises(FormatError, match="The end of '<bytes>' is damaged"):
            Codes.from_bytes(data)
        codes, problems = conceal(data)
        assert codes.samples == 13 * BLOCKS.hop and len(problems) == 1


def test_a_block_that_is_cut_or_exchanged_or_gone_costs_itself():
    for content in (b"", PARTS[3][:-1], PARTS[3][:50], bytes(2000), PARTS[2]):
        concealed(b"".join([*PARTS[:3], content, *PARTS[4:]]), 2)
    concealed(b"".join([*PARTS[:2], bytes(20), PARTS[3], b"\xff" * 9, *PARTS[5:]]), 1, 3)


def test_what_follows_the_last_block_counts_where_a_search_has_seen_it():
    changed = bytearray(FILE + b"abc")
    changed[sum(map(len, PARTS[:5])) + 500] ^= 1
    _, problems = conceal(bytes(changed), PRIOR)
    assert len(problems) == 2 and "Block 4 " in problems[0] and "for 3 bytes after its last block" in problems[1]


def test_the_last_block_under_a_prior():
    """Nothing comes after it that could be searched for."""
    concealed(FILE[:-1] + bytes([FILE[-1] ^ 1]), 5)
    codes, problems = conceal(FILE[:-1], PRIOR)
    assert codes.frames == 6250 and len(problems) == 1 and "truncated" in problems[0]


@pytest.mark.parametrize("data", [FILE, LIVE, as_stream(MINUTE, *[1250] * 5)], ids=["file", "stream", "fixed stream"])
@pytest.mark.parametrize("first", range(5))
def test_two_damaged_blocks_in_a_row_cost_themselves(data, first):
    parts = parts_of(data, PRIOR)
    changed = bytearray(data)
    for block in (first, first + 1):
        changed[sum(map(len, parts[: block + 1])) + 500] ^= 0x10
    if first:
        concealed(bytes(changed), first, first + 1)
        return
    codes, problems = conceal(bytes(changed), PRIOR)
    rows = MINUTE.numpy()
    np.testing.assert_array_equal(
        codes.numpy(), np.concatenate([rows[:, 2500:2501].repeat(2500, 1), rows[:, 2500:]], 1)
    )
    assert len(problems) == 2


def test_damaged_numbers_of_frames_in_a_stream_of_fixed_width_cost_their_blocks():
    data = as_stream(MINUTE, *[125] * 54)
    parts = parts_of(data, PRIOR)
    changed = bytearray(data)
    for block in (3, 7, 20):
        at = sum(map(len, parts[: block + 1]))
        assert changed[at] == 125
        changed[at] = 124
    codes, problems = conceal(bytes(changed), PRIOR)
    assert len(problems) == 4  # the end does not fit the frames any more
    pieces = np.split(MINUTE.numpy(), range(125, 6875, 125), 1)
    for block in (3, 7, 20):
        pieces[block] = pieces[block - 1][:, -1:].repeat(124, 1)
    np.testing.assert_array_equal(codes.numpy(), np.concatenate(pieces, 1))


def test_what_is_not_found_within_the_window_is_lost():
    for data, count in ((b"".join([*PARTS[:3], bytes(20000), *PARTS[4:]]), 3), (b"".join([*PARTS[:4], bytes(300)]), 4)):
        codes, problems = conceal(data, PRIOR)
        rows = MINUTE.numpy()[:, : 1250 * count].copy()
        rows[:, -1250:] = rows[:, -1251:-1250]
        assert codes.numpy().tolist() == rows.tolist()
        assert len(problems) == 2 and f"Block {count - 1} " in problems[0] and f"behind block {count} " in problems[1]
    codes, problems = conceal(PARTS[0] + bytes(20000), PRIOR)
    assert codes.frames == 1250 and not codes.numpy().any() and "behind block 1 " in problems[1]


def test_searches_in_vain_are_few():
    """However many damaged blocks a file has, two and two, no more than so many searches are in vain."""
    data = as_stream(MINUTE, *[25] * 274, coder=PRIOR)
    parts = parts_of(data, PRIOR)
    changed = bytearray(data)
    for block in range(1, 270, 3):
        for damaged in (block, block + 1):
            changed[sum(map(len, parts[: damaged + 2])) - 1] ^= 1
    codes, problems = conceal(bytes(changed), PRIOR)
    assert codes.frames == 25 * (1 + 3 * MOST_UNFOUND) and "behind block 49 " in problems[-1]


def test_damage_under_a_prior_in_a_pipe():
    """A pipe gives what it has, and cannot go back."""

    class Pipe(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self.data = data

        def read(self, size: int = -1) -> bytes:
            part, self.data = self.data[: min(size, 7)], self.data[min(size, 7) :]
            return part

    data = b"".join([*PARTS[:3], b"\xff" * 9, *PARTS[4:]])
    with pytest.warns(UserWarning, match="Block 2"):
        blocks = list(BlockReader(Pipe(data), "'it'", conceal=True, coders=lambda _: PRIOR))
    assert [None if codes is None else len(codes) for _, codes in blocks] == [1250, 1250, None, 1250, 1250, 625]
