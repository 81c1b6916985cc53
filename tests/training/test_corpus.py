from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import sys
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vqaudio.errors import TrainingError
from vqaudio.training import corpus as corpus_module
from vqaudio.training.corpus import Corpus, Crops, Source, pack, sources, validation_items
from vqaudio.training.recipe import CorpusConfig

EXPECTED = {
    "librispeech": {
        ("LibriSpeech/train-clean-100/103/1240/103-1240-0000.flac", "103"),
        ("LibriSpeech/train-clean-100/103/1240/103-1240-0001.flac", "103"),
        ("LibriSpeech/train-clean-100/103/1241/103-1241-0000.flac", "103"),
        ("LibriSpeech/train-clean-100/103/1241/103-1241-0001.flac", "103"),
        ("LibriSpeech/train-clean-100/1034/121119/1034-121119-0000.flac", "1034"),
        ("LibriSpeech/train-clean-100/1034/121119/1034-121119-0001.flac", "1034"),
    },
    "vctk": {
        (f"VCTK-Corpus-0.92/wav48_silence_trimmed/{speaker}/{speaker}_{i:03}_mic1.flac", speaker)
        for speaker in ("p225", "p226", "s5")
        for i in (1, 2)
    },
    "ljspeech": {(f"LJSpeech-1.1/wavs/LJ001-{i:04}.wav", "LJ") for i in range(1, 6)},
    "folder": {
        ("ann/1.wav", "ann"),
        ("ann/2.WAV", "ann"),
        ("bob/1.flac", "bob"),
        ("bob/holiday/1.ogg", "bob/holiday"),
        ("cy/1.wav", "cy"),
    },
    "manifest": {(f"audio/{i}.wav", f"speaker {i // 2}") for i in range(6)},
}


def build(lengths: list[int], speakers: list[str], names: list[str] | None = None, rate: int = 100) -> Corpus:
    """A corpus whose every sample tells its utterance (thousands, from 1) and, modulo 1000, its place."""
    samples = [1000 * (i + 1) + np.arange(length) % 1000 for i, length in enumerate(lengths)]
    speaker_names, rows = np.unique(speakers, return_inverse=True)
    return Corpus(
        samples=np.concatenate(samples).astype(np.int16),
        starts=np.cumsum([0, *lengths[:-1]]),
        lengths=np.array(lengths),
        speakers=rows.astype(np.int64),
        names=np.array(names or [f"{speaker}/{i}" for i, speaker in enumerate(speakers)]),
        speaker_names=speaker_names,
        sample_rate=rate,
        key="",
    )


def integers(waveform: torch.Tensor) -> np.ndarray:
    """Crops (B, 1, T) back as the int16 values (B, T) that they were packed as."""
    return (waveform[:, 0] * 32768).numpy().astype(int)


