"""The spectral decoder: its inverse transform against torch's own, its length, its reach."""

import pytest
import torch

from vqaudio.models.config import SpectralConfig
from vqaudio.models.spectral import SpectralDecoder


def small(hop: int, fft_size: int) -> SpectralDecoder:
    torch.manual_seed(0)
    config = SpectralConfig(channels=6, skip_channels=6, dilations=(1, 2), fft_size=fft_size)
    return SpectralDecoder(config, 5, 0, hop).double().eval()


@pytest.mark.parametrize(("hop", "fft_size"), [(64, 256), (128, 1024), (320, 1280), (640, 2560)])
def test_synthesis_inverts_the_transform_of_a_waveform(hop, fft_size):
    decoder = small(hop, fft_size)
    waveform = torch.randn(2, 24 * hop, dtype=torch.float64)
    ends = (fft_size - hop) // 2
    padded = torch.nn.functional.pad(waveform, (ends, ends))
    spectrum = torch.stft(padded, fft_size, hop, window=decoder.window, center=False, return_complex=True)
    decoded = decoder.synthesis(spectrum)
    inner = slice(fft_size, -fft_size) if 24 * hop > 3 * fft_size else slice(ends, -ends)
    torch.testing.assert_close(decoded[:, 0, inner], waveform[:, inner])


def test_one_hop_of_samples_per_frame():
    assert small(128, 512)(torch.zeros(2, 5, 9, dtype=torch.float64), None).shape == (2, 1, 9 * 128)


@pytest.mark.parametrize(("hop", "fft_size"), [(64, 256), (128, 1024), (320, 1280)])
def test_reach_measured_equals_stated(hop, fft_size):
    decoder = small(hop, fft_size)
    frames, frame = 61, 30
    conditioning = torch.randn(1, 5, frames, dtype=torch.float64, requires_grad=True)
    decoder(conditioning, None)[0, 0, frame * hop : (frame + 1) * hop].square().sum().backward()
    heard = conditioning.grad[0].abs().sum(0).nonzero()[:, 0]
    assert (frame - heard[0], heard[-1] - frame) == (decoder.reach, decoder.reach)


@pytest.mark.parametrize(("hop", "fft_size", "bin"), [(128, 1024, 13), (320, 1280, 40)])
def test_steady_conditioning_can_be_a_steady_tone(hop, fft_size, bin):
    """One bin at a constant magnitude and deviation is one tone, without a trace of the frame rate."""
    decoder = small(hop, fft_size)
    torch.nn.init.zeros_(decoder.head.weight)
    bins = fft_size // 2 + 1
    decoder.head.bias.data[:bins] = -100.0
    decoder.head.bias.data[bin] = 1.0
    wave = decoder(torch.zeros(1, 5, 80, dtype=torch.float64), None)[0, 0, 8 * hop : -8 * hop].detach()
    spectrum = torch.fft.rfft(wave[: len(wave) // fft_size * fft_size]).abs()
    peak = bin * (len(wave) // fft_size)
    assert spectrum.argmax() == peak
    assert spectrum.square().sum() - spectrum[peak].square() < 1e-6 * spectrum[peak].square()


def test_a_later_start_continues_the_phase():
    decoder = small(128, 1024)
    conditioning = torch.randn(1, 5, 60, dtype=torch.float64)
    whole, later = decoder(conditioning, None), decoder(conditioning[:, :, 10:], None, start=10)
    edge = decoder.reach * 128
    torch.testing.assert_close(later[:, :, edge:], whole[:, :, 1280 + edge :])
