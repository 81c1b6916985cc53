"""The codebook probe: usage by hand, vectors near each other stay so, the picture, and the command."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import vqaudio
from vqaudio import audio
from vqaudio.cli import main
from vqaudio.codec import Codec
from vqaudio.evaluation import figures
from vqaudio.evaluation.probes import codebook_figure
from vqaudio.evaluation.probes.alignment import PHONES, UNKNOWN
from vqaudio.evaluation.probes.codebook import excerpt, neighbours, probe, project
from vqaudio.evaluation.probes.labelled import Labelled, label
from vqaudio.evaluation.speech import Item, items

pytest.importorskip("sklearn")

RATE = 16000


@pytest.fixture(scope="module")
def codec(tiny_codec: Path) -> Codec:
    return vqaudio.load(tiny_codec, threads=1)


def coded(codes: list[list[int]], phones: list[int] | None = None) -> Labelled:
    rows = np.array(codes)
    labels = np.full(rows.shape[1], UNKNOWN) if phones is None else np.array(phones)
    return Labelled(Item(Path("a.wav"), "a", None), rows, labels, np.zeros((rows.shape[1], 0)), 0)


def test_usage_is_that_of_a_count_by_hand(codec: Codec) -> None:
    result = probe(codec, [coded([[1, 1, 1, 2], [0, 1, 2, 3]]), coded([[2, 2, 7, 7], [4, 4, 4, 4]])])
    first, second = result.usage
    assert first.counts[[1, 2, 7]].tolist() == [3, 3, 2] and first.counts.sum() == 8
    entropy = -(2 * 3 / 8 * math.log2(3 / 8) + 2 / 8 * math.log2(2 / 8))
    assert first.entropy == pytest.approx(entropy) and first.perplexity == pytest.approx(2**entropy)
    assert (first.used, first.commonest, first.half) == (3, 3 / 8, 2)
    assert first.run == 8 / 4  # 111, 2, 22, 77: runs do not cross utterances
    assert (second.used, second.commonest, second.half, second.run) == (5, 0.5, 1, 8 / 5)
    assert (result.utterances, result.frames, result.frame_rate) == (2, 8, 250)
    assert result.counts is None and result.neighbours is None and set(result.phonemes) == {None}


def test_codes_have_the_phoneme_of_most_of_their_frames(codec: Codec) -> None:
    result = probe(codec, [coded([[1, 1, 1, 2, 2, 9]] * 2, [3, 3, 0, 5, UNKNOWN, UNKNOWN]), coded([[1], [1]])])
    assert result.counts is not None and result.counts.sum() == 4
    assert {code: p for code, p in enumerate(result.phonemes) if p} == {1: PHONES[3], 2: PHONES[5]}


def test_the_vectors_are_those_that_the_codec_decodes(codec: Codec) -> None:
    result = probe(codec, [coded([[1], [1]])])
    stage = codec.model.quantizer.stages[0]
    assert result.vectors.shape == (32, 4)
    assert np.linalg.norm(result.vectors, axis=1) == pytest.approx(1)
    assert result.vectors == pytest.approx(stage.vectors().detach().numpy())


def test_vectors_near_each_other_stay_so_in_the_plane() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(6)[:3].repeat(20, axis=0)
    vectors = centres + 0.02 * rng.standard_normal(centres.shape)
    plane = project(vectors)
    distances = np.linalg.norm(plane[:, None] - plane[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (distances.argmin(axis=1) // 20 == np.arange(60) // 20).all()
    assert np.array_equal(project(vectors), plane)


@pytest.mark.parametrize("shape", [(2, 1), (2, 8), (3, 2), (5, 4)])
def test_small_codebooks_have_a_picture_too(shape: tuple[int, int]) -> None:
    plane = project(np.random.default_rng(0).standard_normal(shape))
    assert plane.shape == (shape[0], 2) and np.isfinite(plane).all()


def test_neighbours_of_a_class_are_counted() -> None:
    vectors = np.array([[0.0], [0.1], [1.0], [1.1], [5.0]])
    counts = np.zeros((5, len(PHONES)), int)
    for code, phone in enumerate(("AA", "IY", "S", "M")):  # the last code has none
        counts[code, PHONES.index(phone)] = 3
    found = neighbours(vectors, counts)
    assert found is not None
    assert found.alike == 0.5 and found.by_chance == pytest.approx(1 / 6)  # both vowels; one pair of six
    assert neighbours(vectors, np.zeros_like(counts)) is None


def test_the_excerpt_is_the_middle_of_its_utterance(codec: Codec, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    audio.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 4 * RATE).astype(np.float32), RATE)
    utterances = label(lambda: codec, [Item(path, "a", None)]).utterances
    shown = excerpt(codec, utterances)
    assert np.array_equal(shown.waveform, audio.read(path, RATE)[round(1.2 * RATE) : round(2.8 * RATE)])
    assert np.array_equal(shown.codes, utterances[0].codes[0, 300:700]) and (shown.phones == UNKNOWN).all()
    assert (shown.name, shown.hop, shown.sample_rate) == ("a.wav", 64, RATE)


def test_codes_are_labelled_in_the_middle_of_their_frames(codec: Codec, speech: Path) -> None:
    pytest.importorskip("pocketsphinx")
    item = next(item for item in items(speech / "eval" / "speechocean") if item.text)
    result = label(lambda: codec, [item]).utterances[0]
    waveform = audio.read(item.path, RATE)
    assert np.array_equal(result.codes, codec.encode(waveform, RATE).numpy())
    from vqaudio.evaluation.probes.alignment import Aligner

    aligned = Aligner().align(waveform, item.text or "")
    for frame in range(0, result.codes.shape[1], 7):
        phone = next(s.phone for s in aligned.segments if s.end > 64 * frame + 32)
        assert PHONES[result.phones[frame]] == phone


@pytest.mark.parametrize("suffix", ["png", "svg"])
@pytest.mark.parametrize("with_phonemes", [True, False])
def test_the_figure_shows_phonemes_where_they_are_known(
    codec: Codec, tmp_path: Path, suffix: str, with_phonemes: bool
) -> None:
    image = pytest.importorskip("matplotlib.image")
    path = tmp_path / "a.wav"
    audio.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, RATE // 2).astype(np.float32), RATE)
    utterances = label(lambda: codec, [Item(path, "a", None)]).utterances
    if with_phonemes:
        utterances = [dataclasses.replace(u, phones=np.arange(u.codes.shape[1]) // 4 % 40) for u in utterances]
    target = tmp_path / f"out.{suffix}"
    figure = codebook_figure.draw("a title", probe(codec, utterances), excerpt(codec, utterances))
    figures.write(target, figure, force=False)
    if suffix == "png":
        assert image.imread(target).std() > 0.05
    else:
        assert ("by most frequent phoneme" in target.read_text()) == with_phonemes


def test_the_command_prints_writes_and_draws(
    tiny_codec: Path, tmp_path: Path, tone: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    for index in range(3):
        audio.write(tmp_path / f"{index}.wav", tone, RATE)
    (tmp_path / "\x1b[31m.wav").write_bytes(b"torn")
    words = ["probe", "codebook", str(tmp_path), "--model", str(tiny_codec), "--limit", "3", "--jobs", "1"]
    out = ["--json", str(tmp_path / "out.json"), "--figure", str(tmp_path / "out.png")]
    result = CliRunner().invoke(main, [*words, *out], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "2 utterances, 1.0 s" in result.stdout and "of 32" in result.stdout and "quantiser 2" in result.stdout
    assert "No manifest.csv tells what is said" in result.stderr
    assert "Skipped: " in result.stderr and r"\x1b[31m.wav" in result.stderr and "\x1b" not in result.stderr
    record = json.loads((tmp_path / "out.json").read_text())
    assert [sum(q["counts"]) for q in record["quantizers"]] == [250, 250] and record["neighbours"] is None
    assert len(record["vectors"]) == len(record["projection"]) == 32 and record["note"]
    refused = CliRunner().invoke(main, [*words, *out])
    assert refused.exit_code == 2 and "exists already" in refused.stderr
    with open(tmp_path / "manifest.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", "text"), ("0.wav", "hello")])
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    without = CliRunner().invoke(main, words, catch_exceptions=False)
    assert without.exit_code == 0 and "Phonemes need pocketsphinx" in without.stderr


def test_the_command_refuses_a_folder_without_audio(tiny_codec: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["probe", "codebook", str(tmp_path), "--model", str(tiny_codec), "--jobs", "1"])
    assert result.exit_code == 1 and "no audio" in result.stderr
