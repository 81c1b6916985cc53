"""What a WaveNet says of one sample: a mixture of discretised logistics, or a softmax over mu-law levels.

The mixture follows PixelCNN++ (Salimans et al. 2017, arXiv 1701.05517, section 2.1) and Parallel WaveNet (van den Oord
et al. 2017, arXiv 1711.10433, section 2.1), the softmax WaveNet (van den Oord et al. 2016, arXiv 1609.03499, section
2.2). Both have one interface, in which parameters are (B, bands, P) or (B, bands, P, T), P of them for each sample,
samples (B, bands) or (B, bands, T), and all arithmetic is in float32, under autocast too.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

from vqaudio.models.constants import FLOOR, HALF_BIN, LAST_BIN, LOG_SCALES, MU


class Distribution(ABC):
    """The distribution of single samples in [-1, 1], given its parameters.

    Attributes:
        dither: half the width of the uniform noise that training should add to samples, in units of their level.
    """

    dither: float = 0.0

    @abstractmethod
    def log_likelihood(self, parameters: Tensor, samples: Tensor) -> Tensor:
        """The log-probability in nats of the bin that each sample lies in, of the shape of `samples`."""

    @abstractmethod
    def sample(self, parameters: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
        """Samples through inverse cumulative distributions.

        Args:
            uniforms: of the samples' shape and one more dimension of 2, strictly between 0 and 1.
            temperature: 1 leaves the distribution as it is, lower ones narrow it, 0 takes its most likely part.
        """

    @abstractmethod
    def compand(self, samples: Tensor) -> Tensor:
        """Samples on the scale on which a network should hear them, of the same shape."""

    @abstractmethod
    def at_level(self, numbers: Tensor, levels: Tensor) -> Tensor:
        """Parameters from a network's numbers (B, bands, P, T), which are of about unit variance, for samples whose
        root mean square in each band is `levels` (bands,)."""


class LogisticMixture(Distribution):
    """A mixture of logistics integrated over 2^16 bins; the outermost bins take the tails.

    Parameters are the logits, the means and the log-scales of all components, in this order. A sample is taken as the
    centre of its bin, so that values between those of 16-bit audio have their likelihood too.

    A temperature multiplies the scales and divides the logits; at 0 the likeliest component gives its mean.
    """

    dither = math.exp(FLOOR)  # keeps the scales of a constant signal near their floor

    def log_likelihood(self, parameters: Tensor, samples: Tensor) -> Tensor:
        """As the base says. With a = (x - h - m) / s and b = (x + h - m) / s, the edges of the bin of half-width h,
        sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b)), in which nothing cancels."""
        logits, means, log_scales = _split(parameters)
        values = samples.float().unsqueeze(2).clamp(-1.0, LAST_BIN)
        sharpness = torch.exp(-log_scales)
        distance = values - means
        below = F.logsigmoid((distance + HALF_BIN) * sharpness)
        above = F.logsigmoid((HALF_BIN - distance) * sharpness)
        inside = torch.log(-torch.expm1(-2 * HALF_BIN * sharpness))
        first, last = values <= HALF_BIN - 1, values >= LAST_BIN - HALF_BIN
        component = torch.where(first, below, torch.where(last, above, below + above + inside))
        return torch.logsumexp(F.log_softmax(logits, dim=2) + component, dim=2)

    def sample(self, parameters: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
        """As the base says: the first uniform chooses the component, the second the value, clipped to [-1, 1)."""
        logits, means, log_scales = _split(parameters)
        chosen = _choose(logits, uniforms[..., 0], temperature).unsqueeze(2)
        mean, log_scale = (x.gather(2, chosen).squeeze(2) for x in (means, log_scales))
        values = mean + temperature * torch.exp(log_scale) * torch.logit(uniforms[..., 1])
        return values.clamp(-1.0, LAST_BIN)

    def compand(self, samples: Tensor) -> Tensor:
        """Samples as they are."""
        return samples

    def at_level(self, numbers: Tensor, levels: Tensor) -> Tensor:
        """As the base says: means in units of the level, scales relative to it and not below their floor."""
        logits, means, log_scales = numbers.chunk(3, dim=2)
        level = levels[:, None, None]
        return torch.cat([logits, means * level, log_scales.clamp(min=FLOOR) + level.log()], dim=2)


class MuLaw(Distribution):
    """A softmax over mu-law levels; parameters are their logits.

    The bins are wide, and likelihoods comparable only with those of other mu-law models. A temperature divides the
    logits; at 0 the likeliest level is taken.
    """

    def encode(self, samples: Tensor) -> Tensor:
        """Samples, clipped to [-1, 1], to the integers of their levels in [0, `MU`]."""
        samples = samples.float().clamp(-1.0, 1.0)
        companded = samples.sign() * torch.log1p(MU * samples.abs()) / math.log1p(MU)
        return ((companded + 1) / 2 * MU + 0.5).long()

    def decode(self, indices: Tensor) -> Tensor:
        """Levels in [0, `MU`] to the samples in the middle of them."""
        companded = self._scalar(indices)
        return companded.sign() * torch.expm1(companded.abs() * math.log1p(MU)) / MU

    def log_likelihood(self, parameters: Tensor, samples: Tensor) -> Tensor:
        """As the base says."""
        log_probabilities = F.log_softmax(parameters.float(), dim=2)
        return log_probabilities.gather(2, self.encode(samples).unsqueeze(2)).squeeze(2)

    def sample(self, parameters: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
        """As the base says, by the first uniform alone."""
        return self.decode(_choose(parameters.float(), uniforms[..., 0], temperature))

    def compand(self, samples: Tensor) -> Tensor:
        """The companded value of the level of each sample, in [-1, 1]."""
        return self._scalar(self.encode(samples))

    def at_level(self, numbers: Tensor, levels: Tensor) -> Tensor:
        """Logits as they are, whatever the level."""
        return numbers

    def _scalar(self, indices: Tensor) -> Tensor:
        return indices.float() * (2 / MU) - 1


def _split(parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    logits, means, log_scales = parameters.float().chunk(3, dim=2)
    return logits, means, log_scales.clamp(*LOG_SCALES)


def _choose(logits: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
    """The index in dimension 2 at which the cumulative distribution of the tempered logits passes the uniforms."""
    if temperature == 0:
        return logits.argmax(dim=2)
    tempered = (logits - logits.amax(dim=2, keepdim=True)) / temperature
    cumulative = torch.softmax(tempered, dim=2).cumsum(dim=2)
    return (uniforms.unsqueeze(2) >= cumulative).sum(dim=2).clamp(max=logits.shape[2] - 1)
