"""Bytes of a `.codes` file as they come, its numbers and its checksums; `docs/format.md` specifies them."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from vqaudio.errors import FormatError
from vqaudio.files import reason

_PIECE = 1 << 16  # bytes that are read at once


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file that is read in the body.

    Raises:
        FormatError: where it is missing, or reading fails.
    """
    try:
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise FormatError(f"'{path}' cannot be read: {reason(error)}.") from error


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
        self._ahead = bytearray()

    def peek(self, size: int) -> bytes:
        """So many bytes, fewer where the file ends before; they are still to be taken."""
        while missing := max(0, size - len(self._ahead)):
            if not (piece := self._read(min(missing, _PIECE))):
                break
            self._ahead += piece
        return bytes(self._ahead[:size])

    def take(self, size: int) -> bytes:
        """So many bytes.

        Raises:
            EndedEarly: where the file ends before.
        """
        data = self.peek(size)
        if len(data) < size:
            raise EndedEarly(f"{self.name} ends inside its header.")
        del self._ahead[:size]
        self.size += size
        self.taken += data
        return data

    def untake(self) -> None:
        """Go back to where `taken` was empty."""
        self._ahead[:0] = self.taken
        self.size -= len(self.taken)
        self.taken.clear()

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
        raise TooLong(f"The header of {self.name} is damaged: it has a number that is too long.")

    def number(self, most: int) -> int | None:
        """A varint of at most `most`; None for anything else."""
        try:
            value = self.varint()
        except TooLong:
            return None
        return value if value <= most else None

    def rest(self) -> int:
        """How many bytes are left; they are gone then."""
        ahead = len(self._ahead)
        self._ahead.clear()
        return ahead + sum(len(piece) for piece in iter(lambda: self._read(_PIECE), b""))

    def _read(self, most: int) -> bytes:
        try:
            return self._stream.read(most)
        except OSError as error:
            raise FormatError(f"{self.name} cannot be read: {reason(error)}.") from error


class EndedEarly(FormatError):
    """A file that ends where more should come."""


class TooLong(FormatError):
    """A number that is not in its shortest form, or takes more than nine bytes."""


def varint(value: int) -> bytes:
    """Unsigned LEB128, the shortest form."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def checksum(index: int, data: bytes) -> bytes:
    """CRC-32 over a block's index and its content, so that a block is good only in its own place."""
    return struct.pack("<I", zlib.crc32(data, zlib.crc32(struct.pack("<I", index))))
