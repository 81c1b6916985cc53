"""Streams: what comes bit by bit is what the codec gives for the whole, bit for bit, and comes as early as stated."""

from __future__ import annotations

import copy
import dataclasses
import io
import tracemalloc
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vqaudio
from tests.conftest import TINY
from tests.samples import TableCoder, as_stream
from vqaudio import Codec, Codes, audio
from vqaudio.blocks import BlockReader
from vqaudio.errors import AudioError, ModelError, UsageError
from vqaudio.models.vqvae import VQVAE
from vqaudio.runtime import segments
from vqaudio.runtime.reach import latency
from vqaudio.streams import decode_live, encode_live

cuts = st.lists(st.integers(0, 3000), max_size=12)


def untrained(**quantizer: Any) -> Codec:
    """A codec with predictive codes, so that a stream has to remember the one before."""
    config = dataclasses.replace(TINY, quantizer=dataclasses.replace(TINY.quantizer, predictive=True, **quantizer))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VQVAE(config)
        for stage in model.quantizer.stages:
            stage.prediction.copy_(0.4 * torch.randn(stage.prediction.shape))
        return Codec(config, model.arrays(), "An untrained codec for tests.")


@pytest.fixture(scope="module")
def codec() -> Codec:
    return untrained()


@pytest.fixture(scope="module")
def patient() -> Codec:
    """Its codes are decided late."""
    return untrained(quantizers=1, paths=4)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, 12345).astype(np.float32)


