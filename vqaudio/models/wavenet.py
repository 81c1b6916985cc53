"""The autoregressive decoder: a WaveNet conditioned on the codes and on the speaker (paper, section 4.3).

The network is that of van den Oord et al. 2016 (arXiv 1609.03499) over the samples of a waveform or, with four bands,
over the sub-bands of a pseudo-QMF bank, four samples per step at a quarter of the rate (Yu et al. 2020, DurIAN, arXiv
1909.01700); the bands of one step are independent of each other given the past. The incremental pass here is the
reference for faster ones.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqaudio.errors import UsageError
from vqaudio.models.config import WaveNetConfig
from vqaudio.models.constants import LEVELS
from vqaudio.models.distributions import Distribution, LogisticMixture, MuLaw
from vqaudio.models.filterbank import PQMF
from vqaudio.models.gated import GatedStack
from vqaudio.models.random import uniforms


class WaveNet(nn.Module):
    """A distribution of every sample given the samples before it, the conditioning and the speaker.

    Waveforms are (B, 1, T) in [-1, 1] with T = frames * hop, conditioning (B, C, frames), speakers (B, S). A step is
    one sample of each band: there are T / bands of them, and step k stands for the samples around `bands * k`.

    Args:
        conditioning_channels: C.
        speaker_channels: S, 0 for none.
        hop: samples per code frame, a multiple of the bands.

    Attributes:
        distribution: what the parameters mean.
    """

    levels: Tensor

    def __init__(self, config: WaveNetConfig, conditioning_channels: int, speaker_channels: int, hop: int) -> None:
        super().__init__()
        self.config, self.bands, self.hop = config, config.bands, hop
        self.distribution: Distribution = LogisticMixture() if config.output == "logistic" else MuLaw()
        self.bank = PQMF(config.bands) if config.bands > 1 else None
        self.input = nn.Conv1d(config.bands, config.channels, 1)
        self.stack = GatedStack(
            config.channels,
            config.skip_channels,
            config.kernel,
            config.dilations,
            local_channels=conditioning_channels,
            speaker_channels=speaker_channels,
            causal=True,
        )
        self.hidden = nn.Conv1d(config.skip_channels, config.skip_channels, 1)
        self.output = nn.Conv1d(config.skip_channels, config.bands * config.sample_parameters, 1)
        self.register_buffer("levels", torch.tensor(LEVELS[config.bands]), persistent=False)

    def loss(self, waveform: Tensor, conditioning: Tensor, speaker: Tensor | None) -> Tensor:
        """Negative log-likelihood (B,) in nats per sample of the waveform, the mean over T.

        They are those of the bins of the distribution, whatever the bands: a sub-band has `bands ** -0.5` times the
        amplitude that an orthonormal bank would give it, and the loss accounts for this change of volume. While
        training, the signal is dithered by a uniform noise as wide as the narrowest distribution that can be learnt.
        """
        signal = self.split(waveform)
        if self.training:
            noise = 2 * torch.rand_like(signal) - 1
            signal = signal + self.distribution.dither * self.levels[:, None] * noise
        likelihood = self.distribution.log_likelihood(self.predict(signal, conditioning, speaker), signal)
        return 0.5 * math.log(self.bands) - likelihood.mean(dim=(1, 2))

    def predict(self, signal: Tensor, conditioning: Tensor, speaker: Tensor | None) -> Tensor:
        """The parameters (B, bands, P, T / bands) of every step of what `split` gives, given the true ones before."""
        before = F.pad(signal, (1, -1))
        return self._head(self.stack(self._embed(before), conditioning, speaker, repeat=self.hop // self.bands))

    def split(self, waveform: Tensor) -> Tensor:
        """(B, 1, T) to what the network models, (B, bands, T / bands)."""
        return waveform.float() if self.bank is None else self.bank.analysis(waveform)

    def join(self, signal: Tensor) -> Tensor:
        """(B, bands, T / bands) to the waveform (B, 1, T)."""
        return signal if self.bank is None else self.bank.synthesis(signal)

    def step(self, previous: Tensor, conditions: list[Tensor], past: list[Tensor]) -> Tensor:
        """One step of the incremental pass.

        Args:
            previous: (B, bands), the samples of the step before, zeros at the first.
            conditions: of `conditions`, per layer (B, 2C, 1).
            past: of `stack.silent_past` before the first step, moved on by one step in place.

        Returns:
            the parameters (B, bands, P) of this step.
        """
        hidden = self.stack.step(self._embed(previous.unsqueeze(2)), conditions, past)
        return self._head(hidden).squeeze(3)

    def conditions(self, conditioning: Tensor, speaker: Tensor | None) -> list[list[Tensor]]:
        """What `step` takes in each of the code frames, per frame and layer (B, 2C, 1)."""
        layers = cast(list[Tensor], self.stack.conditions(conditioning, speaker))  # none is None: there is conditioning
        return [[c[:, :, frame : frame + 1] for c in layers] for frame in range(conditioning.shape[2])]

    @torch.no_grad()
    def generate(
        self, conditioning: Tensor, speaker: Tensor | None, *, seed: int = 0, temperature: float = 1.0
    ) -> Tensor:
        """Sample waveforms (B, 1, frames * hop), item i of the batch from stream i of `vqaudio.models.random`.

        Args:
            temperature: 1 for the model's own distribution, 0 for its most likely samples.

        Raises:
            UsageError: for a temperature that is negative or no number, or a seed out of range.
        """
        if not 0 <= temperature < math.inf:
            raise UsageError(f"The temperature {temperature} is not a number of zero or more.")
        batch, steps = conditioning.shape[0], self.hop // self.bands
        past = self.stack.silent_past(batch)
        previous = torch.zeros(batch, self.bands, device=conditioning.device)
        signal = []
        for frame, conditions in enumerate(self.conditions(conditioning, speaker)):
            drawn = torch.from_numpy(uniforms(seed, frame * steps, steps, self.bands, range(batch)))
            for numbers in drawn.to(conditioning.device).unbind(dim=1):
                parameters = self.step(previous, conditions, past)
                previous = self.distribution.sample(parameters, numbers, temperature)
                signal.append(previous)
        return self.join(torch.stack(signal, dim=2))

    def _embed(self, signal: Tensor) -> Tensor:
        """(B, bands, T) to the network's input (B, channels, T): speech at its own level is far below unit variance."""
        levels = self.distribution.compand(self.levels)
        return self.input(self.distribution.compand(signal) / levels[:, None])

    def _head(self, hidden: Tensor) -> Tensor:
        """(B, skip channels, T) to parameters (B, bands, P, T); bf16 is too coarse for the last layer."""
        hidden = F.silu(self.hidden(hidden)).float()
        with torch.autocast(hidden.device.type, enabled=False):
            numbers = self.output(hidden).unflatten(1, (self.bands, -1))
        return self.distribution.at_level(numbers, self.levels)
