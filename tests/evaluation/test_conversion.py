"""The evaluation of voice conversion, against converters of known quality and means counted by hand.

Voices are tones here: a speaker's utterances are one pitch at changing loudness, and the judge hears pitches.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest

import vqaudio
from vqaudio import audio
from vqaudio.codec import Codec
from vqaudio.codes import Codes
from vqaudio.errors import AudioError, UsageError
from vqaudio.evaluation import conversion, records
from vqaudio.evaluation.conversion import CONVERTED, DECODED, ORIGINAL, REFERENCE, Conversion, Likeness, Measured
from vqaudio.evaluation.estimates import Estimate
from vqaudio.evaluation.metrics import Metric
from vqaudio.evaluation.metrics.voice import speaker_similarity
from vqaudio.evaluation.pairs import Pair, pairs
from vqaudio.evaluation.speech import Item, items

RATE = 16000
PITCHES = {"anna": 120, "bert": 320, "cleo": 660}
STAGES = (ORIGINAL, DECODED, CONVERTED)


def energy(reference: np.ndarray, decoded: np.ndarray, sample_rate: int) -> float:
    return float(np.square(decoded).mean())


def letters(reference: np.ndarray, sample_rate: int, text: str | None) -> float:
    return float(len(text or ""))


def errors(reference: np.ndarray, decoded: np.ndarray, sample_rate: int, text: str | None) -> float:
    """Stands for a metric of words: their letters, and one more where anything is heard differently."""
    return letters(reference, sample_rate, text) + float(not np.array_equal(reference, decoded))


ENERGY = Metric("energy", "energy", "", True, "numpy", "numpy", energy, judges_decoded_alone=True)
WORDS = Metric("wer", "word errors", "", False, "numpy", "numpy", errors, words=letters)
CLOSENESS = Metric("closeness", "closeness", "", True, "numpy", "numpy", energy)


class Converter:
    """Codes are 16-bit samples, and voices are one byte: with one, `decode` speaks as `convert` says.

    A codec without `convert` sends the voice and does not hear it.
    """

    def __init__(self) -> None:
        self.references: list[np.ndarray] = []

    def encode(self, waveform: np.ndarray, sample_rate: int) -> Codes:
        pcm = np.rint(np.clip(waveform * 32768, -32768, 32767)).astype(np.int32) + 32768
        return Codes(pcm[None], codebook_size=65536, hop=1, sample_rate=sample_rate, samples=len(pcm), model=b"fake")

    def voice(self, reference: np.ndarray, sample_rate: int) -> bytes:
        self.references.append(reference)
        return bytes([len(self.references) - 1])

    def decode(self, codes: Codes, *, decoder: str | None = None) -> np.ndarray:
        plain = ((codes.numpy()[0].astype(np.float32) - 32768) / 32768).astype(np.float32)
        return self.convert(plain, self.references[codes.speaker[0]]) if codes.speaker else plain

    def convert(self, plain: np.ndarray, reference: np.ndarray) -> np.ndarray:
        return plain


class Perfect(Converter):
    """Speaks in exactly the voice that it was given."""

    def convert(self, plain: np.ndarray, reference: np.ndarray) -> np.ndarray:
        return np.resize(reference, len(plain))


class Halfway(Converter):
    """Is heard in both voices at once, the source's the louder one."""

    def convert(self, plain: np.ndarray, reference: np.ndarray) -> np.ndarray:
        ours, theirs = (w / np.abs(w).max() for w in (plain, np.resize(reference, len(plain))))
        return (0.2 * ours + 0.1 * theirs).astype(np.float32)


def pitches(waveform: np.ndarray, sample_rate: int) -> np.ndarray | None:
    """How much of each pitch there is, as a vector of length 1: a voice for the fakes."""
    times = np.arange(len(waveform)) / sample_rate
    vector = np.array([abs(np.exp(-2j * np.pi * pitch * times) @ waveform) for pitch in PITCHES.values()])
    return vector / np.linalg.norm(vector) if vector.any() else None


def evaluate(kind: type[Converter], chosen: list[Pair], metrics: tuple[Metric, ...] = ()) -> Conversion:
    return conversion.evaluate(cast(Callable[[], Codec], kind), chosen, metrics)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "voice_vector", pitches)


