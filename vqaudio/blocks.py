"""The blocks of a `.codes` file as they come: read, checked, and where that is wanted gone on behind damaged ones."""

from __future__ import annotations

import io
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from vqaudio.container import LONGEST, STREAM, Coder, Header, at_hand, largest_payload, unpack
from vqaudio.errors import FormatError
from vqaudio.reader import EndedEarly, Reader, checksum, varint

WINDOW = 1 << 16  # bytes at most in which a block is searched for
MOST_UNFOUND = 16  # blocks behind which the next is looked for in vain, before the rest of a file is given up


class LostPlace(FormatError):
    """A file in which the next block cannot be found."""


@dataclass(frozen=True)
class _Block:
    """A block that has been read: its number, its first frame, and its payload where that is good and wanted."""

    index: int
    first: int
    frames: int
    payload: bytes | None


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


def filled(blocks: Iterable[tuple[int, np.ndarray | None]], quantizers: int) -> Iterator[np.ndarray]:
    """The codes of all blocks (frames, quantizers), damaged ones filled with the frame before, or where there is none
    with the first good frame after them, or where no block is good with code 0; in the end perhaps none."""
    before, lost = np.zeros((0, quantizers), np.uint16), 0
    for frames, codes in blocks:
        if codes is None and not len(before):
            lost += frames
            continue
        rows = np.repeat(before, frames, axis=0) if codes is None else codes
        yield np.concatenate([np.repeat(rows[:1], lost, axis=0), rows])
        before, lost = rows[-1:], 0
    yield np.zeros((lost, quantizers), np.uint16)
