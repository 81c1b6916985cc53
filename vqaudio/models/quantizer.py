"""Vector quantisation with a straight-through gradient, one stage or several residual ones (paper, sections 3.1, 3.2
and appendix A.1).

Code vectors and latents lie on the unit sphere of a small space of their own, the codebook follows a moving average of
the latents, starts from the data, and codes that fall out of use start again (Razavi et al. 2019, arXiv 1906.00446;
Zeghidour et al. 2021, arXiv 2107.03312; Yu et al. 2021, arXiv 2110.04627).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from vqaudio.models.config import QuantizerConfig

KMEANS_STEPS = 10


@dataclass(frozen=True)
class Quantized:
    """What a quantiser returns.

    Attributes:
        latents: quantised latents (B, D, T), with the straight-through gradient.
        codes: (B, quantizers, T), int64 in [0, K).
        codebook_loss: ||sg[z_e] - e||^2 per position, summed over quantisers; zero for a moving average.
        commitment_loss: ||z_e - sg[e]||^2 per position, summed over quantisers.
        perplexity: (quantizers,), exp of the entropy of the codes in this batch.
    """

    latents: Tensor
    codes: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor
    perplexity: Tensor


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


def all_reduce(*tensors: Tensor) -> None:
    """Sum over all processes of a distributed run, in place; nothing in a run of one."""
    if distributed.is_available() and distributed.is_initialized():
        for tensor in tensors:
            distributed.all_reduce(tensor)


class VectorQuantizer(nn.Module):
    """One codebook: latents (B, D, T) to their nearest codes and back.

    Args:
        channels: D of the latents; they are projected to `config.code_dim` and back.
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, config: QuantizerConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        self.project_in = nn.Conv1d(channels, config.code_dim, 1)
        self.project_out = nn.Conv1d(config.code_dim, channels, 1)
        codebook = torch.randn(config.codebook_size, config.code_dim)
        codebook = F.normalize(codebook, dim=1) if config.normalize else codebook
        if config.codebook == "loss":
            self.codebook = nn.Parameter(codebook)
        else:
            self.register_buffer("codebook", codebook)
            self.register_buffer("sums", codebook.clone())
        self.register_buffer("counts", torch.ones(config.codebook_size))

    def project(self, latents: Tensor) -> Tensor:
        """(B, D, T) to the space of the codes (B, d, T)."""
        z = self.project_in(latents)
        return F.normalize(z, dim=1) if self.config.normalize else z

    def vectors(self) -> Tensor:
        """The code vectors (K, d)."""
        return F.normalize(self.codebook, dim=1) if self.config.normalize else self.codebook

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, D, T) to quantised latents (B, D, T), codes (B, T), codebook loss and commitment loss.

        In training mode the moving averages are updated as well, and dead codes restart.
        """
        z = self.project(latents)
        flat = z.transpose(1, 2).flatten(0, 1)
        if self.training and self.config.codebook == "loss":
            self.restart(flat.detach())  # before autograd sees the codebook, which must not change until the gradient
        vectors = self.vectors()
        codes = nearest(flat.detach(), vectors.detach())
        quantized = vectors[codes]
        commitment = (flat - quantized.detach()).square().sum(1).mean()
        codebook = (flat.detach() - quantized).square().sum(1).mean()
        if self.training and self.config.codebook == "ema":
            self.update(flat.detach(), codes)
        elif self.training:
            self.count(codes)
        codes = codes.unflatten(0, (latents.shape[0], latents.shape[2]))
        quantized = quantized.unflatten(0, codes.shape).transpose(1, 2)
        straight_through = z + (quantized - z).detach()
        return self.project_out(straight_through), codes, codebook, commitment

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, T) to quantised latents (B, D, T)."""
        return self.project_out(self.vectors()[codes].transpose(1, 2))

    @torch.no_grad()
    def update(self, latents: Tensor, codes: Tensor) -> None:
        """Move each code towards the mean of the latents (N, d) that were assigned to it, and restart the dead ones."""
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
        codebook = F.normalize(means, dim=1) if self.config.normalize else means
        for own, new in ((self.counts, counts), (self.sums, sums), (self.codebook, codebook)):
            own.copy_(new)

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
        """Start the codebook from latents (B, D, T) by k-means; it stays as it is where they are not finite."""
        points = self.project(latents).transpose(1, 2).flatten(0, 1)
        vectors = draw(points, self.config.codebook_size)
        for _ in range(KMEANS_STEPS):
            codes = nearest(points, vectors)
            counts = histogram(codes, self.config.codebook_size)
            sums = torch.zeros_like(vectors).index_add_(0, codes, points)
            all_reduce(counts, sums)
            empty = (counts == 0).unsqueeze(1)
            vectors = torch.where(empty, draw(points, len(vectors)), sums / counts.clamp(min=1).unsqueeze(1))
            vectors = F.normalize(vectors, dim=1) if self.config.normalize else vectors
        self.codebook.copy_(torch.where(torch.isfinite(vectors).all(), vectors, self.codebook))
        self.start_average()

    @torch.no_grad()
    def start_average(self) -> None:
        """Let the moving averages begin where the codebook is."""
        self.counts.fill_(1.0)
        if self.config.codebook == "ema":
            self.sums.copy_(self.codebook)


def draw(latents: Tensor, count: int) -> Tensor:
    """`count` random rows of latents (N, d), the same in every process."""
    rows = latents[torch.randint(len(latents), (count,), device=latents.device)]
    if distributed.is_available() and distributed.is_initialized():
        distributed.broadcast(rows, src=0)
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

    def forward(self, latents: Tensor, quantizers: int | None = None) -> Quantized:
        """(B, D, T) to a `Quantized`, in fp32 also under autocast.

        Args:
            quantizers: how many of the stages to use; by default all.
        """
        with torch.autocast(latents.device.type, enabled=False):
            residual = latents.float()
            total = torch.zeros_like(residual)
            keep = self._kept_stages(residual)
            codes, codebook_loss, commitment_loss = [], residual.new_zeros(()), residual.new_zeros(())
            for i, stage in enumerate(self.stages[: quantizers or len(self.stages)]):
                quantized, index, codebook, commitment = stage(residual)
                total = total + torch.where(keep > i, quantized, 0.0)
                residual = residual - quantized
                codes.append(index)
                codebook_loss = codebook_loss + codebook
                commitment_loss = commitment_loss + commitment
            stacked = torch.stack(codes, dim=1)
            used = torch.stack([perplexity(histogram(c, self.config.codebook_size)) for c in codes])
        if self.config.codebook == "ema":
            codebook_loss = codebook_loss.detach() * 0
        return Quantized(total, stacked, codebook_loss, commitment_loss, used)

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
            residual = residual - stage.decode(nearest_codes(stage, residual))

    def _kept_stages(self, latents: Tensor) -> Tensor:
        """How many stages each item keeps (B, 1, 1): all, but for the share that quantiser dropout shortens."""
        count = len(self.stages)
        kept = torch.full((len(latents), 1, 1), count, device=latents.device)
        if self.training and self.config.dropout > 0:
            fewer = torch.randint(1, count + 1, kept.shape, device=latents.device)
            dropped = torch.rand(kept.shape, device=latents.device) < self.config.dropout
            kept = torch.where(dropped, fewer, kept)
        return kept


def nearest_codes(stage: VectorQuantizer, latents: Tensor) -> Tensor:
    """Codes (B, T) of latents (B, D, T) in one codebook, without loss or update."""
    flat = stage.project(latents).transpose(1, 2)
    return nearest(flat.flatten(0, 1), stage.vectors()).unflatten(0, flat.shape[:2])
