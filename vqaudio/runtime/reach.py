"""How far the networks of a codec hear, and so how long a stream holds sound back; in samples at the model's rate."""

from __future__ import annotations

from vqaudio.models.config import CodecConfig
from vqaudio.models.prototype import pqmf_reach


def receptive_field(config: CodecConfig, part: str) -> int:
    """Samples that one latent depends on, for "encoder", or one decoded sample, for "spectral" or "wavenet".

    Predictive codes depend on the codes before them besides, and the phase of a voice on all of the voice.
    """
    if part == "encoder":
        return sum(config.encoder.reach) + config.hop
    around = 2 * config.conditioning.reach * config.hop
    if part == "wavenet":
        assert config.wavenet is not None
        bands = config.wavenet.bands
        return bands * (config.wavenet.receptive_steps - 1 + sum(pqmf_reach(bands))) + 1 + around
    assert config.spectral is not None
    return 2 * config.spectral.look_ahead(config.hop) + config.hop + around


def latency(config: CodecConfig, decoder: str) -> dict[str, int]:
    """Samples between a sound and its decoded form on a computer however fast, by what waits for them."""
    parts = {
        "hop": config.hop,
        "encoder": max(0, config.encoder.reach[1]),
        "search": config.quantizer.delay * config.hop,
        "conditioning": config.conditioning.reach * config.hop,
    }
    if decoder == "wavenet":
        assert config.wavenet is not None
        bands = config.wavenet.bands
        return parts | {"filter bank": pqmf_reach(bands)[1] * bands}
    assert config.spectral is not None
    return parts | {"decoder": config.spectral.look_ahead(config.hop)}
