"""The WaveNet in torch for a GPU: the samples of the reference, streams that do not mix, whole files in pieces.

Without a GPU its step runs as it is; with one the same tests run over captured graphs, too.
"""

from __future__ import annotations

import gc
import itertools
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses import FakeTensorMode

from vqaudio.models import random
from vqaudio.models.config import (
    CodecConfig,
    ConditioningConfig,
    EncoderConfig,
    QuantizerConfig,
    SpeakerConfig,
    WaveNetConfig,
)
from vqaudio.models.vqvae import VQVAE
from vqaudio.models.wavenet import WaveNet
from vqaudio.runtime import gpu_wavenet
from vqaudio.runtime.cpu import CpuNetworks
from vqaudio.runtime.gpu import TorchNetworks
from vqaudio.runtime.gpu_wavenet import Streams, TorchWaveNet, uniforms
from vqaudio.runtime.wavenet import Piece

HOP = 64
SPEAKERS = {
    "none": SpeakerConfig(),
    "lookup": SpeakerConfig(kind="lookup", channels=5, speakers=3),
    "reference": SpeakerConfig(kind="reference", channels=5, dims=4),
}
SPOKEN: dict[str, list[int] | None] = {"none": None, "lookup": [2], "reference": [3, 0, 15, 7]}
KINDS = list(itertools.product((1, 4), ("logistic", "mulaw")))


@pytest.fixture(params=["cpu", "cuda"])
def device(request, monkeypatch) -> str:
    """Where to run, with few streams and short chunks."""
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("needs a GPU")
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # coarser than what is compared here
    monkeypatch.setattr(gpu_wavenet, "SIZES", (2, 4))
    monkeypatch.setattr(gpu_wavenet, "CHUNK", 64)
    return request.param


def codec(bands: Any = 4, output: Any = "logistic", kernel: int = 2, speaker: str = "reference") -> VQVAE:
    """A codec with random weights, those that start at zero too."""
    torch.manual_seed(0)
    config = CodecConfig(
        encoder=EncoderConfig(strides=(8, 8), channels=(8, 8), latent_channels=8),
        quantizer=QuantizerConfig(codebook_size=40, code_dim=6),
        speaker=SPEAKERS[speaker],
        conditioning=ConditioningConfig(channels=12),
        wavenet=WaveNetConfig(
            bands=bands, output=output, kernel=kernel, channels=12, skip_channels=20, dilations=(1, 2, 4), mixtures=3
        ),
        decoder="wavenet",
    )
    model = VQVAE(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim == 1 or not parameter.any():
            parameter.copy_(0.1 * torch.randn_like(parameter))
    return model


def fast(model: VQVAE, device: str) -> TorchWaveNet:
    twin = VQVAE(model.config).eval().requires_grad_(False)
    twin.load_state_dict(model.state_dict())
    wavenet = twin.to(device).wavenet
    assert wavenet is not None
    return TorchWaveNet(wavenet)


def some_pieces(lengths: list[int], speaker: bool = True) -> list[Piece]:
    rng = np.random.default_rng(0)
    return [
        Piece(
            rng.normal(size=(frames, 12)).astype(np.float32),
            rng.normal(size=5).astype(np.float32) if speaker else None,
            start=10 * number,
            stream=number,
        )
        for number, frames in enumerate(lengths)
    ]


def some_codes(frames: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 40, (1, frames)).astype(np.uint16)


@pytest.mark.parametrize(("bands", "output", "kernel"), [(*kind, kernel) for kind in KINDS for kernel in (2, 3)])
def test_samples_are_those_of_the_reference(device, bands, output, kernel):
    """Of three streams, one of a graph of four being idle; over several chunks."""
    model = codec(bands, output, kernel)
    net, frames = model.wavenet, 6
    conditioning = torch.randn(3, 12, frames, generator=torch.Generator().manual_seed(1))
    speaker = torch.randn(3, 5, generator=torch.Generator().manual_seed(2))
    expected = net.generate(conditioning, speaker, seed=3, temperature=0.8)[:, 0]
    pieces = [Piece(conditioning[i].T.numpy(), speaker[i].numpy(), stream=i) for i in range(3)]
    packed = fast(model, device)
    for signal, wave in zip(packed.generate(pieces, seed=3, temperature=0.8), expected, strict=True):
        assert signal.shape == (bands, frames * packed.steps)
        joined = packed.bank.push(packed.bank.start(), signal, True)
        np.testing.assert_allclose(joined, wave.numpy(), atol=1e-4)


@pytest.mark.parametrize("speaker", SPEAKERS)
@pytest.mark.parametrize("known", [True, False])
def test_a_file_in_one_piece_is_that_of_the_reference(device, speaker, known):
    model = codec(speaker=speaker)
    codes, spoken = some_codes(10), SPOKEN[speaker] if known else None
    vector = model.speaker.decode(None if spoken is None else torch.tensor([spoken]))
    conditioning = model.conditioning(model.quantizer.decode(torch.from_numpy(codes.astype(np.int64))[None]), vector)
    expected = model.wavenet.generate(conditioning, vector, seed=3, temperature=0.8)[0, 0].numpy()
    parts = TorchNetworks(model.config, model.arrays(), device).decode_wavenet(codes, spoken, 3, 0.8, in_pieces=False)
    np.testing.assert_allclose(np.concatenate(list(parts)), expected, atol=1e-4)


def test_a_file_in_pieces_is_that_of_the_cpu(device, monkeypatch):
    """In several blocks, and in more pieces than there are streams."""
    monkeypatch.setattr("vqaudio.runtime.gpu.BLOCK_SECONDS", 0.3)
    monkeypatch.setattr("vqaudio.runtime.segments.SHORTEST", 0.06)
    monkeypatch.setattr("vqaudio.runtime.segments.LONGEST", 0.12)
    model, codes = codec(), some_codes(200)
    waves = [
        np.concatenate(list(networks.decode_wavenet(codes, SPOKEN["reference"], 5, 1.0)))
        for networks in (
            CpuNetworks(model.config, model.arrays(), threads=1),
            TorchNetworks(model.config, model.arrays(), device),
        )
    ]
    assert waves[1].shape == (200 * HOP,)
    np.testing.assert_allclose(waves[1], waves[0], atol=1e-4)


@pytest.mark.parametrize(("bands", "output"), KINDS)
def test_a_stream_is_the_same_alone_and_among_others(device, bands, output):
    """More pieces than streams, of all lengths: some wait, some end within a chunk and some with it."""
    packed = fast(codec(bands, output), device)
    pieces = some_pieces([5, 1, 9, 3, 8, 2, 4])
    for piece, signal in zip(pieces, packed.generate(pieces, seed=5), strict=True):
        assert signal.shape == (bands, len(piece.conditioning) * packed.steps)
        np.testing.assert_allclose(packed.generate([piece], seed=5)[0], signal, atol=1e-4)


def test_streams_and_starts_have_random_numbers_of_their_own(device):
    packed, (piece,) = fast(codec(speaker="none"), device), some_pieces([4], speaker=False)
    others = [Piece(piece.conditioning, start=start, stream=stream) for start, stream in ((0, 0), (1, 0), (0, 1))]
    signals = packed.generate(others)
    assert not any(np.allclose(a, b, atol=1e-3) for a, b in itertools.combinations(signals, 2))


@pytest.mark.parametrize("output", ["logistic", "mulaw"])
def test_temperature_zero_is_the_same_whatever_the_seed(device, output):
    packed, pieces = fast(codec(1, output), device), some_pieces([3])
    first, second, warm = (packed.generate(pieces, seed=s, temperature=t)[0] for s, t in ((1, 0.0), (2, 0.0), (1, 1.0)))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, warm)


