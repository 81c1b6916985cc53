"""From latents to what is sent of a speaker, and from that to a vector, on the CPU, as `vqaudio.models.speaker`."""

from __future__ import annotations

import numpy as np

from vqaudio.models.config import CodecConfig
from vqaudio.runtime.compilation import entry
from vqaudio.runtime.layers import Convolution, Past, Weights, rectified
from vqaudio.runtime.product import Floats


class Reference:
    """Latents to the numbers of a reference speaker, from sums over all frames of a stream."""

    def __init__(self, config: CodecConfig, weights: Weights) -> None:
        speaker = config.speaker
        self.levels, self.channels = speaker.levels, speaker.channels
        self.first = Convolution(weights, "speaker.frames.0", config.encoder.latent_channels, speaker.channels)
        self.second = Convolution(weights, "speaker.frames.2", speaker.channels, speaker.channels, 3)
        self.pooled = weights.take("speaker.pooled.weight", speaker.dims, 2 * speaker.channels)
        self.pooled_bias = weights.take("speaker.pooled.bias", speaker.dims)

    def start(self) -> ReferenceState:
        """The state of a new stream."""
        return ReferenceState(self.second.start(), np.zeros((2, self.channels)))

    def push(self, state: ReferenceState, latents: Floats, last: bool) -> None:
        """Listen to the next latents (n, D)."""
        frames = rectified(self.second(state.past.push(rectified(self.first(latents)), last)))
        add_statistics(frames, state.sums)
        state.count += len(frames)

    def indices(self, state: ReferenceState) -> list[int]:
        """What is sent of the speaker, when the stream has ended."""
        mean, square = state.sums / max(1, state.count)
        deviation = np.sqrt(np.maximum(square - mean * mean, 0) + 1e-5)
        coordinates = np.tanh(self.pooled @ np.concatenate([mean, deviation]) + self.pooled_bias)
        known = np.nan_to_num(coordinates)  # sound far beyond full scale leads to infinite numbers, and these to none
        return [round(level) for level in (known + 1) / 2 * (self.levels - 1)]


class ReferenceState:
    """What a stream remembers: the past of the convolution, and sums of the frames and of their squares so far."""

    def __init__(self, past: Past, sums: np.ndarray) -> None:
        self.past, self.sums, self.count = past, sums, 0


class SpeakerVectors:
    """The speaker vector of what was sent, as `vqaudio.models.speaker`."""

    def __init__(self, config: CodecConfig, weights: Weights) -> None:
        self.config = config.speaker
        speaker = config.speaker
        if speaker.kind != "none":
            self.null = weights.take("speaker.null", speaker.channels)
        if speaker.kind == "lookup":
            self.table = weights.take("speaker.table.weight", speaker.speakers, speaker.channels)
        if speaker.kind == "reference":
            self.layers = [
                (
                    weights.take(f"speaker.vector.{i}.weight", speaker.channels, inputs),
                    weights.take(f"speaker.vector.{i}.bias", speaker.channels),
                )
                for i, inputs in ((0, speaker.dims), (2, speaker.channels))
            ]

    def vector(self, indices: list[int] | None) -> Floats | None:
        """(S,), the null speaker for None; None for a model without speakers."""
        if self.config.kind == "none":
            return None
        if indices is None:
            return self.null
        if self.config.kind == "lookup":
            return self.table[indices[0]]
        (first, first_bias), (second, second_bias) = self.layers
        numbers = np.array(indices, np.float32) / np.float32(self.config.levels - 1) * np.float32(2) - np.float32(1)
        hidden = first @ numbers + first_bias
        hidden = hidden / (1 + np.exp(-hidden))
        return (second @ hidden + second_bias).astype(np.float32)


@entry
def add_statistics(frames: Floats, sums: np.ndarray) -> None:
    """Add the frames (n, C) and their squares to sums (2, channels), frame after frame."""
    for frame in range(len(frames)):
        for c in range(sums.shape[1]):
            sums[0, c] += frames[frame, c]
            sums[1, c] += frames[frame, c] * frames[frame, c]
