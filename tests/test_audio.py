"""Audio of every kind in and out, against soundfile, scipy and analytic sines; and bad audio of every kind."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from vqaudio import audio
from vqaudio.errors import AudioError, UsageError

SPEECH = Path(__file__).parents[2] / "shared" / "speech"
RATES = [8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000]


def sine(rate: int, seconds: float = 0.48, frequency: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, samples).astype(np.float32)


# Resampling


@pytest.mark.parametrize("rate", RATES)
def test_a_sine_of_any_rate_arrives_as_the_same_sine(tmp_path, rate):
    path = tmp_path / "sine.wav"
    soundfile.write(path, sine(rate), rate, "FLOAT")
    waveform = audio.read(path)
    assert waveform.dtype == np.float32 and waveform.shape == (7680,)
    inner = slice(400, -400)  # away from the edges of the signal, which ring
    assert np.abs(waveform - sine(16000))[inner].max() < 1e-4
    assert np.array_equal(audio.prepare(sine(rate).astype(np.float32), rate, 16000), waveform)


@pytest.mark.parametrize("rate", [8000, 24000, 44100, 48000])
def test_resampling_agrees_with_scipy(rate):
    smooth = scipy.signal.sosfiltfilt(scipy.signal.butter(8, 2500, fs=rate, output="sos"), noise(rate))
    divisor = np.gcd(rate, 16000)
    expected = scipy.signal.resample_poly(smooth, 16000 // divisor, rate // divisor, window=("kaiser", 12.0))
    waveform = audio.prepare(smooth, rate, 16000)
    error = (waveform - expected[: len(waveform)])[400:-400]
    assert 20 * np.log10(np.std(error) / np.std(expected)) < -60


def test_what_lies_above_the_new_band_is_gone():
    assert np.abs(audio.prepare(sine(48000, frequency=12000.0), 48000, 16000)[400:-400]).max() < 1e-4


def test_chunks_leave_no_seam(monkeypatch):
    signal = noise(44100)
    whole = audio.prepare(signal, 44100, 16000)
    monkeypatch.setattr(audio, "_CHUNK", 1000)
    assert np.array_equal(audio.prepare(signal, 44100, 16000), whole)


def test_another_target_rate(tmp_path):
    audio.write(tmp_path / "a.wav", sine(16000), 16000)
    assert audio.read(tmp_path / "a.wav", sample_rate=24000).shape == (11520,)


# Formats


@pytest.mark.parametrize(
    ("kind", "subtype", "tolerance"),
    [
        ("WAV", "PCM_U8", 2**-7),
        ("WAV", "PCM_16", 2**-15),
        ("WAV", "PCM_24", 2**-23),
        ("WAV", "PCM_32", 2**-24),
        ("WAV", "FLOAT", 0),
        ("WAV", "DOUBLE", 0),
        ("WAV", "ULAW", 0.04),
        ("WAVEX", "PCM_16", 2**-15),
        ("RF64", "PCM_16", 2**-15),
        ("AIFF", "PCM_16", 2**-15),
        ("AU", "PCM_16", 2**-15),
        ("CAF", "PCM_16", 2**-15),
        ("FLAC", "PCM_16", 2**-15),
        ("FLAC", "PCM_24", 2**-23),
        ("OGG", "VORBIS", 0.05),
        ("OGG", "OPUS", 0.05),
        ("MP3", "MPEG_LAYER_III", 0.05),
    ],
)
def test_every_format_is_read(tmp_path, kind, subtype, tolerance):
    signal = sine(16000).astype(np.float32)
    path = tmp_path / "audio"  # the content counts, not the name
    soundfile.write(path, signal, 16000, subtype, format=kind)
    waveform = audio.read(path)
    assert waveform.shape == signal.shape
    assert np.abs(waveform - signal)[1000:-1000].max() <= tolerance
    with open(path, "rb") as file:
        assert np.array_equal(audio.read(file), waveform)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_channels_are_averaged(tmp_path, channels):
    signals = noise(5000 * channels).reshape(-1, channels)
    soundfile.write(tmp_path / "a.wav", signals, 16000, "FLOAT")
    expected = signals.astype(np.float64).mean(axis=1)
    assert np.abs(audio.read(tmp_path / "a.wav") - expected).max() < 1e-7
    assert np.abs(audio.prepare(signals.T, 16000, 16000) - expected).max() < 1e-7


@pytest.mark.parametrize("dtype", [np.int16, np.int32])
def test_integers_are_scaled(dtype):
    full = np.iinfo(dtype)
    waveform = audio.prepare(np.array([full.min, 0, full.max // 2 + 1], dtype), 16000, 16000)
    assert waveform.tolist() == [-1, 0, 0.5]


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".WAV"])
def test_sixteen_bits_are_written_without_loss(tmp_path, suffix):
    signal = np.arange(-32768, 32768, dtype=np.int32).astype(np.float32) / 32768
    audio.write(tmp_path / f"a{suffix}", signal, 16000)
    assert np.array_equal(audio.read(tmp_path / f"a{suffix}"), signal)
    assert soundfile.info(tmp_path / f"a{suffix}").subtype == "PCM_16"


@pytest.mark.parametrize(("suffix", "kind"), [(".ogg", "VORBIS"), (".opus", "OPUS"), (".mp3", "MPEG_LAYER_III")])
def test_lossy_formats_are_written(tmp_path, suffix, kind):
    path = tmp_path / f"a{suffix}"
    audio.write(path, sine(16000), 16000)
    assert soundfile.info(path).subtype == kind
    assert np.abs(audio.read(path) - sine(16000))[1000:-1000].max() < 0.05
    assert suffix in audio.SUFFIXES


def test_minutes_of_vorbis_are_written(tmp_path):
    audio.write(tmp_path / "a.ogg", np.tile(noise(16000), 300) * 0.1, 16000)  # in one call libsndfile would crash
    assert soundfile.info(tmp_path / "a.ogg").frames == 300 * 16000


def test_loud_waveforms_are_clipped(tmp_path):
    audio.write(tmp_path / "a.wav", np.array([-7.0, -1.0, 0.0, 1.0, 7.0]), 16000)
    assert soundfile.read(tmp_path / "a.wav", dtype="int16")[0].tolist() == [-32768, -32768, 0, 32767, 32767]


def test_samples_go_to_the_nearest_of_sixteen_bits(tmp_path):
    audio.write(tmp_path / "a.wav", np.array([0.6, -0.6, 1.4, -1.4]) / 32768, 16000)
    assert soundfile.read(tmp_path / "a.wav", dtype="int16")[0].tolist() == [1, -1, 1, -1]


def test_a_stream_longer_than_its_header_can_state():
    stream = io.BytesIO()
    audio.write(stream, iter([noise(10)]), 16000, samples=1 << 31)
    assert stream.getvalue()[40:44] == b"\xff" * 4 and len(stream.getvalue()) == 44 + 2 * 10


def test_file_objects_and_pipes(tmp_path):
    signal = noise(3000)
    stream = io.BytesIO()
    audio.write(stream, signal, 16000)
    audio.write(tmp_path / "a.wav", signal, 16000)
    assert stream.getvalue() == (tmp_path / "a.wav").read_bytes()
    expected = audio.read(tmp_path / "a.wav")
    assert np.array_equal(audio.read(io.BytesIO(stream.getvalue())), expected)
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as source, os.fdopen(writer, "wb") as sink:
        sink.write(stream.getvalue())
        sink.close()
        assert np.array_equal(audio.read(source), expected)


def test_a_named_pipe(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    content = io.BytesIO()
    audio.write(content, noise(3000), 16000)
    writer = threading.Thread(target=(tmp_path / "a.wav").write_bytes, args=(content.getvalue(),))
    writer.start()
    assert len(audio.read(tmp_path / "a.wav")) == 3000
    writer.join()


def test_writing_to_a_named_pipe(tmp_path):
    content = io.BytesIO()
    audio.write(content, noise(3000), 16000)
    for name in ("a.wav", "a.flac"):
        os.mkfifo(tmp_path / name)
    found = []
    reader = threading.Thread(target=lambda: found.append((tmp_path / "a.wav").read_bytes()), daemon=True)
    reader.start()
    audio.write(tmp_path / "a.wav", noise(3000), 16000)
    reader.join()
    assert found == [content.getvalue()]
    with pytest.raises(UsageError, match="is a pipe or a device"):
        audio.write(tmp_path / "a.flac", noise(3000), 16000)


def test_real_speech():
    files = sorted(SPEECH.glob("*/*/**/*.opus"))[:2] + sorted(SPEECH.glob("*/*/**/*.flac"))[:2]
    if not files:
        pytest.skip("../shared/speech is not there")
    for path in files:
        waveform = audio.read(path)
        assert len(waveform) == soundfile.info(path).frames * 16000 // soundfile.info(path).samplerate
        assert 0.001 < np.std(waveform) < 0.5


# Bad audio


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"This is a letter, not a recording." * 20, "is not audio"),
        (b"RIFF\x24\x00\x00\x00WAVE", "is not audio"),
        (b"fLaC" + bytes(100), "is not audio"),
        (b"OggS" + bytes(100), "is not audio"),
    ],
)
@pytest.mark.parametrize("suffix", [".wav", ".raw", ""])
def test_what_is_not_audio(tmp_path, content, message, suffix):
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=rf"bad{suffix}' {message}.*\.$"):
        audio.read(path)
    with pytest.raises(AudioError, match=message):
        audio.read(io.BytesIO(content))


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
def test_no_samples(tmp_path, kind):
    soundfile.write(tmp_path / "a", np.zeros(0), 16000, format=kind)
    with pytest.raises(AudioError, match=r"a' (is empty|holds no samples|is not audio that can be read)\.$"):
        audio.read(tmp_path / "a")
    for waveform in (np.zeros(0), np.zeros((2, 0))):
        with pytest.raises(AudioError, match="holds no samples"):
            audio.prepare(waveform, 16000, 16000)


@pytest.mark.parametrize("rate", RATES)
def test_one_sample_is_enough(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", np.array([0.5]), rate)
    assert len(audio.read(tmp_path / "a.wav")) == max(1, round(16000 / rate))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [16000, 48000])
@pytest.mark.parametrize("position", [0, 500, 999])
def test_samples_that_are_not_finite(tmp_path, value, rate, position):
    signal = noise(1000)
    signal[position] = value
    soundfile.write(tmp_path / "a.wav", signal, rate, "FLOAT")
    for attempt in (lambda: audio.read(tmp_path / "a.wav"), lambda: audio.prepare(signal, rate, 16000)):
        with pytest.raises(AudioError, match=r"not finite numbers"):
            attempt()
    with pytest.raises(AudioError, match="not finite"):
        audio.write(tmp_path / "b.wav", signal, rate)
    assert os.listdir(tmp_path) == ["a.wav"]


@pytest.mark.filterwarnings("error")
def test_samples_beyond_float32():
    loud = np.float32(3.4e38) * np.sign(noise(5000))  # finite until it is resampled
    for waveform in (np.full(100, 1e300), np.array([[np.inf], [-np.inf]]), loud):
        with pytest.raises(AudioError, match="not finite"):
            audio.prepare(waveform, 48000, 16000)


def test_rates_that_are_not_of_audio(tmp_path):
    for rate in (1, 10_000_000):
        soundfile.write(tmp_path / "a.wav", noise(100), rate)
        with pytest.raises(AudioError, match=f"sample rate of {rate} Hz"):
            audio.read(tmp_path / "a.wav")


@pytest.mark.parametrize(
    "waveform",
    [
        np.zeros((2, 2, 2)),
        np.float32(0),
        np.zeros((5000, 2)),
        np.zeros((0, 5)),
        np.zeros(9, int),
        np.zeros(9, complex),
        [[0.0], [0.0, 0.1]],
        ["a", "b"],
        None,
    ],
)
def test_arrays_that_are_not_waveforms(waveform):
    with pytest.raises(UsageError, match=r"\.$"):
        audio.prepare(waveform, 16000, 16000)


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(AudioError, match=r"a\.wav' cannot be read: no such file or directory\.$"):
        audio.read(tmp_path / "a.wav")
    with pytest.raises(AudioError, match="is a directory"):
        audio.read(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read anything")
def test_a_file_without_permission(tmp_path):
    audio.write(tmp_path / "a.wav", noise(10), 16000)
    (tmp_path / "a.wav").chmod(0)
    with pytest.raises(AudioError, match="permission denied"):
        audio.read(tmp_path / "a.wav")


def test_truncated_files_never_crash(tmp_path):
    for suffix in (".wav", ".flac", ".ogg", ".opus", ".mp3"):
        audio.write(tmp_path / f"a{suffix}", noise(20000), 16000)
        content = (tmp_path / f"a{suffix}").read_bytes()
        for size in range(0, len(content), len(content) // 20):
            reads_or_says_why(content[:size])


@given(st.binary(max_size=3000), st.sampled_from([b"", b"RIFF", b"fLaC", b"OggS", b"ID3", b"\xff\xfb\x90", b".snd"]))
@settings(max_examples=100, deadline=None)
def test_any_bytes_give_audio_or_an_error(content, magic):
    reads_or_says_why(magic + content)


def reads_or_says_why(content: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            waveform = audio.read(io.BytesIO(content))
        except AudioError as error:
            assert str(error).endswith(".")
        else:
            assert len(waveform) and np.isfinite(waveform).all()


# Output that cannot be


def test_an_output_that_exists_is_kept(tmp_path):
    path = tmp_path / "a.wav"
    audio.write(path, noise(10), 16000)
    with pytest.raises(UsageError, match="exists already"):
        audio.write(path, noise(20), 16000)
    assert len(audio.read(path)) == 10
    audio.write(path, noise(20), 16000, force=True)
    assert len(audio.read(path)) == 20


@pytest.mark.parametrize("name", ["a.txt", "a", "a.m4a"])
def test_an_unknown_suffix(tmp_path, name):
    with pytest.raises(UsageError, match=r"\.wav, \.flac"):
        audio.write(tmp_path / name, noise(10), 16000)


@pytest.mark.parametrize("waveform", [np.zeros((2, 10)), np.zeros(10, np.int16)])
def test_what_write_does_not_take(tmp_path, waveform):
    with pytest.raises(UsageError):
        audio.write(tmp_path / "a.wav", waveform, 16000)


def test_outputs_that_cannot_be_written(tmp_path):
    with pytest.raises(AudioError, match="no such file or directory"):
        audio.write(tmp_path / "missing" / "a.wav", noise(10), 16000)
    with pytest.raises(AudioError, match=r"A \.opus file at 22050 Hz cannot be written"):
        audio.write(tmp_path / "a.opus", noise(10), 22050)
    with pytest.raises(AudioError, match="holds no samples"):
        audio.write(tmp_path / "a.wav", np.zeros(0), 16000)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk(tmp_path):
    (tmp_path / "a.wav").symlink_to("/dev/full")
    with pytest.raises(AudioError, match=r"a\.wav' cannot be written: no space left on device\.$"):
        audio.write(tmp_path / "a.wav", noise(10), 16000)
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(AudioError, match="no space left"):
        audio.write(full, noise(10), 16000)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_ctrl_c_while_libsndfile_writes_is_not_lost(tmp_path, monkeypatch, suffix):
    class Interrupted(audio._Sink):
        count = 0

        def write(self, data):
            self.count += 1
            if self.count == 5:
                signal.raise_signal(signal.SIGINT)
            return super().write(data)

    monkeypatch.setattr(audio, "_Sink", Interrupted)
    monkeypatch.setattr(audio, "_CHUNK", 16000)
    with pytest.raises(KeyboardInterrupt):
        audio.write(tmp_path / f"a{suffix}", noise(16000 * 20), 16000)
    assert os.listdir(tmp_path) == []


INTERRUPTED = """
import os, signal, sys, threading, time
import numpy as np
from vqaudio import audio

