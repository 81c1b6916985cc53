"""The WaveNet on the CPU: the distributions of the modules, the numbers of the generator, streams that do not mix."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from vqaudio.models.config import CodecConfig, ConditioningConfig, EncoderConfig, SpeakerConfig, WaveNetConfig
from vqaudio.models.constants import LAST_BIN
from vqaudio.models.distributions import LogisticMixture
from vqaudio.models.random import uniforms
from vqaudio.models.vqvae import VQVAE
from vqaudio.runtime.functions import sigmoid, tanh
from vqaudio.runtime.kernels import draw_logistic, scratch, step, uniform_pair
from vqaudio.runtime.layers import Weights, pad
from vqaudio.runtime.processor import PAIRED
from vqaudio.runtime.segments import Cutter, Sampler
from vqaudio.runtime.wavenet import Piece, Streams, WaveNet

HOP = 64


@njit
def one_step(network, past, clock, heard, conditions, room):
    step(network, past, clock, heard, conditions, room)


@njit
def applied(x):
    return np.array([tanh(value) for value in x]), np.array([sigmoid(value) for value in x])


@njit
def pairs(seed, start, steps, band, stream):
    return [uniform_pair(seed, np.uint64(start + k), band, stream) for k in range(steps)]


@njit
def drawn(numbers, mixtures, level, uniforms, temperature):
    return draw_logistic(numbers, mixtures, level, (uniforms[0], uniforms[1]), temperature)


def codec(
    bands: Any, output: Any, kernel: int = 2, paired: bool = PAIRED, dilations: tuple[int, ...] = (1, 2, 4)
) -> tuple[VQVAE, WaveNet]:
    """A codec with random weights, in torch and packed, in pairs of bfloat16 where `paired`."""
    torch.manual_seed(0)
    config = CodecConfig(
        encoder=EncoderConfig(strides=(8, 8), channels=(8, 8), latent_channels=8),
        speaker=SpeakerConfig(kind="reference", channels=5),
        conditioning=ConditioningConfig(channels=12),
        wavenet=WaveNetConfig(
            bands=bands, output=output, kernel=kernel, channels=12, skip_channels=20, dilations=dilations, mixtures=3
        ),
        decoder="wavenet",
    )
    model = VQVAE(config).eval().requires_grad_(False)
    return model, WaveNet(config, Weights(model.arrays(), paired))


def compare_parameters(model: VQVAE, packed: WaveNet, tolerance: float) -> None:
    """Hold the distributions of the steps against those of the parallel pass over the same signal."""
    bands = packed.bands
    generator = torch.Generator().manual_seed(1)
    waveform = 0.05 * torch.randn(2, 1, 2 * HOP, generator=generator)
    conditioning, speaker = torch.randn(2, 12, 2, generator=generator), torch.randn(2, 5, generator=generator)
    net = model.wavenet
    assert net is not None
    numbers = net.predict(net.split(waveform), conditioning, speaker)
    signal = net.distribution.compand(net.split(waveform)).numpy()
    streams = Streams(packed)
    for i in range(2):
        streams.add(Piece(conditioning[i].T.numpy(), speaker[i].numpy()))
    room, parameters = scratch(packed.network, 2), packed.network.parameters
    for k in range(numbers.shape[3]):
        rows = pad(conditioning[:, :, k // packed.steps].numpy(), 1)
        conditions = streams.bias + rows @ packed.network.local
        one_step(packed.network, streams.past, k, streams.heard, conditions.astype(np.float32), room)
        own = torch.from_numpy(room.numbers[:, : bands * parameters]).reshape(2, bands, parameters, 1)
        own = net.distribution.at_level(own, net.levels)
        torch.testing.assert_close(own[..., 0], numbers[..., k], rtol=tolerance, atol=tolerance)
        streams.heard[:, :bands] = signal[:, :, k]


@pytest.mark.parametrize(("bands", "output", "kernel"), [*itertools.product((1, 4), ("logistic", "mulaw"), (2, 3))])
def test_parameters_are_those_of_the_parallel_pass(bands, output, kernel):
    compare_parameters(*codec(bands, output, kernel, paired=False), 1e-4)


@pytest.mark.skipif(not PAIRED, reason="the processor does not multiply pairs of bfloat16")
@pytest.mark.parametrize("kernel", [2, 3])
def test_parameters_in_pairs_are_near(kernel):
    model, packed = codec(4, "logistic", kernel)
    compare_parameters(model, packed, 1e-2)
    with pytest.raises(AssertionError, match="not close"):
        compare_parameters(model, packed, 1e-6)


@given(st.floats(-30, 30, width=32))
def test_tanh_and_sigmoid(x):
    got = applied(np.array([x], np.float32))
    np.testing.assert_allclose(got[0], np.tanh(x), atol=3e-7)
    np.testing.assert_allclose(got[1], 1 / (1 + np.exp(-float(x))), atol=3e-7)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_random_numbers_are_those_of_the_generator(seed, start, band, stream):
    expected = uniforms(seed, start, 3, 4, [stream])[0, :, band]
    got = pairs(np.uint64(seed), start, 3, np.uint64(band), np.uint64(stream))
    np.testing.assert_array_equal(np.array(got, np.float32), expected)


@pytest.mark.parametrize("mean", [-100.0, -0.3, 0.5, 100.0])
@pytest.mark.parametrize("log_scale", [-9.0, -2.0, 3.0, 20.0])
@pytest.mark.parametrize("level", [0.0032, 0.054])
def test_samples_of_a_mixture_keep_to_the_bounds_of_the_module(mean, log_scale, level):
    """Of scales, below and above, and of samples."""
    numbers = np.array([0, 1, mean, mean / 2, log_scale, log_scale - 1], np.float32)
    module = LogisticMixture()
    parameters = module.at_level(torch.from_numpy(numbers)[None, None, :, None], torch.tensor([level]))[..., 0]
    for pair in ((0.3, 0.4999), (0.7, 0.9), (0.1, 0.02)):
        expected = float(module.sample(parameters, torch.tensor(pair)[None, None], 0.7))
        sample = drawn(numbers, 2, level, pair, 0.7)
        assert sample == pytest.approx(expected, rel=1e-3, abs=1e-8) and -1 <= sample <= LAST_BIN


@pytest.mark.parametrize("threads", [1, 2])
def test_a_stream_is_the_same_alone_and_among_others(threads):
    _, packed = codec(4, "logistic")
    rng = np.random.default_rng(0)
    frames = [5, 1, 9, 3, 3, 7, 2, 8, 4, 6, 1, 5]
    pieces = [
        Piece(pad(rng.normal(size=(n, 12)).astype(np.float32), 1), rng.normal(size=5).astype(np.float32), 10 * i, i)
        for i, n in enumerate(frames)
    ]
    together = packed.generate(pieces, seed=5, threads=threads)
    for piece, signal in zip(pieces, together, strict=True):
        assert signal.shape == (4, len(piece.conditioning) * 16)
        np.testing.assert_array_equal(packed.generate([piece], seed=5)[0], signal)


@pytest.mark.parametrize("output", ["logistic", "mulaw"])
def test_temperature_zero_is_the_same_whatever_the_seed(output):
    _, packed = codec(1, output)
    piece = Piece(pad(np.ones((3, 12), np.float32), 1), np.zeros(5, np.float32))
    first, second, warm = (
        packed.generate([piece], seed=s, temperature=t)[0] for s, t in ((1, 0.0), (2, 0.0), (1, 1.0))
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, warm)


def test_cuts_lie_in_pauses_and_are_never_too_far_apart():
    rate = 100.0
    loud = np.random.default_rng(0).normal(5, 0.3, 1000)
    cutter = Cutter(rate)
    cuts = [frame for frame, level in enumerate(loud) if cutter.cut_before(float(level))]
    assert all(loud[cut] <= np.quantile(loud[last:cut], 0.4) for last, cut in zip([0, *cuts], cuts, strict=False))
    gaps = np.diff([0, *cuts])
    assert gaps.min() >= 60 and gaps.max() <= 150
    steady = Cutter(rate)
    rising = [frame for frame in range(700) if steady.cut_before(float(frame))]
    assert rising == [150, 300, 450, 600]  # no pause at all


def test_the_longer_no_pause_comes_the_less_is_asked_of_one():
    """Of a frame fainter than all but a third of those before it, which is none after 0.7 s and one after 1.05 s."""
    for frames, found in ((70, False), (105, True)):
        cutter = Cutter(100.0)
        before = [cutter.cut_before(level) for level in range(frames)]
        assert [*before, cutter.cut_before(frames / 3)] == [False] * frames + [found]


@pytest.mark.parametrize("chunk", [160, 161, 162, 70])
def test_pieces_are_the_same_whenever_they_are_sampled(chunk):
    """One by one as soon as they are complete, which is when the blend with the next one has come too, or all at once
    at the end."""
    _, packed = codec(4, "logistic")
    rows = pad(np.random.default_rng(0).normal(size=(400, 12)).astype(np.float32), 1)
    loudness = np.linspace(1, 2, 400)
    loudness[[160, 330]] = -1.0
    results = []
    for packed.group, size in ((1, chunk), (8, 400)):
        coming = iter(loudness)
        sampler = Sampler(packed, lambda frames, c=coming: np.array([next(c) for _ in frames]), 250.0, np.zeros(5))
        parts = [sampler.push(rows[i : i + size], i + size >= 400) for i in range(0, 400, size)]
        assert (sum(len(part) > 0 for part in parts) > 1) == (packed.group == 1)
        results.append(np.concatenate(parts))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("bands", [1, 4])
def test_pieces_are_joined_where_they_were_cut(bands):
    """Each piece begins as early as it hears, and fades into the next within a frame, their powers adding up to one."""
    model, packed = codec(bands, "logistic", dilations=(1, 2, 4, 8, 16, 32))
    assert model.wavenet is not None
    steps = HOP // bands
    lead = -(-model.wavenet.config.receptive_steps // steps)
    rows = pad(np.random.default_rng(0).normal(size=(250, 12)).astype(np.float32), 1)
    loudness = np.linspace(1, 2, 250)
    loudness[[100, 200]] = -1.0
    results = []
    for chunk in (250, 33):
        coming = iter(loudness)
        sampler = Sampler(
            packed, lambda frames, c=coming: np.array([next(c) for _ in frames]), 100.0, np.zeros(5, np.float32), seed=1
        )
        parts = [sampler.push(rows[i : i + chunk], i + chunk >= 250) for i in range(0, 250, chunk)]
        results.append(np.concatenate(parts))
    assert results[0].shape == (250 * HOP,)
    np.testing.assert_array_equal(*results)
    starts, ends = (0, 100 - lead, 200 - lead), (101, 201, 250)
    pieces = [
        Piece(rows[start:end], np.zeros(5, np.float32), start * steps) for start, end in zip(starts, ends, strict=True)
    ]
    turn = (np.arange(steps) + 0.5) / steps * np.pi / 2
    signal = np.zeros((bands, 250 * steps))
    for start, end, own in zip(starts, ends, packed.generate(pieces, seed=1), strict=True):
        first = start + lead if start else 0
        shape = np.ones((end - first) * steps)
        if start:
            shape[:steps] = np.sin(turn)
        if end < 250:
            shape[-steps:] = np.cos(turn)
        signal[:, first * steps : end * steps] += own[:, (first - start) * steps :] * shape
    expected = packed.bank.push(packed.bank.start(), signal.astype(np.float32), True)
    np.testing.assert_allclose(results[0], expected, atol=1e-6)
