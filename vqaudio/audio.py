"""Waveforms in and out of files.

Any file that libsndfile reads becomes one float32 channel at the rate that is asked for, and a waveform becomes a file
in the format that its suffix names. Audio moves in chunks, which `reading` and `write` pass on one by one, so that a
file of hours needs no more memory than one of a minute. Where libsndfile calls back, all of it runs on a thread of its
own: an exception raised in there, as by Ctrl-C, would be lost and leave a hole in the audio.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import struct
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import ArrayLike

from vqaudio import files
from vqaudio.errors import AudioError, UsageError
from vqaudio.files import reason, replacing
from vqaudio.models.config import RATES

if TYPE_CHECKING:
    from torch import Tensor

SAMPLE_RATE = 16000  # Hz
SUFFIXES = frozenset(
    (".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".sph", ".w64", ".wav")
)  # taken as audio when a directory is walked

_CHUNK = 1 << 18  # samples, over all channels, that are read or written at a time
_LIVE_SECONDS = 0.1  # of sound that are waited for at a time
_LARGEST = (1 << 32) - 1  # bytes that a WAV header can state
_MOST_CHANNELS = 1024  # as many as libsndfile takes
_FEW_CHANNELS = 32  # above which more channels than samples are samples that lie along the wrong axis
_WRITTEN = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}


def files_below(folder: str | os.PathLike[str]) -> list[Path]:
    """The audio files below a folder, by their suffix; as `vqaudio.files.files_below`."""
    return [path for path in files.files_below(folder) if path.suffix.lower() in SUFFIXES]


def read(path: str | os.PathLike[str] | BinaryIO, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Read an audio file: WAV, FLAC, OGG, Opus, MP3 and whatever else libsndfile knows, of any rate and channel count.

    Args:
        path: a path, or a binary file object such as standard input, which is read to its end.
        sample_rate: of the result, in Hz; soxr resamples where the file has another.

    Returns:
        float32 (T,): the mean of the channels, in [-1, 1] unless a file of floats goes beyond.

    Raises:
        AudioError: for a file that is missing, unreadable, not audio, without samples, or with NaN or infinite ones.
    """
    with reading(path, sample_rate) as recording:
        return np.concatenate(list(recording))


@contextlib.contextmanager
def reading(
    path: str | os.PathLike[str] | BinaryIO,
    sample_rate: int = SAMPLE_RATE,
    *,
    live: bool = False,
    raw_rate: int | None = None,
) -> Iterator[Recording]:
    """Open what `read` reads, to go through it once in chunks.

    Args:
        path, sample_rate: as for `read`.
        live: take a pipe's sound as it comes, which only WAV, AU and raw samples allow; else a pipe is first read to
            its end.
        raw_rate: there is no audio file but 16-bit little-endian samples of one channel at this rate, in Hz.

    Raises:
        AudioError: as `read`, on entering or in the middle of the chunks.
        UsageError: for a `raw_rate` that is not one of audio.
    """
    name = f"'{path}'" if isinstance(path, str | os.PathLike) else "The audio input"
    if raw_rate is not None and raw_rate not in RATES:
        raise UsageError(f"Samples have a rate from {RATES[0]:,} to {RATES[-1]:,} Hz, not of {raw_rate} Hz.")
    form = {} if raw_rate is None else {"samplerate": raw_rate, "channels": 1, "format": "RAW", "subtype": "PCM_16"}
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb")) if isinstance(path, str | os.PathLike) else path
            if not (live or (file is not path and file.seekable())):
                file = stack.enter_context(_spooled(file))
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_size == 0:
                raise AudioError(f"{name} is empty.")
            sound = stack.enter_context(soundfile.SoundFile(file.fileno(), closefd=False, **form))
        except OSError as error:
            raise AudioError(f"{name} cannot be read: {reason(error)}.") from error
        except soundfile.SoundFileError as error:
            how = " as it comes; WAV, AU and raw samples can" if live else ""
            raise AudioError(f"{name} is not audio that can be read{how}.") from error
        yield Recording(sound, sample_rate, name)