class Slow(audio._Sink):
    def write(self, data):
        begun.set()
        time.sleep(0.02)
        return super().write(data)

def interrupt():
    begun.wait()
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)  # which wakes the main thread

begun, audio._Sink = threading.Event(), Slow
threading.Thread(target=interrupt, daemon=True).start()
try:
    audio.write("a" + sys.argv[1], np.random.default_rng(0).uniform(-1, 1, 16000 * 20), 16000)
except KeyboardInterrupt:
    print(os.listdir())
"""


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
def test_ctrl_c_waits_until_libsndfile_has_written(tmp_path, suffix):
    """In a process of its own, which a file that is closed while another thread writes it would take down."""
    words = [sys.executable, "-c", INTERRUPTED, suffix]
    path = {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(words, cwd=tmp_path, env=os.environ | path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_a_disk_that_takes_a_part_is_given_the_rest(tmp_path):
    class Partial(io.FileIO):
        def write(self, data):
            return super().write(bytes(data)[:7])

    with Partial(tmp_path / "a", "w") as file:
        assert audio._Sink(file).write(bytes(range(100))) == 100
    assert (tmp_path / "a").read_bytes() == bytes(range(100))


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".mp3"])
def test_a_disk_that_fills_up_later(tmp_path, monkeypatch, suffix):
    class Filling(audio._Sink):
        left = 20000

        def write(self, data):
            self.left -= len(data)
            if self.left < 0:
                self.problem = OSError(errno.ENOSPC, "No space left on device")
                return 0
            return super().write(data)

    monkeypatch.setattr(audio, "_Sink", Filling)
    with pytest.raises(AudioError, match="no space left on device"):
        audio.write(tmp_path / f"a{suffix}", noise(16000 * 20), 16000)
    assert os.listdir(tmp_path) == []


# In parts


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_waveform_written_in_parts_is_the_same_file(tmp_path, suffix):
    signal = noise(5000)
    audio.write(tmp_path / f"whole{suffix}", signal, 16000)
    audio.write(tmp_path / f"parts{suffix}", iter(np.split(signal, [0, 1, 700, 700, 4000])), 16000)
    assert (tmp_path / f"whole{suffix}").read_bytes() == (tmp_path / f"parts{suffix}").read_bytes()
    with pytest.raises(AudioError, match="holds no samples"):
        audio.write(tmp_path / f"none{suffix}", iter([signal[:0]]), 16000)
    with pytest.raises(AudioError, match="not finite"):
        audio.write(tmp_path / f"none{suffix}", iter([signal, np.array([np.nan])]), 16000)
    assert not (tmp_path / f"none{suffix}").exists()


def test_a_stream_of_parts_is_wav_of_unknown_length_and_comes_at_once():
    class Stream(io.BytesIO):
        flushed = 0

        def flush(self):
            self.flushed = self.tell()

    stream, signal = Stream(), noise(5000)

    def parts():
        yield signal[:2000]
        assert stream.flushed == 44 + 2 * 2000
        yield signal[2000:]

    audio.write(stream, parts(), 16000)
    assert np.array_equal(audio.read(io.BytesIO(stream.getvalue())), audio.read(wav(signal)))


def wav(signal: np.ndarray) -> io.BytesIO:
    stream = io.BytesIO()
    audio.write(stream, signal, 16000)
    return io.BytesIO(stream.getvalue())


def test_a_file_read_in_chunks_is_the_file(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", np.stack([noise(30000), noise(30000)[::-1]], 1), 24000, "FLOAT")
    whole = audio.read(tmp_path / "a.wav")
    monkeypatch.setattr(audio, "_CHUNK", 1000)
    with audio.reading(tmp_path / "a.wav") as recording:
        assert recording.seconds == 1.25
        chunks = list(recording)
    assert len(chunks) > 50
    assert np.array_equal(np.concatenate(chunks), whole)


@pytest.mark.parametrize("raw", [False, True])
def test_live_sound_comes_before_the_pipe_ends(raw):
    signal = noise(16000)
    data = wav(signal).getvalue()[44:] if raw else wav(signal).getvalue()
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as source, os.fdopen(writer, "wb") as sink:
        sink.write(data[:20000])
        sink.flush()
        with audio.reading(source, live=True, raw_rate=16000 if raw else None) as recording:
            chunks = iter(recording)
            first = [next(chunks), next(chunks)]
            sink.write(data[20000:])
            sink.close()
            together = np.concatenate([*first, *chunks])
    assert np.array_equal(together, audio.read(wav(signal)))


def test_what_cannot_be_read_as_it_comes():
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as source, os.fdopen(writer, "wb") as sink:
        sink.write(b"fLaC" + bytes(1000))
        sink.close()
        with pytest.raises(AudioError, match="WAV, AU and raw samples can"), audio.reading(source, live=True):
            pass


def test_raw_samples_in_a_file_object():
    samples = np.array([0, 1, -32768, 32767], "<i2")
    with audio.reading(io.BytesIO(samples.tobytes()), raw_rate=16000) as recording:
        assert (np.concatenate(list(recording)) * 32768).tolist() == samples.tolist()


def test_writing_raw_samples():
    stream = io.BytesIO()
    audio.write_raw(stream, iter([np.array([0.0, -1.0]), np.array([2.0])]))
    assert np.frombuffer(stream.getvalue(), "<i2").tolist() == [0, -32768, 32767]
    with pytest.raises(AudioError, match="holds no samples"):
        audio.write_raw(stream, iter([]))


@pytest.mark.parametrize("rate", [-5, 0, 500, 1 << 31])
def test_raw_samples_have_a_rate(rate):
    with pytest.raises(UsageError, match="rate"), audio.reading(io.BytesIO(bytes(100)), raw_rate=rate):
        pytest.fail("the rate was taken")


@pytest.mark.parametrize(("rate", "most"), [(8000, 116), (44100, 41), (48000, 37)])
def test_sound_of_another_rate_comes_as_late_as_the_readme_says_at_most(rate, most):
    converter, given, lags = audio.Converter(rate, 16000), 0, []
    for taken in range(1, rate):
        given += len(converter.push(np.zeros((1, 1), np.float32)))
        lags.append(1000 * (taken / rate - given / 16000))
    assert most - 1 < max(lags[rate // 2 :]) <= most
