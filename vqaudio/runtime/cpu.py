"""A codec's networks on the CPU, without torch: what `vqaudio.codec.Codec` runs there.

Long signals go through in blocks, each with as much context as the networks hear, and the phase and the quantised point
that the block before ends with, on as many threads as wanted; every result is exactly that of one pass over everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future

import numpy as np

from vqaudio.models.config import CodecConfig
from vqaudio.runtime import layers
from vqaudio.runtime.compilation import announce
from vqaudio.runtime.conditioning import Conditioning
from vqaudio.runtime.encoder import Encoder
from vqaudio.runtime.layers import Weights
from vqaudio.runtime.processor import FASTER_PAIRED
from vqaudio.runtime.product import Floats
from vqaudio.runtime.quantizer import Quantizer
from vqaudio.runtime.schedule import Place, available_threads, blocks, chunks, grid, relayed, shared, side_by_side
from vqaudio.runtime.segments import Sampler
from vqaudio.runtime.speaker import Reference, SpeakerVectors
from vqaudio.runtime.spectral import Spectral
from vqaudio.runtime.wavenet import WaveNet

CHUNK = 256  # frames that go through all layers of a network before the next ones, so that they stay in the cache


class CpuNetworks:
    """All parts of a codec.

    Args:
        state: the weights by name, float32.
        threads: to use, by default `available_threads()`.
        paired: whether to multiply pairs of bfloat16, by default where the processor gains by it.

    Raises:
        ModelError: where the weights do not fit the configuration.
    """

    def __init__(
        self, config: CodecConfig, state: Mapping[str, Floats], threads: int | None = None, paired: bool = FASTER_PAIRED
    ) -> None:
        self.config, self.threads = config, threads or available_threads()
        weights = Weights(state, paired)
        self.encoder = Encoder(config, weights)
        self.quantizer = Quantizer(config, weights)
        self.reference = Reference(config, weights) if config.speaker.kind == "reference" else None
        self.speakers = SpeakerVectors(config, weights)
        self.conditioning = Conditioning(config, weights)
        self.spectral = Spectral(config, weights) if config.spectral else None
        self.wavenet = WaveNet(config, weights) if config.wavenet else None

    def encode(self, samples: Iterable[Floats], quantizers: int, refer: bool) -> tuple[np.ndarray, list[int] | None]:
        """Samples in parts (n,) to codes (quantizers, frames), uint16, and if wanted to the numbers of a reference."""
        announce(layers.add_convolution, "the encoder")
        hop = self.config.hop

        def latents(block: tuple[Floats, int, int]) -> Floats:
            own, first, stop = block
            state, parts = self.encoder.start(), []
            for begin, until, last in chunks(0, len(own), CHUNK * hop):
                parts.append(self.encoder.push(state, own[begin:until], last))
            return np.concatenate(parts)[first:stop]

        codes, state = [], self.reference.start() if self.reference and refer else None
        search = self.quantizer.start_search()
        for block in side_by_side(latents, blocks(self.config, samples, self.threads), self.threads):
            codes.append(self.quantizer.codes(search, block, quantizers, False))
            if self.reference and state:
                self.reference.push(state, block, False)
        codes.append(self.quantizer.codes(search, block[:0], quantizers, True))
        indices = None
        if self.reference and state:
            self.reference.push(state, block[:0], True)
            indices = self.reference.indices(state)
        return np.concatenate(codes, axis=1), indices

    def decode_spectral(self, codes: np.ndarray, speaker: list[int] | None) -> Iterator[Floats]:
        """Codes (quantizers, frames) to samples, block by block (m,)."""
        own, spectral, vector, hop = self.config.spectral, self.spectral, self.speakers.vector(speaker), self.config.hop
        assert own is not None and spectral is not None
        announce(layers.gated_layer, "the spectral decoder")
        heard, context, frames = self.config.conditioning.reach + own.reach, own.context(hop), codes.shape[1]

        def numbers(start: int, end: int, past: Floats) -> Floats:
            begin, until = max(0, start - heard), min(end + heard, frames)
            conditioned, state = self.conditioning.start(vector), spectral.stack.start(vector)
            parts = []
            for here, there, last in chunks(begin, until, CHUNK):
                latents = self.quantizer.latents(past, codes[:, here:there])
                conditioning = self.conditioning.push(conditioned, latents, last)
                parts.append(spectral.numbers(state, conditioning, last))
            return np.concatenate(parts)[start - begin : end - begin]

        def places() -> Iterator[tuple[Place, Floats]]:
            past, done = self.quantizer.start(), 0
            for place in grid(frames, shared(self.config, frames, self.threads), context, context):
                begin = max(0, place[0] - heard)
                self.quantizer.points(past, codes[:, done:begin])
                yield place, past.copy()
                done = begin

        def waveform(item: tuple[tuple[Place, Floats], Future[int], Future[int]]) -> Floats:
            ((start, first, stop, end), past), before, after = item
            try:
                block = numbers(start, end, past)
                phase = before.result()
                following = max(0, stop - context)  # where the next block starts
                after.set_result(spectral.phase_after(block[: following - start], phase))
            except BaseException as error:
                after.set_exception(error)  # or the next block would wait for ever
                raise
            state = spectral.start_sound(start, phase)
            parts = [spectral.sound(state, block[a:b], last) for a, b, last in chunks(0, len(block), CHUNK)]
            return np.concatenate(parts)[(first - start) * hop : (stop - start) * hop]

        yield from side_by_side(waveform, relayed(places()), self.threads)

    def decode_wavenet(
        self, codes: np.ndarray, speaker: list[int] | None, seed: int, temperature: float, in_pieces: bool = True
    ) -> Iterator[Floats]:
        """Codes (quantizers, frames) to samples, in stretches (m,) of any length.

        Args:
            in_pieces: sample pieces of the signal side by side; else all in one pass, which is the slow reference.
        """
        assert self.wavenet is not None
        vector = self.speakers.vector(speaker)
        levels = self.conditioning.levels if in_pieces else None
        rate = self.config.frame_rate
        sampler = Sampler(self.wavenet, levels, rate, vector, seed=seed, temperature=temperature, threads=self.threads)
        state, past = self.conditioning.start(vector), self.quantizer.start()
        for begin, until, last in chunks(0, codes.shape[1], CHUNK):
            latents = self.quantizer.latents(past, codes[:, begin:until])
            yield sampler.push(self.conditioning.push(state, latents, last), last)
