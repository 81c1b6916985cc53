"""Packed codes: those that the codec gives, made once, and cut into crops that say what is there."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import soxr
import torch

import vqaudio
from vqaudio.codec import Codec, unpack_indices
from vqaudio.errors import TrainingError
from vqaudio.models.config import SpeakerConfig
from vqaudio.models.vqvae import VQVAE
from vqaudio.training.codes_corpus import CodeCrops, CodesCorpus, pack_codes, validation_crop
from vqaudio.training.corpus import pack
from vqaudio.training.recipe import CorpusConfig


def build(lengths: list[int], quantizers: int = 2) -> CodesCorpus:
    """A corpus whose every code tells its utterance (thousands, from 1), its place, and its quantiser (tens of
    thousands)."""
    frames = [1000 * (i + 1) + np.arange(length) for i, length in enumerate(lengths)]
    codes = np.concatenate(frames)[:, None] + 10000 * np.arange(quantizers)
    return CodesCorpus(
        codes=codes.astype(np.uint16),
        voices=np.arange(len(lengths) * 3).reshape(-1, 3),
        starts=np.cumsum([0, *lengths[:-1]]),
        lengths=np.array(lengths),
        speakers=np.arange(len(lengths)),
        names=np.array([str(i) for i in range(len(lengths))]),
        speaker_names=np.array([str(i) for i in range(len(lengths))]),
        key="",
    )


@pytest.fixture
def audio(make_corpus):
    return pack(CorpusConfig("folder", make_corpus("folder")), 16000)


@pytest.fixture
def codec(tiny_codec):
    return vqaudio.load(tiny_codec, threads=1)


def with_speaker(codec: Codec, **config: object) -> Codec:
    """An untrained codec that differs in its speaker."""
    changed = dataclasses.replace(codec.config, speaker=SpeakerConfig(**config))  # type: ignore[arg-type]
    return Codec(changed, VQVAE(changed).arrays())


class TestPack:
    def test_holds_what_the_codec_gives(self, audio, codec, tmp_path):
        corpus = pack_codes(audio, codec)
        assert corpus.codes.dtype == np.uint16 and corpus.voices.shape == (5, 4)
        for i in range(len(audio)):
            samples = audio.samples[audio.starts[i] : audio.starts[i] + audio.lengths[i]] / np.float32(32768)
            codes = codec.encode(samples, 16000)
            piece = corpus.codes[corpus.starts[i] : corpus.starts[i] + corpus.lengths[i]]
            np.testing.assert_array_equal(piece.T, codes.numpy())
            assert corpus.voices[i].tolist() == unpack_indices(codes.speaker, codec.config.speaker.sizes)
        for name in ("names", "speakers", "speaker_names"):
            np.testing.assert_array_equal(getattr(corpus, name), getattr(audio, name))
        assert len(list((tmp_path / "cache" / "vqaudio" / "corpora").iterdir())) == 2

    def test_at_a_speed_holds_what_the_codec_gives_on_speech_that_fast(self, audio, codec):
        faster = pack_codes(audio, codec, speed=1.25)
        piece = slice(audio.starts[0], audio.starts[0] + audio.lengths[0])
        samples = soxr.resample(audio.samples[piece] / np.float32(32768), 20000, 16000)
        codes = codec.encode(samples, 16000).numpy().T
        assert np.mean(faster.codes[: faster.lengths[0]] == codes) > 0.99
        own = pack_codes(audio, codec)
        np.testing.assert_allclose(faster.lengths, own.lengths / 1.25, atol=1)
        assert faster.key != own.key

    def test_is_made_once_for_every_codec(self, audio, codec, monkeypatch):
        first = pack_codes(audio, codec)
        with monkeypatch.context() as patch:
            patch.setattr(Codec, "encode", lambda *_, **__: pytest.fail("encoded again"))
            np.testing.assert_array_equal(pack_codes(audio, codec).codes, first.codes)
        state = {name: np.roll(weights, 1) for name, weights in codec.state.items()}
        other = pack_codes(audio, Codec(codec.config, state))
        assert other.key != first.key and not np.array_equal(other.codes, first.codes)

    def test_is_made_anew_for_another_search(self, audio, codec):
        quantizer = dataclasses.replace(codec.config.quantizer, quantizers=1, predictive=True)
        state = codec.state | {"quantizer.stages.0.prediction": np.eye(quantizer.code_dim, dtype=np.float32) / 2}
        one, two, four = (
            pack_codes(
                audio,
                Codec(dataclasses.replace(codec.config, quantizer=dataclasses.replace(quantizer, paths=n)), state),
            )
            for n in (1, 2, 4)
        )
        assert len({one.key, two.key, four.key}) == 3 and not np.array_equal(one.codes, four.codes)

    @pytest.mark.parametrize("name", ["codes.uint16", "index.npz"])
    @pytest.mark.parametrize("damage", ["truncate", "remove", "scramble"])
    def test_a_damaged_pack_is_made_again(self, name, damage, audio, codec, tmp_path):
        wanted = np.array(pack_codes(audio, codec, tmp_path / "pack").codes)
        path = tmp_path / "pack" / name
        content = path.read_bytes()
        if damage == "remove":
            path.unlink()
        else:
            path.write_bytes(content[: len(content) // 2] if damage == "truncate" else content[::-1] + b"xx")
        with pytest.raises(TrainingError):
            CodesCorpus.open(tmp_path / "pack")
        np.testing.assert_array_equal(pack_codes(audio, codec, tmp_path / "pack").codes, wanted)

    def test_a_foreign_pack_is_made_again(self, audio, codec, tmp_path):
        other = with_speaker(codec, kind="reference", channels=8, dims=2)
        pack_codes(audio, other, tmp_path / "pack")
        assert pack_codes(audio, codec, tmp_path / "pack").voices.shape == (5, 4)

    def test_a_table_gives_the_rows_of_the_corpus(self, audio, codec):
        corpus = pack_codes(audio, with_speaker(codec, kind="lookup", speakers=4))
        np.testing.assert_array_equal(corpus.voices, audio.speakers[:, None])

    def test_without_speakers_there_are_no_voices(self, audio, codec):
        assert pack_codes(audio, with_speaker(codec, kind="none")).voices.shape == (5, 0)

    def test_an_unwritable_folder(self, audio, codec, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(TrainingError, match="file"):
            pack_codes(audio, codec, tmp_path / "file" / "pack")


class TestCrops:
    corpus = build([300, 40, 700, 120])

    def test_are_pieces_of_one_utterance_and_say_what_is_there(self):
        crop = CodeCrops([self.corpus], np.array([0, 1, 2]), 50, seed=0).batch(0, 200)
        assert crop.codes.shape == (200, 2, 50) and crop.codes.dtype == torch.int64
        assert crop.mask.shape == (200, 50) and crop.voices.shape == (200, 3)
        utterances = []
        for codes, voice, mask in zip(*(tensor.numpy() for tensor in crop), strict=True):
            utterance, first = divmod(int(codes[0, 0]), 1000)
            utterances.append(utterance - 1)
            length = min(50, self.corpus.lengths[utterance - 1])
            assert mask.sum() == length and mask[:length].all()
            np.testing.assert_array_equal(codes[0, :length], 1000 * utterance + first + np.arange(length))
            np.testing.assert_array_equal(codes[1, :length], codes[0, :length] + 10000)
            assert not codes[:, length:].any()
            assert voice.tolist() == self.corpus.voices[utterance - 1].tolist()
        assert set(utterances) == {0, 1, 2}

    def test_depend_on_seed_and_step_alone_and_processes_share_them(self):
        whole = CodeCrops([self.corpus], np.arange(4), 50, seed=1).batch(5, 8)
        parts = [CodeCrops([self.corpus], np.arange(4), 50, 1, rank=rank, world=2).batch(5, 8) for rank in range(2)]
        for name, tensor in whole._asdict().items():
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), tensor)
        assert not torch.equal(CodeCrops([self.corpus], np.arange(4), 50, seed=2).batch(5, 8).codes, whole.codes)

    def test_are_of_every_speed_in_turn(self):
        corpora = [self.corpus, build([200, 30, 500, 90], quantizers=1)]
        whole = CodeCrops(corpora, np.arange(4), 50, seed=1)
        part = CodeCrops(corpora, np.arange(4), 50, 1, rank=1, world=2)
        batches = [(whole.batch(step, 8).codes, part.batch(step, 8).codes) for step in range(40)]
        assert all(torch.equal(one[4:], other) for one, other in batches)
        counts = np.bincount([one.shape[1] for one, _ in batches])
        assert counts[1] + counts[2] == 40 and counts[1:].min() > 8

    def test_of_validation_do_not_overlap(self):
        crop = validation_crop(self.corpus, np.array([1, 3]), count=100, length=50)
        assert sorted(crop.codes[:, 0, 0].tolist()) == [2000, 4000, 4050]
        assert sorted(crop.mask.sum(1).tolist()) == [40, 50, 50]
        assert len(validation_crop(self.corpus, np.array([1, 3]), count=2, length=50).codes) == 2
