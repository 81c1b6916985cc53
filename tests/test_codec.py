"""The codec: arrays in and out, blocks without seams, and every wrong use as one clear error."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

import vqaudio
from vqaudio import audio
from vqaudio.codec import Codec, pack_indices, unpack_indices
from vqaudio.errors import AudioError, ModelError, UsageError
from vqaudio.models.config import CodecConfig, SpeakerConfig, SpectralConfig, from_dict
from vqaudio.models.vqvae import VQVAE
from vqaudio.runtime.cpu import CpuNetworks
from vqaudio.runtime.schedule import grid
from vqaudio.shipped import FOLDER, MODELS, SAMPLE, name_of


@pytest.fixture(scope="module")
def codec(tiny_codec) -> Codec:
    return vqaudio.load(tiny_codec)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, 40001).astype(np.float32)


def test_numpy_in_numpy_out_and_torch_in_torch_out(codec, noise):
    from_numpy, from_torch = codec.encode(noise, 16000), codec.encode(torch.from_numpy(noise), 16000)
    assert isinstance(from_numpy.codes, np.ndarray) and isinstance(from_torch.codes, torch.Tensor)
    assert from_numpy == from_torch
    decoded, tensor = codec.decode(from_numpy), codec.decode(from_torch)
    assert isinstance(decoded, np.ndarray) and isinstance(tensor, torch.Tensor)
    assert decoded.dtype == np.float32 and decoded.shape == noise.shape
    np.testing.assert_array_equal(decoded, tensor.numpy())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tensors_stay_on_their_device(codec, noise):
    codes = codec.encode(torch.from_numpy(noise).cuda(), 16000)
    assert codes.codes.device.type == "cuda"
    assert codec.decode(codes).device.type == "cuda"


def test_a_device_of_torch_has_its_name(tiny_codec):
    assert vqaudio.load(tiny_codec, device=torch.device("cpu")).device == "cpu"


def test_a_codec_is_not_the_model_that_it_was_made_of():
    torch.manual_seed(0)
    model = VQVAE(CodecConfig(spectral=SpectralConfig()))
    codec = Codec(model.config, model.arrays())
    before = {name: array.copy() for name, array in codec.state.items()}
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(1)
    assert all(np.array_equal(codec.state[name], array) for name, array in before.items())


def test_a_list_is_a_waveform_too(codec, noise):
    assert codec.encode(noise.tolist(), 16000) == codec.encode(noise, 16000)


@pytest.mark.parametrize("waveform", [[[0.0], [0.0, 0.1]], None, "speech.wav"])
def test_what_is_no_waveform(codec, waveform):
    with pytest.raises(UsageError):
        codec.encode(waveform, 16000)


@pytest.mark.parametrize("shape", [(16000, 2), (480, 1), (800, 2)])
def test_samples_along_the_wrong_axis(codec, shape):
    """As files and microphones are read by other libraries: they must not be taken for channels."""
    sound = np.zeros(shape, np.float32)
    for use in (lambda s: codec.encode(s, 16000), codec.encoder_stream().push):
        with pytest.raises(UsageError, match=r"\.T"):
            use(sound)
        use(sound.T)


def test_an_open_recording_is_a_waveform_too(codec):
    with audio.reading(SAMPLE, 16000) as recording:
        assert codec.encode(recording, 16000) == codec.encode(audio.read(SAMPLE, 16000), 16000)


@pytest.mark.parametrize(
    "use",
    [
        lambda codec, noise: codec.encode(noise, None),
        lambda codec, noise: codec.encode(noise, "16000"),
        lambda codec, noise: codec.encode(noise, 16000, quantizers=1.0),
        lambda codec, noise: codec.encode(noise, 16000, speaker=None),
        lambda codec, noise: codec.encode(noise, 16000, speaker="x"),
        lambda codec, noise: codec.decode(np.zeros((2, 5), int)),
        lambda codec, noise: codec.decode(torch.zeros((2, 5), dtype=torch.int64)),
        lambda codec, noise: codec.decoder_stream("x"),
        lambda codec, noise: codec.codes(torch.zeros((2, 5), requires_grad=True)),
        lambda codec, noise: codec.codes(torch.zeros((2, 5), dtype=torch.bfloat16)),
        lambda codec, noise: codec.encode(torch.zeros(5, device="meta"), 16000),
        lambda codec, noise: codec.encode(torch.zeros(5).to_sparse(), 16000),
        lambda codec, noise: codec.codes(5),
        lambda codec, noise: codec.codes([[1, 2], [3]]),
        lambda codec, noise: Codec(codec.config, codec.state, threads=1.5),  # type: ignore[arg-type]
    ],
)
def test_what_is_of_another_kind_is_one_sentence(codec, noise, use):
    with pytest.raises(UsageError, match=r"\.$"):
        use(codec, noise)


def test_codes_of_bare_numbers(codec, noise):
    codes = codec.encode(noise, 16000)
    assert codec.codes(codes.numpy().tolist(), codes.samples, codes.speaker) == codes
    tokens = torch.from_numpy(codes.numpy().astype(np.int64))
    assert codec.decode(codec.codes(tokens)).shape == (codes.frames * codes.hop,)


def test_a_codec_goes_to_other_processes(codec, noise):
    copy = pickle.loads(pickle.dumps(codec))
    assert copy.encode(noise, 16000) == codec.encode(noise, 16000)
    assert (copy.card, copy.threads, copy.device) == (codec.card, codec.threads, codec.device)


@pytest.mark.parametrize("decoder", ["spectral", "wavenet"])
@pytest.mark.parametrize("samples", [1, 63, 64, 65, 1000])
def test_exact_length_for_any_length(codec, decoder, samples):
    codes = codec.encode(np.full(samples, 0.1, np.float32), 16000)
    assert codes.frames == -(-samples // 64)
    assert codec.decode(codes, decoder=decoder).shape == (samples,)


def test_codes_are_those_of_the_networks_in_one_pass(codec, noise, monkeypatch):
    """The blocks of a long file have no seams: codes and waveform equal one pass over everything."""
    monkeypatch.setattr("vqaudio.runtime.schedule.BLOCK_SECONDS", 0.2)
    monkeypatch.setattr(codec, "networks", CpuNetworks(codec.config, codec.state, paired=False))  # as torch has it
    codes = codec.encode(noise, 16000)
    padded = np.pad(noise, (0, -len(noise) % 64))
    latents = codec.model.encoder(torch.from_numpy(padded)[None, None])
    whole = codec.model.quantizer(latents).codes[0]
    assert (codes.numpy() == whole.numpy()).mean() > 0.999  # a latent between two codes may fall either way
    decoded = codec.decode(codes)
    speaker = torch.tensor([unpack_indices(codes.speaker, codec.config.speaker.sizes)])
    vector = codec.model.speaker.decode(speaker)
    indices = torch.from_numpy(codes.numpy().astype(np.int64))[None]
    conditioning = codec.model.conditioning(codec.model.quantizer.decode(indices), vector)
    once = codec.model.spectral(conditioning, vector)[0, 0, : len(noise)]
    np.testing.assert_allclose(decoded, once.numpy(), atol=1e-4)


@given(st.integers(1, 100), st.integers(1, 30), st.integers(0, 40), st.integers(0, 40))
def test_grid_covers_everything_once_with_the_context_there_is(frames, block, back, ahead):
    covered = []
    for start, first, stop, end in grid(frames, block, back, ahead):
        assert start == max(0, first - back) and end == min(frames, stop + ahead)
        covered += range(first, stop)
    assert covered == list(range(frames))


def test_other_rates_and_channels_are_brought_to_the_models(codec):
    time = np.arange(48000) / 48000
    stereo = np.stack([np.sin(2 * np.pi * 300 * time), np.zeros_like(time)]).astype(np.float32) * 0.2
    codes = codec.encode(stereo, 48000)
    assert (codes.samples, codes.sample_rate) == (16000, 16000)


def test_fewer_quantisers_give_the_first_codes_of_more(codec, noise):
    both, one = codec.encode(noise, 16000), codec.encode(noise, 16000, quantizers=1)
    np.testing.assert_array_equal(one.numpy(), both.numpy()[:1])
    assert codec.decode(one).shape == noise.shape
    assert len(one.to_bytes()) < 0.6 * len(both.to_bytes())


def test_the_speaker_travels_in_the_codes_and_is_heard(codec, noise):
    codes = codec.encode(noise, 16000)
    assert len(codes.speaker) == 2 and codec.encode(noise, 16000, speaker=False).speaker == b""
    other = dataclasses.replace(codes, speaker=bytes(b ^ 0xFF for b in codes.speaker))
    assert codec.encode(noise, 16000, speaker=other.speaker) == other
    assert codec.encode(noise, 16000, speaker=np.True_) == codes
    assert not np.array_equal(codec.decode(codes), codec.decode(other))


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(1, 1000)), min_size=1, max_size=20))
def test_speaker_bytes_come_back(pairs):
    sizes = tuple(size for _, size in pairs)
    indices = [index % size for index, size in pairs]
    assert unpack_indices(pack_indices(indices, sizes), sizes) == indices


def test_seed_and_temperature_of_the_wavenet(codec):
    codes = codec.encode(np.full(256, 0.1, np.float32), 16000)
    same = [codec.decode(codes, decoder="wavenet", seed=seed, temperature=0.7) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(same[0], same[1])
    assert not np.array_equal(same[0], same[2])


def test_the_decoder_that_the_model_prefers_is_its_first(codec):
    codes = codec.encode(np.full(256, 0.1, np.float32), 16000)
    other = Codec(dataclasses.replace(codec.config, decoder="wavenet"), codec.state)
    assert (codec.decoders, other.decoders) == (("spectral", "wavenet"), ("wavenet", "spectral"))
    for chosen, decoder in ((codec, "spectral"), (other, "wavenet")):
        np.testing.assert_array_equal(chosen.decode(codes), codec.decode(codes, decoder=decoder))


def test_a_saved_codec_is_the_same_codec(codec, noise, tmp_path):
    codec.save(tmp_path / "copy.safetensors")
    copy = vqaudio.load(tmp_path / "copy.safetensors")
    assert (copy.fingerprint, copy.card, copy.config) == (codec.fingerprint, codec.card, codec.config)
    assert copy.encode(noise, 16000) == codec.encode(noise, 16000)
    with pytest.raises(UsageError, match="exists"):
        codec.save(tmp_path / "copy.safetensors")


class TestWrongUse:
    def test_codes_of_another_model(self, codec):
        other = Codec(codec.config, VQVAE(codec.config).arrays())
        with pytest.raises(ModelError, match=f"{codec.fingerprint.hex()}"):
            other.decode(codec.encode(np.zeros(100, np.float32), 16000))

    def test_codes_that_claim_this_model_but_do_not_fit(self, codec):
        codes = codec.encode(np.zeros(100, np.float32), 16000)
        with pytest.raises(ModelError):
            codec.decode(dataclasses.replace(codes, codebook_size=64))
        with pytest.raises(ModelError):
            codec.decode(dataclasses.replace(codes, sample_rate=8000))
        with pytest.raises(ModelError):
            codec.decode(dataclasses.replace(codes, codes=np.zeros((3, codes.frames), int)))

    @pytest.mark.parametrize("speaker", [b"\0", b"\0\0\0", b"\xff" * 8])
    def test_a_speaker_that_the_model_does_not_know(self, codec, speaker):
        codes = dataclasses.replace(codec.encode(np.zeros(100, np.float32), 16000), speaker=speaker)
        with pytest.raises(ModelError, match="speaker"):
            codec.decode(codes)

    @pytest.mark.parametrize("options", [{"decoder": "opus"}, {"temperature": -0.1}, {"temperature": float("nan")}])
    def test_options_of_decode(self, codec, options):
        with pytest.raises(UsageError):
            codec.decode(codec.encode(np.zeros(100, np.float32), 16000), **options)

    @pytest.mark.parametrize("quantizers", [0, 3, -1])
    def test_quantisers_that_the_model_does_not_have(self, codec, quantizers):
        with pytest.raises(UsageError, match="quantiser"):
            codec.encode(np.zeros(100, np.float32), 16000, quantizers=quantizers)

    @pytest.mark.parametrize("waveform", [np.zeros(0), np.array([0.0, np.nan]), np.array([np.inf, 0.0])])
    def test_waveforms_that_cannot_be_coded(self, codec, waveform):
        with pytest.raises(AudioError):
            codec.encode(waveform.astype(np.float32), 16000)

    def test_no_threads(self, tiny_codec):
        with pytest.raises(UsageError, match="a thread at least"):
            vqaudio.load(tiny_codec, threads=0)

    @pytest.mark.parametrize("device", ["cuda:99", "abacus", "meta"])
    def test_devices_that_are_not_there(self, tiny_codec, device):
        with pytest.raises(UsageError, match=device):
            vqaudio.load(tiny_codec, device)


@pytest.fixture(scope="module", params=MODELS)
def shipped(request) -> Codec:
    return vqaudio.load(request.param)


class TestShippedModel:
    """The models that come with vqaudio, on real speech and on what is not speech."""

    def test_it_goes_by_its_name(self, shipped):
        assert name_of(shipped.fingerprint) == shipped.config.name
        assert vqaudio.Prior.load(shipped.config.name).model == shipped.fingerprint
        assert shipped.card.startswith(f"# {shipped.config.name}\n")

    def test_its_cards_are_those_beside_it(self, shipped):
        name = shipped.config.name
        assert shipped.card == (FOLDER / f"{name}.md").read_text()
        assert vqaudio.Prior.load(name).card == (FOLDER / f"{name}.prior.md").read_text()

    def test_its_sample_comes_back_as_loud_and_as_intelligible(self, shipped):
        pystoi = pytest.importorskip("pystoi")
        original = audio.read(SAMPLE, 16000)
        decoded = shipped.decode(shipped.encode(original, 16000))
        level = 20 * np.log10(np.sqrt(np.mean(decoded**2)) / np.sqrt(np.mean(original**2)))
        assert abs(level) < 3  # dB
        least = {"speech16k": 0.7, "speech16k-low": 0.55}[shipped.config.name]
        assert pystoi.stoi(original, decoded, 16000, extended=True) > least

    def test_real_speech_keeps_its_envelope(self, shipped, speech):
        path = sorted((speech / "eval" / "librispeech").rglob("*.flac"))[0]
        original, rate = soundfile.read(path, dtype="float32")
        codes = shipped.encode(original, rate)
        assert 8 * len(codes.to_bytes()) / codes.seconds < 1.05 * shipped.config.bit_rate

        def envelope(waveform):
            return np.log(np.abs(np.fft.rfft(waveform[: len(waveform) // 400 * 400].reshape(-1, 400))).sum(1) + 1e-3)

        likeness = np.corrcoef(envelope(original), envelope(shipped.decode(codes)))[0, 1]
        assert likeness > 0.9

    def test_silence_becomes_near_silence(self, shipped):
        decoded = shipped.decode(shipped.encode(np.zeros(16000, np.float32), 16000))
        assert np.sqrt(np.mean(decoded**2)) < 10 ** (-50 / 20)

    def test_clipped_noise_stays_finite(self, shipped):
        noise = np.sign(np.random.default_rng(0).normal(size=16000)).astype(np.float32)
        assert np.isfinite(shipped.decode(shipped.encode(noise, 16000))).all()


def test_a_name_that_is_none_of_those_that_come_with_vqaudio():
    with pytest.raises(ModelError, match=r"no file 'speech16k-lo', and .* are speech16k and speech16k-low\.$"):
        vqaudio.load("speech16k-lo")
    with pytest.raises(ModelError, match="no file"):
        vqaudio.load("x" * 300)  # longer than any name of a file
    for path in ("gone.safetensors", "models/gone"):
        with pytest.raises(ModelError, match=rf"'{path}' is not there\.$"):
            vqaudio.load(path)


@pytest.mark.usefixtures("tiny_default")
def test_a_model_that_has_been_left_out_has_no_name(codec):
    assert name_of(codec.fingerprint) == MODELS[0]
    assert name_of(b"else") is None


@pytest.mark.parametrize(
    "setting",
    [
        {"encoder": {"strides": [8, 8], "channels": [8]}},
        {"encoder": {"strides": [0, 8], "channels": [8, 8]}},
        {"encoder": {"kernel": 4}},
        {"quantizer": {"codebook_size": 1}},
        {"quantizer": {"quantizers": 0}},
        {"spectral": {"channels": -1}},
        {"spectral": {"fft_size": 64}},
        {"spectral": {"fft_size": 1023}},
        {"speaker": {"kind": "lookup"}},
        {"decoder": "wavenet", "wavenet": None},
        {"wavenet": {"bands": 4}, "encoder": {"strides": [3, 7], "channels": [8, 8]}},
    ],
)
def test_a_configuration_of_which_nothing_can_be_built_is_one_error(setting):
    with pytest.raises(ModelError):
        VQVAE(from_dict(CodecConfig, {"spectral": {}, **setting}))


class TestSpeakerTable:
    @pytest.fixture
    def table(self, codec) -> Codec:
        speaker = SpeakerConfig(kind="lookup", channels=8, speakers=3)
        config = dataclasses.replace(codec.config, speaker=speaker)
        return Codec(config, VQVAE(config).arrays())

    def test_the_row_travels_in_the_codes_and_is_heard(self, table, noise):
        codes = [table.encode(noise, 16000, speaker=row) for row in (0, 2)]
        assert [c.speaker for c in codes] == [b"\0", b"\2"]
        assert not np.array_equal(table.decode(codes[0]), table.decode(codes[1]))
        assert table.encode(noise, 16000).speaker == b""

    def test_a_row_that_is_not_there(self, table, codec, noise):
        for model, row in ((table, 3), (table, -1), (codec, 0)):
            with pytest.raises(UsageError, match="speaker"):
                model.encode(noise, 16000, speaker=row)

    def test_a_row_is_a_voice(self, table, noise):
        voice = table.table_voice(2)
        assert table.encode(noise, 16000).with_speaker(voice) == table.encode(noise, 16000, speaker=2)

    def test_what_has_no_such_voice_says_what_it_has(self, table, codec, noise):
        with pytest.raises(UsageError, match="rows 0 to 2"):
            table.table_voice(3)
        with pytest.raises(UsageError, match="rows 0 to 2"):
            table.voice(noise, 16000)
        with pytest.raises(UsageError, match="from a recording"):
            codec.table_voice(0)
        config = dataclasses.replace(codec.config, speaker=SpeakerConfig(kind="none"))
        voiceless = Codec(config, VQVAE(config).arrays())
        for ask in (lambda: voiceless.voice(noise, 16000), lambda: voiceless.table_voice(0)):
            with pytest.raises(UsageError, match="its codes alone"):
                ask()


class TestVoices:
    @pytest.fixture
    def tones(self) -> np.ndarray:
        harmonics = np.arange(1, 30)[:, None]
        phases = 2 * np.pi * 130 * harmonics * np.arange(24000) / 16000
        return (0.1 * np.sin(phases) / harmonics).sum(axis=0).astype(np.float32)

    @pytest.mark.parametrize("decoder", ["spectral", "wavenet"])
    def test_its_own_voice_changes_nothing(self, codec, noise, decoder):
        codes = codec.encode(noise[:20000], 16000)
        own = codes.with_speaker(codec.voice(noise[:20000], 16000))
        assert own == codes
        np.testing.assert_array_equal(codec.decode(own, decoder=decoder), codec.decode(codes, decoder=decoder))

    @pytest.mark.parametrize("decoder", ["spectral", "wavenet"])
    def test_another_voice_is_heard_and_changes_no_code(self, codec, noise, tones, decoder):
        codes, voice = codec.encode(noise[:20000], 16000), codec.voice(tones, 16000)
        converted = codes.with_speaker(voice)
        assert voice == codec.encode(tones, 16000).speaker != codes.speaker
        np.testing.assert_array_equal(converted.numpy(), codes.numpy())
        assert converted.samples == codes.samples
        assert not np.array_equal(codec.decode(converted, decoder=decoder), codec.decode(codes, decoder=decoder))
        assert codes.speaker == codec.voice(noise[:20000], 16000)  # what was there is as it was

    def test_a_voice_does_not_depend_on_how_the_reference_comes(self, codec, noise, monkeypatch):
        long = np.tile(noise, 3)
        whole = codec.voice(long, 16000)
        assert codec.voice(iter(np.split(long, [1, 300, 77777])), 16000) == whole
        assert codec.voice(torch.from_numpy(np.stack([long, long])), 16000) == whole
        monkeypatch.setattr("vqaudio.runtime.schedule.BLOCK_SECONDS", 0.3)
        assert codec.voice(long, 16000) == whole

    def test_an_hour_is_heard_a_few_blocks_at_a_time(self, codec, noise, monkeypatch):
        """Ten minutes in blocks of a second here: what is given is taken no faster than the networks work it off."""
        monkeypatch.setattr("vqaudio.runtime.schedule.BLOCK_SECONDS", 1.0)
        monkeypatch.setattr(codec.networks, "threads", 1)
        given, worked, most = 0, 0, 0
        push = codec.networks.encoder.push

        def watched(state, samples, last):
            nonlocal worked
            worked += len(samples)
            return push(state, samples, last)

        def parts():
            nonlocal given, most
            for _ in range(600):
                given += 16000
                most = max(most, given - worked)
                yield noise[:16000]

        monkeypatch.setattr(codec.networks.encoder, "push", watched)
        codec.voice(parts(), 16000)
        assert given == 600 * 16000
        assert most <= 5 * 16000

    @pytest.mark.parametrize(
        ("reference", "hint"),
        [
            (np.full(15999, 0.1), "too short"),
            (np.zeros(32000), "silent"),
            (np.full(32000, 5e-4), "silent"),
            (np.zeros(0), "no samples"),
            (np.full(32000, np.nan), "not finite"),
        ],
    )
    def test_references_that_tell_no_voice(self, codec, reference, hint):
        with pytest.raises(AudioError, match=hint):
            codec.voice(reference.astype(np.float32), 16000)

    def test_a_second_is_enough_and_what_points_down_is_no_silence(self, codec):
        assert len(codec.voice(np.full(16000, -0.1, np.float32), 16000)) == 2

    def test_a_voice_is_what_the_header_has_room_for(self, codec, noise):
        codes = codec.encode(noise, 16000)
        assert codes.with_speaker(b"") == codec.encode(noise, 16000, speaker=False)
        for wrong in (bytes(256), "bob", None):
            with pytest.raises(UsageError, match="speaker"):
                codes.with_speaker(wrong)
        with pytest.raises(ModelError, match="speaker"):
            codec.decode(codes.with_speaker(b"bob"))

    def test_the_shipped_model_hears_that_two_are_two(self, shipped, speech):
        folders = sorted((speech / "eval" / "librispeech").iterdir())[:4]
        found = []
        for folder in folders:
            both = [soundfile.read(path, dtype="float32")[0] for path in sorted(folder.iterdir())[:2]]
            found.append([unpack_indices(shipped.voice(wave, 16000), (16,) * 16) for wave in both])
        numbers = np.array(found)  # (speakers, 2, dims)
        within = np.abs(numbers[:, 0] - numbers[:, 1]).mean()
        between = np.abs(numbers[:, None] - numbers[None]).mean(axis=(2, 3))[~np.eye(4, dtype=bool)].mean()
        assert within < between


def test_half_precision_tensors_are_heard(codec, noise):
    codes = codec.encode(torch.from_numpy(noise).bfloat16(), 16000)
    assert codes.samples == len(noise)


@pytest.mark.parametrize(
    ("part", "changes", "hint"),
    [
        ("wavenet", {"kernel": 1}, "kernel has at least 2 taps"),
        ("spectral", {"fft_size": 100}, "spans at least two hops"),
        ("quantizer", {"codebook_size": 1}, "2 to 65536 codes"),
    ],
)
def test_a_configuration_of_which_nothing_can_be_built(codec, part, changes, hint):
    config = dataclasses.replace(codec.config, **{part: dataclasses.replace(getattr(codec.config, part), **changes)})
    with pytest.raises(ModelError, match=hint):
        Codec(config, codec.state)
