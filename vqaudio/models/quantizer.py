"""Vector quantisation with a straight-through gradient, one stage or several residual ones (paper, sections 3.1, 3.2
and appendix A.1).

Code vectors and latents lie on the unit sphere of a small space of their own, the codebook follows a moving average of
the latents, starts from the data, and codes that fall out of use start again (Razavi et al. 2019, arXiv 1906.00446;
Zeghidour et al. 2021, arXiv 2107.03312; Yu et al. 2021, arXiv 2110.04627).

A predictive quantiser codes what the quantised latent before does not tell: q_t = N(A q_(t-1) + e_t), N being the way
to the sphere, q before the first frame zero, A the matrix of least squares (predictive vector quantisation: Gersho and
Gray 1992, chapter 13), e_t the code vector whose q_t is nearest. The choice of a code moves what is predicted of the
next, so the search may go on with several sequences and decide late (the M-algorithm: Anderson and Mohan 1984). Where
the rate has a weight, the bits that a code takes by its share of all codes count beside the distance
(entropy-constrained vector quantisation: Chou, Lookabaugh and Gray 1989).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqaudio.models.config import QuantizerConfig
from vqaudio.models.sharing import all_reduce, rank

KMEANS_STEPS = 10
RIDGE = 4e-3  # of the least squares, beside vectors of length 1: without it A is large, and late to forget a loss


@dataclass(frozen=True)
class Quantized:
    """What a quantiser returns.

    Attributes:
        latents: quantised latents (B, D, T), with the straight-through gradient.
        codes: (B, quantizers, T), int64 in [0, K).
        codebook_loss: ||sg[z_e] - e||^2 per position, summed over quantisers; zero for a moving average.
        commitment_loss: ||z_e - sg[e]||^2 per position, summed over quantisers.
    """

    latents: Tensor
    codes: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor


def nearest(latents: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest code vector: (N, d) and (K, d) to (N,), by squared Euclidean distance."""
    # as one product: where sum and product are apart, what torch.compile makes of it in torch 2.11 finds wrong indices
    return torch.addmm(codebook.square().sum(1), latents, codebook.t(), alpha=-2).argmin(1)


def histogram(codes: Tensor, codebook_size: int) -> Tensor:
    """How often each code occurs: integers of any shape to float (K,). On a GPU `bincount` would make the host wait."""
    counts = torch.zeros(codebook_size, device=codes.device)
    return counts.index_add_(0, codes.flatten(), torch.ones(codes.numel(), device=codes.device))


def perplexity(counts: Tensor) -> Tensor:
    """exp of the entropy of a histogram (K,): the number of codes in effective use."""
    return torch.special.entr(counts / counts.sum()).sum().exp()


def frame_by_frame(
    points: Tensor, prediction: Tensor, codebook: Tensor, costs: Tensor, paths: int, delay: int
) -> Tensor:
    """Points (B, T, d) on the sphere to predictive codes (B, T).

    A code misses its point by half the squared distance from there, together with what A (d, d) predicts, and by its
    cost, of costs (K,). Of all sequences that go on from the `paths` best so far, by the sum of their misses, the
    search keeps as many; `delay` frames later a code is that of the best one, and sequences with another one end.
    """
    points = points.nan_to_num(0.0, 0.0, 0.0)  # or one that is not finite would spoil all sums after it
    batch, size, squares = len(points), len(codebook), codebook.square().sum(1)
    products, doubled = points @ codebook.t(), 2 * codebook.t()
    ends = points.new_zeros(batch, paths, points.shape[2])
    missed = points.new_full((batch, paths), torch.inf)
    missed[:, 0] = 0
    recent = torch.zeros(batch, paths, delay + 1, dtype=torch.long, device=points.device)
    codes = []
    for frame, point in enumerate(points.unbind(1)):
        ahead = ends @ prediction.t()
        along = (ahead * point.unsqueeze(1)).sum(2, keepdim=True) + products[:, frame].unsqueeze(1)
        lengths = (ahead @ doubled + ahead.square().sum(2, keepdim=True) + squares).clamp(min=1e-12).sqrt()
        misses = missed.unsqueeze(2) + costs - along / lengths
        missed, best = misses.flatten(1).topk(paths, largest=False)
        path, code = best.unsqueeze(2) // size, best % size
        ends = F.normalize(ahead.take_along_dim(path, 1) + codebook[code], dim=2)
        recent = torch.cat([recent.take_along_dim(path, 1)[:, :, 1:], code.unsqueeze(2)], 2)
        missed = missed - missed[:, :1]  # or sums would lose their last digits
        if frame >= delay:
            codes.append(recent[:, 0, 0])
            missed = missed.masked_fill(recent[:, :, 0] != recent[:, :1, 0], torch.inf)
    undecided = min(delay, points.shape[1])
    return torch.stack([*codes, *recent[:, 0, delay + 1 - undecided :].unbind(1)], 1)


