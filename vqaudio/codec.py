"""The codec as its users meet it: load a model, encode a waveform to codes, decode codes to a waveform.

The encoder and the spectral decoder run on a fixed grid of blocks, each with as much context as their receptive fields,
for whole files too: their memory does not grow with length, and no result depends on how the input arrived.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vqaudio import audio
from vqaudio.codes import Codes
from vqaudio.errors import ModelError, UsageError
from vqaudio.models.config import CodecConfig
from vqaudio.models.vqvae import VQVAE
from vqaudio.weights import fingerprint, load_model, save_model

BLOCK_SECONDS = 10.0
DEFAULT_MODEL = "speech16k.safetensors"


def load(path: str | os.PathLike[str] | None = None, device: str = "cpu") -> Codec:
    """Load a codec.

    Args:
        path: a model file; by default the one that comes with vqaudio.
        device: "cpu", "cuda" or "cuda:N".

    Raises:
        ModelError: where the file is missing, damaged, or not a codec.
        UsageError: where the device is not there.
    """
    path = path or Path(str(resources.files("vqaudio") / "pretrained" / DEFAULT_MODEL))
    model = load_model(path)
    try:
        networks = VQVAE(model.config)
        networks.load_weights(model.state)
    except RuntimeError as error:
        raise ModelError(f"The weights in '{path}' do not fit the configuration beside them.") from error
    return Codec(networks.to(find_device(device)), model.card)


def find_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        UsageError: where it is not there.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"'{name}' is not the name of a device; use cpu, cuda or cuda:N.") from error
    if device.type not in ("cpu", "cuda") or (
        device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    ):
        raise UsageError(f"The device '{name}' is not there on this machine.")
    return device


class Codec:
    """A trained model with its use as a codec. `vqaudio.load` makes one.

    Attributes:
        config: the architecture.
        card: the model card, Markdown.
        fingerprint: four bytes that name the model in its `.codes` files.
        model: the networks.
    """

    def __init__(self, model: VQVAE, card: str = "") -> None:
        self.model = model.eval().requires_grad_(False)
        self.config: CodecConfig = model.config
        self.card = card
        self.fingerprint = fingerprint(self.config, model.state_dict())

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return next(self.model.parameters()).device

    @property
    def decoders(self) -> tuple[str, ...]:
        """The decoders that this model has, the default one first."""
        has = [name for name in ("spectral", "wavenet") if self.model.part(name) is not None]
        return tuple(sorted(has, key=lambda name: name != self.config.decoder))

    @torch.inference_mode()
    def encode(
        self,
        waveform: np.ndarray | Tensor,
        sample_rate: int,
        *,
        quantizers: int | None = None,
        speaker: bool | int = True,
    ) -> Codes:
        """Encode a waveform.

        Args:
            waveform: (T,) or (channels, T), numpy or torch, in [-1, 1]; channels are averaged.
            sample_rate: of the waveform, Hz.
            quantizers: how many of the model's quantisers to use; fewer give a lower rate; by default all.
            speaker: whether to send the speaker vector of a model that computes one; or, for a model with a table of
                speakers, the row of the one who speaks.

        Returns:
            the codes; their `codes` are a numpy array or a torch tensor, as the waveform was.

        Raises:
            AudioError: for an empty waveform or one with values that are not finite.
            UsageError: for a number of quantisers or a speaker that the model does not have.
        """
        stages = self.config.quantizer.quantizers
        if quantizers is not None and not 1 <= quantizers <= stages:
            raise UsageError(f"The model has {stages} quantiser(s), so {quantizers} cannot be used.")
        row = self._row(speaker)
        is_torch = isinstance(waveform, Tensor)
        array = _as_numpy(waveform)
        samples = audio.prepare(array, sample_rate, self.config.sample_rate)
        blocks, sums = [], []
        for latents in self._latents(samples):
            blocks.append(self.model.quantizer(latents, quantizers).codes[0].cpu())
            if speaker is True and self.config.speaker.kind == "reference":
                sums.append(self.model.speaker.pool(latents))
        codes = torch.cat(blocks, dim=1)
        return Codes(
            codes=codes if is_torch else codes.numpy().astype(np.uint16),
            codebook_size=self.config.quantizer.codebook_size,
            hop=self.config.hop,
            sample_rate=self.config.sample_rate,
            samples=len(samples),
            model=self.fingerprint,
            speaker=self._speaker_bytes(sums) if row is None else pack_indices([row], self.model.speaker.sizes),
        )

    @torch.inference_mode()
    def decode(
        self, codes: Codes, *, decoder: str | None = None, seed: int = 0, temperature: float = 1.0
    ) -> np.ndarray | Tensor:
        """Decode codes to a waveform (T,) float32 of exactly `codes.samples` samples at the model's rate.

        Args:
            codes: of this model.
            decoder: "spectral" or "wavenet"; by default the model's own choice.
            seed, temperature: of the WaveNet's samples; the spectral decoder has nothing random.

        Returns:
            numpy or torch, as `codes.codes` is.

        Raises:
            ModelError: where the codes are of another model.
            UsageError: for a decoder that the model does not have, or a temperature out of range.
        """
        decoder = self._check(codes, decoder, temperature)
        vector = self._speaker_vector(codes.speaker)
        indices = torch.from_numpy(codes.numpy().astype(np.int64)).to(self.device)[None]
        if decoder == "wavenet":
            assert self.model.wavenet is not None
            conditioning = self.model.conditioning(self.model.quantizer.decode(indices), vector)
            wave = self.model.wavenet.generate(conditioning, vector, seed=seed, temperature=temperature)[0, 0]
        else:
            wave = torch.cat(list(self._spectral(indices, vector)))
        wave = wave[: codes.samples].cpu()
        return wave if isinstance(codes.codes, Tensor) else wave.numpy()

    def save(self, path: str | os.PathLike[str], force: bool = False) -> None:
        """Write the codec as one model file.

        Raises:
            UsageError: where the file exists and `force` is not given.
            ModelError: where it cannot be written.
        """
        save_model(path, self.config, self.model.state_dict(), self.card, force)

    @property
    def _block(self) -> int:
        """Frames per block of the grid."""
        return round(BLOCK_SECONDS * self.config.frame_rate)

    def _latents(self, samples: np.ndarray) -> Iterator[Tensor]:
        """The latents (1, D, frames) of a waveform (T,), block by block."""
        encoder, hop = self.model.encoder, self.config.hop
        frames = -(-len(samples) // hop)
        back, ahead = -(-encoder.look_back // hop), -(-encoder.look_ahead // hop)
        for start, first, stop, end in grid(frames, self._block, back, ahead):
            piece = torch.from_numpy(samples[start * hop : end * hop]).to(self.device)
            piece = F.pad(piece, (0, (end - start) * hop - len(piece)))
            yield encoder(piece[None, None])[:, :, first - start : stop - start]

    def _spectral(self, codes: Tensor, speaker: Tensor | None) -> Iterator[Tensor]:
        """The waveform of codes (1, quantizers, frames) from the spectral decoder, block by block (T,)."""
        assert self.model.spectral is not None
        hop, reach = self.config.hop, self.model.conditioning.reach + self.model.spectral.reach
        for start, first, stop, end in grid(codes.shape[2], self._block, reach, reach):
            latents = self.model.quantizer.decode(codes[:, :, start:end])
            wave = self.model.spectral(self.model.conditioning(latents, speaker), speaker, start)
            yield wave[0, 0, (first - start) * hop : (stop - start) * hop]

    def _check(self, codes: Codes, decoder: str | None, temperature: float) -> str:
        """The decoder to use, after a look at everything that the caller chose."""
        if codes.model != self.fingerprint:
            raise ModelError(
                f"The codes are of model {codes.model.hex()}, but the model at hand is {self.config.name} "
                f"({self.fingerprint.hex()})."
            )
        quantizer = self.config.quantizer
        if (codes.codebook_size, codes.hop) != (quantizer.codebook_size, self.config.hop) or (
            codes.quantizers > quantizer.quantizers or codes.sample_rate != self.config.sample_rate
        ):
            raise ModelError("The codes name this model but have another codebook, hop, rate or number of quantisers.")
        if decoder is not None and decoder not in self.decoders:
            raise UsageError(f"The model has no {decoder} decoder; it has: {', '.join(self.decoders)}.")
        if not 0 <= temperature <= 2:
            raise UsageError(f"The temperature must lie between 0 and 2, not at {temperature}.")
        return decoder or self.decoders[0]

    def _row(self, speaker: bool | int) -> int | None:
        """The row of the speaker table that the caller means, if any."""
        if isinstance(speaker, bool):
            return None
        if self.config.speaker.kind != "lookup" or not 0 <= speaker < self.config.speaker.speakers:
            raise UsageError(f"The model has no speaker {speaker} in a table.")
        return speaker

    def _speaker_bytes(self, sums: list[tuple[Tensor, Tensor, int]]) -> bytes:
        if not sums:
            return b""
        totals, squares, counts = zip(*sums, strict=True)
        indices = self.model.speaker.indices(sum(totals), sum(squares), sum(counts))
        return pack_indices(indices[0].tolist(), self.model.speaker.sizes)

    def _speaker_vector(self, data: bytes) -> Tensor | None:
        if not data:
            return self.model.speaker.decode(None)
        indices = unpack_indices(data, self.model.speaker.sizes)
        return self.model.speaker.decode(torch.tensor([indices], device=self.device))


def _as_numpy(waveform: np.ndarray | Tensor) -> np.ndarray:
    """A waveform of either kind as an array; half precision, which numpy lacks or loses, as float32."""
    if not isinstance(waveform, Tensor):
        return waveform
    waveform = waveform.detach().cpu()
    return (waveform.float() if waveform.is_floating_point() else waveform).numpy()


def grid(frames: int, block: int, back: int, ahead: int) -> Iterator[tuple[int, int, int, int]]:
    """Blocks of `block` frames with their context, in frames, as far as there is any: (start, first, stop, end)."""
    for first in range(0, frames, block):
        stop = min(first + block, frames)
        yield max(0, first - back), first, stop, min(frames, stop + ahead)


def pack_indices(indices: list[int], sizes: tuple[int, ...]) -> bytes:
    """Speaker indices as the bytes of one number in mixed radix, little-endian, the first index least significant."""
    number, radix = 0, 1
    for index, size in zip(indices, sizes, strict=True):
        number += index * radix
        radix *= size
    return number.to_bytes(((radix - 1).bit_length() + 7) // 8, "little")


def unpack_indices(data: bytes, sizes: tuple[int, ...]) -> list[int]:
    """The inverse of `pack_indices`.

    Raises:
        ModelError: for bytes that are no speaker of this model.
    """
    number, indices = int.from_bytes(data, "little"), []
    for size in sizes:
        number, index = divmod(number, size)
        indices.append(index)
    if number or pack_indices(indices, sizes) != data:
        raise ModelError("The codes carry a speaker that the model at hand does not know.")
    return indices
