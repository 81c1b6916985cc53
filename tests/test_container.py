"""The `.codes` format against its specification, and that no damage and no bytes pass for codes."""

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

from tests.samples import (
    BLOCKS,
    EXAMPLE,
    MINUTE,
    PRIOR,
    UNDER,
    TableCoder,
    any_codes,
    as_stream,
    coder_of,
    conceal,
    make,
    parts_of,
    raw_header,
    varint,
)
from vqaudio.blocks import WINDOW, BlockReader
from vqaudio.codes import Codes
from vqaudio.container import BLOCK_CODES, STREAM, BlockWriter, Coder, Header
from vqaudio.errors import FormatError, ModelError

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"


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


def raw_block(payload: bytes, index: int = 0) -> bytes:
    checksum = zlib.crc32(struct.pack("<I", index) + payload)
    return varint(len(payload)) + struct.pack("<I", checksum) + payload


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
        assert Codes.from_bytes(data, coder=coder) == codes


def test_a_stream_of_many_blocks():
    """More than a byte counts."""
    codes = make(300 * 128 / 16000, quantizers=1, codebook_size=2)
    data = as_stream(codes, *[1] * 300)
    assert read_by_specification(data)["codes"] == codes.numpy().tolist()


def test_a_block_leaves_as_soon_as_it_is_written():
    sink = io.BytesIO()
    header = Header(BLOCKS.model, BLOCKS.sample_rate, BLOCKS.hop, 1, BLOCKS.codebook_size, STREAM, b"")
    writer = BlockWriter(io.BufferedWriter(sink), header)
    for frames in (0, 2, 1):
        writer.write(BLOCKS.numpy()[:, :frames])
        assert len(sink.getvalue()) == writer.size > 0
    writer.finish(3 * BLOCKS.hop)
    assert len(sink.getvalue()) == writer.size


def test_blocks_of_many_codes():
    """Only under a prior is a block shortened."""
    codes = make(0.02, quantizers=255, hop=1)
    found = read_by_specification(codes.to_bytes())
    assert found["codes"] == codes.numpy().tolist()
    coder = coder_of(codes)
    for data, frames in ((codes.to_bytes(), [320]), (codes.to_bytes(coder), [257, 63])):
        blocks = BlockReader(io.BytesIO(data), "'it'", coders=lambda _: coder)
        assert [count for count, _ in blocks] == frames


def test_the_size_of_a_file_is_known_before():
    codes = make(25)
    for content in (codes.to_bytes(), as_stream(codes), as_stream(codes, 100, 127, 128, 129, 1250)):
        blocks = BlockReader(io.BytesIO(content), "'it'")
        frames = [count for count, _ in blocks]
        assert blocks.header.file_size(frames, blocks.samples) == len(content)


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
    assert Codes.from_bytes(codes.to_bytes(coder), coder=coder) == codes
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
            Codes.from_bytes(bytes(data), coder=UNDER)
        data[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize("data", FILES)
def test_every_truncation_is_found(data):
    for size in range(len(data)):
        with pytest.raises(FormatError):
            Codes.from_bytes(data[:size], coder=UNDER)


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
                    codes = Codes.from_bytes(data, conceal=tolerant, coder=coder)
            except FormatError as error:
                assert str(error).endswith(".")
            else:
                assert tolerant or data in (original, codes.to_bytes(), codes.to_bytes(coder))
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


# Under a prior


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
        Codes.from_bytes(raw_under(payload), coder=UNDER)


def test_files_under_a_prior_that_do_not_fit_it():
    with pytest.raises(ModelError, match=r"under the prior 0174626c.*--prior"):
        Codes.from_bytes(MINUTE.to_bytes(PRIOR))

    class Single(TableCoder):
        def decode_one(self, payload: bytes, frames: int) -> np.ndarray:
            return np.zeros((frames, 1), np.uint16)

    with pytest.raises(FormatError, match=r"does not code its 2 quantisers"):
        conceal(MINUTE.to_bytes(PRIOR), Single(1, 512))
    larger = TableCoder(1, 9, model=UNDER.model)
    payload = larger.encode_one(np.array([[8]]))
    with pytest.raises(FormatError, match="not in the codebook"):
        Codes.from_bytes(raw_under(payload), coder=lambda _: larger)
    with pytest.raises(FormatError, match="ends inside its header"):
        Codes.from_bytes(b"VQAC\x01\x01abcdef")
    foreign = TableCoder(2, 512, model=b"efgh")
    with pytest.raises(FormatError, match=r"names the prior 0174626c, which is not for its model 61626364"):
        Codes.from_bytes(MINUTE.to_bytes(PRIOR), coder=lambda _: foreign)
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
                    Codes.from_bytes(header + raw_block(b"")[:-1], conceal=tolerant, coder=lambda _: Free(4, 512))
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
        for module in ("container", "blocks"):
            patch.setattr(f"vqaudio.{module}.checksum", lambda index, data: bytes(4))
        data = bytearray([BLOCKS.to_bytes(UNDER), as_stream(BLOCKS, 2, 7, coder=UNDER)][form])
        begin = len(parts_of(bytes(data), UNDER)[0])
        data[begin + place % (len(data) - begin)] ^= change
        for tolerant in (False, True):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    codes = Codes.from_bytes(bytes(data), conceal=tolerant, coder=UNDER)
            except FormatError as error:
                assert str(error).endswith(".")
            else:
                assert codes.numpy().max() < 5
