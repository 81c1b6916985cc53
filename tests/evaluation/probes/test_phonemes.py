"""The phonemes probe: planted codes are found out, nothing leaks from the half that is judged, and the command."""

from __future__ import annotations

import csv
import functools
import json
import math
import pickle
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import vqaudio
from vqaudio import audio
from vqaudio.cli import main
from vqaudio.errors import UsageError
from vqaudio.evaluation.probes import alignment
from vqaudio.evaluation.probes.alignment import PHONES, SILENCE, UNKNOWN
from vqaudio.evaluation.probes.labelled import Labelled, Labeller
from vqaudio.evaluation.probes.phonemes import Phonemes, cepstrum, count, most_frequent, probe, transcribed
from vqaudio.evaluation.speech import Item, items

pytest.importorskip("sklearn")
pytest.importorskip("librosa")

SIZE = len(PHONES)
QUIET = PHONES.index(SILENCE)


def utterance(speaker: str, codes: np.ndarray, phones: np.ndarray, features: np.ndarray | None = None) -> Labelled:
    given = np.eye(SIZE)[np.maximum(phones, 0)] if features is None else features
    return Labelled(Item(Path(f"{speaker}.wav"), speaker, "words"), codes[None], phones, given, 0)


def spoken(seed: int, frames: int = 600) -> np.ndarray:
    """Phones, of which silence and three others are more frequent than the rest."""
    shares = np.ones(SIZE)
    shares[[QUIET, 0, 5, 20]] = [40, 20, 15, 10]
    return np.random.default_rng(seed).choice(SIZE, frames, p=shares / shares.sum())


def by_name(result: Phonemes) -> dict[str, tuple[float, float, float]]:
    return {s.name: (s.accuracy.mean, s.without_silence.mean, s.information.mean) for s in result.scores}


def test_codes_that_are_phonemes_are_always_right_and_chance_is_the_commonest_phoneme() -> None:
    said = [spoken(seed) for seed in range(8)]
    swap = np.random.default_rng(9).permutation(SIZE)
    result = probe([utterance(f"s{i}", swap[phones], phones) for i, phones in enumerate(said)], SIZE)
    scores, everything = by_name(result), np.concatenate(said)
    shares = np.bincount(everything) / len(everything)
    entropy = -(shares * np.log2(shares)).sum()
    assert scores["codes"][:2] == (1.0, 1.0)
    assert scores["codes"][2] == pytest.approx(entropy, rel=0.2) and scores["codes"][2] < entropy + 0.02
    assert result.scores[0].share == pytest.approx(1, abs=0.2)
    silent, loudest = shares[QUIET], shares[0] / (1 - shares[QUIET])
    for name in ("shuffled in time", "random codes"):
        assert scores[name][0] == pytest.approx(silent, abs=0.02)
        assert scores[name][1] == pytest.approx(loudest, abs=0.06)
        assert scores[name][2] < 0
    assert scores["k-means of MFCCs"][0] > 0.9  # its features are the phonemes as well
    assert (result.speakers, result.utterances, result.frames, result.unlabelled) == (8, 8, 4800, 0)


def test_the_half_that_is_judged_teaches_nothing() -> None:
    phones = np.tile([0, 1, 2, 3], 50)
    taught, trap = phones, (phones + 1) % 4  # the same codes for other phonemes
    result = probe([utterance("a", taught, phones), utterance("b", trap, phones)], 4)
    assert by_name(result)["codes"][:2] == (0.0, 0.0)


def test_utterances_of_one_speaker_stay_in_one_half() -> None:
    # each speaker has phonemes of their own for the codes, so that only a leak could be right
    voices = [(f"s{speaker}", (np.arange(200) + speaker) % 4) for speaker in range(2) for _ in range(5)]
    assert by_name(probe([utterance(name, np.arange(200) % 4, phones) for name, phones in voices], 4))["codes"][0] == 0


