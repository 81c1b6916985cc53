"""The bytes of a `.codes` file: its header, what its blocks hold, and the form that is written as it comes.

`docs/format.md` specifies them. Readers, here and in `vqaudio.blocks`, take any bytes at all: they check every length
against what is there before they take memory, and say what is wrong in one sentence.
"""

from __future__ import annotations

import binascii
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, Protocol

import numpy as np

from vqaudio.errors import FormatError, ModelError, UsageError
from vqaudio.reader import Reader, checksum, opened, varint

MAGIC = b"VQAC"
VERSION = 1
BLOCK_SECONDS = 10  # at most, unless one frame is longer
BLOCK_CODES = 1 << 16  # at most, under a prior: there codes may cost next to nothing, and a few bytes fill no memory
FIXED_WIDTH, UNDER_PRIOR = 0, 1  # the coders
LONGEST = (1 << 63) - 1  # the largest number in a file
STREAM = 0  # in place of the number of samples, where that is not known when the header is written


class Coder(Protocol):
    """What turns codes into a block's payload and back under a prior. A block is coded without a look at the others."""

    @property
    def fingerprint(self) -> bytes:
        """4 bytes that name the prior."""

    @property
    def model(self) -> bytes:
        """4 bytes that name the model whose codes it is for."""

    def encode(self, blocks: Sequence[np.ndarray], speaker: bytes) -> list[bytes]:
        """The payloads, each of at most `largest_payload` bytes, of some blocks of codes (frames, quantizers) uint16.

        Raises:
            VqaudioError: for codes that are not of the prior.
        """

    def decode(self, payloads: Sequence[bytes], frames: Sequence[int], speaker: bytes) -> list[np.ndarray | None]:
        """The codes (frames, quantizers) uint16 of some blocks; None for a payload that `encode` does not give."""


def check_coder(coder: object) -> None:
    """See that a coder is one.

    Raises:
        UsageError: for anything else, the name of one for example.
    """
    if not hasattr(coder, "fingerprint"):
        raise UsageError(f"A coder is a prior, as `Prior.load` gives it, not {type(coder).__name__}.")


def at_hand(fingerprint: bytes) -> Coder:
    """The coder of a prior.

    Raises:
        ModelError: where that prior is not at hand.
    """
    from vqaudio.prior import find  # most files are of fixed width, and a prior takes a while to import

    return find(fingerprint)


def largest_payload(codes: int) -> int:
    """Bytes that so many codes take at most under a prior: each no more than the 24 bits of its frequency."""
    return 3 * codes + 4