def pieces(array: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    """An array cut along its last axis after so many items each."""
    return np.split(array, np.cumsum(sizes), axis=-1)


def encoded(codec: Codec, parts: list[np.ndarray], rate: int = 16000, **options) -> tuple[np.ndarray, int]:
    stream = codec.encoder_stream(rate, **options)
    codes = [*[stream.push(part) for part in parts], stream.finish()]
    return np.concatenate(codes, axis=1), stream.samples


def decoded(codec: Codec, codes: Codes, sizes: list[int], **options) -> np.ndarray:
    stream = codec.decoder_stream(codes.speaker, **options)
    parts = [stream.push(part) for part in pieces(codes.numpy(), sizes)]
    return np.concatenate([*parts, stream.finish()])


@pytest.mark.parametrize("quantizers", [1, 2])
@pytest.mark.parametrize("rate", [16000, 8000, 44100])
@settings(max_examples=5)
@given(sizes=cuts)
def test_codes_of_a_stream_are_those_of_the_whole(codec, noise, short_blocks, rate, quantizers, sizes):
    whole = codec.encode(noise, rate, quantizers=quantizers)
    codes, samples = encoded(codec, pieces(noise, sizes), rate, quantizers=quantizers)
    np.testing.assert_array_equal(codes, whole.numpy())
    assert samples == whole.samples


@pytest.mark.parametrize("decoder", ["spectral", "wavenet"])
@settings(max_examples=10)
@given(frames=st.integers(1, 120), sizes=st.lists(st.integers(0, 40), max_size=12))
def test_sound_of_a_stream_is_that_of_the_whole(codec, noise, near_cuts, decoder, frames, sizes):
    codes = codec.encode(noise[: frames * 64 - 10], 16000)
    options = {"decoder": decoder, "seed": 5, "temperature": 0.9}
    whole = codec.decode(codes, **options)
    np.testing.assert_array_equal(decoded(codec, codes, sizes, **options)[: codes.samples], whole)


@pytest.fixture(scope="module")
def near_cuts():
    """Cuts so near to each other that a short signal has many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "SHORTEST", 0.04)
        patch.setattr(segments, "LONGEST", 0.1)
        yield


@pytest.fixture(scope="module")
def short_blocks():
    """Blocks so short that the whole is encoded in several of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vqaudio.runtime.schedule.BLOCK_SECONDS", 0.1)
        yield


@pytest.mark.parametrize("quantizers", [1, 2])
def test_a_live_stream_under_a_prior(codec, noise, quantizers):
    """Every half second it gets a block, which a decoder answers with the sound of the whole."""
    size = codec.config.quantizer.codebook_size
    coder, written = TableCoder(quantizers, size, model=codec.fingerprint), io.BytesIO()
    samples, size = encode_live(codec, pieces(noise, [700] * 17), written, quantizers, coder)
    assert (samples, size) == (len(noise), len(written.getvalue()))
    codes = Codes.from_bytes(written.getvalue(), coder=coder)
    np.testing.assert_array_equal(codes.numpy(), codec.encode(noise, 16000, quantizers=quantizers).numpy())
    blocks = BlockReader(io.BytesIO(written.getvalue()), "it", coders=lambda _: coder)
    np.testing.assert_array_equal(np.concatenate(list(decode_live(codec, blocks))), codec.decode(codes))
    frames = [frames for frames, _ in BlockReader(io.BytesIO(written.getvalue()), "it", coders=lambda _: coder)]
    assert frames == [125, codes.frames - 125]
    at_once = io.BytesIO()
    encode_live(codec, [noise], at_once, quantizers, coder)
    assert at_once.getvalue() == written.getvalue()


@pytest.mark.parametrize("decoder", ["spectral", "wavenet"])
def test_a_live_decoder_gives_the_whole_frame_by_frame(codec, noise, decoder):
    """And of the last frame no more than the waveform has, which only the end of a stream tells."""
    codes, options = codec.encode(noise[: 40 * 64 + 1], 16000), {"decoder": decoder, "seed": 3}
    blocks = BlockReader(io.BytesIO(as_stream(codes, *[1] * 40)), "it")
    sound = np.concatenate(list(decode_live(codec, blocks, **options)))
    np.testing.assert_array_equal(sound, codec.decode(codes, **options))


def test_a_live_decoder_that_looks_nowhere_ahead_ends_with_the_waveform(noise):
    """The last frame comes before the end of the stream, which tells how much of it is sound."""
    config = dataclasses.replace(TINY, conditioning=dataclasses.replace(TINY.conditioning, kernel=1))
    assert latency(config, "wavenet")["conditioning"] == 0
    codec = Codec(config, VQVAE(config).arrays(), "An untrained codec for tests.")
    codes = codec.encode(noise[: 40 * 64 + 1], 16000)
    blocks = BlockReader(io.BytesIO(as_stream(codes, *[1] * 40)), "it")
    sound = np.concatenate(list(decode_live(codec, blocks, decoder="wavenet")))
    np.testing.assert_array_equal(sound, codec.decode(codes, decoder="wavenet"))


def test_a_live_decoder_refuses_codes_of_another_model(codec, patient, noise):
    blocks = BlockReader(io.BytesIO(patient.encode(noise, 16000).to_bytes()), "it")
    with pytest.raises(ModelError, match=patient.fingerprint.hex()):
        next(decode_live(codec, blocks))


def test_channels_types_and_tensors(codec, noise):
    stereo = np.stack([noise, noise[::-1]])
    whole = codec.encode(stereo, 48000)
    for form in (stereo, torch.from_numpy(stereo)):
        codes, _ = encoded(codec, [form[:, :5000], form[:, 5000:]], 48000)
        np.testing.assert_array_equal(codes, whole.numpy())
    stream = codec.decoder_stream(whole.speaker)
    sound = np.concatenate([stream.push(torch.from_numpy(whole.numpy().astype(np.int64))), stream.finish()])
    np.testing.assert_array_equal(sound[: whole.samples], codec.decode(whole))


def test_streams_share_a_model_and_not_their_past(codec, noise):
    one, other = codec.encoder_stream(16000), codec.encoder_stream(16000)
    parts = []
    for begin in range(0, 12000, 500):
        parts.append(one.push(noise[begin : begin + 500]))
        other.push(noise[::-1][begin : begin + 500])
    np.testing.assert_array_equal(
        np.concatenate([*parts, one.finish()], axis=1), codec.encode(noise[:12000], 16000).numpy()
    )


@pytest.mark.parametrize("decoder", ["spectral", "wavenet"])
def test_decoders_share_a_model_and_not_their_past(codec, noise, near_cuts, decoder):
    codes, other_codes = (codec.encode(sound, 16000) for sound in (noise, noise[::-1].copy()))
    one, other = (codec.decoder_stream(c.speaker, decoder=decoder, seed=3) for c in (codes, other_codes))
    parts = []
    for begin in range(0, codes.frames, 7):
        parts.append(one.push(codes.numpy()[:, begin : begin + 7]))
        other.push(other_codes.numpy()[:, begin : begin + 7])
    sound = np.concatenate([*parts, one.finish()])[: codes.samples]
    np.testing.assert_array_equal(sound, codec.decode(codes, decoder=decoder, seed=3))


@pytest.mark.parametrize("begin", ["encoder_stream", "decoder_stream"])
def test_a_stream_says_that_it_compiles(codec, monkeypatch, begin):
    asked = []
    monkeypatch.setattr("vqaudio.streams.announce", lambda kernel, part: asked.append(part))
    getattr(codec, begin)()
    assert len(asked) == 1


@settings(max_examples=5)
@given(sizes=cuts)
def test_codes_of_a_stream_that_are_decided_late(patient, noise, short_blocks, sizes):
    codes, _ = encoded(patient, pieces(noise, sizes))
    np.testing.assert_array_equal(codes, patient.encode(noise, 16000).numpy())


@pytest.mark.parametrize("decoder", ["spectral", "wavenet"])
@pytest.mark.parametrize("name", ["codec", "patient"])
def test_the_latency_is_the_stated_one(request, name, noise, decoder):
    """Sound pushed sample by sample comes out so many samples later at the latest, and not earlier every time."""
    codec = request.getfixturevalue(name)
    encoder, sink = codec.encoder_stream(16000), codec.decoder_stream(decoder=decoder)
    came, behind = 0, []
    for begin in range(0, 6400, 16):
        came += len(sink.push(encoder.push(noise[begin : begin + 16])))
        behind.append(begin + 16 - came)
    stated = sum(latency(codec.config, decoder).values())
    assert stated - 16 <= max(behind[200:]) <= stated


@pytest.mark.parametrize("decoder", ["spectral", "wavenet"])
def test_a_copy_of_a_stream_goes_on_by_itself(codec, noise, decoder):
    codes = codec.encode(noise, 16000)
    stream = codec.decoder_stream(codes.speaker, decoder=decoder)
    first = stream.push(codes.numpy()[:, :90])
    copied = copy.deepcopy(stream)
    rest = [[s.push(codes.numpy()[:, 90:]), s.finish()] for s in (stream, copied)]
    for parts in rest:
        np.testing.assert_array_equal(
            np.concatenate([first, *parts])[: codes.samples], codec.decode(codes, decoder=decoder)
        )


@pytest.mark.parametrize("rate", [16000, 8000])
def test_of_bad_sound_nothing_is_taken(codec, monkeypatch, rate):
    monkeypatch.setattr(audio, "_CHUNK", 100)
    stream = codec.encoder_stream(rate)
    with pytest.raises(AudioError, match="not finite"):
        stream.push(np.append(np.zeros(300, np.float32), np.nan))
    stream.push(np.zeros(200, np.float32))
    stream.finish()
    assert stream.samples == 200 * 16000 // rate


def test_an_iterator_is_one_long_waveform(codec, noise):
    whole = codec.encode(noise, 24000)
    assert codec.encode(iter(pieces(noise, [1, 0, 700, 4000])), 24000) == whole
    with pytest.raises(AudioError, match="holds no samples"):
        codec.encode(iter([]), 24000)


def test_decoded_parts_are_the_waveform(codec, noise, monkeypatch):
    monkeypatch.setattr("vqaudio.runtime.schedule.BLOCK_SECONDS", 0.1)
    codes = codec.encode(noise, 16000)
    parts = list(codec.decode_parts(codes))
    assert len(parts) > 5
    np.testing.assert_array_equal(np.concatenate(parts), codec.decode(codes))


@pytest.mark.parametrize("decoder", ["spectral", "wavenet"])
def test_one_push_of_everything_goes_through_in_pieces(codec, noise, monkeypatch, decoder):
    codes = codec.encode(noise, 16000)
    whole = codec.decode(codes, decoder=decoder)
    longest = 0
    push = codec.networks.conditioning.push

    def watched(state, latents, last):
        nonlocal longest
        longest = max(longest, len(latents))
        return push(state, latents, last)

    monkeypatch.setattr("vqaudio.streams.CHUNK", 7)
    monkeypatch.setattr(codec.networks.conditioning, "push", watched)
    stream = codec.decoder_stream(codes.speaker, decoder=decoder)
    sound = np.concatenate([stream.push(codes.numpy()), stream.finish()])
    np.testing.assert_array_equal(sound[: codes.samples], whole)
    assert longest == 7


def test_memory_does_not_grow_with_the_length(tiny_codec, monkeypatch):
    """Five minutes, 19 MB as a whole, go through in a fraction of that."""
    monkeypatch.setattr("vqaudio.runtime.schedule.BLOCK_SECONDS", 0.5)
    codec = vqaudio.load(tiny_codec, threads=2)
    second = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    codec.decode(codec.encode(second, 16000))
    tracemalloc.start()
    try:
        codes = codec.encode((second.copy() for _ in range(300)), 16000)
        heard = sum(len(part) for part in codec.decode_parts(codes))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert heard == 300 * 16000
    assert peak < 9e6


class TestWrongUse:
    def test_nothing_came(self, codec):
        with pytest.raises(AudioError, match="holds no samples"):
            codec.encoder_stream(16000).finish()
        assert codec.decoder_stream().finish().shape == (0,)

    @pytest.mark.parametrize("rate", [0, -1, 1e9])
    def test_a_rate_that_is_none(self, codec, rate):
        with pytest.raises(AudioError, match="sample rate"):
            codec.encoder_stream(rate)

    def test_options_that_the_model_lacks(self, codec):
        with pytest.raises(UsageError, match="2 quantiser"):
            codec.encoder_stream(16000, quantizers=3)
        with pytest.raises(UsageError, match="temperature"):
            codec.decoder_stream(temperature=3.0)
        with pytest.raises(ModelError, match="speaker"):
            codec.decoder_stream(b"too long for this model")

    @pytest.mark.parametrize(
        "codes",
        [
            np.zeros(3, int),
            np.zeros((0, 3), int),
            np.zeros((3, 3), int),
            np.zeros((1, 3)),
            np.zeros((1, 3), bool),
            np.full((1, 1), 32),
            np.full((1, 1), -1),
        ],
    )
    def test_codes_that_are_none(self, codec, codes):
        with pytest.raises(UsageError, match="code"):
            codec.decoder_stream().push(codes)

    def test_what_has_ended(self, codec):
        encoder, decoder = codec.encoder_stream(16000), codec.decoder_stream()
        encoder.push(np.zeros(100, np.float32))
        decoder.push(encoder.finish())
        decoder.finish()
        for use in (lambda: encoder.push(np.zeros(9, np.float32)), encoder.finish, decoder.finish):
            with pytest.raises(UsageError, match="come to its end"):
                use()
        with pytest.raises(UsageError, match="come to its end"):
            decoder.push(np.zeros((2, 3), np.uint16))

    def test_samples_that_are_not_finite(self, codec):
        with pytest.raises(AudioError, match="not finite"):
            codec.encoder_stream(16000).push(np.array([0.0, np.nan]))


def test_real_speech_in_real_time_chunks(speech):
    path = sorted((speech / "eval").rglob("*.flac"))[0]
    waveform, rate = soundfile.read(path, dtype="float32")
    codec = vqaudio.load()
    whole = codec.encode(waveform[: 4 * rate], rate)
    codes, _ = encoded(codec, pieces(waveform[: 4 * rate], [rate // 50] * 199), rate)
    np.testing.assert_array_equal(codes, whole.numpy())
    sound = decoded(codec, dataclasses.replace(whole, codes=codes), [5] * 199)
    np.testing.assert_array_equal(sound[: whole.samples], codec.decode(whole))