def test_accuracy_and_information_are_those_of_a_count_by_hand() -> None:
    rng = np.random.default_rng(3)
    speech = {name: (rng.integers(0, 6, n), rng.integers(0, 5, n)) for name, n in (("a", 400), ("b", 300))}
    speech["a"][1][:40] = UNKNOWN
    speech["b"][1][50:90] = QUIET
    result = probe([utterance(name, *pair) for name, pair in speech.items()], 6)
    right, quiet_right, loud, bits, total = 0, 0, 0, 0.0, 0
    for judge, teacher in (("a", "b"), ("b", "a")):
        pairs = {name: [(c, p) for c, p in zip(*speech[name], strict=True) if p != UNKNOWN] for name in speech}
        everything = Counter(p for _, p in pairs[teacher])
        for c, p in pairs[judge]:
            own = Counter(q for d, q in pairs[teacher] if d == c)
            loud_own = Counter({q: n for q, n in own.items() if q != QUIET})
            right += p == min(own, key=lambda q: (-own[q], q))
            quiet_right += p != QUIET and p == min(loud_own, key=lambda q: (-loud_own[q], q))
            loud += p != QUIET
            overall = (everything[p] + 1) / (sum(everything.values()) + SIZE)
            bits += math.log2((own[p] + 50 * overall) / (sum(own.values()) + 50) / overall)
            total += 1
    accuracy, without_silence, information = by_name(result)["codes"]
    assert accuracy == pytest.approx(right / total)
    assert without_silence == pytest.approx(quiet_right / loud)
    assert information == pytest.approx(bits / total)
    assert (result.frames, result.unlabelled) == (660, 40)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-1, SIZE - 1)), max_size=60))
def test_counts_leave_out_what_is_unknown(pairs: list[tuple[int, int]]) -> None:
    codes, phones = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    table = count(codes, phones, 5)
    assert {(c, p): n for c, row in enumerate(table.tolist()) for p, n in enumerate(row) if n} == dict(
        Counter(pair for pair in pairs if pair[1] != UNKNOWN)
    )


def test_codes_never_seen_stand_for_the_commonest_phoneme() -> None:
    assert most_frequent(np.array([[0, 3, 1], [0, 0, 0], [2, 0, 2], [0, 0, 5]])).tolist() == [1, 2, 0, 2]


def test_the_probe_repeats_itself() -> None:
    rng = np.random.default_rng(0)
    speech = [
        utterance(f"s{i}", rng.integers(0, 8, 300), spoken(i, 300), rng.standard_normal((300, 13))) for i in range(4)
    ]
    first, second = probe(speech, 8), probe(speech, 8)
    assert first.scores == second.scores and (first.counts == second.counts).all()


def test_the_cepstrum_is_taken_around_the_middle_of_each_frame() -> None:
    rng = np.random.default_rng(0)
    waveform = 1e-3 * rng.standard_normal(16000)
    waveform[640 * 10 : 640 * 11] += 0.5 * rng.standard_normal(640)
    loud = cepstrum(waveform.astype(np.float32), 16000, 640)
    assert loud.shape == (25, 13) and loud[:, 0].argmax() == 10
    assert loud[9, 0] == pytest.approx(loud[8, 0], abs=0.2 * float(loud[10, 0] - loud[8, 0]))
    assert np.abs(loud.mean(axis=0)).max() < 1e-3
    short = cepstrum(waveform[:777].astype(np.float32), 16000, 64)
    assert short.shape == (13, 13) and np.isfinite(short).all()