class TestSources:
    @pytest.mark.parametrize("kind", EXPECTED)
    def test_every_layout(self, kind, make_corpus):
        if kind in ("librispeech", "vctk", "ljspeech"):
            pytest.importorskip("torchaudio")
        path = make_corpus(kind)
        root = Path(path).parent if kind == "manifest" else Path(path)
        found = sources(CorpusConfig(kind=kind, path=path))
        assert {(source.path.relative_to(root).as_posix(), source.speaker) for source in found} == EXPECTED[kind]
        assert found == sorted(found, key=lambda source: source.path)

    def test_manifest_split(self, make_corpus):
        path = make_corpus("manifest")
        assert [s.path.name for s in sources(CorpusConfig("manifest", path, subset="eval"))] == ["5.wav"]
        with pytest.raises(TrainingError, match="no audio files"):
            sources(CorpusConfig("manifest", path, subset="dev"))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("path,voice\na.wav,x\n", "no column 'speaker'"),
            ("path,speaker\na.wav,x\n", "no column 'split'"),
            ("path,speaker,split\na.wav,x,train\nb.wav\n", "Line 3 .* lacks"),
            ("", "no column"),
            (b"path,speaker,split\n\xff\xfe,x,train\n", "not a CSV"),
        ],
    )
    def test_bad_manifest(self, text, message, tmp_path):
        path = tmp_path / "list.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(TrainingError, match=message) as caught:
            sources(CorpusConfig("manifest", str(path), subset="train"))
        assert "list.csv" in str(caught.value)

    @pytest.mark.parametrize("kind", ["manifest", "folder"])
    def test_nothing_there(self, kind, tmp_path):
        with pytest.raises(TrainingError, match="nowhere"):
            sources(CorpusConfig(kind, str(tmp_path / "nowhere")))

    @pytest.mark.parametrize("kind", ["librispeech", "vctk", "ljspeech"])
    def test_public_corpus_that_was_not_downloaded(self, kind, tmp_path):
        pytest.importorskip("torchaudio")
        with pytest.raises(TrainingError, match=r"corpus\.download=true"):
            sources(CorpusConfig(kind, str(tmp_path)))

    @pytest.mark.parametrize("kind", ["librispeech", "vctk", "ljspeech"])
    def test_without_torchaudio(self, kind, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "torchaudio", None)
        with pytest.raises(TrainingError, match=r"pip install 'vqaudio\[train\]'"):
            sources(CorpusConfig(kind, str(tmp_path)))

    def test_download_is_torchaudios(self, make_corpus, tmp_path, monkeypatch):
        datasets = pytest.importorskip("torchaudio").datasets
        asked = []

        def fetch(root, download):
            asked.append((root, download, Path(root).is_dir()))
            make_corpus("ljspeech")

        monkeypatch.setattr(datasets, "LJSPEECH", fetch)
        found = sources(CorpusConfig("ljspeech", str(tmp_path / "corpus"), download=True))
        assert asked == [(str(tmp_path / "corpus"), True, True)]
        assert len(found) == 5
        assert not list((tmp_path / "corpus").glob(".*"))

    @pytest.mark.parametrize("problem", [tarfile.ReadError("not a gzip file"), EOFError("ended"), KeyboardInterrupt()])
    def test_what_was_unpacked_in_part_is_no_corpus(self, make_corpus, tmp_path, monkeypatch, problem):
        datasets = pytest.importorskip("torchaudio").datasets
        place = tmp_path / "corpus" / "LJSpeech-1.1"
        problems = [problem]

        def fetch(root, download):
            if not place.exists():  # else torchaudio takes it for the corpus
                place.mkdir()
                (place / "half").touch()
                if problems:
                    raise problems.pop()
                shutil.rmtree(place)
                make_corpus("ljspeech")

        monkeypatch.setattr(datasets, "LJSPEECH", fetch)
        config = CorpusConfig("ljspeech", str(tmp_path / "corpus"), download=True)
        with pytest.raises((TrainingError, KeyboardInterrupt)):
            sources(config)
        with pytest.raises(TrainingError, match=r"not unpacked to its end\); 'corpus.download=true' fetches it"):
            sources(dataclasses.replace(config, download=False))
        assert len(sources(config)) == 5 and not (place / "half").exists()
        assert len(sources(dataclasses.replace(config, download=False))) == 5

    def test_paths_that_lead_nowhere(self, make_corpus, tmp_path):
        with pytest.raises(TrainingError, match="nosuchuser"):
            sources(CorpusConfig("folder", "~nosuchuser/speech"))
        (tmp_path / "list.csv").write_text("path,speaker\na\0.wav,a\n")
        with pytest.raises(TrainingError, match=r"list\.csv"):
            sources(CorpusConfig("manifest", str(tmp_path / "list.csv")))
        config = CorpusConfig("folder", make_corpus("folder"))
        (Path(config.path) / "cy" / "loop.wav").symlink_to("loop.wav")
        assert len(pack(config, 16000)) == 5


