"""Configurations that no network can be built of are refused with a sentence, before anything is built."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from vqaudio.errors import ModelError
from vqaudio.models.config import (
    CodecConfig,
    ConditioningConfig,
    EncoderConfig,
    SpeakerConfig,
    SpectralConfig,
    WaveNetConfig,
    check,
)

GOOD = CodecConfig(spectral=SpectralConfig(), wavenet=WaveNetConfig())


@pytest.mark.parametrize(
    "change",
    [
        {"sample_rate": 0},
        {"sample_rate": 10**12},
        {"encoder": EncoderConfig(strides=(8, 8))},
        {"encoder": EncoderConfig(kernel=2)},
        {"encoder": EncoderConfig(channels=(64, 128, 10**9))},
        {"conditioning": ConditioningConfig(layers=0)},
        {"spectral": SpectralConfig(dilations=())},
        {"spectral": SpectralConfig(fft_size=10**13)},
        {"spectral": SpectralConfig(fft_size=128)},
        {"wavenet": WaveNetConfig(dilations=())},
        {"wavenet": WaveNetConfig(dilations=(1, 0))},
        {"wavenet": WaveNetConfig(mixtures=0)},
        {"speaker": SpeakerConfig("lookup", speakers=1)},
        {"speaker": SpeakerConfig("reference", levels=1)},
        {"speaker": SpeakerConfig("reference", dims=10**9)},
        {"spectral": None},
    ],
)
def test_what_cannot_be_built_is_refused(change: dict[str, Any]) -> None:
    check(GOOD)
    with pytest.raises(ModelError, match=r"^The configuration of the codec 'unnamed' must see to it that .*\.$"):
        check(dataclasses.replace(GOOD, **change))
