"""The benchmark: operations as torch counts them, memory of known work, and ratios to a codec of known speed."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import vqaudio
from vqaudio.codec import Codec
from vqaudio.errors import UsageError, VqaudioError
from vqaudio.evaluation import benchmark, peers
from vqaudio.evaluation.benchmark import Measurement
from vqaudio.evaluation.flops import flops
from vqaudio.evaluation.memory import peak_memory
from vqaudio.evaluation.peers import Peer
from vqaudio.models import quantizer
from vqaudio.models.config import CodecConfig, QuantizerConfig, SpeakerConfig, WaveNetConfig
from vqaudio.models.vqvae import VQVAE
from vqaudio.runtime.cpu import CpuNetworks
from vqaudio.runtime.gpu import TorchNetworks

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def codec(tiny_codec: Path) -> Codec:
    return vqaudio.load(tiny_codec, threads=1)


def without_wavenet(codec: Codec) -> Codec:
    config = dataclasses.replace(codec.config, wavenet=None)
    return Codec(config, {name: value for name, value in codec.state.items() if not name.startswith("wavenet.")})


class Counter:
    """The torch modules of a model, run as coding runs them."""

    def __init__(self, config: CodecConfig) -> None:
        self.config, self.model = config, VQVAE(config).eval()
        self.vector = self.model.speaker.decode(None)

    def encode(self, frames: int) -> None:
        latents = residual = self.model.encoder(torch.zeros(1, 1, frames * self.config.hop))
        for stage in self.model.quantizer.stages[:-1]:
            residual = residual - stage.decode(stage.codes(residual))
        self.model.quantizer.stages[-1].codes(residual)
        if self.config.speaker.kind == "reference":
            self.model.speaker.pool(latents)

    def spectral(self, frames: int) -> None:
        assert self.model.spectral is not None
        self.model.spectral(self.conditioning(frames), self.vector)

    def wavenet(self, frames: int) -> None:
        wavenet = self.model.wavenet
        assert wavenet is not None and self.config.wavenet is not None
        past = wavenet.stack.silent_past(1)
        for conditions in wavenet.conditions(self.conditioning(frames), self.vector):
            for _ in range(self.config.hop // wavenet.bands):
                wavenet.step(torch.zeros(1, wavenet.bands), conditions, past)

    def conditioning(self, frames: int) -> torch.Tensor:
        codes = torch.zeros(1, self.config.quantizer.quantizers, frames, dtype=torch.long)
        return self.model.conditioning(self.model.quantizer.decode(codes), self.vector)

    def per_second(self, part: str) -> float:
        """Operations that grow with the audio, so without those that are done once."""
        counts = []
        for frames in (2, 5):
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                getattr(self, part)(frames)
            counts.append(counter.get_total_flops())
        return (counts[1] - counts[0]) / 3 * self.config.frame_rate


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"speaker": SpeakerConfig(), "quantizer": QuantizerConfig(codebook_size=40, code_dim=6)},
        {"quantizer": QuantizerConfig(codebook_size=40, code_dim=6, predictive=True)},
        {"quantizer": QuantizerConfig(codebook_size=40, code_dim=6, predictive=True, paths=3)},
        {"wavenet": WaveNetConfig(bands=1, channels=6, skip_channels=10, kernel=3, dilations=(1, 2), output="mulaw")},
    ],
)
def test_operations_are_those_that_torch_counts(
    codec: Codec, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizer, "follow", quantizer.frame_by_frame)  # torch counts nothing within an operation
    monkeypatch.setattr(quantizer, "predict", quantizer.vector_by_vector)
    config = dataclasses.replace(codec.config, **changes)
    counted = flops(config)
    assert set(counted) == {"encode", "spectral", "wavenet"}
    for part, operations in counted.items():
        assert operations == pytest.approx(Counter(config).per_second(part), rel=1e-9)


def test_operations_of_absent_decoders_are_not_counted(codec: Codec) -> None:
    assert set(flops(dataclasses.replace(codec.config, wavenet=None))) == {"encode", "spectral"}


def test_memory_is_what_the_work_held_at_most() -> None:
    large = peak_memory(lambda: np.ones(80 * MEGABYTE, np.uint8))
    small = peak_memory(lambda: np.ones(40 * MEGABYTE, np.uint8))
    nothing = peak_memory(lambda: None)
    if large is None or small is None or nothing is None:
        pytest.skip("this system keeps no high-water mark that can be reset")
    assert 79 * MEGABYTE < large < 85 * MEGABYTE
    assert 39 * MEGABYTE < small < 45 * MEGABYTE  # the earlier peak is forgotten
    assert nothing < 5 * MEGABYTE


def test_memory_that_was_freed_before_counts_when_it_is_used_again() -> None:
    def work() -> None:
        [bytearray(64 * 1024) for _ in range(500)]  # too small to be given back one by one

    first, again = peak_memory(work), peak_memory(work)
    if first is None or again is None:
        pytest.skip("this system keeps no high-water mark that can be reset")
    assert again > 25 * MEGABYTE


def test_all_parts_are_measured_for_all_threads_and_streams(codec: Codec) -> None:
    measured = list(benchmark.measure(codec, seconds=0.2, threads=[1, 2], streams=[1, 3], repeat=2))
    places = [(m.threads, m.streams, m.part) for m in measured]
    parts = ("encode", "spectral", "wavenet", "sequential")
    assert places == [(threads, files, part) for threads in (1, 2) for files in (1, 3) for part in parts]
    operations = flops(codec.config)
    for m in measured:
        assert (m.codec, len(m.times), m.seconds) == ("vqaudio", 2, pytest.approx(0.2 * m.streams))
        assert m.operations == operations[m.part if m.part != "sequential" else "wavenet"]


def test_a_device_is_measured_on_the_same_parts(codec: Codec) -> None:
    measured = list(benchmark.measure_device(codec, "cpu", seconds=0.05, streams=[1, 2], repeat=1))
    parts = ("encode", "spectral", "sequential")
    assert [(m.streams, m.part) for m in measured] == [(files, part) for files in (1, 2) for part in parts]
    assert all(m.seconds == pytest.approx(0.05 * m.streams) for m in measured)


def test_the_pass_on_a_device_is_the_codec_s_own(codec: Codec) -> None:
    networks = TorchNetworks(codec.config, codec.state, "cpu")
    coded = benchmark._coded(codec, 0.05)
    first, second = cast(list[np.ndarray], benchmark._one_pass_on_device(networks, coded, 2))
    expected = np.concatenate(list(networks.decode_wavenet(coded.codes, coded.speaker, 0, 1.0, in_pieces=False)))
    np.testing.assert_array_equal(first, expected)
    assert len(second) == len(first) and not np.array_equal(first, second)


def test_a_long_file_goes_there_and_back(codec: Codec) -> None:
    there, back = benchmark.measure_long(codec, minutes=0.5)
    assert (there.part, back.part) == ("encode file", "decode file")
    assert there.seconds == back.seconds == 30.0
    assert there.speed > 0 and (back.gflops or 0) > 0


def test_the_sequential_pass_is_the_codec_s_own(codec: Codec) -> None:
    networks = CpuNetworks(codec.config, codec.state, threads=1)
    decoded: Any = benchmark._compiled(codec, networks, "sequential", 1, 2, 1.0)()
    first, second = decoded
    coded = benchmark._coded(codec, 1.0)
    expected = np.concatenate(list(networks.decode_wavenet(coded.codes, coded.speaker, 0, 1.0, in_pieces=False)))
    np.testing.assert_array_equal(first, expected)
    assert len(second) == len(first) and not np.array_equal(first, second)


def test_eager_pytorch_is_measured_on_the_same_parts_but_pieces(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "LOOP_SECONDS", 0.02)
    before = torch.get_num_threads()
    measured = list(benchmark.measure_eager(codec, seconds=0.2, threads=[1], repeat=1))
    assert [(m.codec, m.part, m.seconds) for m in measured] == [
        ("pytorch", "encode", 0.2),
        ("pytorch", "spectral", 0.2),
        ("pytorch", "sequential", 0.02),
    ]
    assert torch.get_num_threads() == before


def test_a_model_without_a_wavenet_gets_a_random_one_of_the_recipe_s_shape(codec: Codec) -> None:
    completed = benchmark.with_wavenet(without_wavenet(codec))
    assert completed.config.wavenet == WaveNetConfig(bands=4, channels=64, skip_channels=128)
    assert completed.decoders == ("spectral", "wavenet")
    codes = codec.encode(benchmark.speech(0.3, 16000), 16000)
    again = completed.encode(benchmark.speech(0.3, 16000), 16000)
    np.testing.assert_array_equal(again.numpy(), codes.numpy())


def test_the_random_wavenet_fits_any_hop(codec: Codec) -> None:
    encoder = dataclasses.replace(codec.config.encoder, strides=(5, 10), channels=codec.config.encoder.channels[:2])
    config = dataclasses.replace(codec.config, encoder=encoder, wavenet=None)
    odd = Codec(config, VQVAE(config).arrays())
    wavenet = benchmark.with_wavenet(odd).config.wavenet
    assert wavenet is not None and wavenet.bands == 1


def test_a_process_that_fails_is_one_sentence(tiny_codec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(VqaudioError, match=r"^A process that decodes failed: exit code 1$"):
        benchmark.measure_start(model=str(tiny_codec), repeat=1)


def test_a_whole_process_is_timed(tiny_codec: Path) -> None:
    measured = benchmark.measure_start(model=str(tiny_codec), repeat=2)
    assert (measured.part, measured.seconds, len(measured.times)) == ("start, decode", 2.0, 2)


def fake(calls: list[tuple[str, Any]]) -> Peer:
    """A codec that notes what it is given."""

    def encode(waveform: torch.Tensor) -> str:
        calls.append(("encode", tuple(waveform.shape)))
        return "codes"

    def decode(codes: str) -> None:
        calls.append(("decode", codes))

    return Peer("fake", "Fake", "8 kHz", "numpy", 8000, lambda: (encode, decode))


def test_a_peer_is_measured_at_its_own_rate_on_its_own_codes() -> None:
    calls: list[tuple[str, Any]] = []
    measured = list(benchmark.measure_peer(fake(calls), seconds=2.0, threads=[1], repeat=3))
    assert [(m.codec, m.part, m.streams, m.seconds, len(m.times)) for m in measured] == [
        ("fake", "encode", 1, 2.0, 3),
        ("fake", "decode", 1, 2.0, 3),
    ]
    assert all(m.gflops is None for m in measured)
    full, short = ("encode", (1, 1, 16000)), ("encode", (1, 1, 4000))
    codes = ("decode", "codes")  # each is run once for its memory and three times for its speed
    assert calls == [short, *[full] * 4, short, codes, full, *[codes] * 4]


def measurement(codec: str, part: str, threads: int, streams: int, *times: float) -> Measurement:
    return Measurement(codec, part, threads, streams, 10.0 * streams, times, 2e9, None)


def test_speeds_and_ratios_are_those_of_the_best_runs() -> None:
    ours = [
        measurement("vqaudio", "encode", 1, 8, 0.001),
        measurement("vqaudio", "encode", 1, 1, 4.0, 2.0),
        measurement("vqaudio", "spectral", 1, 1, 0.5),
        measurement("vqaudio", "wavenet", 1, 1, 5.0),
    ]
    assert (ours[1].speed, ours[1].gflops) == (5.0, 10.0)
    their_encoder, their_decoder = measurement("fake", "encode", 1, 1, 20.0), measurement("fake", "decode", 1, 1, 5.0)
    measured = [*ours, their_encoder, their_decoder]
    assert benchmark.ratios(their_encoder, measured) == {"encode": 10.0}
    assert benchmark.ratios(their_decoder, measured) == {"spectral": 10.0, "wavenet": 1.0}
    assert benchmark.ratios(measurement("fake", "encode", 2, 1, 1.0), measured) == {}
    assert benchmark.ratios(ours[1], measured) == {}


def test_speech_is_the_sample_again_and_again() -> None:
    short, long = benchmark.speech(1.0, 16000), benchmark.speech(60.0, 16000)
    assert (short.shape, long.shape, long.dtype) == ((16000,), (960000,), np.float32)
    np.testing.assert_array_equal(long[:16000], short)
    assert any(np.array_equal(long[start : start + 16000], short) for start in range(16000, 900000))


def test_what_cannot_be_measured_against_is_said() -> None:
    with pytest.raises(UsageError, match=r"'encodek'.*did you mean 'encodec'"):
        peers.select(["encodek"])
    absent = dataclasses.replace(fake([]), package="surely_absent")
    kept, notes = peers.usable([absent, fake([])])
    assert [peer.package for peer in kept] == ["numpy"]
    assert len(notes) == 1 and "surely_absent" in notes[0] and "vqaudio[peers]" in notes[0]


@pytest.mark.parametrize("peer", peers.PEERS.values(), ids=str)
def test_the_peers_code_speech(peer: Peer) -> None:
    pytest.importorskip(peer.package, reason=f"{peer.package}, of the extra 'peers', is not installed")
    encode, decode = peer.build()
    waveform = torch.from_numpy(benchmark.speech(0.5, peer.sample_rate))[None, None]
    with torch.inference_mode():
        decoded: Any = decode(encode(waveform))
    assert getattr(decoded, "audio_values", decoded).shape[-1] == pytest.approx(
        peer.sample_rate / 2, abs=0.08 * peer.sample_rate
    )
