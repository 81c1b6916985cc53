"""The speakers probe: planted voices are found, chance is chance, nothing leaks from training to test, the commands."""

from __future__ import annotations

import dataclasses
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
from click.testing import CliRunner, Result

import vqaudio
from vqaudio import audio
from vqaudio.cli import main
from vqaudio.codec import Codec
from vqaudio.errors import AudioError, UsageError
from vqaudio.evaluation.probes.speaker_features import TITLES, Speech, Utterance, features, listen
from vqaudio.evaluation.probes.speakers import deal, probe
from vqaudio.evaluation.speech import Item, items
from vqaudio.models.config import SpeakerConfig
from vqaudio.models.vqvae import VQVAE
from vqaudio.runtime.cpu import CpuNetworks

pytest.importorskip("sklearn")
pytest.importorskip("librosa")

RATE, HOP = 16000, 64
Features = Callable[[int, int, np.random.Generator], np.ndarray]  # of a speaker and an utterance


def planted_speech(planted: Features, speakers: int = 6, utterances: int = 6, excerpts: int = 5) -> Speech:
    """Utterances whose one kind of feature is planted, (excerpts, F) each."""
    rng = np.random.default_rng(0)
    made = []
    for speaker in range(speakers):
        for index in range(utterances):
            rows = np.stack([planted(speaker, speaker * utterances + index, rng) for _ in range(excerpts)])
            made.append(Utterance(f"{speaker}/{index}.wav", f"s{speaker}", {"codes": rows.astype(np.float32)}))
    return Speech(made, 1.0, [], [])


