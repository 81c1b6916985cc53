"""Opus, Codec 2 and Speex: sizes against their programs called by hand and against their specifications, sound against
the original and against another decoder, and programs that fail."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from vqaudio.errors import AudioError, UsageError
from vqaudio.evaluation import programs
from vqaudio.evaluation.baselines import parse
from vqaudio.evaluation.contenders import Coded
from vqaudio.evaluation.metrics.perceptual import stoi
from vqaudio.evaluation.speech import audio_files

RATE = 16000
MOST_DELAY = 1600  # samples
CODEC2 = {  # mode: (bits in a frame, ms of a frame), from the documentation of Codec 2
    "3200": (64, 20),
    "2400": (48, 20),
    "1600": (64, 40),
    "1400": (56, 40),
    "1300": (52, 40),
    "1200": (48, 40),
    "700C": (28, 40),
    "450": (18, 40),
}
ALL = ["opus:6", "opus:16", "codec2:3200", "codec2:700C", "speex:0", "speex:1", "speex:10"]


def needed(*names: str) -> None:
    for name in names:
        if (reason := parse(name).missing()) is not None:
            pytest.skip(f"for the codec '{name}' {reason}")


@pytest.fixture(autouse=True)
def tidy(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever happens, no temporary file is left."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert not list(folder.iterdir())


@pytest.fixture(scope="module")
def spoken(speech: Path) -> list[np.ndarray]:
    """Three seconds of each of three speakers, 16-bit values as floats."""
    files = audio_files(speech / "eval" / "librispeech", 20)
    files = [file for file in files if soundfile.info(file).duration >= 4][:3]
    return [soundfile.read(file, 4 * RATE, dtype="float32")[0][RATE:] for file in files]


@pytest.fixture
def noise() -> np.ndarray:
    """2.01 seconds of noise that fades in, (T,) float32 of 16-bit values."""
    samples = np.random.default_rng(0).standard_normal(32160) * np.linspace(0, 0.2, 32160)
    return (np.rint(np.clip(samples, -1, 1) * 32767) / 32768).astype(np.float32)


def aligned(reference: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """What was decoded, without the delay at which it resembles the reference most."""
    delays = range(-MOST_DELAY, MOST_DELAY + 1)
    likeness = scipy.signal.correlate(np.pad(decoded, MOST_DELAY), reference, mode="valid")
    delay = delays[int(np.argmax(likeness))]
    return np.pad(decoded, MOST_DELAY)[MOST_DELAY + delay :][: len(reference)]


def intelligibility(name: str, spoken: list[np.ndarray]) -> float:
    codec = parse(name)
    decoded = [aligned(reference, codec.code(reference, RATE).decoded) for reference in spoken]
    return float(
        np.mean([stoi(ours, theirs, RATE, extended=True) for ours, theirs in zip(spoken, decoded, strict=True)])
    )


def by_hand(folder: Path, waveform: np.ndarray, *command: str) -> Path:
    """The file that a program makes of a waveform of 16-bit values in a WAV file."""
    soundfile.write(folder / "speech.wav", waveform, RATE, subtype="PCM_16")
    subprocess.run([*command, "speech.wav", "made"], cwd=folder, check=True, capture_output=True)
    return folder / "made"


def check_form(coded: Coded, waveform: np.ndarray) -> None:
    assert coded.decoded.shape == waveform.shape
    assert coded.decoded.dtype == np.float32
    assert np.isfinite(coded.decoded).all()
    assert coded.size > 0 and coded.encode_seconds > 0 and coded.decode_seconds > 0


@pytest.mark.parametrize("mode", CODEC2)
def test_codec_2_writes_the_whole_bytes_of_its_frames(mode, noise):
    needed(f"codec2:{mode}")
    bits, milliseconds = CODEC2[mode]
    frames = -(-len(noise) // (milliseconds * RATE // 1000))  # 32160 samples end within a frame
    coded = parse(f"codec2:{mode}").code(noise, RATE)
    assert coded.size == 7 + frames * -(-bits // 8)
    check_form(coded, noise)


def test_codec_2_decodes_as_by_hand(noise, tmp_path):
    needed("codec2:1300")
    coded = parse("codec2:1300").code(noise, 8000)  # at its own rate, so that nothing is resampled
    samples = np.pad(noise, (0, -len(noise) % 320))
    (tmp_path / "in").write_bytes((samples * 32768).astype("<i2").tobytes())
    for command in (["c2enc", "1300", "in", "bits"], ["c2dec", "1300", "bits", "out"]):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert coded.size == 7 + (tmp_path / "bits").stat().st_size  # without a header
    assert_array_equal(coded.decoded, (np.fromfile(tmp_path / "out", "<i2") / 32768)[: len(noise)].astype(np.float32))


def test_opus_writes_the_file_that_opusenc_writes_by_hand(spoken, tmp_path):
    needed("opus:12")
    coded = parse("opus:12").code(spoken[0], RATE)
    made = by_hand(tmp_path, spoken[0], "opusenc", "--bitrate", "12", "--framesize", "60", "--padding", "0")
    assert coded.size == made.stat().st_size
    theirs, rate = soundfile.read(made)
    assert rate == RATE  # libsndfile decodes without opusdec's resampler, which delays by part of a sample
    ours, theirs = (scipy.signal.resample_poly(waveform, 8, 1) for waveform in (coded.decoded, theirs))
    ours = aligned(theirs, ours)
    assert np.corrcoef(ours[:-MOST_DELAY], theirs[:-MOST_DELAY])[0, 1] > 0.99


def test_speex_writes_the_file_that_speexenc_writes_by_hand(spoken, tmp_path):
    needed("speex:1")
    coded = parse("speex:1").code(spoken[0], RATE)
    options = ("--wideband", "--quality", "1", "--comp", "10", "--nframes", "10")
    made = by_hand(tmp_path, spoken[0], "speexenc", *options)
    assert coded.size == made.stat().st_size


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("opus:6", 5.0, 7.5), ("opus:12", 10.0, 14.0), ("speex:0", 3.9, 5.0), ("speex:1", 5.75, 6.8)],
)
def test_the_rate_is_what_the_name_says(name, low, high, spoken):
    """Of Speex in wide band, 3.95 and 5.75 kb/s by its manual; on top comes what Ogg takes in three seconds."""
    needed(name)
    sizes = [parse(name).code(waveform, RATE).size for waveform in spoken]
    assert low < 8 * sum(sizes) / sum(len(waveform) / RATE for waveform in spoken) / 1000 < high


@pytest.mark.parametrize(
    ("name", "least"),
    [("opus:6", 0.6), ("opus:16", 0.8), ("codec2:3200", 0.35), ("codec2:1300", 0.25), ("speex:1", 0.5)],
)
def test_what_is_decoded_resembles_the_original(name, least, spoken):
    needed(name)
    reached = intelligibility(name, spoken)
    assert reached > least
    noise = np.random.default_rng(0).standard_normal(len(spoken[0])).astype(np.float32) / 10
    assert np.mean([stoi(reference, aligned(reference, noise), RATE, extended=True) for reference in spoken]) < 0.1
    shifted = [*spoken[1:], spoken[0]]  # the speech of another is not what was coded
    decoded = [
        aligned(ours, parse(name).code(other, RATE).decoded) for ours, other in zip(spoken, shifted, strict=True)
    ]
    swapped = [stoi(ours, theirs, RATE, extended=True) for ours, theirs in zip(spoken, decoded, strict=True)]
    assert np.mean(swapped) < least - 0.1


@pytest.mark.parametrize("names", [("opus:6", "opus:16", "opus:32"), ("speex:0", "speex:4", "speex:10")])
def test_more_bits_sound_better(names, spoken):
    needed(*names)
    scores = [intelligibility(name, spoken) for name in names]
    assert scores == sorted(scores)
    sizes = [parse(name).code(spoken[0], RATE).size for name in names]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("name", ALL)
def test_coding_is_the_same_every_time(name, noise):
    needed(name)
    first, second = (parse(name).code(noise, RATE) for _ in range(2))
    assert first.size == second.size
    assert_array_equal(first.decoded, second.decoded)


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=6)
@given(length=st.integers(1, 4000), level=st.sampled_from([0.0, 1e-6, 0.1, 1.0, 20.0]), seed=st.integers(0, 100))
def test_any_length_and_level_is_coded(name, length, level, seed):
    needed(name)
    waveform = (level * np.random.default_rng(seed).standard_normal(length)).astype(np.float32)
    check_form(parse(name).code(waveform, RATE), waveform)


@pytest.mark.parametrize("name", ["opus:6", "codec2:1300", "speex:1"])
def test_other_rates_are_resampled(name, noise):
    needed(name)
    check_form(parse(name).code(noise, 22050), noise)


def test_silence_stays_silent():
    for name in ("opus:6", "codec2:1300", "speex:1"):
        if parse(name).missing() is None:
            assert np.abs(parse(name).code(np.zeros(RATE, np.float32), RATE).decoded).max() < 0.01


def test_no_samples_are_refused():
    with pytest.raises(AudioError, match="no samples"):
        parse("opus:6").code(np.zeros(0, np.float32), RATE)


def test_the_identity_tells_versions_and_settings():
    needed("opus:6", "speex:1", "codec2:1300", "codec2:1200")
    said = subprocess.run(["opusenc", "--version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]
    assert said in parse("opus:6").identity
    assert "--framesize 60" in parse("opus:6").identity
    assert re.search(r"speexenc .*version [0-9.]+", parse("speex:1").identity)
    identities = {parse(name).identity for name in ("opus:6", "opus:8", "speex:1", "codec2:1300", "codec2:1200")}
    assert len(identities) == 5
    heard = [re.search(r"turns noise into (\w+)", parse(f"codec2:{mode}").identity) for mode in (1300, 1200)]
    assert heard[0] and heard[1] and heard[0][1] != heard[1][1]  # c2enc tells no version


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts scripts in the place of all programs."""

    def put(**scripts: str) -> None:
        for name, script in scripts.items():
            (tmp_path / name).write_text(f"#!{shutil.which('sh')}\n{script}\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return put


def test_a_program_that_fails_is_told_with_its_first_words(fake, tone):
    fake(opusenc="echo; echo 'Out of luck.' >&2; echo more >&2; exit 3")
    with pytest.raises(AudioError) as caught:
        parse("opus:6").code(tone, RATE)
    assert str(caught.value) == "The program opusenc of the codec 'opus:6' failed: Out of luck."


def test_a_program_that_fails_in_silence_is_told(fake, tone):
    fake(c2enc="exit 3")
    with pytest.raises(AudioError, match=r"^The program c2enc of the codec 'codec2:1300' failed: exit code 3\.$"):
        parse("codec2:1300").code(tone, RATE)


def test_a_program_that_writes_nothing_is_told(fake, tone):
    fake(opusenc="for last; do :; done; echo x > $last", opusdec="exit 0")
    with pytest.raises(AudioError, match=r"^The program opusdec .* failed: "):
        parse("opus:6").code(tone, RATE)


def test_a_decoder_that_writes_no_audio_is_told(fake, tone):
    fake(opusenc="for last; do :; done; echo x > $last", opusdec="for last; do :; done; echo x > $last")
    with pytest.raises(
        AudioError, match=r"^The program opusdec of the codec 'opus:6' wrote no audio that can be read\.$"
    ):
        parse("opus:6").code(tone, RATE)


def test_a_program_that_hangs_is_ended(fake, tone, monkeypatch):
    fake(opusenc=f"exec {shutil.which('sleep')} 100")
    monkeypatch.setattr(programs, "PATIENCE", 0.2)
    with pytest.raises(AudioError, match=r"^The program opusenc of the codec 'opus:6' did not end in 1 s\.$"):
        parse("opus:6").code(tone, RATE)


def test_a_program_that_is_not_there_is_told(tone, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"^The program opusenc of the codec 'opus:6' cannot be run: "):
        parse("opus:6").code(tone, RATE)
    with pytest.raises(UsageError, match="c2enc"):
        _ = parse("codec2:2400").identity
