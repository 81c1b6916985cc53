"""The networks on the CPU: the numbers of the torch modules, and the same bits however the frames come."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from vqaudio.errors import ModelError
from vqaudio.models.config import (
    CodecConfig,
    ConditioningConfig,
    EncoderConfig,
    QuantizerConfig,
    SpeakerConfig,
    SpectralConfig,
    WaveNetConfig,
)
from vqaudio.models.vqvae import VQVAE
from vqaudio.runtime.cpu import CpuNetworks
from vqaudio.runtime.gpu import TorchNetworks
from vqaudio.runtime.processor import PAIRED

FRAMES = 60
CONFIG = CodecConfig(
    encoder=EncoderConfig(strides=(8, 4, 2), channels=(12, 20, 24), dilations=(1, 3), latent_channels=10),
    quantizer=QuantizerConfig(quantizers=2, codebook_size=40, code_dim=6, predictive=True, rate_weight=0.05),
    speaker=SpeakerConfig(kind="reference", channels=9, dims=5),
    conditioning=ConditioningConfig(channels=20),
    wavenet=WaveNetConfig(bands=4, channels=12, skip_channels=20, dilations=(1, 2, 4), mixtures=3),
    spectral=SpectralConfig(channels=24, skip_channels=40, dilations=(1, 2, 4), fft_size=256),
)
SEVERAL_PATHS = dataclasses.replace(CONFIG.quantizer, quantizers=1, paths=4)


def variants() -> list[CodecConfig]:
    assert CONFIG.wavenet is not None and CONFIG.spectral is not None
    mulaw = dataclasses.replace(CONFIG.wavenet, bands=1, output="mulaw", kernel=3)
    return [
        CONFIG,
        dataclasses.replace(
            CONFIG,
            speaker=SpeakerConfig(kind="lookup", channels=9, speakers=3),
            quantizer=dataclasses.replace(CONFIG.quantizer, predictive=False, rate_weight=0.0),
            wavenet=mulaw,
        ),
        dataclasses.replace(
            CONFIG,
            speaker=SpeakerConfig(),
            quantizer=QuantizerConfig(codebook_size=40, normalize=False),
            encoder=dataclasses.replace(CONFIG.encoder, strides=(4, 5), channels=(6, 7)),
            spectral=dataclasses.replace(CONFIG.spectral, fft_size=128),
            wavenet=dataclasses.replace(CONFIG.wavenet, bands=1),
        ),
        dataclasses.replace(
            CONFIG,
            wavenet=dataclasses.replace(CONFIG.wavenet, output="mulaw"),
            quantizer=dataclasses.replace(CONFIG.quantizer, rate_weight=0.0),
        ),
        dataclasses.replace(CONFIG, quantizer=SEVERAL_PATHS),
    ]


def pair(config: CodecConfig, paired: bool = PAIRED) -> tuple[VQVAE, CpuNetworks]:
    """A codec with random weights, those that start at zero too, in torch and packed."""
    torch.manual_seed(0)
    model = VQVAE(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim == 1 or not parameter.any():
            parameter.copy_(0.1 * torch.randn_like(parameter))
    for stage in model.quantizer.stages:
        if not config.quantizer.predictive:
            stage.codebook.mul_(torch.linspace(0.5, 2, len(stage.codebook))[:, None])
        else:
            stage.prediction.copy_(0.3 * torch.randn_like(stage.prediction))
            stage.codebook.mul_(0.7)
            if config.quantizer.rate_weight:
                stage.bits.copy_(torch.linspace(3, 8, len(stage.bits)))
    return model, CpuNetworks(config, model.arrays(), threads=2, paired=paired)


def exact_pair(config: CodecConfig) -> tuple[VQVAE, CpuNetworks]:
    """The same, with float32 throughout."""
    return pair(config, paired=False)


@pytest.fixture(scope="module", params=range(5), ids=["reference", "lookup", "none", "mulaw", "paths"])
def both(request) -> tuple[VQVAE, CpuNetworks]:
    return exact_pair(variants()[request.param])


@pytest.fixture(scope="module", params=[pair, exact_pair])
def reference(request) -> tuple[VQVAE, CpuNetworks]:
    return request.param(CONFIG)


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)


def spoken(config: CodecConfig) -> list[int] | None:
    return {"reference": [3, 0, 15, 7, 8], "lookup": [2], "none": None}[config.speaker.kind]


def some_codes(config: CodecConfig, frames: int = FRAMES) -> np.ndarray:
    shape = (config.quantizer.quantizers, frames)
    return np.random.default_rng(1).integers(0, config.quantizer.codebook_size, shape).astype(np.uint16)


def torch_conditioning(model: VQVAE, codes: np.ndarray) -> tuple[torch.Tensor, torch.Tensor | None]:
    speaker = spoken(model.config)
    vector = model.speaker.decode(None if speaker is None else torch.tensor([speaker]))
    return model.conditioning(model.quantizer.decode(torch.from_numpy(codes.astype(np.int64))[None]), vector), vector


def test_codes_are_those_of_the_modules(both):
    model, networks = both
    samples = noise(model.config.hop * FRAMES - 13)
    latents = model.encoder(F.pad(torch.from_numpy(samples), (0, 13))[None, None])
    own = networks.encoder.push(networks.encoder.start(), samples, True)[:, : latents.shape[1]]
    np.testing.assert_allclose(own, latents[0].numpy().T, atol=1e-4 * float(latents.abs().max()))
    codes, speaker = networks.encode([samples], model.config.quantizer.quantizers, True)
    expected = model.quantizer(latents).codes[0].numpy()
    assert (codes == expected).mean() > 0.99  # a latent between two codes may fall either way
    if model.config.speaker.kind == "reference":
        assert speaker == model.speaker.indices(*model.speaker.pool(latents))[0].tolist()


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_the_spectral_decoder_is_that_of_the_modules(both):
    model, networks = both
    codes = some_codes(model.config)
    conditioning, vector = torch_conditioning(model, codes)
    expected = model.spectral(conditioning, vector)[0, 0].numpy()
    wave = np.concatenate(list(networks.decode_spectral(codes, spoken(model.config))))
    assert wave.shape == expected.shape
    np.testing.assert_allclose(wave, expected, atol=1e-4 * np.abs(expected).max())  # pitches add up to phases


def test_magnitudes_are_limited_as_in_the_modules():
    model, _ = exact_pair(CONFIG)
    bins = CONFIG.spectral.fft_size // 2 + 1
    model.spectral.head.bias.view(-1)[: 4 * bins].view(4, bins)[::2] += 20
    networks, codes = CpuNetworks(CONFIG, model.arrays(), threads=1, paired=False), some_codes(CONFIG)
    conditioning, vector = torch_conditioning(model, codes)
    expected = model.spectral(conditioning, vector)[0, 0].numpy()
    wave = np.concatenate(list(networks.decode_spectral(codes, spoken(CONFIG))))
    np.testing.assert_allclose(wave, expected, atol=1e-3 * np.abs(expected).max())


def test_the_wavenet_samples_what_the_modules_sample(both):
    """With equal random numbers; the distributions behind them are compared in test_wavenet."""
    model, networks = both
    codes = some_codes(model.config)
    conditioning, vector = torch_conditioning(model, codes)
    expected = model.wavenet.generate(conditioning, vector, seed=3, temperature=0.8)[0, 0].numpy()
    parts = networks.decode_wavenet(codes, spoken(model.config), 3, 0.8, in_pieces=False)
    np.testing.assert_allclose(np.concatenate(list(parts)), expected, atol=1e-4)


@pytest.mark.skipif(not PAIRED, reason="the processor does not multiply pairs of bfloat16")
def test_pairs_are_near_float32():
    (_, short), (_, exact) = pair(CONFIG), exact_pair(CONFIG)
    latents, expected = (
        networks.encoder.push(networks.encoder.start(), noise(64 * FRAMES), True) for networks in (short, exact)
    )
    error = np.linalg.norm(latents - expected) / np.linalg.norm(expected)
    assert 0 < error < 0.02
    codes, speaker = exact.encode([noise(64 * FRAMES)], 2, True)
    again, speaker_again = short.encode([noise(64 * FRAMES)], 2, True)
    assert (codes[0] == again[0]).mean() > 0.9
    assert speaker is not None and speaker_again is not None
    assert np.abs(np.subtract(speaker, speaker_again)).max() <= 1
    vector = exact.speakers.vector(speaker)
    latents = exact.quantizer.latents(exact.quantizer.start(), codes)
    conditioning = exact.conditioning.push(exact.conditioning.start(vector), latents, True)
    numbers, expected = (  # of the head: waves differ more, for small differences of the pitch add up to a phase
        networks.spectral.numbers(networks.spectral.stack.start(vector), conditioning, True)
        for networks in (short, exact)
    )
    error = np.linalg.norm(numbers - expected) / np.linalg.norm(expected)
    assert 0 < error < 0.02


@settings(max_examples=20)
@given(st.lists(st.integers(0, 900), min_size=1, max_size=20))
def test_latents_are_the_same_bits_in_any_chunks(reference, sizes):
    _, networks = reference
    samples = noise(sum(sizes) + 1)
    whole = networks.encoder.push(networks.encoder.start(), samples, True)
    state, parts, begin = networks.encoder.start(), [], 0
    for size in sizes:
        parts.append(networks.encoder.push(state, samples[begin : begin + size], False))
        begin += size
    parts.append(networks.encoder.push(state, samples[begin:], True))
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("quantizer", [CONFIG.quantizer, SEVERAL_PATHS], ids=["two quantisers", "several paths"])
@settings(max_examples=20)
@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=10))
def test_codes_are_the_same_in_any_chunks(quantizer, sizes):
    _, networks = pair(dataclasses.replace(CONFIG, quantizer=quantizer))
    count, quantizer = quantizer.quantizers, networks.quantizer
    latents = np.random.default_rng(2).normal(size=(sum(sizes), 16)).astype(np.float32)
    whole = quantizer.codes(quantizer.start_search(), latents, count, True)
    assert whole.shape == (count, sum(sizes))
    search = quantizer.start_search()
    parts = [quantizer.codes(search, rows, count, False) for rows in np.split(latents, np.cumsum(sizes))]
    parts.append(quantizer.codes(search, latents[:0], count, True))
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_latents_that_are_not_finite_are_forgotten(reference):
    _, networks = reference
    latents = np.random.default_rng(2).normal(size=(100, 16)).astype(np.float32)
    before = networks.quantizer.codes(networks.quantizer.start_search(), latents, 1, True)
    for value in (np.inf, np.nan):
        latents[30] = value
        codes = networks.quantizer.codes(networks.quantizer.start_search(), latents, 1, True)
        assert np.mean(codes[0, 60:] == before[0, 60:]) > 0.9


@pytest.mark.parametrize("predictive", [True, False])
def test_of_equal_codes_the_first_is_chosen(predictive):
    config = dataclasses.replace(CONFIG, quantizer=QuantizerConfig(codebook_size=40, code_dim=6, predictive=predictive))
    weights = pair(config)[0].arrays()
    name = "quantizer.stages.0.codebook"
    quantizer = CpuNetworks(config, weights | {name: np.tile(weights[name][:20], (2, 1))}, threads=1).quantizer
    latents = np.random.default_rng(2).normal(size=(300, 16)).astype(np.float32)
    codes = quantizer.codes(quantizer.start_search(), latents, 1, True)
    assert codes.max() < 20 and len(np.unique(codes)) > 10


def test_the_misses_of_paths_are_told_apart_however_long_the_stream():
    """They are counted from the best, or a sum of all frames would leave no digits for the last one."""
    _, networks = pair(dataclasses.replace(CONFIG, quantizer=SEVERAL_PATHS))
    search, latents = networks.quantizer.start_search(), np.random.default_rng(2).normal(size=(100, 16))
    for rows in np.split(latents.astype(np.float32), 4):
        networks.quantizer.codes(search, rows, 1, False)
        missed = search.paths[0].missed
        assert missed[0] == 0 and (missed >= 0).all()


def test_codes_in_any_order_of_memory(reference):
    _, networks = reference
    codes = some_codes(CONFIG)
    for other in (np.asfortranarray(codes), np.repeat(codes, 2, axis=1)[:, ::2]):
        one, two = networks.quantizer.start(), networks.quantizer.start()
        np.testing.assert_array_equal(networks.quantizer.latents(one, other), networks.quantizer.latents(two, codes))


@pytest.mark.parametrize("quantizer", [CONFIG.quantizer, SEVERAL_PATHS], ids=["two quantisers", "several paths"])
def test_the_decoder_goes_on_from_the_points_of_the_encoder(quantizer):
    """Bit for bit."""
    _, networks = pair(dataclasses.replace(CONFIG, quantizer=quantizer))
    search, decoding = networks.quantizer.start_search(), networks.quantizer.start()
    latents = np.random.default_rng(2).normal(size=(300, 16)).astype(np.float32)
    codes = networks.quantizer.codes(search, latents, quantizer.quantizers, True)
    networks.quantizer.latents(decoding, codes)
    np.testing.assert_array_equal([paths.ends[0] for paths in search.paths], decoding)


@pytest.mark.parametrize("quantizer", [CONFIG.quantizer, SEVERAL_PATHS], ids=["two quantisers", "several paths"])
def test_codes_of_a_device_are_those_of_the_modules_in_one_pass(quantizer, monkeypatch):
    monkeypatch.setattr("vqaudio.runtime.schedule.BLOCK_SECONDS", 0.1)
    model, _ = pair(dataclasses.replace(CONFIG, quantizer=quantizer))
    samples = noise(CONFIG.hop * FRAMES - 13)
    networks = TorchNetworks(model.config, model.arrays(), "cpu")
    codes, speaker = networks.encode(iter(np.split(samples, [1, 700])), quantizer.quantizers, True)
    latents = model.encoder(F.pad(torch.from_numpy(samples), (0, 13))[None, None])
    expected = model.quantizer(latents).codes[0].numpy()
    assert codes.shape == expected.shape
    assert (codes == expected).mean() > 0.99  # a latent between two codes may fall either way
    assert speaker == model.speaker.indices(*model.speaker.pool(latents))[0].tolist()


def test_a_device_codes_alike_beside_training_in_lower_precision(reference):
    model, _ = reference
    networks, samples, speaker = TorchNetworks(CONFIG, model.arrays(), "cpu"), noise(64 * 50), [3, 0, 15, 7, 8]
    codes, numbers = networks.encode([samples], 2, True)
    sounds = [np.concatenate(list(networks.decode_spectral(codes, speaker)))]
    sounds += [np.concatenate(list(networks.decode_wavenet(codes, speaker, 7, 1.0)))]
    with torch.autocast("cpu", torch.bfloat16):
        again, numbers_again = networks.encode([samples], 2, True)
        np.testing.assert_array_equal(again, codes)
        assert numbers_again == numbers
        np.testing.assert_array_equal(np.concatenate(list(networks.decode_spectral(codes, speaker))), sounds[0])
        np.testing.assert_array_equal(np.concatenate(list(networks.decode_wavenet(codes, speaker, 7, 1.0))), sounds[1])


def test_what_a_caller_makes_while_a_device_codes_is_fit_for_training(reference):
    model, _ = reference
    made = []

    def parts():
        for _ in range(3):
            made.append(torch.zeros(1600))
            yield made[-1].numpy()

    TorchNetworks(CONFIG, model.arrays(), "cpu").encode(parts(), 1, True)
    assert not any(tensor.is_inference() for tensor in made)


@settings(max_examples=20)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=10))
def test_samples_are_the_same_bits_in_any_chunks(reference, sizes):
    _, networks = reference
    codes, vector = some_codes(CONFIG, sum(sizes) + 1), networks.speakers.vector([1, 2, 3, 4, 5])

    def decoded(cuts: list[int]) -> np.ndarray:
        conditioned, state, parts, begin = networks.conditioning.start(vector), networks.spectral.start(vector), [], 0
        past = networks.quantizer.start()
        for end in [*cuts, codes.shape[1]]:
            last = end == codes.shape[1]
            latents = networks.quantizer.latents(past, codes[:, begin:end])
            rows = networks.conditioning.push(conditioned, latents, last)
            parts.append(networks.spectral.push(state, rows, last))
            begin = end
        return np.concatenate(parts)

    np.testing.assert_array_equal(decoded(np.cumsum(sizes).tolist()), decoded([]))


@pytest.mark.parametrize("threads", [1, 3])
def test_blocks_and_threads_change_no_bit(reference, threads, monkeypatch):
    monkeypatch.setattr("vqaudio.runtime.schedule.SHORTEST_BLOCK_SECONDS", 0.05)
    monkeypatch.setattr("vqaudio.runtime.segments.SHORTEST", 0.05)
    monkeypatch.setattr("vqaudio.runtime.segments.LONGEST", 0.2)
    model, _ = reference
    samples, speaker = noise(64 * 200 - 5), [3, 0, 15, 7, 8]
    one, other = (CpuNetworks(CONFIG, model.arrays(), count) for count in (2, threads))
    codes, numbers = one.encode([samples], 2, True)
    again, numbers_again = other.encode(np.split(samples, [100, 100, 5000]), 2, True)
    np.testing.assert_array_equal(codes, again)
    assert numbers == numbers_again
    for decode in ("decode_spectral", "decode_wavenet"):
        options = (7, 1.0) if decode == "decode_wavenet" else ()
        first, second = (np.concatenate(list(getattr(n, decode)(codes, speaker, *options))) for n in (one, other))
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("config", [variants()[0], variants()[2]], ids=["hop divides window", "hop does not"])
def test_blocks_of_the_modules_are_one_pass_over_everything(config, monkeypatch):
    model, _ = pair(config)
    networks = TorchNetworks(config, model.arrays(), "cpu")
    codes, speaker = some_codes(config, 200), spoken(config)
    (whole,) = networks.decode_spectral(codes, speaker)
    monkeypatch.setattr("vqaudio.runtime.gpu.BLOCK_SECONDS", 17 / config.frame_rate)
    blocks = list(networks.decode_spectral(codes, speaker))
    assert len(blocks) == 12
    np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-4 * np.abs(whole).max())


@pytest.mark.parametrize("threads", [1, 3])
def test_a_block_that_fails_fails_the_decoding(reference, threads, monkeypatch):
    """And leaves no block waiting for it."""
    monkeypatch.setattr("vqaudio.runtime.schedule.SHORTEST_BLOCK_SECONDS", 0.05)
    networks = CpuNetworks(CONFIG, reference[0].arrays(), threads)
    given, calls = networks.quantizer.latents, itertools.count()

    def latents(past: np.ndarray, codes: np.ndarray) -> np.ndarray:
        if codes.shape[1] and next(calls) == 1:
            raise MemoryError("no room")
        return given(past, codes)

    monkeypatch.setattr(networks.quantizer, "latents", latents)
    monkeypatch.setattr("vqaudio.runtime.schedule.BLOCK_SECONDS", 0.05)
    with pytest.raises(MemoryError, match="no room"):
        list(networks.decode_spectral(some_codes(CONFIG, 200), [3, 0, 15, 7, 8]))


@pytest.mark.parametrize("name", ["encoder.output.weight", "spectral.head.bias", "wavenet.stack.local.weight"])
def test_weights_that_do_not_fit_are_one_error(reference, name):
    weights = reference[0].arrays()
    with pytest.raises(ModelError, match=name):
        CpuNetworks(CONFIG, {key: value for key, value in weights.items() if key != name})
    with pytest.raises(ModelError, match=name):
        CpuNetworks(CONFIG, weights | {name: weights[name][1:]})
