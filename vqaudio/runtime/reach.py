"""How far the networks of a codec hear, and so how long a stream holds sound back; in samples at the model's rate."""

from __future__ import annotations

from vqaudio.runtime.cpu import CpuNetworks


def receptive_field(networks: CpuNetworks, part: str) -> int:
    """Samples that one latent depends on, for "encoder", or one decoded sample, for "spectral" or "wavenet".

    Predictive codes depend on the codes before them besides, and the phase of a voice on all of the voice.
    """
    config, wavenet = networks.config, networks.wavenet
    if part == "encoder":
        return sum(config.encoder.reach) + config.hop
    around = 2 * networks.conditioning.reach * config.hop
    if part == "wavenet":
        assert wavenet is not None
        steps = wavenet.receptive_steps - 1 + wavenet.bank.back + wavenet.bank.ahead
        return wavenet.bands * steps + 1 + around
    assert networks.spectral is not None
    return 2 * networks.spectral.look_ahead + config.hop + around


def latency(networks: CpuNetworks, decoder: str) -> dict[str, int]:
    """Samples between a sound and its decoded form on a computer however fast, by what waits for them."""
    config, wavenet = networks.config, networks.wavenet
    parts = {
        "hop": config.hop,
        "encoder": max(0, config.encoder.reach[1]),
        "search": config.quantizer.delay * config.hop,
        "conditioning": networks.conditioning.reach * config.hop,
    }
    if decoder == "wavenet":
        assert wavenet is not None
        return parts | {"filter bank": wavenet.bank.ahead * wavenet.bands}
    assert networks.spectral is not None
    return parts | {"decoder": networks.spectral.look_ahead}
