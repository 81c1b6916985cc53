"""The `.codes` format against its specification, and against every kind of damage."""

from __future__ import annotations

import binascii
import io
import re
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.samples import BLOCKS, EXAMPLE, TableCoder, any_codes, as_stream, coder_of, damaged_at, make
from vqaudio.codes import Codes
from vqaudio.container import BLOCK_CODES, MOST_UNFOUND, WINDOW, BlockReader, Coder
from vqaudio.errors import FormatError, ModelError

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"
UNDER = coder_of(BLOCKS)  # its prior makes payloads of one byte


def range_decoded(payload: bytes, count: int, frequencies: list[int]) -> list[int]:
    """A range decoder from docs/format.md alone, in plain integers; it fails with an AssertionError."""
    low, above, width, read = 0, int.from_bytes(payload[:8].ljust(8, b"\0"), "big"), 2**64 - 1, 8
    values = []
    for _ in range(count):
        unit = width // 2**24
        target, start, value = min(above // unit, 2**24 - 1), 0, 0
        while start + frequencies[value] <= target:
            start, value = start + frequencies[value], value + 1
        values.append(value)
        above, low, width = above - unit * start, (low + unit * start) % 2**64, unit * frequencies[value]
        assert above < width
        while width < 2**48:
            following = int.from_bytes(payload[read : read + 2].ljust(2, b"\0"), "big")
            above, low, width, read = above * 2**16 + following, low * 2**16 % 2**64, width * 2**16, read + 2
    assert len(payload) <= read and payload[-1:] != b"\0"
    assert above == next(least for bits in (64, 56, 48) if (least := -low % 2**bits) < width)
    return values


def read_by_specification(data: bytes, frequencies: list[int] | None = None) -> dict:
    """A decoder from docs/format.md alone, in plain integers; it fails with an AssertionError.

    Args:
        frequencies: of all codes, where the file was written under a prior that gives the same ones everywhere.
    """
    position = 0

    def take(size):
        nonlocal position
        assert position + size <= len(data)
        position += size
        return data[position - size : position]

    def varint():
        value, shift = 0, 0
        while True:
            (byte,) = take(1)
            value += (byte % 128) << shift
            shift += 7
            if byte < 128:
                assert byte or shift == 7
                return value

    def crc16(message):
        crc = 0xFFFF
        for byte in message:
            crc ^= byte << 8
            for _ in range(8):
                crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
        return crc

    def crc32(message):
        crc = 0xFFFFFFFF
        for byte in message:
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ 0xEDB88320 if crc & 1 else crc >> 1
        return crc ^ 0xFFFFFFFF

    assert crc16(b"123456789") == 0x29B1 and crc32(b"123456789") == 0xCBF43926
    assert take(6) == (b"VQAC\x01\x01" if frequencies else b"VQAC\x01\x00")
    found = {"model": take(4)} | ({"prior": take(4)} if frequencies else {})
    found |= {"sample_rate": varint(), "hop": varint(), "quantizers": take(1)[0]}
    found |= {"codebook_size": varint(), "samples": varint()}
    found["speaker"] = take(take(1)[0])
    checksum = crc16(data[:position])
    assert int.from_bytes(take(2), "little") == checksum
    stream = found["samples"] == 0
    bits = 1
    while 2**bits < found["codebook_size"]:
        bits += 1
    block_frames = max(1, 10 * found["sample_rate"] // found["hop"])
    if frequencies:
        block_frames = min(block_frames, 65536 // found["quantizers"])
    rows: list[list[int]] = []
    index = 0
    while stream or len(rows) * found["hop"] < found["samples"]:
        begin = position
        if stream:
            here = varint()
            assert here <= block_frames
        else:
            here = min(block_frames, -(-found["samples"] // found["hop"]) - len(rows))
        counted = data[begin:position]
        if here == 0:
            found["samples"] = varint()
            counted = data[begin:position]
            assert int.from_bytes(take(4), "little") == crc32(index.to_bytes(4, "little") + counted)
            assert len(rows) == -(-found["samples"] // found["hop"])
            break
        length = varint()
        checksum = int.from_bytes(take(4), "little")
        payload = take(length)
        assert checksum == crc32(index.to_bytes(4, "little") + counted + payload)
        count = here * found["quantizers"]
        if frequencies:
            assert len(payload) <= 3 * count + 4
            values = range_decoded(payload, count, frequencies)
        else:
            text, used = "".join(f"{byte:08b}" for byte in payload), count * bits
            assert len(text) - used in range(8) and "1" not in text[used:]
            values = [int(text[start : start + bits], 2) for start in range(0, used, bits)]
        assert max(values) < found["codebook_size"]
        rows += [values[start : start + found["quantizers"]] for start in range(0, len(values), found["quantizers"])]
        index += 1
    assert position == len(data)
    found["codes"] = [list(column) for column in zip(*rows, strict=True)]
    return found


def varint(value: int) -> bytes:
    encoded = b""
    while value > 127:
        encoded += bytes([value % 128 + 128])
        value //= 128
    return encoded + bytes([value])


def raw_header(
    rate=16000,
    hop=128,
    quantizers=1,
    codebook_size=512,
    samples=128,
    speaker=b"",
    coder=b"\x00",
    prior=b"",
    model=b"abcd",
) -> bytes:
    """A header with a right checksum whatever its fields are."""
    header = (
        b"VQAC\x01" + coder + model + prior + varint(rate) + varint(hop) + bytes([quantizers]) + varint(codebook_size)
    )
    header += varint(samples) + bytes([len(speaker)]) + speaker
    return header + struct.pack("<H", binascii.crc_hqx(header, 0xFFFF))


def raw_block(payload: bytes, index: int = 0) -> bytes:
    checksum = zlib.crc32(struct.pack("<I", index) + payload)
    return varint(len(payload)) + struct.pack("<I", checksum) + payload


def conceal(data: bytes, coder: Coder = UNDER) -> tuple[Codes, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        codes = Codes.from_bytes(data, conceal=True, coders=lambda _: coder)
    return codes, [str(warning.message) for warning in caught]


# The specification


@pytest.mark.parametrize(("name", "codes"), [("example", EXAMPLE), ("blocks", BLOCKS)])
def test_golden_files_are_written_and_read(name, codes):
    data = (GOLDEN / f"{name}.codes").read_bytes()
    assert codes.to_bytes() == data
    assert Codes.from_bytes(data) == codes
    found = read_by_specification(data)
    assert found.pop("codes") == codes.numpy().tolist()
    assert found == {key: getattr(codes, key) for key in found}


def test_the_golden_stream():
    data = (GOLDEN / "stream.codes").read_bytes()
    assert as_stream(BLOCKS, 2, 0, 7) == data
    assert Codes.from_bytes(data) == BLOCKS
    assert read_by_specification(data)["codes"] == BLOCKS.numpy().tolist()


@given(any_codes(), st.lists(st.integers(0, 20), max_size=8))
@settings(max_examples=60)
def test_a_stream_holds_the_same_codes(codes, sizes):
    data = as_stream(codes, *sizes)
    assert Codes.from_bytes(data) == codes
    found = read_by_specification(data)
    assert (found["codes"], found["samples"]) == (codes.numpy().tolist(), codes.samples)


@given(any_codes())
@settings(max_examples=60, deadline=None)
def test_a_reader_written_from_the_specification_agrees(codes):
    found = read_by_specification(codes.to_bytes())
    assert found["codes"] == codes.numpy().tolist()


@given(any_codes(max_codebook=300), st.lists(st.integers(0, 20), max_size=8))
@settings(max_examples=60)
def test_the_specification_of_files_under_a_prior(codes, sizes):
    coder = coder_of(codes)
    for data in (codes.to_bytes(coder), as_stream(codes, *sizes, coder=coder)):
        found = read_by_specification(data, coder.frequencies.tolist())
        assert (found["codes"], found["samples"]) == (codes.numpy().tolist(), codes.samples)
        assert found["prior"] == coder.fingerprint
        assert Codes.from_bytes(data, coders=lambda _: coder) == codes


def test_the_document_shows_the_golden_file():
    text = (ROOT / "docs" / "format.md").read_text()
    dump = re.search(r"```\n([0-9a-f \n]+)```", text)
    assert dump and bytes.fromhex(dump[1]) == EXAMPLE.to_bytes()
    fields = re.findall(r"^\| ([0-9a-f]{2}(?: [0-9a-f]{2})*) \|", text.split("## Example")[1], re.M)
    assert bytes.fromhex(" ".join(fields)) == EXAMPLE.to_bytes()


def test_overhead():
    second, minute = make(1), make(60)
    assert len(second.to_bytes()) - second.frames * 2 * 9 / 8 < 40
    for codes, rate in ((minute, 2250), (make(60, quantizers=1, hop=64), 2250)):
        assert rate * 60 / 8 < len(codes.to_bytes()) < 1.02 * rate * 60 / 8


@given(any_codes())
@settings(max_examples=200, deadline=None)
def test_round_trip(codes):
    read = Codes.from_bytes(codes.to_bytes())
    assert read == codes
    assert read.codes.dtype == np.uint16
    assert conceal(codes.to_bytes()) == (codes, [])
    coder = coder_of(codes)
    assert Codes.from_bytes(codes.to_bytes(coder), coders=lambda _: coder) == codes
    assert conceal(codes.to_bytes(coder), coder) == (codes, [])


def test_hours_stay_small_in_memory():
    codes = make(3 * 3600, quantizers=1, hop=64)
    tracemalloc.start()
    try:
        assert Codes.from_bytes(codes.to_bytes()) == codes
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


# Damage


FILES = [EXAMPLE.to_bytes(), BLOCKS.to_bytes(), make(1).to_bytes(), as_stream(BLOCKS, 2, 7)]
FILES += [BLOCKS.to_bytes(UNDER), as_stream(BLOCKS, 2, 7, coder=UNDER)]


@pytest.mark.parametrize("content", FILES)
def test_every_flipped_bit_is_found(content):
    data = bytearray(content)
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            Codes.from_bytes(bytes(data), coders=lambda _: UNDER)
        data[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize("data", FILES)
def test_every_truncation_is_found(data):
    for size in range(len(data)):
        with pytest.raises(FormatError):
            Codes.from_bytes(data[:size], coders=lambda _: UNDER)


def test_bytes_after_the_last_block():
    data = BLOCKS.to_bytes()
    with pytest.raises(FormatError, match="3 bytes after its last block"):
        Codes.from_bytes(data + b"abc")
    codes, problems = conceal(data + b"abc")
    assert codes == BLOCKS and len(problems) == 1


def test_swapped_blocks_are_found():
    data = make(20).to_bytes()
    size = 2 + 4 + 2813  # of each of the two blocks: 1250 frames of 18 bits
    header, first, second = data[: -2 * size], data[-2 * size : -size], data[-size:]
    with pytest.raises(FormatError, match="Block 0"):
        Codes.from_bytes(header + second + first)
    assert len(conceal(header + second + first)[1]) == 2


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


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "ends inside its header"),
        (b"RIFF" + bytes(100), "not a .codes file"),
        (b"VQAC\x02\x00" + bytes(100), "version 2"),
        (b"VQAC\x01\x02" + bytes(100), "coder 2"),
        (raw_header(samples=0), "truncated"),
        (raw_header(rate=0), "sample_rate is 0"),
        (raw_header(hop=0), "hop is 0"),
        (raw_header(quantizers=0), "0 quantisers"),
        (raw_header(codebook_size=1), "codebook of 1"),
        (raw_header(codebook_size=65537), "codebook of 65537"),
        (raw_header(samples=1 << 63), "too long"),
        (raw_header(samples=(1 << 63) - 1, hop=1), "truncated"),
        (raw_header(samples=(1 << 63) - 1, hop=1, quantizers=255, rate=(1 << 63) - 1), "truncated"),
        (raw_header(codebook_size=5) + raw_block(bytes([0b10000000])), None),
        (raw_header(codebook_size=5) + raw_block(bytes([0b10000001])), "padding"),
        (raw_header(codebook_size=5) + raw_block(bytes([0b10100000])), "not in the codebook"),
        (raw_header(codebook_size=5) + raw_block(bytes([0b10000000]), index=1), "checksum"),
        (raw_header(codebook_size=5) + raw_block(bytes(2)), "length"),
    ],
)
def test_hostile_files_with_right_checksums(data, message):
    tracemalloc.start()
    try:
        if message is None:
            assert Codes.from_bytes(data).numpy().tolist() == [[4]]
        else:
            with pytest.raises(FormatError, match=message):
                Codes.from_bytes(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_varint_that_is_not_the_shortest():
    header = b"VQAC\x01\x00abcd" + b"\x80\xfd\x00" + raw_header()[12:-2]
    with pytest.raises(FormatError, match="number that is too long"):
        Codes.from_bytes(header + struct.pack("<H", binascii.crc_hqx(header, 0xFFFF)) + raw_block(bytes(2)))


numbers = st.one_of(st.integers(0, 300), st.integers(0, 1 << 63), st.sampled_from([512, 16000, 65536]))
fields = (numbers, numbers, st.integers(0, 255), numbers, numbers, st.binary(max_size=255))
hostile = st.one_of(
    st.builds(raw_header, *fields), st.builds(raw_header, *fields, st.just(b"\x01"), st.just(UNDER.fingerprint))
)


def hostile_file(header: bytes, data: bytes) -> tuple[bytes, bytes | None, Coder]:
    return header + data, None, UNDER


@st.composite
def mutated(draw) -> tuple[bytes, bytes | None, Coder]:
    """A damaged file, what it was before, and the coder that may be asked for."""
    codes = draw(any_codes())
    coder = coder_of(codes)
    under = draw(st.sampled_from([None, coder]))
    original = draw(st.sampled_from([codes.to_bytes(under), as_stream(codes, 3, 1, 9, coder=under)]))
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, len(data)))
        data[position : position + draw(st.integers(0, 9))] = draw(st.binary(max_size=9))
    return bytes(data), original, coder


@given(st.one_of(mutated(), st.builds(hostile_file, st.just(b"") | hostile, st.binary(max_size=2000))))
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_give_codes_or_a_format_error(file):
    data, original, coder = file
    tracemalloc.start()
    try:
        for tolerant in (False, True):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    codes = Codes.from_bytes(data, conceal=tolerant, coders=lambda _: coder)
            except FormatError as error:
                assert str(error).endswith(".")
            else:
                assert tolerant or data in (original, codes.to_bytes(), codes.to_bytes(coder))
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


# Under a prior


def parts_of(data: bytes, coder: Coder) -> list[bytes]:
    """Header, blocks and end of an undamaged file."""
    file = io.BytesIO(data)
    blocks = BlockReader(file, "'it'", coders=lambda _: coder)
    places = [blocks.size] + [blocks.size for _ in blocks]
    return [data[begin:end] for begin, end in zip([0, *places], [*places, len(data)], strict=True)]


MINUTE = make(55)  # five blocks of ten seconds and one of five
PRIOR = coder_of(MINUTE)
FILE, LIVE = MINUTE.to_bytes(PRIOR), as_stream(MINUTE, *[1250] * 5, coder=PRIOR)
PARTS = parts_of(FILE, PRIOR)


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
            Codes.from_bytes(bytes(changed), coders=lambda _: PRIOR)
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
            Codes.from_bytes(data, coders=lambda _: PRIOR)
        concealed(data, block)


def test_a_block_that_is_cut_or_exchanged_or_gone_costs_itself():
    for content in (b"", PARTS[3][:-1], PARTS[3][:50], bytes(2000), PARTS[2]):
        concealed(b"".join([*PARTS[:3], content, *PARTS[4:]]), 2)
    concealed(b"".join([*PARTS[:2], bytes(20), PARTS[3], b"\xff" * 9, *PARTS[5:]]), 1, 3)


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


def raw_under(payload: bytes, frames: int = 1) -> bytes:
    header = raw_header(
        codebook_size=5, samples=128 * frames, coder=b"\x01", prior=UNDER.fingerprint, model=UNDER.model
    )
    return header + raw_block(payload)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"\x80\x00", "not that of its codes"),
        (b"\x80" * 6, "not that"),
        (bytes(1), "not that"),
        (bytes(8), "more than 7"),
    ],
)
def test_payloads_that_no_encoder_writes(payload, message):
    """With the right checksum, that is."""
    with pytest.raises(FormatError, match=message):
        Codes.from_bytes(raw_under(payload), coders=lambda _: UNDER)


def test_files_under_a_prior_that_do_not_fit_it():
    with pytest.raises(ModelError, match=r"under the prior 0174626c.*--prior"):
        Codes.from_bytes(FILE)

    class Single(TableCoder):
        def decode_one(self, payload: bytes, frames: int) -> np.ndarray:
            return np.zeros((frames, 1), np.uint16)

    with pytest.raises(FormatError, match=r"does not code its 2 quantisers"):
        conceal(FILE, Single(1, 512))
    larger = TableCoder(1, 9, model=UNDER.model)
    payload = larger.encode_one(np.array([[8]]))
    with pytest.raises(FormatError, match="not in the codebook"):
        Codes.from_bytes(raw_under(payload), coders=lambda _: larger)
    with pytest.raises(FormatError, match="ends inside its header"):
        Codes.from_bytes(b"VQAC\x01\x01abcdef")
    foreign = TableCoder(2, 512, model=b"efgh")
    with pytest.raises(FormatError, match=r"names the prior 0174626c, which is not for its model 61626364"):
        Codes.from_bytes(FILE, coders=lambda _: foreign)
    with pytest.raises(ModelError, match=r"of model 61626364, and the prior is for those of 65666768"):
        MINUTE.to_bytes(foreign)


def test_few_bytes_fill_no_memory():
    """A block of next to no bytes has no more codes than the format allows, whatever the header says."""

    class Free(TableCoder):
        def decode_one(self, payload: bytes, frames: int) -> np.ndarray:
            assert frames * 4 <= BLOCK_CODES
            return np.zeros((frames, 4), np.uint16)

    most = (1 << 63) - 1
    for rate, hop in ((most, 1), (most, 2000), (16000 * 1000, 1)):
        header = raw_header(rate, hop, 4, samples=most, coder=b"\x01", prior=b"free")
        tracemalloc.start()
        try:
            for tolerant in (False, True):
                with pytest.raises(FormatError, match="truncated"), warnings.catch_warnings():
                    warnings.simplefilter("error")
                    Codes.from_bytes(header + raw_block(b"")[:-1], conceal=tolerant, coders=lambda _: Free(4, 512))
            blocks = BlockReader(io.BytesIO(header + raw_block(b"")), "'it'", coders=lambda _: Free(4, 512))
            assert next(iter(blocks))[0] == BLOCK_CODES // 4
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()


def test_a_search_is_bounded():
    """It looks at no more than the window, even where a block could be as long as the header likes."""
    header = raw_header((1 << 63) - 1, 1, 255, samples=0, coder=b"\x01", prior=b"long")
    stream = io.BytesIO(header + b"\x05" * (10 * WINDOW))
    blocks = BlockReader(stream, "'it'", conceal=True, coders=lambda _: PRIOR)
    asked = []
    read, stream.read = stream.read, lambda size: asked.append(size) or read(size)
    coming = iter(blocks)
    with pytest.warns(match="Block 0"):
        assert next(coming)[1] is None
    assert sum(asked) < 3 * WINDOW + BLOCK_CODES * 3
    with pytest.warns(match="no block can be found behind block 1"):
        assert next(coming, None) is None


@given(st.sampled_from([0, 1]), st.integers(0, 1 << 30), st.integers(1, 255))
@settings(max_examples=200)
def test_damage_that_no_checksum_tells(form, place, change):
    """Without checksums a damaged file still gives codes of the stated shape or a sentence."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vqaudio.container.checksum", lambda index, data: bytes(4))
        data = bytearray([BLOCKS.to_bytes(UNDER), as_stream(BLOCKS, 2, 7, coder=UNDER)][form])
        begin = len(parts_of(bytes(data), UNDER)[0])
        data[begin + place % (len(data) - begin)] ^= change
        for tolerant in (False, True):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    codes = Codes.from_bytes(bytes(data), conceal=tolerant, coders=lambda _: UNDER)
            except FormatError as error:
                assert str(error).endswith(".")
            else:
                assert codes.numpy().max() < 5
