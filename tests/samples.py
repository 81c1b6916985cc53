"""Codes, a coder under a table of frequencies, and a prior, for several tests."""

from __future__ import annotations

import binascii
import io
import struct
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import strategies as st
from numba import njit

from vqaudio.blocks import BlockReader
from vqaudio.codec import Codec
from vqaudio.codes import Codes
from vqaudio.container import STREAM, BlockWriter, Coder, Header, largest_payload
from vqaudio.models.config import Alphabet, PriorConfig
from vqaudio.models.prior import CodePrior
from vqaudio.prior import Prior
from vqaudio.runtime import range_coder
from vqaudio.runtime.integers import quantize

EXAMPLE = Codes(
    np.array([[0, 1, 256, 511], [511, 2, 3, 300]]), 512, 128, 16000, 500, bytes.fromhex("1a2b3c4d"), b"\x05\xfa"
)
BLOCKS = Codes(np.array([[0, 1, 2, 3, 4, 4, 3, 2, 1, 0, 0, 2, 4]]), 5, 16000, 8000, 192001, bytes.fromhex("00ff00ff"))


def make(seconds: float, *, quantizers: int = 2, codebook_size: int = 512, hop: int = 128) -> Codes:
    samples = round(seconds * 16000)
    codes = np.random.default_rng(0).integers(0, codebook_size, (quantizers, -(-samples // hop)))
    return Codes(codes, codebook_size, hop, 16000, samples, b"abcd", b"12345678")


def damaged_at(index: int) -> bytes:
    """BLOCKS with one byte changed in the payload of block `index`; blocks of 5, 5 and 3 frames have 2 bytes each."""
    data = bytearray(BLOCKS.to_bytes())
    data[len(data) - 7 * (2 - index) - 1] ^= 0x40
    return bytes(data)


@st.composite
def any_codes(draw, max_codebook: int = 65536) -> Codes:
    quantizers = draw(st.integers(1, 5))
    special = [size for size in (2, 255, 256, 257, 512, 1000, 65535, 65536) if size <= max_codebook]
    codebook_size = draw(st.one_of(st.integers(2, 40), st.sampled_from(special)))
    hop = draw(st.integers(1, 2000))
    sample_rate = draw(st.integers(1, 200))  # low, so that few frames fill several blocks
    samples = draw(st.integers(1, 60 * hop))
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    values = random.integers(0, codebook_size, (quantizers, -(-samples // hop)))
    values[random.random(values.shape) < 0.2] = codebook_size - 1
    model, speaker = draw(st.binary(min_size=4, max_size=4)), draw(st.binary(max_size=255))
    return Codes(values, codebook_size, hop, sample_rate, samples, model, speaker)


def as_stream(codes: Codes, *sizes: int, coder: Coder | None = None) -> bytes:
    """The same codes, written as they come, in blocks of these frames and one for the rest."""
    file = io.BytesIO()
    header = Header(
        codes.model, codes.sample_rate, codes.hop, codes.quantizers, codes.codebook_size, STREAM, codes.speaker
    )
    writer = BlockWriter(file, header, coder)
    for part in np.split(codes.numpy(), np.cumsum(sizes), axis=1):
        writer.write(part)
    writer.finish(codes.samples)
    assert writer.size == len(file.getvalue())
    return file.getvalue()


@njit
def encode_symbols(symbols, ends, buffer):
    """The size of the payload of some symbols, whose cumulative frequencies are `ends`, at the start of the buffer."""
    state = range_coder.encoder()
    for symbol in symbols:
        start = ends[symbol - 1] if symbol else 0
        range_coder.encode(state, buffer, start, ends[symbol] - start)
    return range_coder.finish(state, buffer)


@njit
def decode_symbols(payload, ends, symbols):
    """Fill in the symbols of a payload; whether it is good."""
    state = range_coder.decoder(payload)
    for i in range(len(symbols)):
        symbol = np.searchsorted(ends, range_coder.target(state), side="right")
        start = ends[symbol - 1] if symbol else 0
        range_coder.advance(state, payload, start, ends[symbol] - start)
        symbols[i] = symbol
    return range_coder.ended(state, payload)


class TableCoder:
    """A coder under a prior that knows nothing of the past: the same frequencies for every code."""

    fingerprint = b"\x01tbl"

    def __init__(self, quantizers: int, codebook_size: int, seed: int = 0, model: bytes = b"abcd") -> None:
        self.model = model
        shares = np.random.default_rng(seed).dirichlet(np.full(codebook_size, 0.1))
        self.frequencies = 1 + np.floor(shares * (range_coder.TOTAL - codebook_size)).astype(np.int64)
        self.frequencies[shares.argmax()] += range_coder.TOTAL - self.frequencies.sum()
        self._quantizers = quantizers

    def encode(self, blocks: Sequence[np.ndarray], speaker: bytes) -> list[bytes]:
        return [self.encode_one(codes) for codes in blocks]

    def encode_one(self, codes: np.ndarray) -> bytes:
        buffer = np.zeros(largest_payload(codes.size), np.uint8)
        size = encode_symbols(codes.ravel().astype(np.int64), np.cumsum(self.frequencies), buffer)
        return buffer[:size].tobytes()

    def decode(self, payloads: Sequence[bytes], frames: Sequence[int], speaker: bytes) -> list[np.ndarray | None]:
        return [self.decode_one(payload, count) for payload, count in zip(payloads, frames, strict=True)]

    def decode_one(self, payload: bytes, frames: int) -> np.ndarray | None:
        symbols = np.zeros(frames * self._quantizers, np.int64)
        if not decode_symbols(np.frombuffer(payload, np.uint8), np.cumsum(self.frequencies), symbols):
            return None
        return symbols.astype(np.uint16).reshape(frames, self._quantizers)


def coder_of(codes: Codes) -> TableCoder:
    """A coder for codes of this shape."""
    return TableCoder(codes.quantizers, codes.codebook_size, model=codes.model)


def random_prior(codec: Codec, seed: int = 0) -> Prior:
    """A prior of a codec, as a file holds it, with weights about as large as trained ones; by the seed the same."""
    config = PriorConfig(channels=16, skip_channels=32, dilations=(1, 2, 4), speaker_channels=8)
    alphabet = Alphabet.of(codec.config, codec.fingerprint)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = CodePrior(config, alphabet)
        for parameter in network.parameters():
            parameter.data += 0.5 * torch.randn_like(parameter) / max(1, parameter[0].numel()) ** 0.5
    state = {name: value.half().float().numpy() for name, value in network.state_dict().items()}
    return Prior(config, alphabet, state | quantize(config, alphabet, state), "An untrained prior for tests.")


UNDER = coder_of(BLOCKS)  # its prior makes payloads of one byte
MINUTE = make(55)  # five blocks of ten seconds and one of five
PRIOR = coder_of(MINUTE)


def conceal(data: bytes, coder: Coder = UNDER) -> tuple[Codes, list[str]]:
    """The codes of a damaged file, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        codes = Codes.from_bytes(data, conceal=True, coder=coder)
    return codes, [str(warning.message) for warning in caught]


def parts_of(data: bytes, coder: Coder) -> list[bytes]:
    """Header, blocks and end of an undamaged file."""
    file = io.BytesIO(data)
    blocks = BlockReader(file, "'it'", coders=lambda _: coder)
    places = [blocks.size] + [blocks.size for _ in blocks]
    return [data[begin:end] for begin, end in zip([0, *places], [*places, len(data)], strict=True)]


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
