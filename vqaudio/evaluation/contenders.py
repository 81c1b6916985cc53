"""What is measured: a codec of vqaudio, one of another make, or the original itself, behind one interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Coded:
    """One utterance after coding.

    Attributes:
        size: bytes that the codec wrote, headers included.
        decoded: (T,) float32 at the rate of the original and of its length; any delay is still in it.
        encode_seconds, decode_seconds: time that it took, in one thread; of a program, with its start.
        codes: (quantizers, frames) integers, where the codec has such.
    """

    size: int
    decoded: np.ndarray
    encode_seconds: float
    decode_seconds: float
    codes: np.ndarray | None = None


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
