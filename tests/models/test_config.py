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
    QuantizerConfig,
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
        {"spectral": SpectralConfig(kernel=2)},
        {"spectral": SpectralConfig(fft_size=10**13)},
        {"spectral": SpectralConfig(fft_size=128)},
        {"wavenet": WaveNetConfig(dilations=())},
        {"wavenet": WaveNetConfig(dilations=(1, 0))},
        {"wavenet": WaveNetConfig(mixtures=0)},
        {"wavenet": WaveNetConfig(bands=4), "encoder": EncoderConfig(strides=(6, 11), channels=(1, 1))},
        {"speaker": SpeakerConfig("lookup", speakers=1)},
        {"speaker": SpeakerConfig("reference", levels=1)},
        {"speaker": SpeakerConfig("reference", dims=10**9)},
        {"spectral": None},
        {"encoder": EncoderConfig(kernel=1001, dilations=(100,))},
        {"encoder": EncoderConfig(strides=(256, 256), channels=(1, 1))},
        {"encoder": EncoderConfig(strides=(2,), channels=(1,)), "spectral": SpectralConfig(fft_size=65536)},
        {"conditioning": ConditioningConfig(kernel=65535, layers=3)},
        {"wavenet": WaveNetConfig(kernel=3, dilations=(32768, 1))},
        {"spectral": SpectralConfig(kernel=3, dilations=(32768, 1))},
        {"speaker": SpeakerConfig("reference", levels=10**9)},
        {"speaker": SpeakerConfig("lookup", speakers=10**9)},
        {"speaker": SpeakerConfig("reference", dims=512, levels=16)},
        {"quantizer": QuantizerConfig(quantizers=256)},
    ],
)
def test_what_cannot_be_built_is_refused(change: dict[str, Any]) -> None:
    check(GOOD)
    with pytest.raises(ModelError, match=r"^The configuration of the codec 'unnamed' must see to it that .*\.$"):
        check(dataclasses.replace(GOOD, **change))
