"""From quantised latents to conditioning on the CPU, as `vqaudio.models.conditioning`, in chunks of any size."""

from __future__ import annotations

import numpy as np

from vqaudio.models.config import CodecConfig
from vqaudio.models.constants import MEL_MEAN, MEL_SPREAD
from vqaudio.runtime.layers import Convolution, GatedStack, GatedState, Past, Weights
from vqaudio.runtime.product import Floats


class Conditioning:
    """Quantised latents to conditioning."""

    def __init__(self, config: CodecConfig, weights: Weights) -> None:
        own = config.conditioning
        self.mels = own.mels
        self.input = Convolution(
            weights, "conditioning.input", config.encoder.latent_channels, own.channels, own.kernel, exact=False
        )
        shape = (own.channels, own.channels, own.kernel, (1,) * own.layers, config.speaker.width)
        self.stack = GatedStack(weights, "conditioning.stack", *shape)
        self.mel = Convolution(weights, "conditioning.mel", own.channels, own.mels)

    def start(self, speaker: Floats | None) -> ConditioningState:
        """The state of a new stream of a speaker (S,) or None."""
        return ConditioningState(self.input.start(), self.stack.start(speaker))

    def push(self, state: ConditioningState, latents: Floats, last: bool) -> Floats:
        """The next latents (n, D) to the conditioning that they complete (m, C)."""
        return self.stack.push(state.stack, self.input(state.input.push(latents, last)), last)

    def levels(self, conditioning: Floats) -> Floats:
        """How loud frames of conditioning (n, C) are going to be: the log of the sum of their mel spectrum (n,)."""
        return np.log(np.exp(MEL_MEAN + MEL_SPREAD * self.mel(conditioning)[:, : self.mels]).sum(axis=1))


class ConditioningState:
    """What a stream of conditioning remembers."""

    def __init__(self, input_: Past, stack: GatedState) -> None:
        self.input, self.stack = input_, stack
