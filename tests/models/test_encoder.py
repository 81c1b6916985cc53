"""The encoder: shapes for every hop, and a receptive field that is what it says."""

import pytest
import torch

from vqaudio.models.config import EncoderConfig
from vqaudio.models.encoder import Encoder

STRIDES = {64: (2,) * 6, 128: (8, 4, 4), 320: (8, 4, 5, 2), 640: (8, 4, 5, 4)}


def small(strides: tuple[int, ...]) -> tuple[EncoderConfig, Encoder]:
    torch.manual_seed(0)
    config = EncoderConfig(strides=strides, channels=(6,) * len(strides), dilations=(1, 3), latent_channels=5)
    return config, Encoder(config).double()


@pytest.mark.parametrize("hop", STRIDES)
def test_one_latent_per_hop(hop):
    _, encoder = small(STRIDES[hop])
    assert encoder(torch.zeros(2, 1, 7 * hop, dtype=torch.float64)).shape == (2, 5, 7)


@pytest.mark.parametrize("hop", STRIDES)
def test_receptive_field_measured_equals_stated(hop):
    config, encoder = small(STRIDES[hop])
    frame, frames = 30, 61
    waveform = torch.randn(1, 1, frames * hop, dtype=torch.float64, requires_grad=True)
    encoder(waveform)[0, :, frame].sum().backward()
    heard = waveform.grad[0, 0].nonzero()[:, 0]
    assert (frame * hop - heard[0], heard[-1] - ((frame + 1) * hop - 1)) == config.reach


def test_what_is_out_of_reach_changes_nothing():
    config, encoder = small((4, 2))
    torch.manual_seed(1)
    waveform = torch.randn(1, 1, 60 * 8, dtype=torch.float64)
    reach = -(-config.reach[1] // 8)
    torch.testing.assert_close(
        encoder(waveform[:, :, : 40 * 8])[:, :, : 40 - reach], encoder(waveform)[:, :, : 40 - reach]
    )
