"""The harness against itself: codecs of known quality, rates and codes counted by hand, files that are no audio."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import cast

import numpy as np
import pytest
import scipy.signal

from vqaudio import audio
from vqaudio.codec import Codec
from vqaudio.codes import Codes
from vqaudio.errors import AudioError, UsageError, VqaudioError
from vqaudio.evaluation import cache as cache_module
from vqaudio.evaluation import evaluate as harness
from vqaudio.evaluation import records
from vqaudio.evaluation.cache import Cache
from vqaudio.evaluation.contenders import Coded, Own
from vqaudio.evaluation.metrics import Metric, select
from vqaudio.evaluation.results import Evaluation, perplexity
from vqaudio.evaluation.speech import Item, audio_files, items
from vqaudio.runtime.processor import FASTER_PAIRED

RATE = 16000
CHEAP = select(["estoi", "mel"])


def energy(reference: np.ndarray, decoded: np.ndarray, sample_rate: int) -> float:
    return float(np.square(decoded).mean())


def undefined_for_long(reference: np.ndarray, decoded: np.ndarray, sample_rate: int) -> float:
    return math.nan if len(reference) > RATE else 1.0


ENERGY = Metric("energy", "energy", "", True, "numpy", "numpy", energy)
SHORT = Metric("short", "short", "", True, "numpy", "numpy", undefined_for_long)


def own(load: Callable[[], object], name: str = "fake", decoder: str | None = None) -> Own:
    return Own(name, name, cast(Callable[[], Codec], load), decoder)


def measure(load: Callable[[], object], directory: Path, metrics: tuple[Metric, ...] = (), jobs: int = 1) -> Evaluation:
    return harness.evaluate([own(load)], items(directory), metrics, jobs=jobs)


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
    result = measure(fakes.Perfect, directory, (*CHEAP, ENERGY))
    assert result.subject.estimate("estoi").mean == pytest.approx(1.0)
    assert result.subject.estimate("mel").mean == 0.0
    assert result.subject.estimate("energy") == result.original.estimate("energy")
    assert not result.skipped


def test_white_noise_scores_worse(directory: Path, fakes: ModuleType) -> None:
    result = measure(fakes.Noise, directory, (*CHEAP, ENERGY))
    assert result.subject.estimate("estoi").high < 0.3
    assert result.subject.estimate("mel").low > 5.0
    assert result.subject.estimate("energy").mean > 2 * result.original.estimate("energy").mean


def test_swapped_files_are_caught(directory: Path, fakes: ModuleType) -> None:
    assert measure(fakes.Swapped, directory, CHEAP).subject.estimate("estoi").high < 0.3


def test_every_file_is_measured_in_order_with_its_own_length(directory: Path, fakes: ModuleType) -> None:
    result = measure(fakes.Perfect, directory)
    lengths = {"speaker0/0.wav": 0.75, "speaker0/2.wav": 1.25, "speaker1/1.wav": 1.0, "speaker1/3.wav": 1.5}
    expected = [(str(directory / name), seconds) for name, seconds in lengths.items()]
    assert [(u.path, u.seconds) for u in result.subject.utterances] == expected


def test_the_bit_rate_is_that_of_the_files_on_disk(directory: Path, fakes: ModuleType, tmp_path: Path) -> None:
    size = 0
    for index, path in enumerate(audio_files(directory)):
        fakes.Perfect().encode(audio.read(path), RATE).save(tmp_path / f"{index}.codes")
        size += (tmp_path / f"{index}.codes").stat().st_size
    result = measure(fakes.Perfect, directory).subject
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
    result = measure(Counting, directory).subject
    assert result.used_codes == [4, 1]
    assert result.perplexities == pytest.approx([4.0, 1.0], rel=1e-4)
    assert result.histogram is not None and result.histogram.sum() == 2 * 4.5 * RATE / 100


def test_perplexity_of_a_histogram_by_hand() -> None:
    assert perplexity(np.array([5, 5, 5, 0])) == pytest.approx(3.0)
    assert perplexity(np.array([1, 3])) == pytest.approx(4 / 3**0.75)
    assert perplexity(np.zeros(4, int)) == 1


def test_undefined_values_are_left_out_of_the_mean_and_counted(directory: Path, fakes: ModuleType) -> None:
    estimate = measure(fakes.Perfect, directory, (SHORT,)).subject.estimate("short")
    assert (estimate.mean, estimate.count, estimate.undefined) == (1.0, 2, 2)


def test_files_that_are_no_audio_are_named_and_skipped(directory: Path, fakes: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"this is no audio")
    (tmp_path / "b.wav").write_bytes((directory / "speaker0" / "0.wav").read_bytes())
    result = measure(fakes.Perfect, tmp_path)
    assert [u.path for u in result.subject.utterances] == [str(tmp_path / "b.wav")]
    assert [path for path, _ in result.skipped] == [str(tmp_path / "a.wav")] and "a.wav" in result.skipped[0][1]


def test_a_codec_that_changes_the_length_is_not_measured(directory: Path, fakes: ModuleType) -> None:
    with pytest.raises(AudioError, match="None of the 4 files"):
        measure(fakes.Shorter, directory)


def test_a_codec_that_decodes_no_sound_is_not_measured(directory: Path, fakes: ModuleType) -> None:
    with pytest.raises(AudioError, match=r"None of the 4 files.*not finite"):
        measure(fakes.Broken, directory)


def test_processes_give_what_one_process_gives(
    directory: Path, fakes: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import fake_codecs

    done: list[int] = []
    metrics = select(["mel"])
    contender, speech = own(fake_codecs.Noise), items(directory)
    several = harness.evaluate([contender], speech, metrics, jobs=2, advance=lambda: done.append(1)).subject
    one = measure(fakes.Noise, directory, metrics).subject
    for ours, theirs in zip(several.utterances, one.utterances, strict=True):
        assert (ours.path, ours.values, ours.size) == (theirs.path, theirs.values, theirs.size)
    assert len(done) == 4


def test_an_error_that_is_not_a_file_s_fault_ends_the_evaluation(directory: Path) -> None:
    class Refusing(Counting):
        def decode(self, codes: Codes, *, decoder: str | None = None) -> np.ndarray:
            raise UsageError(f"The model has no {decoder} decoder.")

    with pytest.raises(UsageError, match="no horn decoder"):
        harness.evaluate([own(Refusing, decoder="horn")], items(directory), ())


def test_the_record_is_strict_json_with_every_file(directory: Path, fakes: ModuleType) -> None:
    read = json.loads(records.dumps(measure(fakes.Perfect, directory, (SHORT, ENERGY)).to_dict()))
    original, subject = read["codecs"]
    assert (original["name"], subject["name"]) == ("original", "fake")
    assert [u["values"]["short"] for u in subject["utterances"]] == [1.0, None, 1.0, None]
    assert subject["means"]["short"]["undefined"] == 2
    assert original["means"]["energy"]["mean"] == pytest.approx(subject["means"]["energy"]["mean"])
    assert original["bit_rate"] == pytest.approx(256_000 + 8 * 44 * 4 / 4.5)  # four headers in 4.5 s


def test_differences_are_those_of_the_same_files(directory: Path, fakes: ModuleType) -> None:
    contenders = [own(fakes.Perfect, "perfect"), own(fakes.Noise, "noise")]
    result = harness.evaluate(contenders, items(directory), (ENERGY,))
    perfect, noise = result.results[1:]
    ours, theirs = ([u.values["energy"] for u in r.utterances] for r in (perfect, noise))
    difference = noise.less(perfect, "energy")
    assert difference.mean == pytest.approx(np.mean(theirs) - np.mean(ours))
    assert difference.low > 0  # the intervals of both means hold the spread of the files, which the difference does not
    assert perfect.less(perfect, "energy").high == 0.0


class Late:
    """Gives everything back, 20 ms late."""

    name = identity = "late"

    def code(self, waveform: np.ndarray, sample_rate: int) -> Coded:
        late = np.concatenate([np.zeros(320, np.float32), waveform])[: len(waveform)]
        return Coded(100, late, 1.0, 1.0)


def test_a_delay_is_made_good_before_anything_is_judged() -> None:
    sample = Path(audio.__file__).with_name("pretrained") / "sample.flac"
    result = harness.evaluate([Late()], [Item(sample, "espeak", None)], select(["estoi", "mel"])).subject
    assert abs(result.utterances[0].delay - 320) <= 16
    assert result.estimate("estoi").mean > 0.95 and result.estimate("mel").mean < 1.5


class Fussy:
    """Codes one file and refuses the others."""

    name = identity = "fussy"

    def code(self, waveform: np.ndarray, sample_rate: int) -> Coded:
        if len(waveform) != RATE:
            raise AudioError("Fussy codes a second and no other.")
        return Coded(1, waveform, 1.0, 1.0)


def test_a_file_that_one_codec_refuses_is_left_out_for_all(directory: Path, fakes: ModuleType) -> None:
    result = harness.evaluate([own(fakes.Perfect), Fussy()], items(directory), ())
    assert [len(r.utterances) for r in result.results] == [1, 1, 1]
    assert len(result.skipped) == 3 and all("a second and no other" in sentence for _, sentence in result.skipped)


class Counted:
    """A codec that counts how often it is asked."""

    name = identity = "counted"
    asked = 0

    def code(self, waveform: np.ndarray, sample_rate: int) -> Coded:
        type(self).asked += 1
        return Coded(10, waveform / 2, 1.0, 2.0, np.array([[1, 2]]))


def test_what_is_known_is_not_measured_again(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counted, "asked", 0)
    cache, speech = Cache(tmp_path / "kept"), items(directory)

    def again(metrics: tuple[Metric, ...] = (ENERGY, SHORT), cache: Cache | None = cache) -> tuple[str, int]:
        before = Counted.asked
        evaluation = harness.evaluate([Counted()], speech, metrics, cache=cache)
        return records.dumps(evaluation.to_dict()), Counted.asked - before

    first, asked = again()
    assert asked == 4
    assert again() == (first, 0)
    assert again((ENERGY,))[1] == 0  # of all that is known, a part
    assert again(select(["mel"]))[1] == 4  # a metric that is not known
    assert again() == (first, 0)  # and what was known still is
    assert again(cache=None) == (first, 4)
    (tmp_path / "file").touch()
    with pytest.raises(VqaudioError, match=r"not a directory; --no-cache does without\.$"):
        again(cache=Cache(tmp_path / "file"))


def test_a_file_is_read_once_for_all_codecs_and_packages_are_looked_up_once(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, item, read, whole = Cache(tmp_path / "kept"), items(directory)[0], list[Path](), Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        read.append(path)
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    harness.evaluate([Counted(), Late()], [item], (ENERGY,), cache=cache)
    assert read.count(item.path) == 1
    monkeypatch.setattr(importlib.metadata, "version", lambda _: pytest.fail("looked up again"))
    harness.evaluate([Counted(), Late()], [item], (ENERGY,), cache=cache)
    assert read.count(item.path) == 2


@pytest.mark.parametrize("change", ["audio", "text", "identity", "damage"])
def test_whatever_a_measurement_depends_on_makes_it_new(
    change: str, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes((directory / "speaker0" / "0.wav").read_bytes())
    cache, item = Cache(tmp_path / "kept"), Item(path, "a", "hello")
    harness.evaluate([Counted()], [item], (ENERGY,), cache=cache)
    if change == "audio":
        path.write_bytes((directory / "speaker0" / "2.wav").read_bytes())
    elif change == "text":
        item = Item(path, "a", "good bye")
    elif change == "identity":
        monkeypatch.setattr(Counted, "identity", "counted, in another version")
    else:
        for kept in cache.folder.rglob("*.json"):
            kept.write_text(kept.read_text()[:-20])
    monkeypatch.setattr(Counted, "asked", 0)
    result = harness.evaluate([Counted()], [item], (ENERGY,), cache=cache)
    assert Counted.asked == 1
    assert result.subject.utterances[0].seconds == (1.25 if change == "audio" else 0.75)


def test_a_measurement_is_of_one_source_one_set_of_packages_and_one_arithmetic(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = Item(directory / "speaker0" / "0.wav", "a", "hello")
    known = set(cache_module.keys(item, ["counted"]))
    changes = {"_source": lambda: "another", "versions": lambda _: {"numpy": "0.0"}, "FASTER_PAIRED": not FASTER_PAIRED}
    for name, value in changes.items():
        with monkeypatch.context() as patch:
            patch.setattr(cache_module, name, value)
            known.update(cache_module.keys(item, ["counted"]))
    assert len(known) == 4 and known.issuperset(cache_module.keys(item, ["counted"]))


def test_a_file_under_another_name_is_known(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path / "kept")
    first, second = tmp_path / "a.wav", tmp_path / "b.wav"
    for path in (first, second):
        path.write_bytes((directory / "speaker0" / "0.wav").read_bytes())
    harness.evaluate([Counted()], [Item(first, "a", None)], (ENERGY,), cache=cache)
    monkeypatch.setattr(Counted, "asked", 0)
    result = harness.evaluate([Counted()], [Item(second, "a", None)], (ENERGY,), cache=cache)
    assert Counted.asked == 0 and result.subject.utterances[0].path == str(second)
