"""The bytes of a `.codes` file: header, blocks, and the form that is written and read as it comes.

`docs/format.md` specifies them. Readers take any bytes at all: they check every length against what is there before
they take memory, and say what is wrong in one sentence.
"""

from __future__ import annotations

import binascii
import io
import itertools
import os
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, Protocol

import numpy as np

from vqaudio.errors import FormatError, ModelError
from vqaudio.files import reason
from vqaudio.reader import EndedEarly, Reader, checksum, varint

MAGIC = b"VQAC"
VERSION = 1
BLOCK_SECONDS = 10  # at most, unless one frame is longer
BLOCK_CODES = 1 << 16  # at most, under a prior: there codes may cost next to nothing, and a few bytes fill no memory
FIXED_WIDTH, UNDER_PRIOR = 0, 1  # the coders
LONGEST = (1 << 63) - 1  # the largest number in a file
STREAM = 0  # in place of the number of samples, where that is not known when the header is written
WINDOW = 1 << 16  # bytes at most in which a block is searched for
MOST_UNFOUND = 16  # blocks behind which the next is looked for in vain, before the rest of a file is given up


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
            ModelError: for a coder of another model.
        """
        if coder and coder.model != self.model:
            raise ModelError(
                f"The codes are of model {self.model.hex()}, and the prior is for those of {coder.model.hex()}."
            )
        return replace(self, prior=coder.fingerprint if coder else b"")

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


class LostPlace(FormatError):
    """A file in which the next block cannot be found."""


@dataclass(frozen=True)
class _Block:
    """A block that has been read: its number, its first frame, and its payload where that is good and wanted."""

    index: int
    first: int
    frames: int
    payload: bytes | None


def read_header(path: str | os.PathLike[str]) -> Header:
    """What a `.codes` file says before its first block.

    Raises:
        FormatError: for a file that is missing, unreadable or not of this format.
    """
    try:
        with open(path, "rb") as file:
            return Header.read(Reader(file, f"'{path}'"))
    except OSError as error:
        raise FormatError(f"'{path}' cannot be read: {reason(error)}.") from error


class BlockReader:
    """The codes of a file as they come, of either form: iterate over it for each block's frames and codes.

    The codes are uint16 (frames, quantizers), or None where they are damaged and that is to be concealed.

    Args:
        stream: a binary file object at the start of a `.codes` file.
        name: what messages call it.
        conceal: instead of failing, pass over damaged blocks, end a truncated file after its last whole block, and
            ignore what follows the last block. A `UserWarning` says what was lost. The header has to be whole.
        coders: finds the coder of a prior by its fingerprint.
        together: blocks that are read before they are decoded together, which under a prior is faster.

    Attributes:
        header: of the file.
        samples: of the waveform; of a stream once the last block has been read.
        payload_bytes: of the blocks so far.

    Raises:
        FormatError: for a header that is none; while iterating, for blocks that are damaged or cut short.
        VqaudioError: while iterating, where `coders` finds none.
    """

    def __init__(
        self,
        stream: BinaryIO,
        name: str,
        conceal: bool = False,
        coders: Callable[[bytes], Coder] = at_hand,
        together: int = 1,
    ) -> None:
        self._reader = Reader(stream, name)
        self._conceal, self._coders, self._together = conceal, coders, together
        self.header = Header.read(self._reader)
        self.samples = self.header.samples
        self.payload_bytes = 0
        self._doubtful = False  # whether the next block is only where the last one says
        self._unfound = 0

    def __iter__(self) -> Iterator[tuple[int, np.ndarray | None]]:
        return self.between(0, LONGEST)

    def between(self, first: int, end: int) -> Iterator[tuple[int, np.ndarray | None]]:
        """Iterate, but decode only what holds a frame in [first, end): None stands for the codes of other blocks too,
        of which only the checksum is looked at. For an empty span no prior has to be at hand."""
        coder = self._coder() if end > first else None
        blocks = self._blocks(first, end)
        while group := list(itertools.islice(blocks, self._together)):
            yield from zip([block.frames for block in group], self._codes(group, coder), strict=True)

    def _blocks(self, first: int, end: int) -> Iterator[_Block]:
        """The blocks as they come, with payloads where these are good and hold a frame in [first, end)."""
        header, reader, conceal = self.header, self._reader, self._conceal
        index = done = 0
        try:
            while frames := self._next_frames(index, done):
                payload = self._good_payload(index, done, frames)
                yield _Block(index, done, frames, payload if max(first, done) < min(end, done + frames) else None)
                index, done = index + 1, done + frames
        except EndedEarly:
            report(f"{reader.name} is truncated: it ends inside {block_name(header, index, done)}.", conceal and done)
            self.samples = done * header.hop
            reader.rest()
        except LostPlace as problem:
            report(str(problem), conceal and done)
            self.samples = done * header.hop
            reader.rest()
        if extra := reader.rest():
            report(f"{reader.name} goes on for {extra} bytes after its last block.", conceal)

    def _coder(self) -> Coder | None:
        """What decodes the blocks; None at fixed width."""
        header = self.header
        coder = self._coders(header.prior) if header.prior else None
        if coder and coder.model != header.model:
            prior = f"{self._reader.name} names the prior {header.prior.hex()}"
            raise FormatError(f"{prior}, which is not for its model {header.model.hex()}.")
        return coder

    @property
    def size(self) -> int:
        """Bytes read so far."""
        return self._reader.size

    def _next_frames(self, index: int, done: int) -> int:
        """Frames of the next block, 0 where there is none."""
        header, reader = self.header, self._reader
        reader.taken.clear()
        frames = read_frames(header, reader, done)
        if frames is None:
            name = block_name(header, index, done)
            raise LostPlace(f"{reader.name} is damaged: it does not say where {name} ends.")
        if frames == 0 and header.samples == STREAM:
            try:
                self.samples = read_end(header, reader, index, done)
            except ValueError:
                report(f"The end of {reader.name} is damaged.", self._conceal and done)
                self.samples = done * header.hop
        return frames

    def _good_payload(self, index: int, done: int, frames: int) -> bytes | None:
        """The payload of the next block, None where it is damaged."""
        try:
            payload = self._payload(index, done, frames)
        except ValueError as problem:
            self._damaged(index, done, problem)
            return None
        self.payload_bytes += len(payload)
        return payload

    def _damaged(self, index: int, done: int, problem: ValueError) -> None:
        name = block_name(self.header, index, done)
        report(f"{name[0].upper()}{name[1:]} of {self._reader.name} is damaged: {problem}.", self._conceal)

    def _payload(self, index: int, done: int, frames: int) -> bytes:
        """The payload of the next block. Whatever becomes of it, the reader then stands behind it.

        Raises:
            ValueError: where it is damaged; EndedEarly, LostPlace: where the next block cannot be found either.
        """
        header, after, doubtful = self.header, done + frames, self._doubtful
        fixed = not header.prior and header.samples != STREAM
        known = fixed or not self._conceal or after == header.frames  # where the next block is, or if any
        self._doubtful = False
        try:
            return read_payload(header, self._reader, index, frames)
        except EndedEarly:
            if known or not self._find(index + 1, after):
                raise
            raise ValueError("its length is wrong") from None
        except ValueError:
            stated = len(self._reader.taken)
            if known or self._find(index + 1, after):
                raise
            self._unfound += 1
            if doubtful or self._unfound > MOST_UNFOUND:
                name = block_name(header, index, done)
                raise LostPlace(f"{self._reader.name} is damaged: no block can be found behind {name}.") from None
            self._doubtful = True
            self._reader.take(stated)
            raise

    def _find(self, index: int, done: int) -> bool:
        """Look for block `index` from the start of the one before on, and go there; a length may be anything there, but
        a checksum fits no other block."""
        self._reader.untake()
        block = 10 + largest_payload(self.header.block_frames * self.header.quantizers)  # with frames, length, checksum
        near = self._reader.peek(min(2 * block, WINDOW))
        stream = io.BytesIO(near)
        for place in range(len(near)):
            stream.seek(place)
            if begins_block(self.header, Reader(stream, self._reader.name), index, done):
                self._reader.take(place)
                return True
        return False

    def _codes(self, group: list[_Block], coder: Coder | None) -> Iterator[np.ndarray | None]:
        """The codes of some blocks, None where they are damaged or there is no payload."""
        coded = [block for block in group if block.payload is not None]
        payloads, frames = [block.payload or b"" for block in coded], [block.frames for block in coded]
        under = iter(coder.decode(payloads, frames, self.header.speaker) if coder and coded else ())
        for block in group:
            if block.payload is None:
                yield None
                continue
            try:
                codes = next(under) if coder else unpack(self.header, block.payload, block.frames)
                yield self._checked(codes, block.frames)
            except ValueError as problem:
                self._damaged(block.index, block.first, problem)
                yield None

    def _checked(self, codes: np.ndarray | None, frames: int) -> np.ndarray:
        """Codes that are those of a block, or a ValueError that says what is wrong with them."""
        header = self.header
        if codes is None:
            raise ValueError("its payload is not that of its codes")
        if codes.shape != (frames, header.quantizers):
            prior = f"{self._reader.name} names the prior {header.prior.hex()}"
            raise FormatError(f"{prior}, which does not code its {header.quantizers} quantisers.")
        if codes.max() >= header.codebook_size:
            raise ValueError("it has a code that is not in the codebook")
        return codes


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


def read_frames(header: Header, reader: Reader, done: int) -> int | None:
    """Frames of the next block, 0 where there is none; None where a stream does not say."""
    if header.samples != STREAM:
        return min(header.block_frames, header.frames - done)
    return reader.number(header.block_frames)


def read_end(header: Header, reader: Reader, index: int, done: int) -> int:
    """The number of samples that ends a stream of `index` blocks and `done` frames, or a ValueError."""
    samples = reader.number(LONGEST)
    numbers = bytes(reader.taken)
    if samples is None or reader.take(4) != checksum(index, numbers) or -(-samples // header.hop) != done:
        raise ValueError("it does not fit the blocks")
    return samples


def read_size(header: Header, reader: Reader, frames: int) -> int:
    """The length of a payload, or a ValueError where that cannot be; at fixed width the payload is then passed over."""
    if header.prior:
        most = largest_payload(frames * header.quantizers)
        if (stated := reader.number(most)) is None:
            raise ValueError(f"its length is more than {most} bytes")
        return stated
    size = header.payload_size(frames)
    if reader.take(len(varint(size))) != varint(size):
        reader.take(4 + size)
        raise ValueError(f"its length is not {size} bytes")
    return size


def read_payload(header: Header, reader: Reader, index: int, frames: int) -> bytes:
    """The payload of a block of which only the frames have been read, or a ValueError that says what is wrong."""
    counted = bytes(reader.taken)
    size = read_size(header, reader, frames)
    expected, payload = reader.take(4), reader.take(size)
    if expected != checksum(index, counted + payload):
        raise ValueError("its checksum is wrong")
    return payload


def begins_block(header: Header, reader: Reader, index: int, done: int) -> bool:
    """Whether the next thing is a good block `index`, or the end of a stream of so many blocks."""
    try:
        frames = read_frames(header, reader, done)
        if frames:
            read_payload(header, reader, index, frames)
        elif frames == 0:
            read_end(header, reader, index, done)
    except (FormatError, ValueError):
        return False
    return frames is not None


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


def _pack(codes: np.ndarray, bits_per_code: int) -> bytes:
    places = np.arange(bits_per_code - 1, -1, -1, dtype=np.uint16)
    return np.packbits((codes[:, None] >> places & 1).astype(np.uint8)).tobytes()