def test_a_signal_is_not_changed_by_the_next_one(device):
    packed, pieces = fast(codec(), device), some_pieces([4])
    first = packed.generate(pieces)[0]
    kept = first.copy()
    packed.generate(some_pieces([8]), seed=1)
    np.testing.assert_array_equal(first, kept)


def test_what_was_broken_off_leaves_no_trace(device, monkeypatch):
    packed, pieces = fast(codec(), device), some_pieces([6, 5])
    expected = packed.generate(pieces)
    streams = packed._streams(2, 1.0)
    step, left = streams.step, iter(range(75))

    def interrupted() -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        step()

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(streams, "step", interrupted)
        packed.generate(some_pieces([9, 9]))
    for before, after in zip(expected, packed.generate(pieces), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-6)


def test_threads_wait_for_each_other(device):
    packed, several = fast(codec(), device), [some_pieces([number, 3]) for number in (1, 2, 4, 5)]
    expected = [packed.generate(pieces) for pieces in several]
    with ThreadPoolExecutor(4) as pool:
        for before, after in zip(expected, pool.map(packed.generate, several), strict=True):
            for one, other in zip(before, after, strict=True):
                np.testing.assert_allclose(other, one, atol=1e-6)


def test_graphs_are_not_captured_in_inference_mode(device, monkeypatch):
    """What the first capture of a process allocates is used by those of the caller, who may be in no such mode."""
    modes, begin = [], Streams.begin

    def watched(streams, stream, speaker):
        modes.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled(), streams.past.is_inference()))
        begin(streams, stream, speaker)

    monkeypatch.setattr(Streams, "begin", watched)
    packed = fast(codec(), device)
    with torch.inference_mode():
        packed.generate(some_pieces([2]))
    packed.generate(some_pieces([2]))
    assert set(modes) == {(False, False, False)}


def test_graphs_go_with_the_weights(device):
    packed = fast(codec(), device)
    packed.generate(some_pieces([2]))
    there = weakref.ref(packed)
    gc.disable()
    try:
        del packed
        assert there() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("output", ["logistic", "mulaw"])
def test_a_step_can_be_captured(output, monkeypatch):
    """Here the tensors lie on a GPU that need not be there and have no values, so that looking at one is an error."""
    monkeypatch.setattr(gpu_wavenet, "captured", lambda step, device: step)
    with FakeTensorMode(), torch.no_grad():
        with torch.device("cuda"):
            net = WaveNet(WaveNetConfig(bands=1, output=output), 12, 5, HOP)
        streams = Streams(TorchWaveNet(net), 2, 1.0)
        streams.step()
    assert streams.heard.is_cuda


@pytest.mark.parametrize(("bands", "output"), KINDS)
def test_a_step_leaves_all_tensors_where_they_are(bands, output):
    with torch.no_grad():
        streams = Streams(fast(codec(bands, output), "cpu"), 2, 1.0)
        tensors = {name: value for name, value in vars(streams).items() if torch.is_tensor(value)}
        places = {name: value.data_ptr() for name, value in tensors.items()}
        streams.step()
    assert len(places) > 5
    assert {name: getattr(streams, name).data_ptr() for name in tensors} == places


@settings(max_examples=30)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.integers(0, 2**32 - 1))
def test_uniforms_are_those_of_the_models(seed, start, stream):
    got = uniforms(seed, torch.tensor([start, 0]), 3, 4, torch.tensor([7, stream]))
    for item, (first, number) in enumerate(((start, 7), (0, stream))):
        np.testing.assert_array_equal(got[:, item].numpy(), random.uniforms(seed, first, 3, 4, (number,))[0])
