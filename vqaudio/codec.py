"""The codec as its users meet it: load a model, encode a waveform to codes, decode codes to a waveform.

Long signals go through the networks in blocks, each with as much context as they hear. On the CPU the networks are
those of `vqaudio.runtime.cpu`, whose results do not depend on blocks or threads; torch is not needed there.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from vqaudio import audio, shipped
from vqaudio.codes import Codes, check_codes
from vqaudio.container import Header
from vqaudio.errors import AudioError, ModelError, UsageError, whole
from vqaudio.models.config import CodecConfig, check
from vqaudio.models.random import plain_seed
from vqaudio.runtime.cpu import CpuNetworks
from vqaudio.streams import DecoderStream, EncoderStream
from vqaudio.weights import State, fingerprint, load_model, save_model

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vqaudio.models.vqvae import VQVAE
    from vqaudio.runtime.gpu import TorchNetworks

SHORTEST_REFERENCE = 1.0  # seconds that tell a voice
QUIETEST_REFERENCE = 1e-3  # peak, -60 dB of full scale, below which there is nothing to hear


def load(path: str | os.PathLike[str] | None = None, device: str = "cpu", threads: int | None = None) -> Codec:
    """Load a codec.

    Args:
        path: a model file, or the name of a model that comes with vqaudio ("speech16k-low"); by default "speech16k".
        device: "cpu", "cuda" or "cuda:N".
        threads: to use on the CPU; by default as many as there are cores, or as OMP_NUM_THREADS says.

    Raises:
        ModelError: where the file is missing, damaged, or not a codec.
        UsageError: where the device is not there, or for no thread.
    """
    model = load_model(shipped.model_file(path))
    return Codec(model.config, model.state, model.card, device, threads)


class Codec:
    """A trained model with its use as a codec. `vqaudio.load` makes one.

    Args:
        config: the architecture.
        state: the weights by name, float32.
        card: the model card, Markdown.
        device: where the networks run: "cpu", "cuda" or "cuda:N".
        threads: to use on the CPU, by default all.

    Attributes:
        fingerprint: four bytes that name the model in its `.codes` files.

    Raises:
        ModelError: where the weights do not fit the configuration.
        UsageError: where the device is not there, or for no thread.
    """

    def __init__(
        self,
        config: CodecConfig,
        state: Mapping[str, np.ndarray],
        card: str = "",
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        check(config)
        if threads is not None and whole(threads, "The number of threads") < 1:
            raise UsageError(f"Coding takes a thread at least, not {threads}.")
        self.config, self.card, self.device, self.threads = config, card, check_device(device), threads
        self.state: State = dict(state)
        self.fingerprint = fingerprint(config, self.state)
        self.networks: CpuNetworks | TorchNetworks
        if self.device == "cpu":
            self.networks = CpuNetworks(config, self.state, threads)
        else:
            from vqaudio.runtime.gpu import TorchNetworks

            self.networks = TorchNetworks(config, self.state, self.device)

    def __reduce__(self) -> tuple[type[Codec], tuple[Any, ...]]:
        """A copy, in another process for example, has networks of its own."""
        return Codec, (self.config, self.state, self.card, self.device, self.threads)

    def __repr__(self) -> str:
        name, rate = self.config.name, self.config.sample_rate
        return f"<Codec {name} ({self.fingerprint.hex()}) at {rate} Hz on {self.device}>"

    @functools.cached_property
    def model(self) -> VQVAE:
        """The networks in torch, for what is more than coding. What changes their weights changes no others:
        `Codec(config, model.arrays())` codes with them, and saves them."""
        from vqaudio.models.vqvae import VQVAE

        return VQVAE.from_arrays(self.config, self.state).to(self.device)

    @property
    def decoders(self) -> tuple[str, ...]:
        """The decoders that this model has, the default one first."""
        has = [name for name in ("spectral", "wavenet") if getattr(self.config, name) is not None]
        return tuple(sorted(has, key=lambda name: name != self.config.decoder))

    def encode(
        self,
        waveform: ArrayLike | Tensor | Iterator[np.ndarray],
        sample_rate: int,
        *,
        quantizers: int | None = None,
        speaker: bool | int | bytes = True,
    ) -> Codes:
        """Encode a waveform.

        Args:
            waveform: (T,) or (channels, T), torch or what numpy takes, in [-1, 1]; channels are averaged. An iterator
                of arrays, or what `audio.reading` gives at the same rate, stands for one long waveform, of which some
                ten seconds for each thread are held at a time.
            sample_rate: of the waveform, Hz.
            quantizers: how many of the model's quantisers to use; fewer give a lower rate; by default all.
            speaker: whether to send the speaker vector of a model that computes one; or, for a model with a table of
                speakers, the row of the one who speaks; or a voice, as in `Codes.speaker`.

        Returns:
            the codes; their `codes` are a numpy array, or for a torch tensor one on the same device.

        Raises:
            AudioError: for an empty waveform or one with values that are not finite.
            UsageError: for a number of quantisers or a speaker that the model does not have, or for no waveform.
            ModelError: for a voice of another model.
        """
        stages, heard, voice = self._stages(quantizers), False, b""
        if isinstance(speaker, bool | np.bool_):
            heard = bool(speaker)
        elif isinstance(speaker, bytes):
            self._indices(speaker)  # or it is none of this model
            voice = speaker
        else:
            voice = self.table_voice(speaker)
        sound = _Sound(waveform, sample_rate, self.config.sample_rate)
        codes, indices = self.networks.encode(sound, stages, heard)
        if indices is not None:
            voice = pack_indices(indices, self.config.speaker.sizes)
        array = _beside(waveform, codes.astype(np.int64)) if is_tensor(waveform) else codes
        return self.codes(array, sound.samples, voice)

    def codes(self, array: ArrayLike | Tensor, samples: int | None = None, speaker: bytes = b"") -> Codes:
        """Codes of this model from bare numbers, those that a language model gives for example.

        Args:
            array: (quantizers, frames) integers.
            samples: length of the waveform; by default all of every frame.
            speaker: as in `Codes.speaker`.

        Raises:
            UsageError: for what are no codes of this model.
        """
        numbers: Any = array if is_tensor(array) else audio.as_numpy(array)
        whole_frames = numbers.shape[-1] * self.config.hop if numbers.ndim else 0
        return Codes(
            codes=numbers,
            codebook_size=self.config.quantizer.codebook_size,
            hop=self.config.hop,
            sample_rate=self.config.sample_rate,
            samples=whole_frames if samples is None else samples,
            model=self.fingerprint,
            speaker=speaker,
        )

    def voice(self, reference: ArrayLike | Tensor | Iterator[np.ndarray], sample_rate: int) -> bytes:
        """The voice of a recording, heard in training or never, for `Codes.with_speaker`: what `encode` would send.

        Args:
            reference: as the waveform of `encode`, of at least a second; five seconds tell much more. An iterator may
                be of any length.
            sample_rate: of the reference, Hz.

        Returns:
            as in `Codes.speaker`.

        Raises:
            AudioError: for a reference that is too short or silent, or that `encode` would refuse.
            UsageError: for a model that takes no voice from a recording; or as `encode`.
        """
        if self.config.speaker.kind != "reference":
            raise UsageError(f"The model {self.config.name} takes no voice from a recording; {self._voices}.")
        sound = _Sound(reference, sample_rate, self.config.sample_rate)
        _, indices = self.networks.encode(sound, 1, True)
        seconds = sound.samples / self.config.sample_rate
        if seconds < SHORTEST_REFERENCE:
            raise AudioError(f"A reference of {seconds:.2f} s is too short; a voice takes {SHORTEST_REFERENCE:g} s.")
        if sound.peak < QUIETEST_REFERENCE:
            raise AudioError("The reference is silent, so that there is no voice to hear.")
        assert indices is not None  # which only other kinds of models leave out
        return pack_indices(indices, self.config.speaker.sizes)

    def table_voice(self, row: int) -> bytes:
        """The voice of a row, counted from 0, of a model's table of speakers, for `Codes.with_speaker`.

        Returns:
            as in `Codes.speaker`.

        Raises:
            UsageError: for a model without a table, or a row beyond it.
        """
        row = whole(row, "The row of a speaker")
        if self.config.speaker.kind != "lookup" or not 0 <= row < self.config.speaker.speakers:
            raise UsageError(f"The model {self.config.name} has no speaker {row} in a table; {self._voices}.")
        return pack_indices([row], self.config.speaker.sizes)

    def decode(
        self, codes: Codes, *, decoder: str | None = None, seed: int = 0, temperature: float = 1.0
    ) -> np.ndarray | Tensor:
        """Decode codes to a waveform (T,) float32 of exactly `codes.samples` samples at the model's rate.

        Args:
            codes: of this model.
            decoder: "spectral" or "wavenet"; by default the model's own choice.
            seed, temperature: of the WaveNet's samples; the spectral decoder has nothing random.

        Returns:
            numpy or torch, and on the device, as `codes.codes` is.

        Raises:
            ModelError: where the codes are of another model.
            UsageError: for a decoder that the model does not have, or a seed or temperature out of range.
        """
        parts = self.decode_parts(codes, decoder=decoder, seed=seed, temperature=temperature)
        wave = np.concatenate(list(parts))
        return _beside(codes.codes, wave) if is_tensor(codes.codes) else wave

    def decode_parts(
        self, codes: Codes, *, decoder: str | None = None, seed: int = 0, temperature: float = 1.0
    ) -> Iterator[np.ndarray]:
        """What `decode` gives, in parts (n,) float32, for codes whose waveform would take much memory.

        Raises:
            ModelError, UsageError: as `decode`.
        """
        self.check_header(codes)
        decoder, seed = self._chosen(decoder, temperature), plain_seed(seed)
        speaker = self._indices(codes.speaker)
        if decoder == "wavenet":
            parts = self.networks.decode_wavenet(codes.numpy(), speaker, seed, temperature)
        else:
            parts = self.networks.decode_spectral(codes.numpy(), speaker)
        return _cut(parts, codes.samples)

    def encoder_stream(self, sample_rate: int | None = None, *, quantizers: int | None = None) -> EncoderStream:
        """Begin to encode a waveform that comes bit by bit.

        Args:
            sample_rate: of the waveform, Hz; by default the model's.
            quantizers: as for `encode`.

        Raises:
            AudioError: for a rate that is not one of audio.
            UsageError: for a number of quantisers that the model does not have, or a codec on a GPU.
        """
        rate = self.config.sample_rate if sample_rate is None else sample_rate
        return EncoderStream(self._streaming(), rate, self._stages(quantizers))

    def decoder_stream(
        self, speaker: bytes = b"", *, decoder: str | None = None, seed: int = 0, temperature: float = 1.0
    ) -> DecoderStream:
        """Begin to decode codes that come bit by bit.

        Args:
            speaker: as in `Codes.speaker`; empty for the null speaker.
            decoder, seed, temperature: as for `decode`.

        Raises:
            ModelError: for a speaker that the model does not know.
            UsageError: as `decode`; or for a codec on a GPU.
        """
        chosen = self._chosen(decoder, temperature)
        return DecoderStream(self._streaming(), self._indices(speaker), chosen, plain_seed(seed), temperature)

    def save(self, path: str | os.PathLike[str], force: bool = False) -> None:
        """Write the codec as one model file.

        Raises:
            UsageError: where the file exists and `force` is not given.
            ModelError: where it cannot be written.
        """
        save_model(path, self.config, self.state, self.card, force)

    def check_header(self, codes: Codes | Header) -> None:
        """See that codes are of this model.

        Raises:
            ModelError: where they are not; UsageError: for what is neither codes nor the header of a file.
        """
        if not isinstance(codes, Header):
            check_codes(codes)
        if codes.model != self.fingerprint:
            theirs, name = codes.model.hex(), shipped.name_of(codes.model)
            raise ModelError(
                f"The codes are of model {f'{name} ({theirs})' if name else theirs}, but the model at hand is "
                f"{self.config.name} ({self.fingerprint.hex()})."
            )
        quantizer = self.config.quantizer
        if (codes.codebook_size, codes.hop) != (quantizer.codebook_size, self.config.hop) or (
            codes.quantizers > quantizer.quantizers or codes.sample_rate != self.config.sample_rate
        ):
            raise ModelError("The codes name this model but have another codebook, hop, rate or number of quantisers.")

    def _chosen(self, decoder: str | None, temperature: float) -> str:
        """The decoder to use, after a look at the temperature too."""
        if decoder is not None and decoder not in self.decoders:
            raise UsageError(f"The model has no {decoder} decoder; it has: {', '.join(self.decoders)}.")
        if not 0 <= temperature <= 2:
            raise UsageError(f"The temperature must lie between 0 and 2, not at {temperature}.")
        return decoder or self.decoders[0]

    def _stages(self, quantizers: int | None) -> int:
        """How many quantisers to use."""
        stages = self.config.quantizer.quantizers
        if quantizers is not None and not 1 <= whole(quantizers, "The number of quantisers") <= stages:
            raise UsageError(f"The model has {stages} quantiser(s), so {quantizers} cannot be used.")
        return quantizers or stages

    def _streaming(self) -> CpuNetworks:
        if not isinstance(self.networks, CpuNetworks):
            raise UsageError("Streams run on the CPU; load the model with device='cpu'.")
        return self.networks

    def _indices(self, speaker: bytes) -> list[int] | None:
        """What a speaker's bytes stand for, None for the null speaker."""
        return unpack_indices(speaker, self.config.speaker.sizes) if speaker else None

    @property
    def _voices(self) -> str:
        """Where the model has its voices from, to stand after a semicolon."""
        return {
            "none": "its codes alone carry the voice",
            "lookup": f"its speakers are rows 0 to {self.config.speaker.speakers - 1}",
            "reference": "it takes a voice from a recording",
        }[self.config.speaker.kind]