@pytest.fixture(scope="module")
def speakers(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    """Three utterances of each of three speakers, of 1 to 1.2 seconds."""
    root, found = tmp_path_factory.mktemp("voices"), []
    for name, pitch in PITCHES.items():
        (root / name).mkdir()
        for index in range(3):
            times = np.arange(RATE + 1600 * index) / RATE
            audio.write(root / name / f"{index}.wav", (0.1 + 0.05 * index) * np.sin(2 * np.pi * pitch * times), RATE)
            found.append(Item(root / name / f"{index}.wav", name, "word " * (index + 1)))
    return found


def test_a_perfect_converter(heard: None, speakers: list[Item]) -> None:
    result = evaluate(Perfect, pairs(speakers, 6))
    assert len(result.pairs) == 6
    assert result.nearer().mean == 1.0
    assert (result.nearer(DECODED).mean, result.nearer(ORIGINAL).mean) == (0.0, 0.0)
    for speech, target, source in ((CONVERTED, 1, 0), (DECODED, 0, 1), (ORIGINAL, 0, 1), (REFERENCE, 1, 0)):
        assert result.likeness(speech, "target").mean == pytest.approx(target, abs=0.02)
        assert result.likeness(speech, "source").mean == pytest.approx(source, abs=0.02)
    assert result.change("target").mean == pytest.approx(1, abs=0.02)
    assert result.change("source").mean == pytest.approx(-1, abs=0.02)


def test_one_that_does_nothing(heard: None, speakers: list[Item]) -> None:
    result = evaluate(Converter, pairs(speakers, 6))
    assert result.nearer().mean == 0.0
    assert (result.change("target").mean, result.change("source").mean) == (0.0, 0.0)
    assert all(m.likeness[CONVERTED] == m.likeness[DECODED] for m in result.pairs)


def test_one_that_goes_halfway(heard: None, speakers: list[Item]) -> None:
    result = evaluate(Halfway, pairs(speakers, 6))
    assert result.nearer().mean == 0.0
    assert result.likeness(CONVERTED, "target").mean == pytest.approx(1 / math.sqrt(5), abs=0.03)
    assert result.likeness(CONVERTED, "source").mean == pytest.approx(2 / math.sqrt(5), abs=0.03)


def test_metrics_of_speech_alone_and_of_words_are_measured_and_no_others(heard: None, speakers: list[Item]) -> None:
    chosen = pairs(speakers, 6)
    result = evaluate(Perfect, chosen, (ENERGY, CLOSENESS, WORDS))
    assert [metric.name for metric in result.metrics] == ["energy", "wer"]
    for m, pair in zip(result.pairs, chosen, strict=True):
        letters = len(pair.source.text or "")
        assert m.pair == pair
        assert m.values["wer"] == {ORIGINAL: letters, DECODED: letters, CONVERTED: letters + 1}
        original, reference = audio.read(pair.source.path), audio.read(pair.reference.path)
        assert m.values["energy"][DECODED] == pytest.approx(np.square(original).mean(), rel=1e-3)
        resized = np.resize(reference, len(original))
        assert m.values["energy"][CONVERTED] == pytest.approx(np.square(resized).mean(), rel=1e-3)
    weights = [len(pair.source.text or "") for pair in chosen]
    assert len(set(weights)) > 1
    assert result.estimate("wer", DECODED).mean == pytest.approx(np.average(weights, weights=weights))
    assert result.difference("wer").mean == pytest.approx(1.0)
    assert result.difference("wer").low == pytest.approx(1.0)  # the difference is paired, so that nothing varies


def test_the_record_is_strict_json_with_every_pair(heard: None, speakers: list[Item]) -> None:
    result = evaluate(Perfect, pairs(speakers, 3), (ENERGY,))
    record = json.loads(records.dumps(result.to_dict()))
    assert record["pairs"] == 3
    assert record["nearer_to_target"]["converted"] == vars(result.nearer())
    assert record["likeness_change"]["target"]["mean"] == pytest.approx(1, abs=0.02)
    for entry, m in zip(record["measured"], result.pairs, strict=True):
        pair = m.pair
        assert (entry["source"], entry["reference"]) == (str(pair.source.path), str(pair.reference.path))
        assert (entry["source_speaker"], entry["target_speaker"]) == (pair.source.speaker, pair.reference.speaker)
        assert entry["likeness"]["converted"] == vars(m.likeness[CONVERTED])
        assert entry["metrics"] == m.values and entry["text"] == pair.source.text


def test_undefined_values_are_left_out_and_null(speakers: list[Item]) -> None:
    pair = pairs(speakers, 1)[0]

    def measured(target: float, source: float) -> Measured:
        likeness = dict.fromkeys((*STAGES, REFERENCE), Likeness(target, source))
        return Measured(pair, 1.0, likeness, {"energy": dict.fromkeys(STAGES, target)}, {"energy": 1.0})

    result = Conversion((ENERGY,), [measured(0.9, 0.2), measured(math.nan, 0.2), measured(0.2, 0.9)])
    assert result.nearer() == Estimate.of([1.0, math.nan, 0.0])
    assert (result.nearer().mean, result.nearer().undefined) == (0.5, 1)
    record = json.loads(records.dumps(result.to_dict()))
    second = record["measured"][1]
    assert second["nearer_to_target"] is None and second["metrics"]["energy"]["converted"] is None


def test_silence_has_no_voice(heard: None, speakers: list[Item], tmp_path: Path) -> None:
    audio.write(tmp_path / "silent.wav", np.zeros(RATE, np.float32), RATE)
    pair = pairs(speakers, 1)[0]
    silent = Item(tmp_path / "silent.wav", pair.source.speaker, None)
    chosen = [Pair(silent, pair.reference, pair.source_evidence, pair.target_evidence), pair]
    result = evaluate(Converter, chosen)
    assert (result.nearer().count, result.nearer().undefined) == (1, 1)


def test_a_bad_file_is_named_and_the_rest_goes_on(heard: None, speakers: list[Item], tmp_path: Path) -> None:
    bad = Item(tmp_path / "bad.wav", "anna", None)
    bad.path.write_bytes(b"RIFF")
    good = pairs(speakers, 1)[0]
    for role in ("source", "reference", "source_evidence", "target_evidence"):
        roles = {**vars(good), role: bad}
        result = evaluate(Perfect, [Pair(**roles), good])
        assert [m.pair for m in result.pairs] == [good]
        assert "bad.wav" in result.skipped[0][1]
        assert "bad.wav" in result.to_dict()["skipped"][0]["reason"]
        with pytest.raises(AudioError, match=r"None of the 1 pairs.*bad\.wav"):
            evaluate(Perfect, [Pair(**roles)])


def test_a_reference_that_the_codec_refuses_is_named(
    heard: None, speakers: list[Item], tmp_path: Path, tiny_codec: Path
) -> None:
    short = Item(tmp_path / "short.wav", "anna", None)
    audio.write(short.path, 0.1 * np.ones(100), RATE)
    good = pairs(speakers, 1)[0]
    pair = Pair(good.source, short, good.source_evidence, good.target_evidence)
    with pytest.raises(AudioError, match=r"short\.wav.*too short"):
        conversion.evaluate(functools.partial(vqaudio.load, tiny_codec), [pair])


def test_a_pair_is_heard_again(speakers: list[Item], tiny_codec: Path) -> None:
    pair, codec = pairs(speakers, 1)[0], vqaudio.load(tiny_codec)
    heard = conversion.sounds(codec, pair)
    original, reference = audio.read(pair.source.path), audio.read(pair.reference.path)
    codes = codec.encode(original, RATE)
    np.testing.assert_array_equal(heard.original, original)
    np.testing.assert_array_equal(heard.reference, reference)
    np.testing.assert_array_equal(heard.decoded, np.clip(codec.decode(codes), -1, 1))
    there = codec.decode(codes.with_speaker(codec.voice(reference, RATE)))
    np.testing.assert_array_equal(heard.converted, np.clip(there, -1, 1))
    assert not np.array_equal(heard.converted, heard.decoded)
    with pytest.raises(UsageError, match="opus"):
        conversion.sounds(codec, pair, "opus")


def test_a_bench_crosses_to_another_process(heard: None, speakers: list[Item], tiny_codec: Path) -> None:
    bench = conversion.Bench(functools.partial(vqaudio.load, tiny_codec), (CLOSENESS,), "spectral")
    pair, sent = pairs(speakers, 1)[0], pickle.dumps(bench)
    measured = bench.measure(pair)
    assert pickle.loads(sent).measure(pickle.loads(pickle.dumps(pair))) == measured


@pytest.mark.skipif(importlib.util.find_spec("resemblyzer") is None, reason="needs resemblyzer")
def test_real_voices_are_told_apart(speech: Path) -> None:
    """The real judge on real speech: converted perfectly, everybody is nearer to the target."""
    spoken = [item for item in items(speech / "eval" / "librispeech") if item.speaker in ("ls1688", "ls1998")]
    chosen = pairs(spoken, 2)
    perfect, lazy = (evaluate(kind, chosen) for kind in (Perfect, Converter))
    assert perfect.nearer().mean == 1.0 and lazy.nearer().mean == 0.0
    m = perfect.pairs[0]
    source, evidence = (audio.read(item.path) for item in (m.pair.source, m.pair.source_evidence))
    shortest = min(len(source), len(evidence))
    cut = speaker_similarity(source[:shortest], evidence[:shortest], RATE)
    assert m.likeness[ORIGINAL].source == pytest.approx(cut, abs=0.1)