def histogram(shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.sqrt(rng.multinomial(250, shares) / 250)


def noise(seed: int, seconds: float, pole: float = 0.0) -> np.ndarray:
    """Noise whose spectrum falls or rises by a pole."""
    white = np.random.default_rng(seed).uniform(-0.3, 0.3, round(seconds * RATE))
    return scipy.signal.lfilter([1 - abs(pole)], [1, -pole], white).astype(np.float32)


@pytest.fixture(scope="module")
def codec(tiny_codec: Path) -> Codec:
    return vqaudio.load(tiny_codec)


def test_codes_that_name_the_speaker_are_read() -> None:
    shares = np.random.default_rng(1).dirichlet(np.full(32, 0.5), size=6)
    report = probe(planted_speech(lambda speaker, utterance, rng: histogram(shares[speaker], rng)))
    (row,) = report.rows
    assert row.accuracy.low > 0.99
    assert (row.name, row.width, row.accuracy.count) == ("codes", 32, 36)
    assert (report.excerpts, report.speakers, report.notes) == (180, [f"s{n}" for n in range(6)], [])


def test_codes_that_know_nothing_of_the_speaker_give_chance() -> None:
    report = probe(planted_speech(lambda speaker, utterance, rng: histogram(np.full(32, 1 / 32), rng), excerpts=20))
    deviation = np.sqrt(1 / 6 * 5 / 6 / 720)  # of a binomial share, 720 excerpts
    assert report.chance == 1 / 6
    assert abs(report.rows[0].accuracy.mean - 1 / 6) < 4 * deviation


@pytest.mark.parametrize("utterances", [2, 5, 8])
def test_what_marks_an_utterance_is_of_no_use_in_another(utterances: int) -> None:
    """Excerpts of one utterance on both sides of the split would be named without fail."""
    marked = planted_speech(lambda speaker, utterance, rng: np.eye(6 * utterances)[utterance], utterances=utterances)
    assert probe(marked).rows[0].accuracy.mean == pytest.approx(1 / 6)


def test_every_speaker_is_heard_in_training_and_every_utterance_tested_once() -> None:
    names = [name for name, count in (("a", 2), ("b", 3), ("c", 11), ("d", 5)) for _ in range(count)]
    shuffled = [names[i] for i in np.random.default_rng(0).permutation(len(names))]
    folds = deal(shuffled)
    assert set(folds) == set(range(5))
    for fold in range(5):
        assert {name for name, own in zip(shuffled, folds, strict=True) if own != fold} == set("abcd")
    for name in "abcd":
        own = folds[[n == name for n in shuffled]]
        assert (np.diff(own) >= 0).all()  # stretches, so that a neighbour is seldom in the other part
        assert np.bincount(own).max() == -(-len(own) // 5)


def test_a_guess_without_looking_is_at_chance_however_unequal_the_speakers() -> None:
    """One speaker has most utterances, one talks longest, and all features are the same."""
    made = [
        Utterance(f"{name}{i}", name, {"codes": np.ones((excerpts, 4), np.float32)})
        for name, count, excerpts in (("many", 20, 1), ("long", 2, 50), ("few", 2, 1))
        for i in range(count)
    ]
    assert probe(Speech(made, 1.0, [], [])).rows[0].accuracy.mean == pytest.approx(1 / 3)


def test_accuracy_is_the_mean_over_speakers_of_the_utterances_shares() -> None:
    shares = np.random.default_rng(1).dirichlet(np.full(32, 5.0), size=6)
    spoken = planted_speech(lambda speaker, utterance, rng: histogram(0.7 / 32 + 0.3 * shares[speaker], rng))
    spoken = dataclasses.replace(spoken, utterances=spoken.utterances[3:])  # of the first speaker three are left
    report = probe(spoken)
    row = report.rows[0]
    speakers = np.array([utterance.speaker for utterance in report.utterances])
    means = [np.mean(np.array(row.utterances)[speakers == speaker]) for speaker in report.speakers]
    assert 0.2 < row.accuracy.mean < 0.98
    assert row.accuracy.mean == pytest.approx(np.mean(means))
    assert row.accuracy.low < row.accuracy.mean < row.accuracy.high
    assert all(round(5 * share, 9) in range(6) for share in row.utterances)  # of five excerpts
    assert probe(spoken) == report


def test_features_count_alike_whatever_their_units() -> None:
    rng = np.random.default_rng(2)
    places, units, zeros = rng.normal(0, 0.5, (6, 8)), 10.0 ** np.arange(-4, 4), rng.normal(0, 100, 8)
    plain = planted_speech(lambda speaker, utterance, rng: rng.normal(places[speaker], 1))
    other = planted_speech(lambda speaker, utterance, rng: units * (rng.normal(places[speaker], 1) + zeros))
    shares = probe(plain).rows[0].utterances
    assert 0.3 < np.mean(shares) < 0.9
    assert np.mean(np.abs(np.subtract(probe(other).rows[0].utterances, shares))) < 0.02


def test_many_speakers_of_few_excerpts_raise_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe(planted_speech(lambda speaker, utterance, rng: rng.random(4), speakers=20, utterances=2, excerpts=1))


def test_a_speaker_of_one_utterance_is_left_out_and_named() -> None:
    spoken = planted_speech(lambda speaker, utterance, rng: rng.random(4))
    alone = Utterance("x.wav", "hermit", spoken.utterances[0].features)
    heard = Speech([*spoken.utterances, alone], 1.0, [], ["Earlier."])
    report = probe(heard)
    assert probe(heard) == report
    assert report.notes == ["Earlier.", "Left out: speakers of whom there is one utterance alone: hermit."]
    assert "hermit" not in report.speakers and alone not in report.utterances


@pytest.mark.parametrize(("speakers", "utterances"), [(1, 5), (4, 1)])
def test_fewer_than_two_speakers_are_refused(speakers: int, utterances: int) -> None:
    with pytest.raises(UsageError, match=r"takes two of them with two utterances each"):
        probe(planted_speech(lambda speaker, utterance, rng: rng.random(4), speakers, utterances))


def test_features_are_those_of_the_codec_as_it_runs(codec: Codec) -> None:
    """Codes, conditioning and speaker vector against the networks that encode and decode files."""
    excerpts = np.stack([noise(seed, 0.2) for seed in range(40)])  # more than a batch
    found = features(codec.model, excerpts)
    assert {name: value.shape for name, value in found.items()} == {
        "mel": (40, 160),
        "latents": (40, 16),
        "codes": (40, 64),
        "vectors": (40, 16),
        "conditioning": (40, 32),
        "conditioning_speaker": (40, 32),
        "speaker": (40, 8),
    }
    networks = CpuNetworks(codec.config, codec.state, threads=1, paired=False)
    for i in (0, 35):
        codes, sent = networks.encode([excerpts[i]], 2, True)
        shares = np.concatenate([np.bincount(row, minlength=32) / 50 for row in codes])
        assert np.square(found["codes"][i]) == pytest.approx(shares, abs=1e-6)
        for name, speaker in (("conditioning", None), ("conditioning_speaker", sent)):
            vector = networks.speakers.vector(speaker)
            latents = networks.quantizer.latents(networks.quantizer.start(), codes)
            conditioning = networks.conditioning.push(networks.conditioning.start(vector), latents, True)
            by_hand = np.concatenate([conditioning.mean(0), conditioning.std(0)])
            assert found[name][i] == pytest.approx(by_hand, abs=1e-4)
        assert vector is not None and found["speaker"][i] == pytest.approx(vector, abs=1e-5)


def test_the_log_mel_of_a_tone_stands_in_its_band(codec: Codec) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    mel = features(codec.model, tone[None].astype(np.float32))["mel"][0, :80]
    import librosa

    centres = librosa.mel_frequencies(82, fmin=0, fmax=RATE / 2)[1:-1]
    assert abs(centres[mel.argmax()] - 1000) < 50
    assert mel.max() - np.median(mel) > 60  # dB


@pytest.mark.parametrize(
    "speaker",
    [SpeakerConfig("none"), SpeakerConfig("lookup", channels=8, speakers=3)],
    ids=lambda speaker: speaker.kind,
)
def test_a_model_that_sends_no_vector_has_no_row_for_it(codec: Codec, speaker: SpeakerConfig) -> None:
    model = VQVAE(dataclasses.replace(codec.config, speaker=speaker)).eval()
    found = features(model, noise(0, 0.2)[None])
    assert list(found) == ["mel", "latents", "codes", "vectors", "conditioning"]
    assert set(found) < set(TITLES)


def test_excerpts_lie_side_by_side_and_know_nothing_of_each_other(codec: Codec, tmp_path: Path) -> None:
    whole = noise(0, 1.15)
    audio.write(tmp_path / "whole.wav", whole, RATE)
    spoken = listen(codec.model, [Item(tmp_path / "whole.wav", "a", None)], seconds=0.5)
    (utterance,) = spoken.utterances
    samples = 8000 // HOP * HOP
    assert (utterance.speaker, utterance.excerpts, spoken.seconds) == ("a", 2, samples / RATE)
    heard = audio.read(tmp_path / "whole.wav", RATE)
    for i in range(2):
        alone = features(codec.model, heard[i * samples : (i + 1) * samples][None])
        for name, value in alone.items():
            assert utterance.features[name][i] == pytest.approx(value[0], abs=1e-4)


def test_files_that_cannot_be_used_are_told(codec: Codec, tmp_path: Path) -> None:
    audio.write(tmp_path / "good.wav", noise(0, 0.6), RATE)
    audio.write(tmp_path / "short.wav", noise(1, 0.4), RATE)
    (tmp_path / "torn.wav").write_bytes(b"this is no audio")
    calls: list[None] = []
    spoken = listen(codec.model, items(tmp_path), 0.5, lambda: calls.append(None))
    assert [utterance.path for utterance in spoken.utterances] == [str(tmp_path / "good.wav")]
    assert len(spoken.skipped) == 1 and "torn.wav" in spoken.skipped[0]
    assert len(spoken.notes) == 1 and spoken.notes[0].startswith("Left out: 1 of 3 files, shorter")
    assert len(calls) == 3
    (tmp_path / "good.wav").unlink()
    with pytest.raises(AudioError, match="nothing to listen to"):
        listen(codec.model, items(tmp_path), 0.5)
    with pytest.raises(UsageError, match="shorter than a frame"):
        listen(codec.model, items(tmp_path), 0.001)


@pytest.fixture
def run(tmp_path: Path, tiny_codec: Path) -> Callable[..., Result]:
    """Run the command on three speakers of four files each, whose spectra differ, and one of a single file."""
    folder = tmp_path / "speech"
    for speaker, pole in enumerate((-0.9, 0.0, 0.9)):
        (folder / f"s{speaker}").mkdir(parents=True)
        for index in range(4):
            audio.write(folder / f"s{speaker}" / f"{index}.wav", noise(10 * speaker + index, 1.1, pole), RATE)
    (folder / "hermit").mkdir()
    audio.write(folder / "hermit" / "0.wav", noise(99, 1.1), RATE)

    def invoke(*words: object) -> Result:
        arguments = ["probe", "speakers", folder, "--model", tiny_codec, "--seconds", 0.25, *words]
        return CliRunner().invoke(main, [str(word) for word in arguments], catch_exceptions=False)

    return invoke


def strict(path: Path) -> dict:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_the_command_prints_writes_and_draws(run: Callable[..., Result], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    target, figure = tmp_path / "out.json", tmp_path / "out.png"
    target.write_text("in the way")
    (tmp_path / "speech" / "s0" / "\x1b[31m.wav").write_bytes(b"torn")
    assert run("--json", target, "--figure", figure).exit_code == 2
    result = run("--json", target, "--figure", figure, "--force")
    assert result.exit_code == 0, result.output
    assert "3 speakers, 12 utterances" in result.stdout and "hermit" in result.stderr
    assert "Skipped: " in result.stderr and r"\x1b[31m.wav" in result.stderr and "\x1b" not in result.stderr
    record = strict(target)
    rows = {row["name"]: row for row in record["rows"]}
    assert list(rows) == list(TITLES)
    assert rows["mel"]["accuracy"]["mean"] > 0.9 and rows["codes"]["accuracy"]["mean"] > 0.6
    for row in rows.values():
        assert row["title"] in result.stdout and f"{100 * row['accuracy']['mean']:.1f}" in result.stdout
    assert record["excerpts"] == 48 and record["chance"] == pytest.approx(1 / 3)
    assert len(record["utterances"]) == 12 and record["versions"]["scikit-learn"]
    assert len(record["skipped"]) == 1
    assert figure.read_bytes().startswith(b"\x89PNG\r\n")


def test_the_command_refuses_in_a_sentence(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = run("--limit", 2)
    assert refused.exit_code == 2 and refused.stderr.startswith("Error: To tell speakers apart takes two")
    assert run("--figure", tmp_path / "out.jpg").exit_code == 2
    assert run("--seconds", 30).exit_code == 1
    monkeypatch.setitem(sys.modules, "sklearn", None)
    missing = run()
    assert missing.exit_code == 2 and "pip install 'vqaudio[eval]'" in missing.stderr


def test_real_voices_are_told_apart_by_the_default_model(speech: Path) -> None:
    report = probe(listen(vqaudio.load().model, items(speech / "eval" / "librispeech", 20), 1.0))
    accuracy = {row.name: row.accuracy for row in report.rows}
    assert len(report.speakers) == 10
    assert accuracy["mel"].low > 0.7 and accuracy["speaker"].low > 0.7
    assert all(estimate.low > 3 * report.chance for estimate in accuracy.values())
