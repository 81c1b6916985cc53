"""A codec's networks on a GPU, in torch: what `vqaudio.codec.Codec` runs there, with the methods of `CpuNetworks`.

Only the quantiser stays on the CPU: predictive codes come one after the other, and a GPU would start anew at each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vqaudio.models.config import CodecConfig
from vqaudio.models.vqvae import VQVAE
from vqaudio.runtime.gpu_wavenet import TorchWaveNet
from vqaudio.runtime.layers import Weights, pad
from vqaudio.runtime.product import Floats
from vqaudio.runtime.quantizer import Quantizer
from vqaudio.runtime.schedule import BLOCK_SECONDS, blocks, grid
from vqaudio.runtime.segments import Sampler


class TorchNetworks:
    """All parts of a codec on a device of torch.

    Args:
        state: the weights by name, float32.

    Raises:
        ModelError: where the weights do not fit the configuration.
    """

    def __init__(self, config: CodecConfig, state: Mapping[str, np.ndarray], device: str) -> None:
        self.config = config
        self.model = VQVAE.from_arrays(config, state).to(device)
        self.device = next(self.model.parameters()).device  # with its number, which "cuda" leaves to the thread
        self.quantizer = Quantizer(config, Weights(state, paired=False))
        self.wavenet = TorchWaveNet(self.model.wavenet) if self.model.wavenet else None

    def encode(self, parts: Iterable[np.ndarray], quantizers: int, refer: bool) -> tuple[np.ndarray, list[int] | None]:
        """Samples in parts (n,) to codes (quantizers, frames), uint16, and if wanted to the numbers of a reference.

        The reference is heard block by block here, each with silence around it: a number near the edge of rounding may
        be another one than on the CPU.
        """
        codes, sums, search = [], [], self.quantizer.start_search()
        for block, first, stop in blocks(self.config, parts, 1):
            with torch.inference_mode(), self._without_autocast():  # not while the caller makes the next part
                samples = torch.from_numpy(block).to(self.device)
                samples = F.pad(samples, (0, -len(samples) % self.config.hop))
                latents = self.model.encoder(samples[None, None])[:, :, first:stop]
                if refer and self.config.speaker.kind == "reference":
                    sums.append(self.model.speaker.pool(latents))
            rows = pad(latents[0].T.cpu().numpy(), 1)
            codes.append(self.quantizer.codes(search, rows, quantizers, False))
        codes.append(self.quantizer.codes(search, rows[:0], quantizers, True))
        indices = None
        if sums:
            totals, squares, counts = zip(*sums, strict=True)
            with torch.inference_mode(), self._without_autocast():
                indices = self.model.speaker.indices(sum(totals), sum(squares), sum(counts))[0].tolist()
        return np.concatenate(codes, axis=1), indices

    @torch.inference_mode()
    def decode_spectral(self, codes: np.ndarray, speaker: list[int] | None) -> Iterator[np.ndarray]:
        """Codes (quantizers, frames) to samples, block by block (m,)."""
        own, spectral = self.config.spectral, self.model.spectral
        assert own is not None and spectral is not None
        hop, vector, frames = self.config.hop, self._vector(speaker), codes.shape[1]
        latents, phase = self._latents(codes), 0
        around, context = self.config.conditioning.reach + own.reach, own.context(hop)
        for start, first, stop, end in grid(frames, self._block, context, context):
            begin, until = max(0, start - around), min(end + around, frames)
            with self._without_autocast():
                heard = spectral.hear(self.model.conditioning(latents[:, :, begin:until], vector), vector)
                heard = heard.cut(start - begin, end - begin)
                pitch = heard.pitch()
                wave = spectral.synthesis(heard, pitch, start, phase)
            yield wave[0, 0, (first - start) * hop : (stop - start) * hop].cpu().numpy()
            phase = spectral.phase_after(pitch[:, : max(0, stop - context) - start], phase)

    @torch.inference_mode()
    def decode_wavenet(
        self, codes: np.ndarray, speaker: list[int] | None, seed: int, temperature: float, in_pieces: bool = True
    ) -> Iterator[np.ndarray]:
        """Codes (quantizers, frames) to samples, in stretches (m,) of any length.

        Args:
            in_pieces: sample pieces of the signal side by side; else all in one pass, which is the slow reference.
        """
        assert self.wavenet is not None
        vector, frames = self._vector(speaker), codes.shape[1]
        spoken = None if vector is None else vector[0].cpu().numpy()
        levels, rate = self._levels if in_pieces else None, self.config.frame_rate
        sampler = Sampler(self.wavenet, levels, rate, spoken, seed=seed, temperature=temperature)
        latents, reach = self._latents(codes), self.config.conditioning.reach
        for start, first, stop, end in grid(frames, self._block, reach, reach):
            with self._without_autocast():
                conditioning = self.model.conditioning(latents[:, :, start:end], vector)[0]
            yield sampler.push(conditioning[:, first - start : stop - start].T.cpu().numpy(), stop == frames)

    @torch.inference_mode()
    def conditioned(self, codes: np.ndarray, speaker: list[int] | None) -> tuple[Floats, Floats | None]:
        """Codes (quantizers, frames) to the conditioning (frames, C) and the speaker vector (S,) of a `Piece`."""
        vector = self._vector(speaker)
        spoken = None if vector is None else vector[0].cpu().numpy()
        with self._without_autocast():
            return self.model.conditioning(self._latents(codes), vector)[0].T.cpu().numpy(), spoken

    @property
    def _block(self) -> int:
        return round(BLOCK_SECONDS * self.config.frame_rate)

    def _without_autocast(self) -> torch.autocast:
        """Coding is in float32 whatever the caller is in; in TF32 as far as torch has been told to multiply that."""
        return torch.autocast(self.device.type, enabled=False)

    def _vector(self, speaker: list[int] | None) -> Tensor | None:
        with self._without_autocast():
            return self.model.speaker.decode(None if speaker is None else torch.tensor([speaker], device=self.device))

    def _latents(self, codes: np.ndarray) -> Tensor:
        """Codes (quantizers, frames) to quantised latents (1, D, frames) on the device."""
        rows = self.quantizer.latents(self.quantizer.start(), codes)
        return torch.from_numpy(rows[:, : self.config.encoder.latent_channels]).to(self.device).T[None]

    def _levels(self, conditioning: Floats) -> Floats:
        """How loud frames of conditioning (n, C) are going to be: the log of the sum of their mel spectrum (n,)."""
        rows = torch.from_numpy(conditioning).to(self.device)
        with self._without_autocast():
            return self.model.conditioning.log_mel(rows.T[None])[0].logsumexp(dim=0).cpu().numpy()
