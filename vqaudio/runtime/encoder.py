"""From samples to latents on the CPU, as `vqaudio.models.encoder`, in chunks of any size."""

from __future__ import annotations

import numpy as np

from vqaudio.models.config import CodecConfig
from vqaudio.models.constants import COMPRESSED_GAIN
from vqaudio.runtime.layers import Convolution, Past, Strided, Weights, rectified
from vqaudio.runtime.product import Floats


class Encoder:
    """Samples to latents."""

    def __init__(self, config: CodecConfig, weights: Weights) -> None:
        self.config, self.hop = config.encoder, config.hop
        widths = (1, *config.encoder.channels)
        self.strided = [
            Strided(weights, f"encoder.strided.{i}", widths[i], widths[i + 1], stride)
            for i, stride in enumerate(config.encoder.strides)
        ]
        width, kernel = widths[-1], config.encoder.kernel
        self.residual = [
            (
                Convolution(weights, f"encoder.residual.{i}.dilated", width, width, kernel, dilation, exact=False),
                Convolution(weights, f"encoder.residual.{i}.output", width, width, exact=False),
            )
            for i, dilation in enumerate(config.encoder.dilations)
        ]
        self.output = Convolution(weights, "encoder.output", width, config.encoder.latent_channels)

    def start(self) -> EncoderState:
        """The state of a new stream."""
        return EncoderState([layer.start() for layer in self.strided], [layer.start() for layer, _ in self.residual])

    def push(self, state: EncoderState, samples: Floats, last: bool) -> Floats:
        """The next samples (n,) to the latents that they complete (m, D); the last frame is filled with silence."""
        state.samples += len(samples)
        if last:
            samples = np.concatenate([samples, np.zeros(-state.samples % self.hop, np.float32)])
        before = np.concatenate([[state.previous], samples])
        state.previous = before[-1]
        with np.errstate(over="ignore"):  # of sound far beyond full scale
            emphasised = samples - np.float32(self.config.pre_emphasis) * before[:-1]
            rows: Floats = (np.float32(self.config.gain) * emphasised).astype(np.float32)[:, None]
        for strided, past in zip(self.strided, state.strided, strict=True):
            rows = rectified(strided.push(past, rows, last))
        rows = COMPRESSED_GAIN * np.arcsinh(self.config.compression * rows)
        for (dilated, output), past in zip(self.residual, state.residual, strict=True):
            held = past.push(rows, last)
            change = output(rectified(dilated(rectified(held))))
            rows = held[past.back : past.back + len(change)] + change
        return self.output(rectified(rows))


class EncoderState:
    """What a stream remembers: the past of every layer, and the last sample."""

    def __init__(self, strided: list[Past], residual: list[Past]) -> None:
        self.strided, self.residual = strided, residual
        self.samples, self.previous = 0, np.float32(0)
