"""The encoder: shapes for every hop, and a receptive field that is what it says."""

import pytest
import torch

from vqaudio.models.config import EncoderConfig
from vqaudio.models.encoder import Encoder

STRIDES = {64: (2,) * 6, 128: (8, 4, 4), 320: (8, 4, 5, 2), 640: (8, 4, 5, 4)}


def small(strides: tuple[int, ...], dilations: tuple[int, ...] = (1, 3)) -> Encoder:
    torch.manual_seed(0)
    return Encoder(
        EncoderConfig(strides=strides, channels=(6,) * len(strides), dilations=dilations, latent_channels=5)
    ).double()


@pytest.mark.parametrize("hop", STRIDES)
def test_one_latent_per_hop(hop):
    encoder = small(STRIDES[hop])
    assert encoder.hop == hop
    assert encoder(torch.zeros(2, 1, 7 * hop, dtype=torch.float64)).shape == (2, 5, 7)


@pytest.mark.parametrize("hop", STRIDES)
def test_receptive_field_measured_equals_stated(hop):
    encoder = small(STRIDES[hop])
    frame, frames = 30, 61
    waveform = torch.randn(1, 1, frames * hop, dtype=torch.float64, requires_grad=True)
    encoder(waveform)[0, :, frame].sum().backward()
    heard = waveform.grad[0, 0].nonzero()[:, 0]
    assert heard[-1] - heard[0] + 1 == encoder.receptive_field
    assert frame * hop - heard[0] == encoder.look_back
    assert heard[-1] - ((frame + 1) * hop - 1) == encoder.look_ahead


def test_what_is_out_of_reach_changes_nothing():
    encoder = small((4, 2))
    torch.manual_seed(1)
    waveform = torch.randn(1, 1, 60 * 8, dtype=torch.float64)
    reach = -(-encoder.look_ahead // 8)
    torch.testing.assert_close(
        encoder(waveform[:, :, : 40 * 8])[:, :, : 40 - reach], encoder(waveform)[:, :, : 40 - reach]
    )