def vector_by_vector(vectors: Tensor, prediction: Tensor) -> Tensor:
    """What A (d, d) predicts of each point from the code vectors (B, T, d) before it (B, T, d)."""
    predicted, ahead = [], torch.zeros_like(vectors[:, 0])
    for vector in vectors.unbind(1):
        predicted.append(ahead)
        ahead = F.normalize(ahead + vector, dim=1) @ prediction.t()
    return torch.stack(predicted, 1)


# Single operations, because a graph of all frames would take minutes to compile.
follow = torch.library.custom_op("vqaudio::follow", frame_by_frame, mutates_args=())
predict = torch.library.custom_op("vqaudio::predict", vector_by_vector, mutates_args=())


@follow.register_fake
def _(points: Tensor, prediction: Tensor, codebook: Tensor, costs: Tensor, paths: int, delay: int) -> Tensor:
    return points.new_empty(points.shape[:2], dtype=torch.long)


@predict.register_fake
def _(vectors: Tensor, prediction: Tensor) -> Tensor:
    return vectors.new_empty(vectors.shape)


def least_squares(autocorrelation: Tensor, crosscorrelation: Tensor) -> Tensor:
    """The matrix A (d, d) that predicts best, of the means of q q^T and z q^T, q being the vector before z."""
    return torch.linalg.solve_ex(ridged(autocorrelation), crosscorrelation.t())[0].t()


def ridged(autocorrelation: Tensor) -> Tensor:
    """The mean of q q^T (d, d) and the ridge beside it."""
    return autocorrelation + RIDGE * torch.eye(len(autocorrelation), device=autocorrelation.device)


