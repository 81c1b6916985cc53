"""What is measured: a codec of vqaudio, one of another make, or the original itself, behind one interface."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from vqaudio import audio
from vqaudio.codes import Codes
from vqaudio.container import Coder
from vqaudio.errors import AudioError
from vqaudio.weights import whole_fingerprint

if TYPE_CHECKING:
    from vqaudio.codec import Codec

WARM_UP_SECONDS = 0.5  # coded and decoded before anything is timed
WAV_HEADER = 44  # bytes


@dataclass(frozen=True)
class Coded:
    """One utterance after coding.

    Attributes:
        size: bytes that the codec wrote, headers included.
        decoded: (T,) float32 at the rate of the original and of its length; any delay is still in it.
        encode_seconds, decode_seconds: time that it took, in one thread; of a program, with its start.
        histogram: (quantizers, K), how often each code occurs, where the codec has such.
    """

    size: int
    decoded: np.ndarray
    encode_seconds: float
    decode_seconds: float
    histogram: np.ndarray | None = None


def fitted(decoded: np.ndarray, decoded_rate: int, samples: int, sample_rate: int) -> np.ndarray:
    """What was decoded, (n,), as float32 (samples,) at `sample_rate` Hz, cut or filled with silence at its end."""
    waveform = audio.prepare(decoded, decoded_rate, sample_rate)[:samples] if len(decoded) else decoded
    return np.pad(waveform, (0, samples - len(waveform))).astype(np.float32, copy=False)


class Contender(Protocol):
    """A codec in a comparison. It crosses to other processes, so that it loads what is heavy at its first use."""

    @property
    def name(self) -> str:
        """What tables and `--against` call it: `opus:6`."""
        ...

    @property
    def identity(self) -> str:
        """Everything that its results depend on but the audio: versions of programs, fingerprints, rates."""
        ...

    def code(self, waveform: np.ndarray, sample_rate: int) -> Coded:
        """Code and decode a waveform (T,) float32 in [-1, 1] at `sample_rate` Hz, 16 kHz in an evaluation.

        Raises:
            AudioError: where this utterance cannot be coded; the sentence names the codec.
            UsageError: where nothing can be.
        """
        ...


@dataclass(frozen=True)
class Original:
    """The original as 16-bit WAV: the best that any codec can be."""

    name: str = "original"
    identity: str = "original"

    def code(self, waveform: np.ndarray, sample_rate: int) -> Coded:
        """Give the waveform (T,) back as it is."""
        return Coded(WAV_HEADER + 2 * len(waveform), waveform, 0.0, 0.0)


class Own:
    """A codec of vqaudio: every utterance goes to the bytes of a `.codes` file and back.

    Args:
        name: of the model.
        identity: fingerprints, the decoder, and how files are written.
        load: gives the codec, once in each process, so it must be picklable.
        decoder: of the codec; by default its own choice.
        coder: writes the files under a prior; by default codes are of fixed width.
    """

    def __init__(
        self,
        name: str,
        identity: str,
        load: Callable[[], Codec],
        decoder: str | None = None,
        coder: Coder | None = None,
    ) -> None:
        self.name, self.identity = name, identity
        self.load, self.decoder, self.coder = load, decoder, coder

    @functools.cached_property
    def codec(self) -> Codec:
        """Loaded and warmed up at first use, so that a contender crosses to another process without it."""
        codec = self.load()
        self._there_and_back(codec, np.zeros(int(WARM_UP_SECONDS * audio.SAMPLE_RATE), np.float32), audio.SAMPLE_RATE)
        return codec

    def missing(self) -> str | None:
        """Nothing: what was loaded is there."""
        return None

    def code(self, waveform: np.ndarray, sample_rate: int) -> Coded:
        """Code and decode a waveform (T,).

        Raises:
            AudioError: where it cannot be coded, or comes back with another length or as no sound.
            UsageError: where the codec has no such decoder.
        """
        return self._there_and_back(self.codec, waveform, sample_rate)

    def _there_and_back(self, codec: Codec, waveform: np.ndarray, sample_rate: int) -> Coded:
        started = time.perf_counter()
        data = codec.encode(waveform, sample_rate).to_bytes(self.coder)
        encoded = time.perf_counter()
        codes = Codes.from_bytes(data, coder=self._find)
        decoded = np.asarray(codec.decode(codes, decoder=self.decoder))
        finished = time.perf_counter()
        if decoded.shape != (codes.samples,):
            raise AudioError(f"{codes.samples} samples come back from {self.name} with the shape {decoded.shape}.")
        audio.finite(decoded, f"What {self.name} decodes")
        histogram = np.stack([np.bincount(row, minlength=codes.codebook_size) for row in codes.numpy()])
        decoded = fitted(decoded, codes.sample_rate, len(waveform), sample_rate)
        return Coded(len(data), decoded, encoded - started, finished - encoded, histogram)

    def _find(self, fingerprint: bytes) -> Coder:
        assert self.coder is not None  # the file was written by it
        return self.coder


def own_codec(
    codec: Codec,
    load: Callable[[], Codec],
    decoder: str | None = None,
    coder: Coder | None = None,
    name: str | None = None,
) -> Own:
    """A model as it is measured.

    Args:
        codec: the model.
        load: gives it again, in another process.
        decoder, coder: as for `Own`.
        name: by default the model's own.
    """
    decoder = decoder or codec.decoders[0]
    weights = whole_fingerprint(codec.config, codec.state).hex()
    written = f"under the prior {coder.fingerprint.hex()}" if coder else "of fixed width"
    identity = f"{codec.fingerprint.hex()}, all weights {weights}, {decoder} decoder, files {written}"
    return Own(name or codec.config.name, identity, load, decoder, coder)
