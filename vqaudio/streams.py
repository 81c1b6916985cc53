"""Streams: codes as soon as the sound allows, and sound as soon as the codes allow.

A stream is an explicit object that remembers its own past; many of them share the networks of one codec, in as many
threads, but each takes one push at a time. What a stream gives, put together, is what the codec gives for the whole,
bit for bit, however it was cut.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from vqaudio import audio
from vqaudio.blocks import BlockReader, filled
from vqaudio.container import STREAM, BlockWriter, Coder, Header
from vqaudio.errors import UsageError
from vqaudio.runtime.compilation import announce
from vqaudio.runtime.cpu import CHUNK, CpuNetworks
from vqaudio.runtime.kernels import advance
from vqaudio.runtime.layers import add_convolution, gated_layer
from vqaudio.runtime.product import Floats
from vqaudio.runtime.schedule import chunks
from vqaudio.runtime.segments import LiveSampler

if TYPE_CHECKING:
    from torch import Tensor

    from vqaudio.codec import Codec

LIVE_BLOCK_SECONDS = 0.5  # how long a live encoder gathers codes: a block costs seven bytes


class EncoderStream:
    """A waveform that comes bit by bit; `vqaudio.Codec.encoder_stream` makes one.

    Attributes:
        samples: so far, at the model's rate.
    """

    def __init__(self, networks: CpuNetworks, sample_rate: int, quantizers: int) -> None:
        announce(add_convolution, "the encoder")
        self.samples, self._finished = 0, False
        self._networks, self._quantizers = networks, quantizers
        self._converter = audio.Converter(sample_rate, networks.config.sample_rate)
        self._encoder, self._search = networks.encoder.start(), networks.quantizer.start_search()

    def push(self, waveform: np.ndarray | Tensor) -> np.ndarray:
        """The next samples, (n,) or (channels, n) as `Codec.encode` takes them, to the codes that are now certain.

        Returns:
            (quantizers, frames) uint16, often of no frame at all.

        Raises:
            AudioError: for samples that are not finite.
            UsageError: for another shape or type, or after `finish`.
        """
        _check_open(self._finished)
        blocks = [audio.finite(block, "The waveform") for block in audio.blocks(waveform)]  # or a part would be taken
        pieces = [self._converter.push(block) for block in blocks]
        nothing = np.zeros((self._quantizers, 0), np.uint16)
        return np.concatenate([nothing, *(self._codes(piece, last=False) for piece in pieces)], axis=1)

    def finish(self) -> np.ndarray:
        """The codes (quantizers, frames) of what is left; ceil(samples / hop) in all.

        Raises:
            AudioError: where no sample came; UsageError: where this was asked for before.
        """
        _check_open(self._finished)
        self._finished = True
        return self._codes(self._converter.finish(), last=True)

    def _codes(self, samples: Floats, last: bool) -> np.ndarray:
        self.samples += len(samples)
        latents = self._networks.encoder.push(self._encoder, samples, last)
        return self._networks.quantizer.codes(self._search, latents, self._quantizers, last)


class DecoderStream:
    """Codes that come bit by bit; `vqaudio.Codec.decoder_stream` makes one."""

    def __init__(
        self, networks: CpuNetworks, speaker: list[int] | None, decoder: str, seed: int, temperature: float
    ) -> None:
        self._networks, self._finished = networks, False
        vector = networks.speakers.vector(speaker)
        self._past, self._conditioning = networks.quantizer.start(), networks.conditioning.start(vector)
        self._decode: Callable[[Floats, bool], Floats]
        if decoder == "wavenet":
            assert networks.wavenet is not None
            announce(advance, "the WaveNet")
            levels, rate = networks.conditioning.levels, networks.config.frame_rate
            sampler = LiveSampler(networks.wavenet, levels, rate, vector, seed=seed, temperature=temperature)
            self._decode = sampler.push
        else:
            spectral = networks.spectral
            assert spectral is not None
            announce(gated_layer, "the spectral decoder")
            state = spectral.start(vector)
            self._decode = functools.partial(spectral.push, state)  # a copy of which has a state of its own

    def push(self, codes: np.ndarray | Tensor) -> np.ndarray:
        """The next codes (quantizers, frames) to the samples (n,), float32 at the model's rate, that they complete.

        Raises:
            UsageError: for codes of another shape, or beyond the codebook, or after `finish`.
        """
        _check_open(self._finished)
        array = audio.as_numpy(codes)
        quantizer = self._networks.config.quantizer
        if array.ndim != 2 or not 1 <= len(array) <= quantizer.quantizers or array.dtype.kind not in "iu":
            raise UsageError(f"A stream takes integer codes (quantizers, frames), not {array.dtype} {array.shape}.")
        if array.size and not (array.min() >= 0 and array.max() < quantizer.codebook_size):
            raise UsageError(f"A code is not in [0, {quantizer.codebook_size}).")
        codes = array.astype(np.uint16)
        pieces = (codes[:, begin:end] for begin, end, _ in chunks(0, codes.shape[1], CHUNK))
        return np.concatenate([np.zeros(0, np.float32), *(self._samples(piece, last=False) for piece in pieces)])

    def finish(self) -> np.ndarray:
        """The samples (n,) that were still to come: frames * hop in all.

        Raises:
            UsageError: where this was asked for before.
        """
        _check_open(self._finished)
        self._finished = True
        return self._samples(np.zeros((1, 0), np.uint16), last=True)

    def _samples(self, codes: np.ndarray, last: bool) -> Floats:
        latents = self._networks.quantizer.latents(self._past, codes)
        return self._decode(self._networks.conditioning.push(self._conditioning, latents, last), last)


def _check_open(finished: bool) -> None:
    if finished:
        raise UsageError("The stream has come to its end; begin a new one.")


def encode_live(
    codec: Codec,
    recording: Iterable[np.ndarray],
    stream: BinaryIO,
    quantizers: int | None = None,
    coder: Coder | None = None,
) -> tuple[int, int]:
    """Encode sound as it comes into a `.codes` stream, without a speaker's voice, which would be known at the end only.

    Args:
        recording: samples in parts (n,), at the model's rate.
        stream: a binary file object, which gets a block every half second, the same whatever the parts.
        coder: writes the codes under a prior; by default they are of fixed width.

    Returns:
        samples and bytes.

    Raises:
        AudioError: for sound that cannot be read; OSError: from the stream; VqaudioError: for codes that are not of the
            coder's prior.
    """
    config = codec.config
    encoder = codec.encoder_stream(config.sample_rate, quantizers=quantizers)
    stages = quantizers or config.quantizer.quantizers
    size = config.quantizer.codebook_size
    header = Header(codec.fingerprint, config.sample_rate, config.hop, stages, size, STREAM, b"")
    writer = BlockWriter(stream, header, coder)
    block = max(1, round(LIVE_BLOCK_SECONDS * config.frame_rate))
    codes = np.zeros((stages, 0), np.uint16)
    for part in _encoded(encoder, recording):
        codes = np.concatenate([codes, part], axis=1)
        while codes.shape[1] >= block:
            writer.write(codes[:, :block])
            codes = codes[:, block:]
    writer.write(codes)
    writer.finish(encoder.samples)
    return encoder.samples, writer.size


def _encoded(encoder: EncoderStream, recording: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The codes (quantizers, frames) of a recording in parts (n,), as they come."""
    for part in recording:
        yield encoder.push(part)
    yield encoder.finish()


def decode_live(codec: Codec, blocks: BlockReader, **options: Any) -> Iterator[np.ndarray]:
    """Decode a `.codes` file as its blocks come, to samples in parts (n,) float32.

    Args:
        blocks: of the file; those that are to be concealed are filled as docs/format.md says.
        options: decoder, seed and temperature, as for `Codec.decode`.

    Raises:
        FormatError: for a damaged file; ModelError, UsageError: as `Codec.decode`.
    """
    header, done = blocks.header, 0
    codec.check_header(header)
    stream = codec.decoder_stream(header.speaker, **options)
    held = np.zeros(0, np.float32)  # what the last frame may have too much is not sent before the end is known
    for rows in filled(blocks, header.quantizers):
        held = np.concatenate([held, stream.push(rows.T)])
        ready = max(0, len(held) - header.hop)
        yield held[:ready]
        done, held = done + ready, held[ready:]
    yield np.concatenate([held, stream.finish()])[: blocks.samples - done]
