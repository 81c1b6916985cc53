"""The harness against itself: codecs of known quality, rates and codes counted by hand, files that are no audio."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import scipy.signal

from vqaudio import audio
from vqaudio.codes import Codes
from vqaudio.errors import AudioError, UsageError
from vqaudio.evaluation import evaluate as harness
from vqaudio.evaluation.estimates import Estimate
from vqaudio.evaluation.metrics import Metric, select
from vqaudio.evaluation.speech import audio_files

RATE = 16000
CHEAP = select(["estoi", "mel"])


def energy(reference: np.ndarray, decoded: np.ndarray, sample_rate: int) -> float:
    return float(np.square(decoded).mean())


def undefined_for_long(reference: np.ndarray, decoded: np.ndarray, sample_rate: int) -> float:
    return math.nan if len(reference) > RATE else 1.0


ALONE = Metric("energy", "energy", "", True, "numpy", "numpy", energy, judges_decoded_alone=True)
SHORT = Metric("short", "short", "", True, "numpy", "numpy", undefined_for_long)


@pytest.fixture(scope="module")
def fakes() -> ModuleType:
    """The codecs of known quality."""
    spec = importlib.util.spec_from_file_location("fake_codecs", Path(__file__).with_name("fake_codecs.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four files of modulated coloured noise, of 0.75 to 1.5 seconds, in two folders."""
    root = tmp_path_factory.mktemp("speech")
    for index in range(4):
        rng = np.random.default_rng(index)
        samples = int(RATE * (0.75 + 0.25 * index))
        waveform = scipy.signal.lfilter([1], [1, -0.9], rng.standard_normal(samples))
        waveform *= np.repeat(rng.random(samples // 800 + 1), 800)[:samples]
        folder = root / f"speaker{index % 2}"
        folder.mkdir(exist_ok=True)
        audio.write(folder / f"{index}.wav", 0.3 * waveform / np.abs(waveform).max(), RATE)
    (root / "notes.txt").write_text("not audio")
    return root


def test_a_perfect_codec_scores_as_the_original(directory: Path, fakes: ModuleType) -> None:
    result = harness.evaluate(fakes.Perfect, audio_files(directory), (*CHEAP, ALONE))
    assert result.estimate("estoi").mean == pytest.approx(1.0)
    assert result.estimate("mel").mean == 0.0
    assert result.estimate("energy") == result.original("energy")
    assert not result.skipped


def test_white_noise_scores_worse(directory: Path, fakes: ModuleType) -> None:
    result = harness.evaluate(fakes.Noise, audio_files(directory), (*CHEAP, ALONE))
    assert result.estimate("estoi").high < 0.3
    assert result.estimate("mel").low > 5.0
    assert result.estimate("energy").mean > 2 * result.original("energy").mean


def test_swapped_files_are_caught(directory: Path, fakes: ModuleType) -> None:
    assert harness.evaluate(fakes.Swapped, audio_files(directory), CHEAP).estimate("estoi").high < 0.3


def test_every_file_is_measured_in_order_with_its_own_length(directory: Path, fakes: ModuleType) -> None:
    result = harness.evaluate(fakes.Perfect, audio_files(directory), ())
    lengths = {"speaker0/0.wav": 0.75, "speaker0/2.wav": 1.25, "speaker1/1.wav": 1.0, "speaker1/3.wav": 1.5}
    expected = [(str(directory / name), seconds) for name, seconds in lengths.items()]
    assert [(u.path, u.seconds) for u in result.utterances] == expected


def test_the_bit_rate_is_that_of_the_files_on_disk(directory: Path, fakes: ModuleType, tmp_path: Path) -> None:
    size = 0
    for index, path in enumerate(audio_files(directory)):
        fakes.Perfect().encode(audio.read(path), RATE).save(tmp_path / f"{index}.codes")
        size += (tmp_path / f"{index}.codes").stat().st_size
    result = harness.evaluate(fakes.Perfect, audio_files(directory), ())
    assert result.size == size
    assert result.bit_rate == pytest.approx(8 * size / 4.5)


class Counting:
    """Two quantisers with 8 codes each: the first uses 4 of them evenly, the second only one."""

    def encode(self, waveform: np.ndarray, sample_rate: int) -> Codes:
        frames = len(waveform) // 100
        codes = np.stack([np.arange(frames) % 4, np.full(frames, 7)])
        return Codes(codes, codebook_size=8, hop=100, sample_rate=sample_rate, samples=frames * 100, model=b"fake")

    def decode(self, codes: Codes, *, decoder: str | None = None) -> np.ndarray:
        return np.zeros(codes.samples, np.float32)


def test_use_of_the_codes_is_counted_over_all_files(directory: Path) -> None:
    result = harness.evaluate(Counting, audio_files(directory), ())
    assert result.used_codes == [4, 1]
    assert result.perplexities == pytest.approx([4.0, 1.0], rel=1e-4)
    assert result.histogram.sum() == 2 * 4.5 * RATE / 100


def test_perplexity_of_a_histogram_by_hand() -> None:
    assert harness.perplexity(np.array([5, 5, 5, 0])) == pytest.approx(3.0)
    assert harness.perplexity(np.array([1, 3])) == pytest.approx(4 / 3**0.75)


def test_the_interval_of_a_mean_is_about_two_standard_errors() -> None:
    values = np.random.default_rng(7).normal(3.0, 0.5, 400)
    estimate = Estimate.of(values)
    error = values.std() / 20
    assert estimate.mean == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert estimate.high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)
    assert estimate == Estimate.of(values)


def test_undefined_values_are_left_out_of_the_mean_and_counted(directory: Path, fakes: ModuleType) -> None:
    estimate = harness.evaluate(fakes.Perfect, audio_files(directory), (SHORT,)).estimate("short")
    assert (estimate.mean, estimate.count, estimate.undefined) == (1.0, 2, 2)
    assert math.isnan(Estimate.of([math.nan]).mean)


def test_files_that_are_no_audio_are_named_and_skipped(directory: Path, fakes: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"this is no audio")
    (tmp_path / "b.wav").write_bytes((directory / "speaker0" / "0.wav").read_bytes())
    result = harness.evaluate(fakes.Perfect, audio_files(tmp_path), ())
    assert [u.path for u in result.utterances] == [str(tmp_path / "b.wav")]
    assert [path for path, _ in result.skipped] == [str(tmp_path / "a.wav")] and "a.wav" in result.skipped[0][1]


def test_a_codec_that_changes_the_length_is_not_measured(directory: Path, fakes: ModuleType) -> None:
    with pytest.raises(AudioError, match="None of the 4 files"):
        harness.evaluate(fakes.Shorter, audio_files(directory), ())


def test_directories_without_audio_are_errors(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no audio"):
        audio_files(tmp_path)
    with pytest.raises(UsageError, match="not a directory"):
        audio_files(tmp_path / "absent")


def test_a_limit_spreads_over_the_sorted_files(directory: Path) -> None:
    assert [path.name for path in audio_files(directory, 2)] == ["0.wav", "1.wav"]
    assert [path.name for path in audio_files(directory, 9)] == ["0.wav", "2.wav", "1.wav", "3.wav"]


def test_processes_give_what_one_process_gives(
    directory: Path, fakes: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import fake_codecs

    done: list[int] = []
    metrics = select(["mel"])
    files = audio_files(directory)
    several = harness.evaluate(fake_codecs.Noise, files, metrics, jobs=2, advance=lambda: done.append(1))
    one = harness.evaluate(fakes.Noise, files, metrics)
    for ours, theirs in zip(several.utterances, one.utterances, strict=True):
        assert (ours.path, ours.values, ours.size) == (theirs.path, theirs.values, theirs.size)
    assert len(done) == 4


def test_an_error_that_is_not_a_file_s_fault_ends_the_evaluation(directory: Path) -> None:
    class Refusing(Counting):
        def decode(self, codes: Codes, *, decoder: str | None = None) -> np.ndarray:
            raise UsageError(f"The model has no {decoder} decoder.")

    with pytest.raises(UsageError, match="no horn decoder"):
        harness.evaluate(Refusing, audio_files(directory), (), decoder="horn")


def test_the_record_is_strict_json_with_every_file(directory: Path, fakes: ModuleType) -> None:
    record = harness.evaluate(fakes.Perfect, audio_files(directory), (SHORT, ALONE)).to_dict()
    read = json.loads(json.dumps(record, allow_nan=False))
    assert [u["metrics"]["short"] for u in read["utterances"]] == [1.0, None, 1.0, None]
    assert read["metrics"]["short"]["undefined"] == 2
    assert read["metrics"]["energy"]["original"]["mean"] == pytest.approx(read["metrics"]["energy"]["mean"])
    assert "original" not in read["metrics"]["short"]