class TestPack:
    def test_holds_every_sample_exactly(self, make_corpus):
        path = Path(make_corpus("manifest"))
        corpus = pack(CorpusConfig("manifest", str(path)), 16000)
        assert len(corpus) == 6
        for i in range(6):
            start, length = corpus.starts[i], corpus.lengths[i]
            wanted, _ = soundfile.read(path.parent / "audio" / f"{i}.wav", dtype="int16")
            np.testing.assert_array_equal(corpus.samples[start : start + length], wanted)
            assert corpus.speaker_names[corpus.speakers[i]] == f"speaker {i // 2}"
        assert len(corpus.samples) == corpus.lengths.sum()

    def test_resamples(self, make_corpus):
        pytest.importorskip("torchaudio")
        corpus = pack(CorpusConfig("ljspeech", make_corpus("ljspeech")), 16000)
        assert corpus.sample_rate == 16000
        assert len(corpus.samples) == pytest.approx(16000 * sum(1.0 + 0.2 * i for i in range(5)), abs=16)

    def test_is_shared_until_the_files_change(self, make_corpus, tmp_path, monkeypatch):
        config = CorpusConfig("folder", make_corpus("folder"))
        first = pack(config, 16000)
        with monkeypatch.context() as patch:
            patch.setattr(corpus_module, "_read", lambda *_: pytest.fail("packed again"))
            again = pack(CorpusConfig("folder", config.path, validation_seconds=5.0), 16000)
        np.testing.assert_array_equal(first.samples, again.samples)
        soundfile.write(Path(config.path) / "cy" / "1.wav", np.zeros(777), 16000)
        changed = pack(config, 16000)
        assert 777 in changed.lengths
        assert len(pack(config, 8000).samples) == pytest.approx(len(changed.samples) / 2, abs=5)
        assert len(list((tmp_path / "cache" / "vqaudio" / "corpora").iterdir())) == 3

    def test_is_another_one_for_other_speakers_and_for_files_of_the_same_size(self, make_corpus):
        path = Path(make_corpus("manifest"))
        config = CorpusConfig("manifest", str(path))
        first = pack(config, 16000)
        path.write_text(path.read_text().replace("speaker 1", "speaker 0"))
        assert [str(name) for name in pack(config, 16000).speaker_names] == ["speaker 0", "speaker 2"]
        file = path.parent / "audio" / "0.wav"
        before, samples = file.stat(), first.samples[: first.lengths[0]]
        soundfile.write(file, samples[::-1], 16000)
        os.utime(
            file, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9)
        )  # in another second, in case the file system tells no less
        assert file.stat().st_size == before.st_size
        np.testing.assert_array_equal(pack(config, 16000).samples[: len(samples)], samples[::-1])

    @pytest.mark.parametrize("name", ["samples.int16", "index.npz"])
    @pytest.mark.parametrize("damage", ["truncate", "remove", "scramble"])
    def test_damaged_pack_is_made_again(self, name, damage, make_corpus, tmp_path):
        config = CorpusConfig("folder", make_corpus("folder"))
        wanted = np.array(pack(config, 8000, tmp_path / "pack").samples)
        path = tmp_path / "pack" / name
        content = path.read_bytes()
        if damage == "remove":
            path.unlink()
        else:
            path.write_bytes(content[: len(content) // 2] if damage == "truncate" else content[::-1] + b"x")
        with pytest.raises(TrainingError):
            Corpus.open(tmp_path / "pack")
        np.testing.assert_array_equal(pack(config, 8000, tmp_path / "pack").samples, wanted)
        assert {file.name for file in (tmp_path / "pack").iterdir()} == {"samples.int16", "index.npz"}

    def test_no_byte_of_an_index_does_more_harm_than_that(self, make_corpus, tmp_path):
        pack(CorpusConfig("folder", make_corpus("folder")), 8000, tmp_path / "pack")
        path = tmp_path / "pack" / "index.npz"
        content = path.read_bytes()
        refused = 0
        for place in range(0, len(content), 5):
            path.write_bytes(content[:place] + bytes([content[place] ^ 0x5A]) + content[place + 1 :])
            try:
                Corpus.open(tmp_path / "pack")
            except TrainingError:
                refused += 1
        assert refused > len(content) // 5 // 2

    def test_unreadable_files_are_named_counted_and_left_out(self, make_corpus, caplog, monkeypatch):
        config = CorpusConfig("folder", make_corpus("folder"))
        whole = pack(config, 16000)
        folder = Path(config.path) / "cy"
        noise = 0.1 * np.random.default_rng(0).standard_normal(32000)
        (folder / "text.wav").write_text("This is no sound.\n" * 100)
        (folder / "empty.wav").write_bytes(b"")
        soundfile.write(folder / "silent.wav", noise[:0], 16000)
        soundfile.write(folder / "infinite.wav", np.where(noise > 0.3, np.nan, noise), 16000, subtype="FLOAT")
        soundfile.write(folder / "torn.flac", noise, 16000)
        (folder / "torn.flac").write_bytes((folder / "torn.flac").read_bytes()[:20000])
        with caplog.at_level(logging.WARNING):
            corpus = pack(config, 16000)
        *named, count = [record.getMessage() for record in caplog.records]
        for name in ("empty.wav", "infinite.wav", "silent.wav", "text.wav", "torn.flac"):
            assert sum(name in line for line in named) == 1
        assert len(named) == 5 and count.startswith("5 of the 10 files of the corpus were left out; without '/")
        np.testing.assert_array_equal(corpus.samples, whole.samples)
        monkeypatch.setattr(corpus_module, "_read", lambda *_: pytest.fail("packed again"))
        caplog.clear()
        np.testing.assert_array_equal(pack(config, 16000).samples, corpus.samples)
        assert [record.getMessage() for record in caplog.records] == [count]

    def test_corpus_without_readable_audio(self, tmp_path):
        (tmp_path / "corpus").mkdir()
        (tmp_path / "corpus" / "a.wav").write_bytes(b"")
        with pytest.raises(TrainingError, match="can be read"):
            pack(CorpusConfig("folder", str(tmp_path / "corpus")), 16000, tmp_path / "pack")
        assert not list((tmp_path / "pack").iterdir())

    def test_unwritable_folder(self, make_corpus, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(TrainingError, match="file"):
            pack(CorpusConfig("folder", make_corpus("folder")), 16000, tmp_path / "file" / "pack")


class TestSource:
    def test_does_not_depend_on_where_the_corpus_lies(self):
        assert Source(Path("/a/x/1.wav"), "x").name == Source(Path("/b/x/1.wav"), "x").name


class TestCrops:
    corpus = build([300, 40, 700, 120, 90], ["a", "b", "a", "c", "b"])

    def test_is_a_pure_function_of_seed_and_step(self):
        crops = Crops(self.corpus, np.arange(5), 50, seed=3)
        batches = [crops.batch(step, 8) for step in (7, -1, 7, 8)]
        assert torch.equal(batches[0][0], batches[2][0]) and torch.equal(batches[0][1], batches[2][1])
        assert not torch.equal(batches[0][0], batches[3][0])
        again = Crops(self.corpus, np.arange(5), 50, seed=3).batch(-1, 8)
        assert torch.equal(again[0], batches[1][0])
        assert not torch.equal(Crops(self.corpus, np.arange(5), 50, seed=4).batch(7, 8)[0], batches[0][0])

    @pytest.mark.parametrize("speeds", [(1.0,), (0.9, 1.1)])
    @pytest.mark.parametrize("world", [2, 4])
    def test_processes_share_one_draw(self, world, speeds):
        chosen = self.corpus, np.arange(5), 50, 1, "cpu"
        whole = Crops(*chosen, speeds=speeds).batch(5, 8)
        parts = [Crops(*chosen, rank=rank, world=world, speeds=speeds).batch(5, 8) for rank in range(world)]
        for i in range(2):
            assert torch.equal(torch.cat([part[i] for part in parts]), whole[i])

    @pytest.mark.parametrize("speed", [1.0, 1.1])
    def test_mixed_precision_does_not_round_what_is_heard(self, speed):
        crops = Crops(self.corpus, np.arange(5), 50, seed=1, speeds=(speed,))
        expected, _ = crops.batch(0, 8)
        with torch.autocast("cpu", torch.bfloat16):
            waveform, _ = crops.batch(0, 8)
        assert waveform.dtype == torch.float32
        assert torch.equal(waveform, expected)

    @pytest.mark.parametrize("speed", [0.5, 0.954, 0.996, 1.004, 1.13, 2.0])
    def test_crops_of_every_speed_are_full(self, speed):
        for length in (1, 49, 50, 600):
            waveform, _ = Crops(self.corpus, np.array([2]), length, seed=0, speeds=(speed,)).batch(0, 2)
            assert waveform.shape == (2, 1, length)

    def test_speeds_take_turns_and_move_the_pitch(self):
        length, hz = 4000, 400.0
        tone = 8000 * np.sin(2 * np.pi * hz / 16000 * np.arange(20000))
        corpus = dataclasses.replace(build([20000], ["a"], rate=16000), samples=tone.astype(np.int16))
        crops = Crops(corpus, np.arange(1), length, seed=0, speeds=(0.95, 1.0, 1.15))
        heard = Counter()
        for step in range(60):
            waveform, _ = crops.batch(step, 1)
            assert waveform.shape == (1, 1, length)
            inside = waveform[0, 0, 100:-100].double().numpy()
            samples = 2 * np.pi / 16000 * np.arange(len(inside))
            parts = {}
            for speed in (0.95, 1.0, 1.15):
                basis = np.stack([np.cos(speed * hz * samples), np.sin(speed * hz * samples)], 1)
                rest = inside - basis @ np.linalg.lstsq(basis, inside, rcond=None)[0]
                parts[speed] = np.square(rest).sum() / np.square(inside).sum()
            best = min(parts, key=parts.__getitem__)
            assert parts[best] < 1e-4 < 0.1 < sorted(parts.values())[1]
            heard[best] += 1
        assert min(heard.values()) >= 10

    @settings(max_examples=25, deadline=None)
    @given(
        st.lists(st.integers(1, 200), min_size=1, max_size=8),
        st.integers(1, 120),
        st.integers(0, 2**31),
        st.integers(0, 10**6),
        st.data(),
    )
    def test_every_crop_is_a_piece_of_one_utterance(self, lengths, length, seed, step, data):
        corpus = build(lengths, [f"s{i}" for i in range(len(lengths))])
        chosen = data.draw(st.lists(st.sampled_from(range(len(lengths))), min_size=1, unique=True))
        waveform, speaker = Crops(corpus, np.array(sorted(chosen)), length, seed).batch(step, 6)
        assert waveform.shape == (6, 1, length) and waveform.dtype == torch.float32
        assert speaker.shape == (6,) and speaker.dtype == torch.int64
        for crop, row in zip(integers(waveform), speaker.tolist(), strict=True):
            utterance = crop[0] // 1000 - 1
            assert utterance in chosen
            assert corpus.speakers[utterance] == row
            start = crop[0] % 1000
            whole = 1000 * (utterance + 1) + np.arange(lengths[utterance])
            piece = whole[start : start + length]
            np.testing.assert_array_equal(crop[: len(piece)], piece)
            assert len(piece) == min(length, lengths[utterance])
            assert not crop[len(piece) :].any()

    def test_longer_utterances_come_more_often_and_every_place_does(self):
        waveform, _ = Crops(self.corpus, np.array([0, 2]), 50, seed=0).batch(0, 4000)
        crops = integers(waveform)
        assert np.mean(crops[:, 0] >= 3000) == pytest.approx(0.7, abs=0.03)
        starts = Counter((crops[crops[:, 0] < 3000][:, 0] % 1000).tolist())
        assert set(starts) <= set(range(251)) and len(starts) > 240
        assert np.mean(list(starts.elements())) == pytest.approx(125, abs=10)
        ends = integers(Crops(self.corpus, np.array([3]), 119, seed=0).batch(0, 64)[0])[:, 0] % 1000
        assert set(ends) == {0, 1}

    def test_packed_and_mapped(self, make_corpus):
        corpus = pack(CorpusConfig("folder", make_corpus("folder")), 16000)
        waveform, _ = Crops(corpus, np.arange(len(corpus)), 4000, seed=0).batch(0, 4)
        samples = np.array(corpus.samples)
        for crop in integers(waveform):
            places = np.flatnonzero(samples[: len(samples) - 3999] == crop[0])
            assert any(np.array_equal(samples[place : place + 4000], crop) for place in places)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_gpu_gives_the_same_crops(self):
        here, there = (Crops(self.corpus, np.arange(5), 50, seed=1, device=device) for device in ("cpu", "cuda"))
        assert self.corpus.packed.on("cuda").is_cuda
        for mine, theirs in zip(here.batch(3, 16), there.batch(3, 16), strict=True):
            assert theirs.is_cuda and torch.equal(mine, theirs.cpu())


class TestValidationItems:
    def test_are_fixed_and_do_not_overlap(self):
        corpus = build([400, 90, 250, 30], ["a", "b", "a", "c"])
        waveform, speaker = validation_items(corpus, np.array([0, 1, 2, 3]), seconds=100.0, length=50)
        again, _ = validation_items(corpus, np.array([3, 2, 1, 0]), seconds=100.0, length=50)
        assert torch.equal(waveform, again)
        firsts = integers(waveform)[:, 0]
        wanted = [1000 + s for s in range(0, 400, 50)] + [2000] + [3000 + s for s in range(0, 250, 50)] + [4000]
        assert sorted(firsts) == wanted
        assert Counter(speaker.tolist()) == {0: 13, 1: 1, 2: 1}

    def test_last_for_as_long_as_asked_and_speakers_take_turns(self):
        corpus = build([900, 300, 300], ["a", "b", "c"])
        waveform, speaker = validation_items(corpus, np.arange(3), seconds=3.0, length=50)
        assert waveform.shape == (6, 1, 50)
        assert Counter(speaker.tolist()) == {0: 2, 1: 2, 2: 2}
