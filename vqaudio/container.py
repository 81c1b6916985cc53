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
    """The fields of a file before its blocks, all but the codes themselves. `samples` may be `STREAM`."""

    model: bytes
    sample_rate: int
    hop: int
    quantizers: int
    codebook_size: int
    samples: int
    speaker: bytes

    @property
    def frames(self) -> int:
        """Code frames of the file, ceil(samples / hop)."""
        return -(-self.samples // self.hop)

    @property
    def block_frames(self) -> int:
        """Frames of a full block."""
        return max(1, BLOCK_SECONDS * self.sample_rate // self.hop)

    @property
    def bits_per_code(self) -> int:
        """Bits of one code at fixed width."""
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
        for name, least in (("sample_rate", 1), ("hop", 1), ("samples", STREAM)):
            if not least <= getattr(self, name) < 1 << 63:
                return f"{name} is {getattr(self, name)}, not between {least} and 2^63 - 1"
        return None

    def payload_size(self, frames: int) -> int:
        """Bytes of a block's codes."""
        return -(-frames * self.quantizers * self.bits_per_code // 8)

    def block_size(self, frames: int) -> int:
        """Bytes of a block with its length and checksum."""
        size = self.payload_size(frames)
        return len(_varint(size)) + 4 + size

    def block(self, index: int, codes: np.ndarray) -> bytes:
        """Block number `index` with the codes (frames, quantizers)."""
        payload = _pack(codes.ravel(), self.bits_per_code)
        frames = _varint(len(codes)) if self.samples == STREAM else b""
        return frames + _varint(len(payload)) + _checksum(index, frames + payload) + payload

    def end(self, index: int, samples: int) -> bytes:
        """What ends a stream of `index` blocks: the number of samples."""
        numbers = _varint(0) + _varint(samples)
        return numbers + _checksum(index, numbers)

    def to_bytes(self) -> bytes:
        """The header."""
        numbers = _varint(self.sample_rate) + _varint(self.hop) + bytes([self.quantizers])
        numbers += _varint(self.codebook_size) + _varint(self.samples)
        speaker = bytes([len(self.speaker)]) + self.speaker
        header = MAGIC + bytes([VERSION, FIXED_WIDTH]) + self.model + numbers + speaker
        return header + struct.pack("<H", binascii.crc_hqx(header, 0xFFFF))

    @classmethod
    def read(cls, reader: Reader) -> Header:
        """Take the header from the start of a file.

        Raises:
            FormatError: where there is none that this version knows.
        """
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
        checksum = binascii.crc_hqx(bytes(reader.taken), 0xFFFF)
        if reader.take(2) != struct.pack("<H", checksum):
            raise FormatError(f"The header of {name} is damaged: its checksum is wrong.")
        if header.problem:
            raise FormatError(f"The header of {name} is wrong: {header.problem}.")
        return header


class Reader:
    """Bytes from a file or a pipe, of which no more are asked for than have to be there.

    Attributes:
        size: bytes so far.
        taken: those of them that go into the next checksum; whoever begins one empties it.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.name = name
        self.size = 0
        self.taken = bytearray()
        self._stream = stream

    def take(self, size: int) -> bytes:
        """So many bytes.

        Raises:
            FormatError: where the file ends before.
        """
        pieces = []
        while size > 0:
            if not (piece := self._stream.read(min(size, _PIECE))):
                raise EndedEarly(f"{self.name} ends inside its header.")
            pieces.append(piece)
            size -= len(piece)
        data = b"".join(pieces)
        self.size += len(data)
        self.taken += data
        return data

    def byte(self) -> int:
        """One byte."""
        return self.take(1)[0]

    def varint(self) -> int:
        """An unsigned LEB128 number in its shortest form."""
        value = 0
        for shift in range(0, 63, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte == 0 and shift:
                    break
                return value
        raise FormatError(f"The header of {self.name} is damaged: it has a number that is too long.")

    def rest(self) -> int:
        """How many bytes are left; they are gone then."""
        return sum(len(piece) for piece in iter(lambda: self._stream.read(_PIECE), b""))


class EndedEarly(FormatError):
    """A file that ends where more should come."""


class LostPlace(FormatError):
    """A stream in which the next block cannot be found."""


class BlockReader:
    """The codes of a file as they come, of either form: iterate over it for each block's frames and codes.

    The codes are uint16 (frames, quantizers), or None where they are damaged and that is to be concealed.

    Args:
        stream: a binary file object at the start of a `.codes` file.
        name: what messages call it.
        conceal: instead of failing, pass over damaged blocks, end a truncated file after its last whole block, and
            ignore what follows the last block. A `UserWarning` says what was lost. The header has to be whole.

    Attributes:
        header: of the file.
        samples: of the waveform; of a stream once the last block has been read.

    Raises:
        FormatError: for a header that is none; while iterating, for blocks that are damaged or cut short.
    """

    def __init__(self, stream: BinaryIO, name: str, conceal: bool = False) -> None:
        self._reader = Reader(stream, name)
        self._conceal = conceal
        self.header = Header.read(self._reader)
        self.samples = self.header.samples

    def __iter__(self) -> Iterator[tuple[int, np.ndarray | None]]:
        header, reader, conceal = self.header, self._reader, self._conceal
        index = done = 0
        try:
            while frames := self._next_frames(index, done):
                yield frames, self._block(index, done, frames)
                index, done = index + 1, done + frames
        except EndedEarly:
            report(f"{reader.name} is truncated: it ends inside {block_name(header, index, done)}.", conceal and done)
            self.samples = done * header.hop
        except LostPlace as problem:
            report(str(problem), conceal and done)
            self.samples = done * header.hop
            reader.rest()
        if extra := reader.rest():
            report(f"{reader.name} goes on for {extra} bytes after its last block.", conceal)

    @property
    def size(self) -> int:
        """Bytes read so far."""
        return self._reader.size

    def _next_frames(self, index: int, done: int) -> int:
        """Frames of the next block, 0 where there is none."""
        header = self.header
        self._reader.taken.clear()
        if header.samples != STREAM:
            return min(header.block_frames, header.frames - done)
        frames = self._counted(index, done)
        if frames == 0:
            self.samples = self._reader.varint()
            numbers = bytes(self._reader.taken)
            if self._reader.take(4) != _checksum(index, numbers) or -(-self.samples // header.hop) != done:
                report(f"The end of {self._reader.name} is damaged.", self._conceal and done)
                self.samples = done * header.hop
        return frames

    def _counted(self, index: int, done: int) -> int:
        """How many frames the next block of a stream says it has."""
        try:
            frames = self._reader.varint()
        except EndedEarly:
            raise
        except FormatError:
            frames = self.header.block_frames + 1
        if frames > self.header.block_frames:
            name = block_name(self.header, index, done)
            raise LostPlace(f"{self._reader.name} is damaged: it does not say where {name} ends.")
        return frames

    def _block(self, index: int, done: int, frames: int) -> np.ndarray | None:
        """The codes of the next block, None where they are damaged."""
        header, reader = self.header, self._reader
        counted = _varint(frames) if header.samples == STREAM else b""
        data = reader.take(header.block_size(frames))
        try:
            return read_block(header, index, frames, data, counted)
        except ValueError as problem:
            name = block_name(header, index, done)
            report(f"{name[0].upper()}{name[1:]} of {reader.name} is damaged: {problem}.", self._conceal)
            return None


class BlockWriter:
    """A `.codes` file that is written as the codes come, each block as soon as it is there.

    Args:
        stream: a binary file object.
        header: what is known before the first codes; its `samples` are `STREAM`.
    """

    def __init__(self, stream: BinaryIO, header: Header) -> None:
        self.size = 0
        self._stream, self._header, self._index = stream, header, 0
        self._send(header.to_bytes())

    def write(self, codes: np.ndarray) -> None:
        """Write the next codes (quantizers, frames) as a block; nothing for no frames."""
        rows = codes.T
        for start in range(0, len(rows), self._header.block_frames):
            self._send(self._header.block(self._index, rows[start : start + self._header.block_frames]))
            self._index += 1

    def finish(self, samples: int) -> None:
        """End the stream, of so many samples."""
        self._send(self._header.end(self._index, samples))

    def _send(self, data: bytes) -> None:
        self._stream.write(data)
        self._stream.flush()
        self.size += len(data)


def read_block(header: Header, index: int, frames: int, block: bytes, counted: bytes = b"") -> np.ndarray:
    """The codes (frames, quantizers) of a block, or a ValueError that says what is wrong with it.

    Args:
        counted: the bytes that stated its frames, in a stream.
    """
    size = header.payload_size(frames)
    length, checksum, payload = block[: -size - 4], block[-size - 4 : -size], block[-size:]
    if length != _varint(size):
        raise ValueError(f"its length is not {size} bytes")
    if checksum != _checksum(index, counted + payload):
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


def block_name(header: Header, index: int, first: int) -> str:
    """What messages call a block that begins with this frame."""
    start = first * header.hop
    end = start + header.block_frames * header.hop
    if header.samples == STREAM:
        return f"block {index} (from {start / header.sample_rate:g} s)"
    return f"block {index} ({start / header.sample_rate:g} s to {min(end, header.samples) / header.sample_rate:g} s)"


def report(problem: str, conceal: object) -> None:
    """Fail, or where something is to be concealed, warn.

    Raises:
        FormatError: with the problem.
    """
    if not conceal:
        raise FormatError(problem)
    warnings.warn(problem, stacklevel=3)


def _varint(value: int) -> bytes:
    """Unsigned LEB128, the shortest form."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _pack(codes: np.ndarray, bits_per_code: int) -> bytes:
    places = np.arange(bits_per_code - 1, -1, -1, dtype=np.uint16)
    return np.packbits((codes[:, None] >> places & 1).astype(np.uint8)).tobytes()


def _checksum(index: int, data: bytes) -> bytes:
    """CRC-32 over a block's index and its content, so that a block is good only in its own place."""
    return struct.pack("<I", zlib.crc32(data, zlib.crc32(struct.pack("<I", index))))
