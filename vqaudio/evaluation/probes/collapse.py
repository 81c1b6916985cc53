"""Has the bottleneck collapsed? What codes say beside what a continuous VAE says, in one table.

A decoder that is strong enough predicts the next sample without its latents, and a continuous latent that costs KL
divergence then falls silent (posterior collapse). The KL divergence of a code from the uniform prior is a constant, so
nothing is to be gained by its silence (van den Oord et al. 2017, sections 2, 3.2 and 4.1).
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vqaudio.errors import UsageError
from vqaudio.evaluation.probes.likelihood import Likelihood, excerpt, likelihood
from vqaudio.models.quantizer import histogram, perplexity
from vqaudio.models.vae import VAE, Posterior
from vqaudio.models.vqvae import VQVAE
from vqaudio.weights import VAE_FORMAT, load_model

ACTIVE_VARIANCE = 0.01  # of the posterior mean over the data, above which a unit is active (Burda et al. 2016)


@dataclass(frozen=True)
class Bottleneck:
    """What the latents of speech say and cost; all in bits per frame.

    Attributes:
        kl: KL divergence from the prior: of codes the constant log2 K of each, of a VAE the mean over frames.
        information: bound on the mutual information of a frame's latents and the waveform. A code is a function of the
            waveform, so theirs is the entropy of the code, as it is estimated from the histogram, summed over
            quantisers. Of a VAE it is the entropy of a Gaussian with the mean and covariance of all latents, the most
            that they can have, less the mean entropy of the posterior; never above `kl`.
        active: codes that occur, of each quantiser; or one number of units whose posterior mean varies by more than
            `ACTIVE_VARIANCE` over the data (Burda et al. 2016, arXiv 1509.00519, section 5).
        size: codes that there are, of each quantiser; or units.
        perplexity: of the codes of each quantiser; None for a VAE.
        frames: how many were measured.
    """

    kl: float
    information: float
    active: tuple[int, ...]
    size: int
    perplexity: tuple[float, ...] | None
    frames: int


@dataclass(frozen=True)
class Collapse:
    """One model's column of the table.

    Attributes:
        name: that tells it from the others.
        kind: of its bottleneck.
        likelihood: None for a model without WaveNet.
        hop: samples per frame.
        sample_rate: Hz.
    """

    name: str
    kind: Literal["codes", "gaussian"]
    bottleneck: Bottleneck
    likelihood: Likelihood | None
    hop: int
    sample_rate: int

    @property
    def kl(self) -> float:
        """KL divergence from the prior in bits per sample."""
        return self.bottleneck.kl / self.hop

    @property
    def bound(self) -> float | None:
        """Negative evidence lower bound in bits per sample: likelihood under the true latents with `kl`."""
        return None if self.likelihood is None else self.likelihood.true + self.kl

    @property
    def kl_rate(self) -> float:
        """KL divergence from the prior in bits per second."""
        return self.bottleneck.kl * self.sample_rate / self.hop

    @property
    def information_rate(self) -> float:
        """Bound on what the latents tell of the waveform, in bits per second."""
        return self.bottleneck.information * self.sample_rate / self.hop

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, what is derived included."""
        rates = {"kl_per_second": self.kl_rate, "information_per_second": self.information_rate}
        return {**dataclasses.asdict(self), "kl_per_sample": self.kl, "bound_per_sample": self.bound, **rates}


def load_vae(path: str | os.PathLike[str], device: str = "cpu") -> VAE:
    """Load a continuous VAE, in evaluation mode.

    Raises:
        ModelError: where the file is missing, damaged, or not a VAE.
    """
    file = load_model(path, VAE_FORMAT)
    return VAE.from_arrays(file.config, file.state).to(device)


