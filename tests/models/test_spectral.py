"""The spectral decoder: its inverse transform against torch's own, its length, its reach, its voice and its noise."""

import math

import pytest
import torch

from vqaudio.models.config import SpectralConfig
from vqaudio.models.constants import PITCH
from vqaudio.models.spectral import Heard, SpectralDecoder, pitch_distance

RATE = 16000


def small_config(fft_size: int) -> SpectralConfig:
    return SpectralConfig(channels=6, skip_channels=6, dilations=(1, 2), fft_size=fft_size)


def small(hop: int, fft_size: int) -> SpectralDecoder:
    torch.manual_seed(0)
    return SpectralDecoder(small_config(fft_size), 5, 0, hop, RATE).double().eval()


def steady(decoder: SpectralDecoder, frames: int, *, voice: float, noise: float, voicing: float) -> Heard:
    """The same of every frame and bin, at a pitch of `PITCH`."""
    bins = decoder.fft_size // 2 + 1
    shape = (1, bins, frames)
    return Heard(
        torch.full(shape, voice),
        torch.zeros(shape),
        torch.full(shape, noise),
        torch.zeros(shape),
        torch.full((1, frames), voicing),
        torch.zeros(1, frames),
    )


@pytest.mark.parametrize(("hop", "fft_size"), [(64, 256), (128, 1024), (320, 1280), (640, 2560)])
def test_overlapping_pieces_invert_the_transform_of_a_waveform(hop, fft_size):
    decoder = small(hop, fft_size)
    waveform = torch.randn(2, 24 * hop, dtype=torch.float64)
    ends = (fft_size - hop) // 2
    padded = torch.nn.functional.pad(waveform, (ends, ends))
    spectrum = torch.stft(padded, fft_size, hop, window=decoder.window, center=False, return_complex=True)
    torch.testing.assert_close(decoder.analysis(waveform), spectrum * (4 / fft_size))
    decoded = decoder.overlap_add(spectrum)
    inner = slice(fft_size, -fft_size) if 24 * hop > 3 * fft_size else slice(ends, -ends)
    torch.testing.assert_close(decoded[:, 0, inner], waveform[:, inner])


def test_one_hop_of_samples_per_frame():
    assert small(128, 512)(torch.zeros(2, 5, 9, dtype=torch.float64), None).shape == (2, 1, 9 * 128)


@pytest.mark.parametrize(("hop", "fft_size"), [(64, 256), (128, 1024), (320, 1280)])
def test_reach_measured_equals_stated(hop, fft_size):
    """A change of one frame is heard so far before it; after it the phase of the voice goes on to be another one."""
    config, decoder = small_config(fft_size), small(hop, fft_size)
    decoder.head.bias.data[-2] = 100.0  # always voiced
    frame = 30
    conditioning = torch.randn(1, 5, 61, dtype=torch.float64)
    other = conditioning.clone()
    other[:, :, frame] += 1
    changed = (decoder(conditioning, None) != decoder(other, None))[0, 0].nonzero()[:, 0] // hop
    assert frame - changed[0] == config.reach + config.context(hop)
    decoder.head.bias.data[-2] = -100.0
    changed = (decoder(conditioning, None) != decoder(other, None))[0, 0].nonzero()[:, 0] // hop
    assert changed[-1] - frame == config.reach + config.overlap(hop) == frame - changed[0]


@pytest.mark.parametrize(("hop", "fft_size", "bin"), [(128, 1024, 13), (320, 1280, 40)])
def test_steady_noise_of_one_bin_is_a_steady_tone(hop, fft_size, bin):
    """One bin at a constant magnitude and deviation is one tone, without a trace of the frame rate."""
    decoder = small(hop, fft_size)
    heard = steady(decoder, 80, voice=-100.0, noise=-100.0, voicing=-1.0)
    heard.noise[:, bin] = 1.0
    wave = decoder.synthesis(heard, heard.pitch())[0, 0, 8 * hop : -8 * hop]
    spectrum = torch.fft.rfft(wave[: len(wave) // fft_size * fft_size].double()).abs()
    peak = bin * (len(wave) // fft_size)
    assert spectrum.argmax() == peak
    assert spectrum.square().sum() - spectrum[peak].square() < 1e-6 * spectrum[peak].square()


def test_a_steady_voice_has_harmonics_of_its_pitch_and_nothing_else():
    decoder = small(64, 512)
    heard = steady(decoder, 250 + 16, voice=1.0, noise=-100.0, voicing=1.0)
    wave = decoder.synthesis(heard, heard.pitch())[0, 0, 8 * 64 : -8 * 64]
    power = torch.fft.rfft(wave.double() * torch.hann_window(len(wave), dtype=torch.float64)).abs().square()
    hertz = torch.arange(len(power)) * RATE / len(wave)
    off = (hertz - PITCH * torch.round(hertz / PITCH)).abs()
    assert power[(off > 3) | (hertz < PITCH / 2)].sum() < 1e-4 * power.sum()
    low, high = (power[(hertz > band) & (hertz < band + 1000)].sum() for band in (2000, 5000))
    assert 20 < 10 * math.log10(low / high) < 30  # the voice begins with a gain of e^-3 above 4 kHz


def test_voice_and_noise_change_places_where_nothing_is_voiced():
    decoder = small(64, 512)
    levels = {}
    for voicing in (-1.0, 1.0):
        for part in ("voice", "noise"):
            heard = steady(decoder, 60, **{"voice": -100.0, "noise": -100.0, part: 0.0}, voicing=voicing)
            levels[part, voicing] = decoder.synthesis(heard, heard.pitch()).square().mean()
    assert levels["voice", -1.0] < 1e-20 < 1e-3 * levels["voice", 1.0]
    assert levels["noise", 1.0] < 0.7 * levels["noise", -1.0]


def test_a_later_start_continues_the_phases():
    decoder = small(128, 1024)
    heard = decoder.hear(torch.randn(1, 5, 60, dtype=torch.float64), None)
    pitch = torch.where(torch.arange(60) % 17 > 4, heard.pitch(), 0.0)
    whole = decoder.synthesis(heard, pitch)
    for start in (1, 10, 23):
        phase = decoder.phase_after(pitch[:, :start], 0)
        later = decoder.synthesis(heard.cut(start, 60), pitch[:, start:], start, phase)
        edge = small_config(1024).context(128) * 128
        torch.testing.assert_close(later[:, :, edge:], whole[:, :, start * 128 + edge :])


def test_the_distance_of_pitches_counts_voicing_everywhere_and_octaves_where_voiced():
    heard = steady(small(64, 512), 4, voice=0.0, noise=0.0, voicing=0.0)
    heard.voicing.copy_(torch.tensor([[0.0, 2.0, -1.0, 3.0]]))
    heard.octaves.copy_(torch.tensor([[0.0, 1.0, 7.0, 0.5]]))
    wanted = torch.tensor([[PITCH, PITCH, 0.0, 2 * PITCH]])
    entropy = sum(math.log1p(math.exp(-x)) for x in (0.0, 2.0, 1.0, 3.0)) / 4
    assert float(pitch_distance(heard, wanted)) == pytest.approx(entropy + 10 * (0 + 1 + 0.5) / 4, rel=1e-5)
    assert torch.isfinite(pitch_distance(heard, torch.zeros(1, 4)))
