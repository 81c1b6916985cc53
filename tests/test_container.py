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

from tests.samples import BLOCKS, EXAMPLE, any_codes, as_stream, damaged_at, make
from vqaudio.codes import Codes
from vqaudio.container import BlockReader
from vqaudio.errors import FormatError

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"


def read_by_specification(data: bytes) -> dict:
    """A decoder from docs/format.md alone, in plain integers; it fails with an AssertionError."""
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
    assert take(6) == b"VQAC\x01\x00"
    found = {"model": take(4), "sample_rate": varint(), "hop": varint(), "quantizers": take(1)[0]}
    found |= {"codebook_size": varint(), "samples": varint()}
    found["speaker"] = take(take(1)[0])
    checksum = crc16(data[:position])
    assert int.from_bytes(take(2), "little") == checksum
    stream = found["samples"] == 0
    bits = 1
    while 2**bits < found["codebook_size"]:
        bits += 1
    block_frames = max(1, 10 * found["sample_rate"] // found["hop"])
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
        text = "".join(f"{byte:08b}" for byte in payload)
        used = here * found["quantizers"] * bits
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


def raw_header(rate=16000, hop=128, quantizers=1, codebook_size=512, samples=128, speaker=b"") -> bytes:
    """A header with a right checksum whatever its fields are."""
    header = b"VQAC\x01\x00abcd" + varint(rate) + varint(hop) + bytes([quantizers]) + varint(codebook_size)
    header += varint(samples) + bytes([len(speaker)]) + speaker
    return header + struct.pack("<H", binascii.crc_hqx(header, 0xFFFF))


def raw_block(payload: bytes, index: int = 0) -> bytes:
    checksum = zlib.crc32(struct.pack("<I", index) + payload)
    return varint(len(payload)) + struct.pack("<I", checksum) + payload


def conceal(data: bytes) -> tuple[Codes, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        codes = Codes.from_bytes(data, conceal=True)
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


@pytest.mark.parametrize("content", FILES)
def test_every_flipped_bit_is_found(content):
    data = bytearray(content)
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            Codes.from_bytes(bytes(data))
        data[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize("data", FILES)
def test_every_truncation_is_found(data):
    for size in range(len(data)):
        with pytest.raises(FormatError):
            Codes.from_bytes(data[:size])


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
hostile = st.builds(raw_header, numbers, numbers, st.integers(0, 255), numbers, numbers, st.binary(max_size=255))


@st.composite
def mutated(draw) -> bytes:
    data = bytearray(draw(any_codes()).to_bytes())
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, len(data)))
        data[position : position + draw(st.integers(0, 9))] = draw(st.binary(max_size=9))
    return bytes(data)


@given(st.one_of(st.binary(max_size=2000), mutated(), st.builds(bytes.__add__, hostile, st.binary(max_size=2000))))
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_give_codes_or_a_format_error(data):
    tracemalloc.start()
    try:
        for tolerant in (False, True):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    codes = Codes.from_bytes(data, conceal=tolerant)
            except FormatError as error:
                assert str(error).endswith(".")
            else:
                assert tolerant or codes.to_bytes() == data
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