def collapse(name: str, model: VQVAE | VAE, waveforms: Sequence[np.ndarray]) -> Collapse:
    """Measure what a model's latents say and cost, and whether its WaveNet listens to them.

    Args:
        name: of the column.
        model: in evaluation mode.
        waveforms: (T,) float32 each, at the model's rate, in [-1, 1]; of each the middle is heard, as in `likelihood`.

    Raises:
        UsageError: for no utterance of at least one frame; with a WaveNet for fewer than two.
    """
    heard = [excerpt(model, waveform) for waveform in waveforms if len(waveform) >= model.config.hop]
    if not heard:
        raise UsageError("There is no utterance as long as one frame.")
    bottleneck = codes_in_use(model, heard) if isinstance(model, VQVAE) else units_in_use(model, heard)
    return Collapse(
        name=name,
        kind="codes" if isinstance(model, VQVAE) else "gaussian",
        bottleneck=bottleneck,
        likelihood=likelihood(model, waveforms) if model.wavenet is not None else None,
        hop=model.config.hop,
        sample_rate=model.config.sample_rate,
    )


@torch.inference_mode()
def codes_in_use(model: VQVAE, heard: Sequence[Tensor]) -> Bottleneck:
    """What the codes of excerpts (1, 1, T) say."""
    codes = torch.cat([model.quantizer(model.encoder(waveform)).codes for waveform in heard], dim=2)[0]
    size = model.config.quantizer.codebook_size
    counts = [histogram(stream, size).double() for stream in codes]
    perplexities = tuple(float(perplexity(c)) for c in counts)
    return Bottleneck(
        kl=len(counts) * math.log2(size),
        information=sum(math.log2(p) for p in perplexities),
        active=tuple(int((c > 0).sum()) for c in counts),
        size=size,
        perplexity=perplexities,
        frames=codes.shape[1],
    )


@torch.inference_mode()
def units_in_use(model: VAE, heard: Sequence[Tensor]) -> Bottleneck:
    """What the posteriors of excerpts (1, 1, T) say."""
    posteriors = [model.bottleneck.posterior(model.encoder(waveform)) for waveform in heard]
    mean = torch.cat([p.mean for p in posteriors], dim=2)[0].double()
    log_variance = torch.cat([p.log_variance for p in posteriors], dim=2)[0].double()
    covariance = torch.cov(mean, correction=0).reshape(len(mean), len(mean))
    total = covariance + torch.diag(log_variance.exp().mean(1))
    nats = 0.5 * (torch.logdet(total) - log_variance.sum(0).mean())
    return Bottleneck(
        kl=float(Posterior(mean, log_variance).kl().sum(0).mean()) / math.log(2),
        information=float(nats) / math.log(2),
        active=(int((covariance.diagonal() > ACTIVE_VARIANCE).sum()),),
        size=len(mean),
        perplexity=None,
        frames=mean.shape[1],
    )


def column_names(paths: Sequence[Path]) -> list[str]:
    """What tells model files apart: the names of the files, else those of their folders, else all of both."""
    for name in (lambda path: path.stem, lambda path: path.absolute().parent.name):
        names = [name(path) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def rows(columns: Sequence[Collapse]) -> list[tuple[str, list[str]]]:
    """The table as it is printed: for each row its title, and a cell for each model. What no model has is left out."""
    titles = {
        "true": "nll, true latents",
        "shuffled_in_time": "nll, shuffled in time",
        "other_utterance": "nll, another utterance's",
        "zero": "nll, no latents",
    }
    table = [
        (title, [f"{getattr(c.likelihood, name):.4f}" if c.likelihood else "" for c in columns])
        for name, title in titles.items()
    ]
    table += [
        ("KL", [f"{c.kl:.4f}" for c in columns]),
        ("bound, nll and KL", [f"{c.bound:.4f}" if c.bound is not None else "" for c in columns]),
        ("KL, bits per second", [f"{c.kl_rate:.0f}" for c in columns]),
        ("information, at most, bits per second", [f"{c.information_rate:.0f}" for c in columns]),
        ("active codes", [_active(c) if c.kind == "codes" else "" for c in columns]),
        ("perplexity", [_each(f"{p:.1f}" for p in c.bottleneck.perplexity or ()) for c in columns]),
        ("active units", [_active(c) if c.kind == "gaussian" else "" for c in columns]),
    ]
    return [(title, cells) for title, cells in table if any(cells)]


def _active(column: Collapse) -> str:
    return f"{_each(map(str, column.bottleneck.active))} of {column.bottleneck.size}"


def _each(values: Any) -> str:
    """One value for each quantiser."""
    return ", ".join(values)