def correlations(before: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """The means of q q^T and z q^T (d, d) over all positions of q and z (B, T, d), in all processes."""
    count = torch.full((), before[..., 0].numel(), dtype=before.dtype, device=before.device)
    own = torch.einsum("bti,btj->ij", before, before)
    cross = torch.einsum("bti,btj->ij", points, before)
    all_reduce(own, cross, count)
    return own / count.clamp(min=1), cross / count.clamp(min=1)


class VectorQuantizer(nn.Module):
    """One codebook: latents (B, D, T) to their nearest codes and back.

    Args:
        channels: D of the latents; they are projected to `config.code_dim` and back.
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor
    prediction: Tensor
    autocorrelation: Tensor
    crosscorrelation: Tensor
    bits: Tensor

    def __init__(self, config: QuantizerConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        self.project_in = nn.Conv1d(channels, config.code_dim, 1)
        self.project_out = nn.Conv1d(config.code_dim, channels, 1)
        codebook = torch.randn(config.codebook_size, config.code_dim)
        codebook = F.normalize(codebook, dim=1) if self.on_sphere else codebook
        if config.codebook == "loss":
            self.codebook = nn.Parameter(codebook)
        else:
            self.register_buffer("codebook", codebook)
            self.register_buffer("sums", codebook.clone())
        self.register_buffer("counts", torch.ones(config.codebook_size))
        if config.predictive:
            for name in ("prediction", "autocorrelation", "crosscorrelation"):
                self.register_buffer(name, torch.zeros(config.code_dim, config.code_dim))
            if config.rate_weight > 0:
                self.register_buffer("bits", torch.zeros(config.codebook_size))
            self.start_average()

    @property
    def on_sphere(self) -> bool:
        """Whether the code vectors have length 1."""
        return self.config.normalize and not self.config.predictive

    def project(self, latents: Tensor) -> Tensor:
        """(B, D, T) to the space of the codes (B, d, T)."""
        z = self.project_in(latents)
        return F.normalize(z, dim=1) if self.config.normalize else z

    def vectors(self) -> Tensor:
        """The code vectors (K, d)."""
        return F.normalize(self.codebook, dim=1) if self.on_sphere else self.codebook

    def costs(self) -> Tensor:
        """What each code must be nearer by to be chosen (K,), as half the squared distance on the sphere."""
        if self.config.rate_weight > 0:
            return self.config.rate_weight * self.bits
        return torch.zeros_like(self.codebook[:, 0])

    def search(self, points: Tensor) -> Tensor:
        """Projected latents (B, T, d) to their codes (B, T)."""
        own = self.config
        if own.predictive:
            return follow(points, self.prediction, self.codebook, self.costs(), own.paths, own.delay)
        return nearest(points.flatten(0, 1), self.vectors()).unflatten(0, points.shape[:2])

    def points(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (B, T) to what those before each frame tell of it (B, T, d), and to the quantised points (B, T, d)."""
        vectors = self.vectors()[codes]
        if not self.config.predictive:
            return torch.zeros_like(vectors), vectors
        predicted = predict(vectors, self.prediction)
        return predicted, F.normalize(predicted + vectors, dim=-1)

    def codes(self, latents: Tensor) -> Tensor:
        """Latents (B, D, T) to codes (B, T), without loss or update."""
        return self.search(self.project(latents).transpose(1, 2))

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, D, T) to quantised latents (B, D, T), codes (B, T), codebook loss and commitment loss.

        In training mode the moving averages are updated as well, and dead codes restart.
        """
        z = self.project(latents).transpose(1, 2)
        points = z.detach()
        if self.training and self.config.codebook == "loss":
            # before autograd sees the codebook, which must not change until the gradient
            self.restart(points.flatten(0, 1))
        with torch.no_grad():
            codes = self.search(points)
        predicted, quantized = self.points(codes)
        commitment = (z - quantized.detach()).square().sum(2).mean()
        codebook = (points - quantized).square().sum(2).mean()
        if self.training and self.config.codebook == "ema":
            self.update((points - predicted).flatten(0, 1), codes.flatten())
            self.update_prediction(points, quantized)
        elif self.training:
            self.count(codes.flatten())
        straight_through = z + (quantized - z).detach()
        return self.project_out(straight_through.transpose(1, 2)), codes, codebook, commitment

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, T) to quantised latents (B, D, T)."""
        return self.project_out(self.points(codes)[1].transpose(1, 2))

    @torch.no_grad()
    def update(self, latents: Tensor, codes: Tensor) -> None:
        """Move each code towards the mean of the latents (N, d) that were assigned to it, less what was predicted of
        them, and restart the dead ones."""
        counts = histogram(codes, self.config.codebook_size)
        sums = torch.zeros_like(self.sums).index_add_(0, codes, latents)
        all_reduce(counts, sums)
        counts = self.counts.lerp(counts, 1 - self.config.decay)
        sums = self.sums.lerp(sums, 1 - self.config.decay)
        uniform = counts.sum() / self.config.codebook_size
        dead = counts < self.config.restart_below * uniform
        replacement = draw(latents, self.config.codebook_size)
        counts = torch.where(dead, uniform, counts)
        sums = torch.where(dead.unsqueeze(1), replacement * uniform, sums)
        means = sums / counts.unsqueeze(1)
        codebook = F.normalize(means, dim=1) if self.on_sphere else means
        for own, new in ((self.counts, counts), (self.sums, sums), (self.codebook, codebook)):
            own.copy_(new)
        if self.config.rate_weight > 0:
            self.bits.copy_((counts.sum() / counts).log2())

    @torch.no_grad()
    def update_prediction(self, points: Tensor, quantized: Tensor) -> None:
        """Let the prediction follow moving averages of the points (B, T, d) and of the quantised ones before them."""
        if self.config.predictive:
            own, cross = correlations(quantized[:, :-1], points[:, 1:])
            self.autocorrelation.lerp_(own, 1 - self.config.decay)
            self.crosscorrelation.lerp_(cross, 1 - self.config.decay)
            self.prediction.copy_(least_squares(self.autocorrelation, self.crosscorrelation))

    @torch.no_grad()
    def restart(self, latents: Tensor) -> None:
        """Replace the codes that `count` has found in little use by some of the latents (N, d)."""
        uniform = self.counts.mean()
        replacement = draw(latents, self.config.codebook_size)
        dead = self.counts < self.config.restart_below * uniform
        self.counts.copy_(torch.where(dead, uniform, self.counts))
        self.codebook.copy_(torch.where(dead.unsqueeze(1), replacement, self.codebook))

    @torch.no_grad()
    def count(self, codes: Tensor) -> None:
        """Let the moving average of each code's use follow the codes (N,)."""
        counts = histogram(codes, self.config.codebook_size)
        all_reduce(counts)
        self.counts.lerp_(counts, 1 - self.config.decay)

    @torch.no_grad()
    def initialize(self, latents: Tensor) -> None:
        """Start the codebook from latents (B, D, T) by k-means, and the prediction by least squares; they stay as they
        are where the latents are not finite."""
        kept = {name: value.clone() for name, value in self.state_dict().items()}
        if self.config.rate_weight > 0:
            self.bits.zero_()
        points = self.project(latents).transpose(1, 2)
        predicted = torch.zeros_like(points)
        if self.config.predictive:
            self.prediction.copy_(least_squares(*correlations(points[:, :-1], points[:, 1:])))
            predicted[:, 1:] = points[:, :-1] @ self.prediction.t()
        self.codebook.copy_(draw((points - predicted).flatten(0, 1), self.config.codebook_size))
        for _ in range(KMEANS_STEPS):
            codes = self.search(points)
            predicted, quantized = self.points(codes)
            rests = (points - predicted).flatten(0, 1)
            counts = histogram(codes, self.config.codebook_size)
            sums = torch.zeros_like(self.codebook).index_add_(0, codes.flatten(), rests)
            all_reduce(counts, sums)
            empty = (counts == 0).unsqueeze(1)
            means = torch.where(empty, draw(rests, len(counts)), sums / counts.clamp(min=1).unsqueeze(1))
            self.codebook.copy_(F.normalize(means, dim=1) if self.on_sphere else means)
            if self.config.predictive:
                self.prediction.copy_(least_squares(*correlations(quantized[:, :-1], points[:, 1:])))
        finite = torch.stack([torch.isfinite(value).all() for value in self.state_dict().values()]).all()
        for name, value in self.state_dict().items():
            value.copy_(torch.where(finite, value, kept[name]))
        self.start_average()

    @torch.no_grad()
    def start_average(self) -> None:
        """Let the moving averages begin where the codebook, the bits of its codes and the prediction are."""
        self.counts.fill_(1.0)
        if self.config.rate_weight > 0:
            self.counts.copy_((self.bits.mean() - self.bits).exp2())
        if self.config.codebook == "ema":
            self.sums.copy_(self.codebook * self.counts[:, None])
        if self.config.predictive:
            self.autocorrelation.copy_(torch.eye(self.config.code_dim) / self.config.code_dim)
            self.crosscorrelation.copy_(self.prediction @ ridged(self.autocorrelation))


