"""Codes, what the encoder makes of a waveform, and their way into a `.codes` file and back."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np

from vqaudio.audio import as_numpy
from vqaudio.blocks import BlockReader, filled
from vqaudio.container import LONGEST, MAGIC, STREAM, Coder, Header, at_hand, check_coder
from vqaudio.errors import FormatError, ModelError, UsageError, whole
from vqaudio.files import replacing
from vqaudio.reader import opened

TOGETHER = 32  # blocks that are decoded at once: enough for all threads, and few enough to take little memory
_CONSISTENT = ("codebook_size", "hop", "sample_rate", "model", "speaker")  # fields that joined codes have to share


@dataclass(frozen=True, eq=False, repr=False)
class Codes:
    """Discrete speech: what `Codec.encode` gives and `Codec.decode` takes.

    Attributes:
        codes: integers (quantizers, frames) in [0, codebook_size); a numpy array, or a torch tensor when the codes come
            from a torch waveform.
        codebook_size: codes of each quantiser, 2 to 65536.
        hop: samples per frame.
        sample_rate: Hz.
        samples: length of the waveform, so that there are ceil(samples / hop) frames.
        model: the 4-byte fingerprint of the model that gave the codes.
        speaker: the quantised speaker vector, at most 255 bytes; empty for the null speaker.

    Raises:
        UsageError: where these do not fit together.
    """

    codes: Any
    codebook_size: int
    hop: int
    sample_rate: int
    samples: int
    model: bytes
    speaker: bytes = b""

    def __post_init__(self) -> None:
        if not hasattr(self.codes, "shape"):
            object.__setattr__(self, "codes", as_numpy(self.codes))
        for name in ("codebook_size", "hop", "sample_rate", "samples"):
            object.__setattr__(self, name, whole(getattr(self, name), f"The {name} of codes"))
        if len(self.codes.shape) != 2:
            raise UsageError(f"Codes have the shape (quantizers, frames), not {tuple(self.codes.shape)}.")
        if problem := self._header.problem or ("there are no samples" if self.samples == STREAM else None):
            raise UsageError(f"These codes cannot be: {problem}.")
        if self.frames != self._header.frames:
            raise UsageError(
                f"{self.samples} samples at a hop of {self.hop} are {self._header.frames} frames, not {self.frames}."
            )
        self.numpy()

    @property
    def quantizers(self) -> int:
        """Codes per frame."""
        return self.codes.shape[0]

    @property
    def frames(self) -> int:
        """Code frames, ceil(samples / hop)."""
        return self.codes.shape[1]

    @property
    def seconds(self) -> float:
        """Length of the waveform."""
        return self.samples / self.sample_rate

    @property
    def bits_per_code(self) -> int:
        """Bits of one code at fixed width, ceil(log2(codebook_size))."""
        return self._header.bits_per_code

    def numpy(self) -> np.ndarray:
        """The codes as a new uint16 array (quantizers, frames).

        Raises:
            UsageError: where they are not all in [0, codebook_size): the array may have been written to.
        """
        values = as_numpy(self.codes)
        if not np.issubdtype(values.dtype, np.integer):
            raise UsageError(f"Codes are integers, not {values.dtype}.")
        if values.min() < 0 or values.max() >= self.codebook_size:
            raise UsageError(f"Codes from {values.min()} to {values.max()} are not all in [0, {self.codebook_size}).")
        return values.astype(np.uint16)

    def slice(self, start_seconds: float, end_seconds: float) -> Codes:
        """The codes of a span of time, without decoding.

        The start is moved back and the end forward to whole frames; only at the end of the codes is the last frame as
        incomplete as it was. Predictive codes, those of the default model among them, need some 50 frames before what
        is decoded sounds as it does within the whole.

        Raises:
            UsageError: unless 0 <= start < end <= seconds.
        """
        start, end = _frames(start_seconds, end_seconds, self._header)
        if round(end_seconds * self.sample_rate) > self.samples or start >= end:
            raise UsageError(
                f"From {start_seconds} s to {end_seconds} s is not a span within the {self.seconds:g} s of these codes."
            )
        samples = min(end * self.hop, self.samples) - start * self.hop
        return self._with(self.codes[:, start:end], samples)

    def with_speaker(self, speaker: bytes) -> Codes:
        """The same codes in another voice, as `Codec.voice` gives it, or for empty bytes in that of the null speaker.

        Raises:
            UsageError: for what is not at most 255 bytes.
        """
        return replace(self, speaker=speaker)

    @classmethod
    def concatenate(cls, parts: Sequence[Codes]) -> Codes:
        """Join codes end to end; every part but the last is lengthened to a whole number of frames.

        Raises:
            UsageError: for no parts, or parts of different models, speakers, rates or shapes.
        """
        if not parts:
            raise UsageError("There are no codes to concatenate.")
        for part in parts:
            check_codes(part)
        first = parts[0]
        for name in ("quantizers", *_CONSISTENT):
            if any(getattr(part, name) != getattr(first, name) for part in parts):
                raise UsageError(f"Codes that differ in '{name}' cannot be concatenated.")
        joined = np.concatenate([as_numpy(part.codes) for part in parts], axis=1)
        # torch stays torch, in a type that has room for the codes of every part
        codes = first.codes.long().new_tensor(joined) if hasattr(first.codes, "new_tensor") else joined
        return first._with(codes, sum(part.frames * part.hop for part in parts[:-1]) + parts[-1].samples)

    def __repr__(self) -> str:
        shape = f"{self.quantizers} x {self.frames} of {self.codebook_size}"
        return f"<Codes: {shape}, {self.seconds:.2f} s, model {self.model.hex()}, speaker {self.speaker.hex() or None}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Codes):
            return NotImplemented
        return self._header == other._header and np.array_equal(as_numpy(self.codes), as_numpy(other.codes))

    def to_bytes(self, coder: Coder | None = None) -> bytes:
        """The content of a `.codes` file.

        Args:
            coder: writes the codes under a prior; by default they are of fixed width.

        Raises:
            VqaudioError: for codes that are not of the coder's prior.
        """
        header = self._header.under(coder)
        return b"".join([header.to_bytes(), *header.blocks(0, self.numpy().T, coder)])

    @classmethod
    def from_bytes(
        cls,
        data: bytes,
        *,
        conceal: bool = False,
        name: str = "'<bytes>'",
        coder: Coder | Callable[[bytes], Coder] | None = None,
        span: tuple[float, float] | None = None,
    ) -> Codes:
        """Read the content of a `.codes` file.

        Args:
            data: all of its bytes.
            conceal: instead of failing, repeat the nearest earlier frame (at the start, the first good one) through a
                damaged block, or code 0 where every block is damaged, end a truncated file after its last whole block,
                and ignore what follows the last block. The header has to be whole, and of a truncated file a block. A
                `UserWarning` says what was lost; Python shows the same one once, unless its filters say otherwise.
            name: what messages call the data.
            coder: of the prior that the codes were written under, or what finds it by the fingerprint of that prior; by
                default it is looked for among those that come with vqaudio.
            span: from where to where, in seconds; the result is then `slice` of all codes, but no block outside is
                decoded, unless `conceal` may need it.

        Raises:
            FormatError: for anything but what `to_bytes` writes; it names a damaged block and its seconds.
            UsageError: for a span that is none of these codes.
            ModelError: where the coder is of another prior, or none is found.
        """
        if coder is None:
            coder = at_hand
        finder = coder if callable(coder) else functools.partial(_same, coder)
        blocks = BlockReader(io.BytesIO(data), name, conceal, finder, TOGETHER)
        header = blocks.header
        first, end = _frames(*span, header) if span and not conceal else (0, LONGEST)
        codes = np.concatenate(list(filled(blocks.between(first, end), header.quantizers)))
        if not len(codes):
            raise FormatError(f"{name} holds no codes.")
        whole_file = cls(
            codes=np.ascontiguousarray(codes.T),
            codebook_size=header.codebook_size,
            hop=header.hop,
            sample_rate=header.sample_rate,
            samples=blocks.samples,
            model=header.model,
            speaker=header.speaker,
        )
        return whole_file.slice(*span) if span else whole_file

    def save(self, path: str | os.PathLike[str], force: bool = False, coder: Coder | None = None) -> None:
        """Write a `.codes` file; `coder` as in `to_bytes`.

        Raises:
            UsageError: where it exists and `force` is not given.
            VqaudioError: for an unwritable folder, a full disk, or codes that are not of the coder's prior.
        """
        with replacing(path, force) as temporary:
            temporary.write_bytes(self.to_bytes(coder))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        conceal: bool = False,
        coder: Coder | Callable[[bytes], Coder] | None = None,
        span: tuple[float, float] | None = None,
    ) -> Codes:
        """Read a `.codes` file, or a span of one; everything as in `from_bytes`.

        Raises:
            FormatError: for a file that is missing, unreadable, damaged or not of this format.
            UsageError: for a span that is none of these codes.
            ModelError: where the coder is of another prior, or none is found.
        """
        with opened(path) as file:
            data = file.read(len(MAGIC))
            if data == MAGIC:  # a large file of another kind is not worth reading
                data += file.read()
        return cls.from_bytes(data, conceal=conceal, name=f"'{path}'", coder=coder, span=span)

    @property
    def _header(self) -> Header:
        return Header(
            model=self.model,
            sample_rate=self.sample_rate,
            hop=self.hop,
            quantizers=self.quantizers,
            codebook_size=self.codebook_size,
            samples=self.samples,
            speaker=self.speaker,
        )

    def _with(self, codes: Any, samples: int) -> Codes:
        fields = {name: getattr(self, name) for name in _CONSISTENT}
        return Codes(codes=codes, samples=samples, **fields)


def check_codes(codes: object) -> None:
    """See that codes are needed and given.

    Raises:
        UsageError: for anything else.
    """
    if not isinstance(codes, Codes):
        raise UsageError(f"Codes are needed, not {type(codes).__name__}; `Codec.codes` makes them of an array.")


def _same(coder: Coder, fingerprint: bytes) -> Coder:
    """The coder, where its prior has this fingerprint.

    Raises:
        ModelError: where it has not; UsageError: for what is no coder.
    """
    check_coder(coder)
    if coder.fingerprint != fingerprint:
        theirs = coder.fingerprint.hex()
        raise ModelError(f"The codes were written under the prior {fingerprint.hex()}, not under {theirs}.")
    return coder


def _frames(start_seconds: float, end_seconds: float, header: Header) -> tuple[int, int]:
    """The first frame of a span of time and the one behind its last, which may lie beyond the end of the codes.

    Raises:
        UsageError: unless 0 <= start < end.
    """
    times = isinstance(start_seconds, Real) and isinstance(end_seconds, Real)
    if not times or not 0 <= start_seconds < end_seconds <= LONGEST:
        raise UsageError(f"From {start_seconds} s to {end_seconds} s is not a span of time.")
    last_sample = round(end_seconds * header.sample_rate)
    return round(start_seconds * header.sample_rate) // header.hop, -(-last_sample // header.hop)
