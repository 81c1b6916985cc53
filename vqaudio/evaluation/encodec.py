"""EnCodec at 24 kHz (Défossez et al. 2022, arXiv 2210.13438) with its published weights, beside vqaudio's own codecs.

It runs through the package transformers. That has no file format for its codes, so a size here is that of the codes
alone, packed at 10 bits each; EnCodec's own programs add a header, and may take fewer bits with a model of its codes.
"""

from __future__ import annotations

import functools
import hashlib
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vqaudio import audio
from vqaudio.errors import UsageError
from vqaudio.evaluation.contenders import Coded, fitted
from vqaudio.evaluation.versions import versions

if TYPE_CHECKING:
    from transformers import EncodecModel

WEIGHTS = "facebook/encodec_24khz"
BANDWIDTHS = (1.5, 3.0, 6.0, 12.0, 24.0)  # kb/s
REACHED_WITHIN = 5.0  # seconds that the hub may take to answer


@dataclass(frozen=True)
class EncodecCodec:
    """EnCodec at one of its bandwidths. A `Contender`.

    Attributes:
        bandwidth: in kb/s, one of `BANDWIDTHS`.
        weights: a model of the hub, or a folder that transformers saved one to.
    """

    bandwidth: float
    weights: str = WEIGHTS

    @property
    def name(self) -> str:
        """`encodec:1.5`."""
        return f"encodec:{self.bandwidth:g}"

    @property
    def identity(self) -> str:
        """Name, digest of the weights, and the versions of the software.

        Raises:
            UsageError: where the weights cannot be had.
        """
        made = ", ".join(f"{name} {version}" for name, version in versions(("transformers",)).items())
        return f"{self.name}: {self.weights} {_digest(self._network())}; {made}"

    def missing(self) -> str | None:
        """Why it cannot be used here, as the rest of a sentence. It fetches the weights where they are not here yet."""
        found = _found(self.weights)
        return found if isinstance(found, str) else None

    def code(self, waveform: np.ndarray, sample_rate: int) -> Coded:
        """Code and decode a waveform (T,) float32 at `sample_rate` Hz, in as many threads as torch is set to.

        Raises:
            AudioError: where it decodes to what is no sound.
            UsageError: where the weights cannot be had.
        """
        network: Any = self._network()  # whose results are typed as tuples too
        rate = network.config.sampling_rate
        signal = torch.from_numpy(audio.prepare(waveform, sample_rate, rate))[None, None]
        with torch.inference_mode():
            start = time.perf_counter()
            encoded = network.encode(signal, bandwidth=self.bandwidth)
            middle = time.perf_counter()
            decoded = network.decode(encoded.audio_codes, encoded.audio_scales).audio_values[0, 0].numpy()
            end = time.perf_counter()
        audio.finite(decoded, f"What {self.name} decodes")
        codes = encoded.audio_codes[0, 0].numpy()  # (quantizers, frames)
        size = math.ceil(codes.size * math.log2(network.config.codebook_size) / 8)
        return Coded(size, fitted(decoded, rate, len(waveform), sample_rate), middle - start, end - middle)

    def _network(self) -> EncodecModel:
        found = _found(self.weights)
        if isinstance(found, str):
            raise UsageError(f"The codec '{self.name}' cannot be used, for {found}.")
        return found


@functools.cache
def _found(weights: str) -> EncodecModel | str:
    """The model, from its folder, from the cache of the hub or from the hub; else why it cannot be had.

    The hub is asked before transformers downloads from it, which tries for half a minute where there is no network.
    """
    try:
        import huggingface_hub
        from transformers import EncodecModel
        from transformers.utils import logging
    except Exception as error:  # a package built for another torch fails in its own way
        return f"its package transformers cannot be used ({_told(error)}); pip install 'vqaudio[peers]' brings it"
    try:
        logging.disable_progress_bar()  # of reading weights; that of the download is left
        return EncodecModel.from_pretrained(weights, local_files_only=True).eval()
    except Exception as error:  # of transformers, of its file formats
        if Path(weights).is_dir():
            return f"its weights in '{weights}' cannot be read ({_told(error)})"
    finally:
        logging.enable_progress_bar()
    try:
        url = huggingface_hub.hf_hub_url(weights, "config.json")
        huggingface_hub.get_hf_file_metadata(url, timeout=REACHED_WITHIN)
        return EncodecModel.from_pretrained(weights).eval()
    except Exception as error:  # of the hub, of the client of HTTP under it, of the network
        return (
            f"its weights {weights} are not in the cache of the Hugging Face hub and cannot be downloaded "
            f"({_told(error)})"
        )


def _told(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__).rstrip(".")


@functools.cache
def _digest(network: EncodecModel) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:16]