def draw(latents: Tensor, count: int) -> Tensor:
    """`count` random rows of latents (N, d), the same in every process."""
    rows = latents[torch.randint(len(latents), (count,), device=latents.device)]
    rows = rows if rank() == 0 else torch.zeros_like(rows)
    all_reduce(rows)  # a sum, because torch.compile knows no broadcast
    return rows


class ResidualQuantizer(nn.Module):
    """Quantisers in a row, each coding what the ones before it left over; fewer of them give a lower rate.

    Args:
        channels: D of the latents.
    """

    def __init__(self, config: QuantizerConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        stages = nn.ModuleList(VectorQuantizer(config, channels) for _ in range(config.quantizers))
        self.stages = cast(Sequence[VectorQuantizer], stages)

    def forward(self, latents: Tensor) -> Quantized:
        """(B, D, T) to a `Quantized`, in fp32 also under autocast."""
        with torch.autocast(latents.device.type, enabled=False):
            residual = latents.float()
            total = torch.zeros_like(residual)
            keep = self._kept_stages(residual)
            codes, codebook_loss, commitment_loss = [], residual.new_zeros(()), residual.new_zeros(())
            for i, stage in enumerate(self.stages):
                quantized, index, codebook, commitment = stage(residual)
                total = total + torch.where(keep > i, quantized, 0.0)
                residual = residual - quantized
                codes.append(index)
                codebook_loss = codebook_loss + codebook
                commitment_loss = commitment_loss + commitment
            stacked = torch.stack(codes, dim=1)
        if self.config.codebook == "ema":
            codebook_loss = codebook_loss.detach() * 0
        return Quantized(total, stacked, codebook_loss, commitment_loss)

    def bypass(self, latents: Tensor) -> Tensor:
        """The latents (B, D, T) through all projections without quantisation: how training begins."""
        with torch.autocast(latents.device.type, enabled=False):
            residual = latents.float()
            total = torch.zeros_like(residual)
            for stage in self.stages:
                part = stage.project_out(stage.project(residual))
                total, residual = total + part, residual - part
        return total

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, quantizers, T), all or only the first ones, to quantised latents (B, D, T)."""
        parts = [stage.decode(codes[:, i]) for i, stage in enumerate(self.stages[: codes.shape[1]])]
        return torch.stack(parts).sum(0)

    @torch.no_grad()
    def initialize(self, latents: Tensor) -> None:
        """Start all codebooks from latents (B, D, T), each from what the ones before it leave over."""
        residual = latents.float()
        for stage in self.stages:
            stage.initialize(residual)
            residual = residual - stage.decode(stage.codes(residual))

    def _kept_stages(self, latents: Tensor) -> Tensor:
        """How many stages each item keeps (B, 1, 1): all, but for the share that quantiser dropout shortens."""
        count = len(self.stages)
        kept = torch.full((len(latents), 1, 1), count, device=latents.device)
        if self.training and self.config.dropout > 0:
            fewer = torch.randint(1, count + 1, kept.shape, device=latents.device)
            dropped = torch.rand(kept.shape, device=latents.device) < self.config.dropout
            kept = torch.where(dropped, fewer, kept)
        return kept