@dataclass(frozen=True)
class Header:
    """The fields of a file before its blocks, all but the codes themselves.

    `samples` may be `STREAM`; `prior` is the fingerprint of the prior, empty at fixed width.
    """

    model: bytes
    sample_rate: int
    hop: int
    quantizers: int
    codebook_size: int
    samples: int
    speaker: bytes
    prior: bytes = b""

    def under(self, coder: Coder | None) -> Header:
        """The header of the same codes as this coder writes them, or as they are written at fixed width.

        Raises:
            ModelError: for a coder of another model; UsageError: for what is no coder.
        """
        if coder is None:
            return replace(self, prior=b"")
        check_coder(coder)
        if coder.model != self.model:
            raise ModelError(
                f"The codes are of model {self.model.hex()}, and the prior is for those of {coder.model.hex()}."
            )
        return replace(self, prior=coder.fingerprint)

    @property
    def frames(self) -> int:
        """Code frames of the file, ceil(samples / hop)."""
        return -(-self.samples // self.hop)

    @property
    def block_frames(self) -> int:
        """Frames of a full block."""
        frames = max(1, BLOCK_SECONDS * self.sample_rate // self.hop)
        return min(frames, BLOCK_CODES // self.quantizers) if self.prior else frames

    @property
    def bits_per_code(self) -> int:
        """Bits of one code at fixed width."""
        return (self.codebook_size - 1).bit_length()

    @property
    def problem(self) -> str | None:
        """What is wrong with the fields, to stand after a colon."""
        if not (isinstance(self.model, bytes) and len(self.model) == 4):
            return "the fingerprint of the model is not 4 bytes"
        if self.prior and not (isinstance(self.prior, bytes) and len(self.prior) == 4):
            return "the fingerprint of the prior is not 4 bytes"
        if not (isinstance(self.speaker, bytes) and len(self.speaker) <= 255):
            return "the speaker vector is not at most 255 bytes"
        if not 1 <= self.quantizers <= 255:
            return f"{self.quantizers} quantisers are not between 1 and 255"
        if not 2 <= self.codebook_size <= 65536:
            return f"a codebook of {self.codebook_size} codes is not between 2 and 65536"
        for name, least in (("sample_rate", 1), ("hop", 1), ("samples", STREAM)):
            if not least <= getattr(self, name) <= LONGEST:
                return f"{name} is {getattr(self, name)}, not between {least} and 2^63 - 1"
        return None

    def payload_size(self, frames: int) -> int:
        """Bytes of a block's codes at fixed width."""
        return -(-frames * self.quantizers * self.bits_per_code // 8)

    def blocks(self, first: int, codes: np.ndarray, coder: Coder | None = None) -> list[bytes]:
        """The blocks, of which the first is number `first`, with the codes (frames, quantizers)."""
        parts = [codes[start : start + self.block_frames] for start in range(0, len(codes), self.block_frames)]
        payloads = coder.encode(parts, self.speaker) if coder else [_pack(p.ravel(), self.bits_per_code) for p in parts]
        return [
            self._block(first + i, len(part), payload)
            for i, (part, payload) in enumerate(zip(parts, payloads, strict=True))
        ]

    def _block(self, index: int, frames: int, payload: bytes) -> bytes:
        counted = varint(frames) if self.samples == STREAM else b""
        return counted + varint(len(payload)) + checksum(index, counted + payload) + payload

    def end(self, index: int, samples: int) -> bytes:
        """What ends a stream of `index` blocks: the number of samples."""
        numbers = varint(0) + varint(samples)
        return numbers + checksum(index, numbers)

    def file_size(self, frames: Sequence[int], samples: int) -> int:
        """Bytes of a whole file at fixed width, of so many samples, with blocks of so many frames."""
        size = len(self.to_bytes())
        for payload in map(self.payload_size, frames):
            size += len(varint(payload)) + len(checksum(0, b"")) + payload
        if self.samples == STREAM:
            size += sum(len(varint(count)) for count in frames) + len(self.end(len(frames), samples))
        return size

    def to_bytes(self) -> bytes:
        """The header."""
        numbers = varint(self.sample_rate) + varint(self.hop) + bytes([self.quantizers])
        numbers += varint(self.codebook_size) + varint(self.samples)
        speaker = bytes([len(self.speaker)]) + self.speaker
        coder = UNDER_PRIOR if self.prior else FIXED_WIDTH
        header = MAGIC + bytes([VERSION, coder]) + self.model + self.prior + numbers + speaker
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
        if (coder := reader.byte()) not in (FIXED_WIDTH, UNDER_PRIOR):
            raise FormatError(f"{name} was written by coder {coder}; only {FIXED_WIDTH} and {UNDER_PRIOR} are known.")
        header = cls(
            model=reader.take(4),
            prior=reader.take(4 if coder == UNDER_PRIOR else 0),
            sample_rate=reader.varint(),
            hop=reader.varint(),
            quantizers=reader.byte(),
            codebook_size=reader.varint(),
            samples=reader.varint(),
            speaker=reader.take(reader.byte()),
        )
        expected = struct.pack("<H", binascii.crc_hqx(bytes(reader.taken), 0xFFFF))
        if reader.take(2) != expected:
            raise FormatError(f"The header of {name} is damaged: its checksum is wrong.")
        if header.problem:
            raise FormatError(f"The header of {name} is wrong: {header.problem}.")
        return header


def read_header(path: str | os.PathLike[str]) -> Header:
    """What a `.codes` file says before its first block.

    Raises:
        FormatError: for a file that is missing, unreadable or not of this format.
    """
    with opened(path) as file:
        return Header.read(Reader(file, f"'{path}'"))


class BlockWriter:
    """A `.codes` file that is written as the codes come, each block as soon as it is there.

    Args:
        stream: a binary file object.
        header: what is known before the first codes; its `samples` are `STREAM`.
        coder: by default fixed width.
    """

    def __init__(self, stream: BinaryIO, header: Header, coder: Coder | None = None) -> None:
        self.size = 0
        self._stream, self._header, self._coder, self._index = stream, header.under(coder), coder, 0
        self._send(self._header.to_bytes())

    def write(self, codes: np.ndarray) -> None:
        """Write the next codes (quantizers, frames), in one block if they fit; nothing for no frames."""
        for block in self._header.blocks(self._index, codes.T, self._coder):
            self._send(block)
            self._index += 1

    def finish(self, samples: int) -> None:
        """End the stream, of so many samples."""
        self._send(self._header.end(self._index, samples))

    def _send(self, data: bytes) -> None:
        self._stream.write(data)
        self._stream.flush()
        self.size += len(data)


def unpack(header: Header, payload: bytes, frames: int) -> np.ndarray:
    """The codes (frames, quantizers) of a payload at fixed width, or a ValueError that says what is wrong with it."""
    bits = np.unpackbits(np.frombuffer(payload, np.uint8))
    used = frames * header.quantizers * header.bits_per_code
    if bits[used:].any():
        raise ValueError("its padding is not zero")
    codes = np.zeros(frames * header.quantizers, np.uint16)
    for column in bits[:used].reshape(-1, header.bits_per_code).T:
        codes <<= 1
        codes |= column
    return codes.reshape(frames, header.quantizers)


def _pack(codes: np.ndarray, bits_per_code: int) -> bytes:
    places = np.arange(bits_per_code - 1, -1, -1, dtype=np.uint16)
    return np.packbits((codes[:, None] >> places & 1).astype(np.uint8)).tobytes()
