"""A critically sampled pseudo-QMF bank: the sub-bands that a multi-band WaveNet generates several of per step.

Speech models use such a bank in this way in Yu et al. 2020 (DurIAN, arXiv 1909.01700) and Yang
et al. 2020 (multi-band MelGAN, arXiv 2005.05106).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqaudio.errors import UsageError
from vqaudio.models.prototype import pqmf_analysis, pqmf_delay, pqmf_synthesis


class PQMF(nn.Module):
    """Splits a waveform into `bands` sub-bands at `1 / bands` of its rate, and joins them again.

    All filters are centred: step k of every sub-band describes the samples around `bands * k`, and the joined waveform
    lies on the original. The error is below -75 dB, except in the `delay / 2` samples at both ends of a waveform that
    does not begin and end in silence, where steps outside it are missing. A sub-band has about the amplitude of the
    waveform, so it stays near [-1, 1]; an orthonormal bank would give `sqrt(bands)` times as much.

    Attributes:
        delay: samples that a causal version of analysis and synthesis together waits, half of them in each.
    """

    def __init__(self, bands: int = 4) -> None:
        super().__init__()
        self.bands = bands
        self.delay = pqmf_delay(bands)
        self.analysis_filters: Tensor
        self.synthesis_filters: Tensor
        for name, filters in (
            ("analysis_filters", pqmf_analysis(bands)[:, ::-1]),  # reversed: conv1d correlates
            ("synthesis_filters", pqmf_synthesis(bands)),
        ):
            kernels = torch.from_numpy(np.ascontiguousarray(filters)).float().unsqueeze(1)
            self.register_buffer(name, kernels, persistent=False)

    def analysis(self, waveform: Tensor) -> Tensor:
        """(B, 1, T) to the sub-bands (B, bands, T / bands), lowest first, in float32 under autocast too.

        Raises:
            UsageError: where T is no multiple of `bands`.
        """
        if waveform.shape[2] % self.bands:
            raise UsageError(f"A waveform of {waveform.shape[2]} samples cannot be split into {self.bands} sub-bands.")
        with torch.autocast(waveform.device.type, enabled=False):
            padded = F.pad(waveform.float(), (self.delay // 2, self.delay // 2 - self.bands + 1))
            return F.conv1d(padded, self.analysis_filters, stride=self.bands)

    def synthesis(self, subbands: Tensor) -> Tensor:
        """Sub-bands (B, bands, T / bands) to the waveform (B, 1, T), in float32 under autocast too."""
        with torch.autocast(subbands.device.type, enabled=False):
            return F.conv_transpose1d(
                subbands.float(),
                self.synthesis_filters,
                stride=self.bands,
                padding=self.delay // 2,
                output_padding=self.bands - 1,
            )
