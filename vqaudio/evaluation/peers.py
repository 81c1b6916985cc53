"""Other neural codecs to measure beside vqaudio's, in the implementations that their users have.

They are built from their published configurations with random weights, on which speed does not depend, so that nothing
is downloaded: EnCodec (Défossez et al. 2022, arXiv 2210.13438), Mimi (Défossez et al. 2024, arXiv 2410.00037), SNAC
(Siuzdak et al. 2024, arXiv 2410.14411) and DAC (Kumar et al. 2023, arXiv 2306.06546).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vqaudio.evaluation import registry

Network = tuple[Callable[[Tensor], Any], Callable[[Any], Any]]


@dataclass(frozen=True)
class Peer:
    """One codec.

    Attributes:
        name: what `--against` and the JSON call it.
        title: what a table calls it.
        setting: how it is used here.
        package: the distribution that it needs, which is also the module's name.
        sample_rate: of its waveforms, Hz.
        build: gives its networks: a waveform (1, 1, T) to codes of its own kind, and those back to a waveform.
    """

    name: str
    title: str
    setting: str
    package: str
    sample_rate: int
    build: Callable[[], Network]

    @property
    def module(self) -> str:
        """What is imported of the package."""
        return self.package


def encodec() -> Network:
    """EnCodec at 24 kHz, with two of its quantisers."""
    from transformers import EncodecConfig, EncodecModel

    model = EncodecModel(EncodecConfig()).eval()
    return (
        lambda waveform: model.encode(waveform, bandwidth=1.5),
        lambda codes: model.decode(codes.audio_codes, codes.audio_scales),
    )


def mimi() -> Network:
    """Mimi at 24 kHz, with the eight quantisers that Moshi uses."""
    from transformers import MimiConfig, MimiModel

    model = MimiModel(MimiConfig()).eval()
    return (
        lambda waveform: model.encode(waveform, num_quantizers=8),
        lambda codes: model.decode(codes.audio_codes),
    )


def dac() -> Network:
    """The Descript Audio Codec at 16 kHz."""
    from transformers import DacConfig, DacModel

    model = DacModel(DacConfig()).eval()
    return model.encode, lambda codes: model.decode(audio_codes=codes.audio_codes)


def snac() -> Network:
    """SNAC at 24 kHz, its model for speech."""
    from snac import SNAC

    model = SNAC(
        sampling_rate=24000,
        encoder_dim=48,
        encoder_rates=[2, 4, 8, 8],
        decoder_dim=1024,
        decoder_rates=[8, 8, 4, 2],
        attn_window_size=None,
        codebook_size=4096,
        codebook_dim=8,
        vq_strides=[4, 2, 1],
    ).eval()
    return model.encode, model.decode


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("encodec", "EnCodec", "24 kHz, 1.5 kb/s", "transformers", 24000, encodec),
        Peer("mimi", "Mimi", "24 kHz, 1.1 kb/s", "transformers", 24000, mimi),
        Peer("snac", "SNAC", "24 kHz, 0.98 kb/s", "snac", 24000, snac),
        Peer("dac", "DAC", "16 kHz, all quantisers", "transformers", 16000, dac),
    )
}


def select(names: Iterable[str]) -> tuple[Peer, ...]:
    """The peers of these names, in the registry's order.

    Raises:
        UsageError: for an unknown name; it names the nearest.
    """
    return registry.select(PEERS, "codec to measure against", names)


usable = functools.partial(registry.usable, "codec", "peers")