class Recording:
    """An open audio file: iterate over it once for its samples, float32 (n,) in chunks, at the rate asked for.

    Attributes:
        seconds: the length that the file states, 0 where it states none.
    """

    def __init__(self, sound: soundfile.SoundFile, sample_rate: int, name: str) -> None:
        self.seconds = sound.frames / sound.samplerate if sound.seekable() else 0.0
        self._sound, self._sample_rate, self._name = sound, sample_rate, name

    def __iter__(self) -> Iterator[np.ndarray]:
        rate, channels = self._sound.samplerate, self._sound.channels
        converter = Converter(rate, self._sample_rate, self._name)
        frames = max(1, _CHUNK // channels if self._sound.seekable() else round(rate * _LIVE_SECONDS))
        try:
            while len(block := self._sound.read(frames, dtype="float32", always_2d=True)):
                yield converter.push(block)
        except soundfile.SoundFileError as error:
            raise AudioError(f"{self._name} is not audio that can be read.") from error
        yield converter.finish()


class Converter:
    """A signal that comes in blocks of any size, mixed to one channel, checked, and resampled as one signal.

    Args:
        sample_rate, target_rate: of what comes and of what it becomes, in Hz.
        name: what messages call the signal.

    Raises:
        UsageError: for a rate that is no number.
        AudioError: for one that is not of audio, or later for samples that are not finite.
    """

    def __init__(self, sample_rate: float, target_rate: float, name: str = "The waveform") -> None:
        if not isinstance(sample_rate, int | float | np.number):
            raise UsageError(f"A sample rate is a number of Hz, not {sample_rate!r}.")
        if not RATES[0] <= sample_rate <= RATES[-1]:
            raise AudioError(f"{name} has a sample rate of {sample_rate} Hz, which is not one of audio.")
        self._resampler = soxr.ResampleStream(sample_rate, target_rate, 1, dtype="float32", quality="HQ")
        self._name, self._taken, self._given = name, 0, 0

    def push(self, block: np.ndarray) -> np.ndarray:
        """The next samples (frames, channels) to those (n,) that they complete."""
        self._taken += len(block)
        with np.errstate(over="ignore", invalid="ignore"):  # such samples are reported as an error instead
            mono = finite(block.mean(axis=1, dtype=np.float64).astype(np.float32), self._name)
        return self._checked(mono, last=False)

    def finish(self) -> np.ndarray:
        """The samples (n,) that were still to come; at least one in all.

        Raises:
            AudioError: where nothing came.
        """
        if not self._taken:
            raise AudioError(f"{self._name} holds no samples.")
        rest = self._checked(np.zeros(0, np.float32), last=True)
        return rest if self._given else np.zeros(1, np.float32)  # under half a sample at the new rate

    def _checked(self, mono: np.ndarray, last: bool) -> np.ndarray:
        samples = finite(self._resampler.resample_chunk(mono, last=last), self._name)
        self._given += len(samples)
        return samples


def prepare(waveform: ArrayLike, sample_rate: int, target_rate: int) -> np.ndarray:
    """Bring a waveform to the form that `read` gives a file: one finite float32 channel at `target_rate`.

    Args:
        waveform: (T,) or (channels, T); floats in [-1, 1], or 16-bit or 32-bit integers, which are scaled to that.
        sample_rate: of `waveform`, in Hz.
        target_rate: of the result, in Hz.

    Returns:
        float32 (T * target_rate / sample_rate,), rounded, at least one sample.

    Raises:
        UsageError: for another shape or type of number.
        AudioError: where there are no samples, or some are NaN or infinite, or the rate is not one of audio.
    """
    converter = Converter(sample_rate, target_rate)
    pieces = [converter.push(block) for block in blocks(waveform)]
    return np.concatenate([*pieces, converter.finish()])


def blocks(waveform: ArrayLike) -> Iterator[np.ndarray]:
    """A waveform as `prepare` takes it, in floating-point blocks (frames, channels) of moderate size.

    Raises:
        UsageError: for another shape or type of number.
    """
    array = as_numpy(waveform)
    if array.ndim not in (1, 2):
        raise UsageError(f"A waveform has the shape (T,) or (channels, T), not {array.shape}.")
    array = np.atleast_2d(array)
    if not 1 <= len(array) <= _MOST_CHANNELS or len(array) > max(_FEW_CHANNELS, array.shape[1]):
        hint = ", which `.T` makes of it" if len(array) > array.shape[1] else ""
        raise UsageError(f"A waveform of several channels has the shape (channels, T){hint}, not {array.shape}.")
    if array.dtype in (np.int16, np.int32):
        scale = 2.0 ** (1 - 8 * array.dtype.itemsize)
    elif np.issubdtype(array.dtype, np.floating):
        scale = 1.0
    else:
        raise UsageError(f"A waveform holds floats or 16-bit or 32-bit integers, not {array.dtype}.")
    step = max(1, _CHUNK // len(array))
    return (array[:, at : at + step].T * scale for at in range(0, array.shape[1], step))


def as_numpy(numbers: ArrayLike | Tensor) -> np.ndarray:
    """Numbers of any kind as an array; half precision of torch, which numpy lacks or loses, as float32.

    Raises:
        UsageError: for what is no array.
    """
    try:
        if hasattr(numbers, "detach"):
            tensor = numbers.detach().cpu()
            return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        return np.asarray(numbers)
    except (TypeError, ValueError, RuntimeError) as error:  # the last of tensors that are sparse, or on "meta"
        raise UsageError(f"An array of numbers is needed, but this {type(numbers).__name__} is none.") from error


def write(
    path: str | os.PathLike[str] | BinaryIO,
    waveform: ArrayLike | Iterator[np.ndarray],
    sample_rate: int,
    force: bool = False,
    samples: int | None = None,
) -> None:
    """Write a waveform (T,), clipped to [-1, 1], with 16 bits per sample.

    Args:
        path: a path, whose suffix gives the format (.wav, .flac, .ogg, .opus, .mp3), or a binary file object, which
            gets a WAV file and need not seek.
        waveform: (T,) floats; or an iterator of such, in order, where all of it would take much memory or is still to
            come. A file object then gets each part as soon as it is there.
        sample_rate: in Hz.
        force: replace a file that exists.
        samples: how many an iterator is going to give, where that is known, for the header in front of them.

    Raises:
        UsageError: for an unknown suffix, a waveform of another shape, a file that exists, or a pipe that is not to be
            a WAV file.
        AudioError: for no samples or samples that are not finite, a rate that the format has not, an unwritable folder,
            a full disk.
    """
    if isinstance(waveform, Iterator):
        parts = waveform
    else:
        array = as_numpy(waveform)
        if array.ndim != 1:
            raise UsageError(f"A waveform to be written has the shape (T,), not {array.shape}.")
        parts, samples = iter([array]), len(array)
    chunks = _integers(parts)
    if isinstance(path, str | os.PathLike):
        check_suffix(path)
        suffix = Path(path).suffix.lower()
        with replacing(path, force, AudioError) as place:
            if not place.exists():
                _encode(place, chunks, sample_rate, suffix)
            elif suffix == ".wav":
                with open(place, "wb") as pipe:
                    _send(pipe, chunks, _wav_header(sample_rate, samples))
            else:
                raise UsageError(f"'{path}' is a pipe or a device, to which .wav alone can be written.")
    else:
        _send(path, chunks, _wav_header(sample_rate, samples))


def check_suffix(path: str | os.PathLike[str]) -> None:
    """See, before any work, that a path names a format that `write` writes.

    Raises:
        UsageError: where it does not.
    """
    if Path(path).suffix.lower() not in _WRITTEN:
        raise UsageError(f"'{path}' does not end in one of {', '.join(_WRITTEN)}, which name a format to write.")


def write_raw(stream: BinaryIO, parts: Iterator[np.ndarray]) -> None:
    """Write the parts (n,) of a waveform, floats clipped to [-1, 1], as 16-bit little-endian samples.

    Args:
        stream: a binary file object, which gets each part as soon as it is there.

    Raises:
        AudioError: for no samples or samples that are not finite, a full disk.
    """
    _send(stream, _integers(parts))


def _send(stream: BinaryIO, chunks: Iterator[np.ndarray], header: bytes = b"") -> None:
    """Write int16 chunks to a file object; the header waits for the first, or an error would leave it behind."""
    try:
        for chunk in chunks:
            stream.write(header + chunk.tobytes())
            stream.flush()
            header = b""
    except BrokenPipeError:
        raise  # the reader has had enough, which is its right
    except OSError as error:
        raise AudioError(f"The audio output cannot be written: {reason(error)}.") from error


def integers(samples: np.ndarray) -> np.ndarray:
    """Floats of any shape, clipped to [-1, 1], as 16-bit little-endian integers."""
    return np.clip(np.rint(samples.astype(np.float64) * 32768), -32768, 32767).astype("<i2")


def _integers(parts: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The parts of a waveform as int16 samples, in chunks of which none is empty."""
    empty = True
    for part in parts:
        array = as_numpy(part)
        if array.ndim != 1 or not np.issubdtype(array.dtype, np.floating):
            raise UsageError(f"A waveform to be written is floats (T,), not {array.dtype} {array.shape}.")
        for start in range(0, len(array), _CHUNK):
            chunk = finite(array[start : start + _CHUNK], "The waveform to be written")
            yield integers(chunk)
            empty = False
    if empty:
        raise AudioError("The waveform to be written holds no samples.")


def _wav_header(sample_rate: int, samples: int | None) -> bytes:
    """The header of a WAV file of 16-bit samples; without their number it states the largest size, as streams do."""
    size = min(_LARGEST, 2 * samples) if samples is not None else _LARGEST
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, sample_rate, 2 * sample_rate, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", min(_LARGEST, size + 36), b"WAVE") + form + struct.pack("<4sI", b"data", size)


@contextlib.contextmanager
def _spooled(stream: BinaryIO) -> Iterator[BinaryIO]:
    """A file with all that a stream holds."""
    with tempfile.TemporaryFile() as file:
        shutil.copyfileobj(stream, file)
        file.seek(0)
        yield file


def finite(waveform: np.ndarray, name: str) -> np.ndarray:
    """The waveform, whatever its shape.

    Raises:
        AudioError: where it holds samples that are not finite; the sentence begins with the name.
    """
    if not np.isfinite(waveform).all():
        raise AudioError(f"{name} holds samples that are not finite numbers (NaN or infinity).")
    return waveform


def _encode(path: Path, chunks: Iterator[np.ndarray], sample_rate: int, suffix: str) -> None:
    kind, subtype = _WRITTEN[suffix]
    with open(path, "wb", buffering=0) as file, ThreadPoolExecutor(1) as worker:  # a thread that Ctrl-C leaves alone
        sink = _Sink(file)
        opened = worker.submit(soundfile.SoundFile, sink, "w", sample_rate, 1, subtype, format=kind)
        try:
            try:
                sound = opened.result()
                for chunk in chunks:  # libsndfile crashes on minutes of Vorbis in one call
                    worker.submit(sound.write, chunk).result()
            finally:
                worker.submit(_close, opened).result()  # behind a call that Ctrl-C left running
        except (soundfile.SoundFileError, AssertionError) as error:  # the second where not all was written
            raise sink.problem or AudioError(f"A {suffix} file at {sample_rate} Hz cannot be written.") from error
        if sink.problem:
            raise sink.problem


def _close(opened: Future[soundfile.SoundFile]) -> None:
    if not opened.exception():
        opened.result().close()


class _Sink:
    """A file for libsndfile to write to, which keeps the errors that would be lost on the way back from there."""

    def __init__(self, file: io.FileIO) -> None:
        self.seek, self.tell = file.seek, file.tell
        self.problem: OSError | None = None
        self._file = file

    def write(self, data: bytes) -> int:
        left = memoryview(data)
        try:
            while left:  # a disk that is nearly full takes a part
                left = left[self._file.write(left) :]
        except OSError as problem:
            self.problem = problem
        return len(data) - len(left)