class _Sound:
    """A waveform as the networks take it, to go through once in parts (n,).

    Args: as for `Codec.encode`, and the rate of the networks in Hz.

    Attributes:
        samples, peak: how many so far, and the largest magnitude.
    """

    def __init__(self, waveform: Any, sample_rate: int, target_rate: int) -> None:
        self.samples, self.peak = 0, 0.0
        self._waveform, self._converter = waveform, audio.Converter(sample_rate, target_rate)

    def __iter__(self) -> Iterator[np.ndarray]:
        in_parts = isinstance(self._waveform, Iterator | audio.Recording)
        for part in self._waveform if in_parts else [self._waveform]:
            for block in audio.blocks(part):
                yield self._counted(self._converter.push(block))
        yield self._counted(self._converter.finish())

    def _counted(self, samples: np.ndarray) -> np.ndarray:
        self.samples += len(samples)
        self.peak = max(self.peak, float(np.abs(samples).max(initial=0)))
        return samples


def check_device(name: str | torch.device) -> str:
    """The name of a device, after a look whether it is there.

    Raises:
        UsageError: where it is not, or is no name of a device.
    """
    name = str(name)
    if name != "cpu":
        import torch

        try:
            device = torch.device(name)
        except RuntimeError as error:
            raise UsageError(f"'{name}' is not the name of a device; use cpu, cuda or cuda:N.") from error
        if device.type != "cuda" or (device.index or 0) >= torch.cuda.device_count():
            raise UsageError(f"The device '{name}' is not there on this machine.")
    return name


def is_tensor(array: Any) -> bool:
    """Whether an array is of torch, which need not be imported to tell."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def _cut(parts: Iterator[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """The first samples of a waveform in parts (n,)."""
    for part in parts:
        yield part[:samples]
        samples -= len(part[:samples])


def _beside(tensor: Any, array: np.ndarray) -> Tensor:
    """An array as a tensor on the device of another."""
    import torch

    return torch.from_numpy(array).to(tensor.device)


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
        UsageError: for what are no bytes.
        ModelError: for bytes that are no speaker of this model.
    """
    if not isinstance(data, bytes):
        raise UsageError(f"A voice is bytes, as in `Codes.speaker`, not {type(data).__name__}.")
    number, indices = int.from_bytes(data, "little"), []
    for size in sizes:
        number, index = divmod(number, size)
        indices.append(index)
    if number or pack_indices(indices, sizes) != data:
        raise ModelError("The codes carry a speaker that the model at hand does not know.")
    return indices
