"""The bytes of a `.codes` file: header, blocks, and the form that is written and read as it comes.

`docs/format.md` specifies them. Readers take any bytes at all: they check every length against what is there before
they take memory, and say what is wrong in one sentence.
"""

from __future__ import annotations

import binascii
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from vqaudio.errors import FormatError

MAGIC = b"VQAC"
VERSION = 1
BLOCK_SECONDS = 10  # at most, unless one frame is longer
FIXED_WIDTH = 0  # the coder of this version; 1 is kept for a range coder under a prior
STREAM = 0  # in place of the number of samples, where that is not known when the header is written
_PIECE = 1 << 16  # bytes that are read at once


@dataclass(frozen=True)
class Header:
    """The fields of a file before its blocks, all but the codes themselves."""

    model: bytes
    sample_rate: int
    hop: int
    quantizers: int
    codebook_size: int
    samples: int
    speaker: bytes

    @property
    def frames(self) -> int:
        return -(-self.samples // self.hop)

    @property
    def block_frames(self) -> int:
        return max(1, BLOCK_SECONDS * self.sample_rate // self.hop)

    @property
    def bits_per_code(self) -> int:
        return (self.codebook_size - 1).bit_length()

    @property
    def problem(self) -> str | None:
        """What is wrong with the fields, to stand after a colon."""
        if not (isinstance(self.model, bytes) and len(self.model) == 4):
            return "the fingerprint of the model is not 4 bytes"
        if not (isinstance(self.speaker, bytes) and len(self.speaker) <= 255):
            return "the speaker vector is not at most 255 bytes"
        if not 1 <= self.quantizers <= 255:
            return f"{self.quantizers} quantisers are not between 1 and 255"
        if not 2 <= self.codebook_size <= 65536:
            return f"a codebook of {self.codebook_size} codes is not between 2 and 65536"
        for name in ("sample_rate", "hop", "samples"):
            if not 1 <= getattr(self, name) < 1 << 63:
                return f"{name} is {getattr(self, name)}, not between 1 and 2^63 - 1"
        return None

    def payload_size(self, frames: int) -> int:
        """Bytes of a block's codes."""
        return -(-frames * self.quantizers * self.bits_per_code // 8)

    def block_size(self, frames: int) -> int:
        """Bytes of a block with its length and checksum."""
        size = self.payload_size(frames)
        return len(_varint(size)) + 4 + size

    def to_bytes(self) -> bytes:
        numbers = _varint(self.sample_rate) + _varint(self.hop) + bytes([self.quantizers])
        numbers += _varint(self.codebook_size) + _varint(self.samples)
        speaker = bytes([len(self.speaker)]) + self.speaker
        header = MAGIC + bytes([VERSION, FIXED_WIDTH]) + self.model + numbers + speaker
        return header + struct.pack("<H", binascii.crc_hqx(header, 0xFFFF))

    @classmethod
    def from_reader(cls, reader: Reader) -> Header:
        name = reader.name
        if reader.take(4) != MAGIC:
            raise FormatError(f"{name} is not a .codes file.")
        if (version := reader.byte()) != VERSION:
            raise FormatError(f"{name} is of version {version} of the .codes format; only {VERSION} is known.")
        if (coder := reader.byte()) != FIXED_WIDTH:
            raise FormatError(f"{name} was written by coder {coder}; only {FIXED_WIDTH} is known.")
        header = cls(
            model=reader.take(4),
            sample_rate=reader.varint(),
            hop=reader.varint(),
            quantizers=reader.byte(),
            codebook_size=reader.varint(),
            samples=reader.varint(),
            speaker=reader.take(reader.byte()),
        )
        checksum = binascii.crc_hqx(reader.data[: reader.position], 0xFFFF)
        if reader.take(2) != struct.pack("<H", checksum):
            raise FormatError(f"The header of {name} is damaged: its checksum is wrong.")
        if header.problem:
            raise FormatError(f"The header of {name} is wrong: {header.problem}.")
        return header


class Reader:
    """A position in bytes that never passes their end."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.name = name
        self.position = 0

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.position:
            raise FormatError(f"{self.name} ends inside its header.")
        self.position += size
        return self.data[self.position - size : self.position]

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self) -> int:
        value = 0
        for shift in range(0, 63, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte == 0 and shift:
                    break
                return value
        raise FormatError(f"The header of {self.name} is damaged: it has a number that is too long.")


def _varint(value: int) -> bytes:
    """Unsigned LEB128, the shortest form."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _frames_present(header: Header, reader: Reader, conceal: bool) -> int:
    """Frames whose blocks are there as a whole, found from the sizes alone, before any memory is taken."""
    there = len(reader.data) - reader.position
    full_size = header.block_size(header.block_frames)
    full, rest = divmod(header.frames, header.block_frames)
    size = full * full_size + (header.block_size(rest) if rest else 0)
    if there > size:
        _report(f"{reader.name} goes on for {there - size} bytes after its last block.", conceal)
    if there >= size:
        return header.frames
    whole = min(full, there // full_size)
    _report(f"{reader.name} is truncated: it ends inside {_block_name(header, whole).lower()}.", conceal and whole > 0)
    return whole * header.block_frames


def _read_block(header: Header, index: int, frames: int, block: bytes) -> np.ndarray:
    """The codes (frames, quantizers) of a block, or a ValueError that says what is wrong with it."""
    size = header.payload_size(frames)
    length, checksum, payload = block[: -size - 4], block[-size - 4 : -size], block[-size:]
    if length != _varint(size):
        raise ValueError(f"its length is not {size} bytes")
    if checksum != struct.pack("<I", _block_crc(index, payload)):
        raise ValueError("its checksum is wrong")
    bits = np.unpackbits(np.frombuffer(payload, np.uint8))
    used = frames * header.quantizers * header.bits_per_code
    if bits[used:].any():
        raise ValueError("its padding is not zero")
    codes = np.zeros(frames * header.quantizers, np.uint16)
    for column in bits[:used].reshape(-1, header.bits_per_code).T:
        codes <<= 1
        codes |= column
    if codes.max() >= header.codebook_size:
        raise ValueError("it has a code that is not in the codebook")
    return codes.reshape(frames, header.quantizers)


def _pack(codes: np.ndarray, bits_per_code: int) -> bytes:
    places = np.arange(bits_per_code - 1, -1, -1, dtype=np.uint16)
    return np.packbits((codes[:, None] >> places & 1).astype(np.uint8)).tobytes()


def _block_crc(index: int, payload: bytes) -> int:
    """CRC-32 over the block's index and its payload, so that a block is good only in its own place."""
    return zlib.crc32(payload, zlib.crc32(struct.pack("<I", index)))


def _block_name(header: Header, index: int) -> str:
    start = index * header.block_frames * header.hop
    end = min(start + header.block_frames * header.hop, header.samples)
    return f"Block {index} ({start / header.sample_rate:g} s to {end / header.sample_rate:g} s)"


def _report(problem: str, conceal: bool) -> None:
    if not conceal:
        raise FormatError(problem)
    warnings.warn(problem, stacklevel=3)


def _to_numpy(codes: Any) -> np.ndarray:
    return np.asarray(codes.cpu() if hasattr(codes, "cpu") else codes)  # a tensor may lie on a GPU