@pytest.mark.parametrize(("rate", "hop", "window"), [(16000, 64, 400), (16000, 640, 640), (8000, 101, 200)])
def test_the_cepstrum_is_that_of_a_windowed_spectrum_by_hand(rate: int, hop: int, window: int) -> None:
    """25 ms or a whole frame, Hann, 40 bands, decibels no more than 80 below the loudest, a cosine transform."""
    import librosa

    waveform = np.random.default_rng(0).standard_normal(3000) * np.linspace(0.01, 1, 3000)
    padded = np.pad(waveform, window)
    starts = [window + hop * frame - (window - hop) // 2 for frame in range(-(-3000 // hop))]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    power = np.abs(np.fft.rfft([hann * padded[start : start + window] for start in starts])) ** 2
    bands = 10 * np.log10(power @ librosa.filters.mel(sr=rate, n_fft=window, n_mels=40).T)
    rows = scipy.fft.dct(np.maximum(bands, bands.max() - 80), norm="ortho")[:, :13]
    expected = rows - rows.mean(axis=0)
    assert cepstrum(waveform.astype(np.float32), rate, hop) == pytest.approx(expected, abs=0.05)


def test_speech_that_cannot_be_probed_is_said() -> None:
    told, untold = Item(Path("a.wav"), "a", "words"), Item(Path("b.wav"), "b", None)
    with pytest.raises(UsageError, match=r"no manifest\.csv"):
        transcribed([untold])
    with pytest.raises(UsageError, match="all is said by 'a'"):
        transcribed([told, told, untold])
    both = [told, untold, Item(Path("c.wav"), "c", "words")]
    assert [item.speaker for item in transcribed(both)] == ["a", "c"]
    many = [Item(Path(f"{i}.wav"), str(i), "words") for i in range(10)]
    assert [item.speaker for item in transcribed(many, 4)] == ["0", "2", "5", "7"]
    with pytest.raises(UsageError, match="all is said by 'a'"):
        probe(
            [utterance("a", np.zeros(9, int), spoken(0, 9)), utterance("b", np.zeros(9, int), np.full(9, UNKNOWN))], 2
        )


@pytest.fixture(scope="module")
def spoken_files(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four files of real speech with their transcripts, and one that is no audio."""
    folder = tmp_path_factory.mktemp("spoken")
    found = [item for item in items(speech / "eval" / "speechocean") if item.text][:40:10]
    rows = [("broken.wav", "x", "nothing")]
    (folder / "broken.wav").write_bytes(b"RIFF")
    for index, item in enumerate(found):
        audio.write(folder / f"{index}.wav", audio.read(item.path, 16000), 16000)
        rows.append((f"{index}.wav", item.speaker, item.text or ""))
    with open(folder / "manifest.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", "speaker", "text"), *rows])
    return folder


def test_the_command_prints_writes_and_draws(spoken_files: Path, tiny_codec: Path, tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    image = pytest.importorskip("matplotlib.image")
    words = ["probe", "phonemes", str(spoken_files), "--model", str(tiny_codec), "--jobs", "1"]
    out = ["--json", str(tmp_path / "out.json"), "--figure", str(tmp_path / "out.png")]
    result = CliRunner().invoke(main, [*words, *out], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "k-means of MFCCs" in result.stdout and "4 utterances" in result.stdout
    assert "Skipped" in result.stderr and result.stderr.count("broken.wav") == 1
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["scores"][0]["name"] == "codes"
    assert sum(code["frames"] for code in record["codes"]) == record["frames"] > 1000
    assert record["utterances"] == 4 and len(record["skipped"]) == 1
    assert image.imread(tmp_path / "out.png").std() > 0.05
    refused = CliRunner().invoke(main, [*words, *out])
    assert refused.exit_code == 2 and "exists already" in refused.stderr
    other = CliRunner().invoke(main, [*words, "--figure", str(tmp_path / "out.gif")])
    assert other.exit_code == 2 and ".png or .svg" in other.stderr


def test_the_work_crosses_to_other_processes(tiny_codec: Path) -> None:
    load = functools.partial(vqaudio.load, str(tiny_codec), threads=1)
    labeller = pickle.loads(pickle.dumps(Labeller(load, True, cepstrum)))
    assert labeller.codec.config.name == "tiny" and labeller.features is cepstrum


def test_the_command_refuses_speech_without_transcripts(tiny_codec: Path, tmp_path: Path, tone: np.ndarray) -> None:
    pytest.importorskip("pocketsphinx")
    audio.write(tmp_path / "a.wav", tone, 16000)
    result = CliRunner().invoke(main, ["probe", "phonemes", str(tmp_path), "--model", str(tiny_codec), "--jobs", "1"])
    assert result.exit_code == 2 and result.stderr.startswith("Error: Phonemes are found by transcripts")
    assert result.stderr.count("\n") == 1


def test_the_command_says_what_is_missing(tiny_codec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    assert alignment.missing() is not None
    result = CliRunner().invoke(main, ["probe", "phonemes", str(tmp_path), "--model", str(tiny_codec), "--jobs", "1"])
    assert result.exit_code == 2 and "pip install 'vqaudio[eval]'" in result.stderr
