"""Waveforms in and out of files.

Any file that libsndfile reads becomes one float32 channel at the rate that is asked for, and a waveform becomes a file
in the format that its suffix names. Inside, audio moves in chunks, so that a file of hours needs little more memory
than its waveform. Python is kept out of libsndfile's own reads and writes on the main thread: an exception raised
inside such a callback, as by Ctrl-C, would be lost and leave a hole in the audio.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import ArrayLike

from vqaudio.errors import AudioError, UsageError
from vqaudio.files import reason, replacing

SAMPLE_RATE = 16000  # Hz
SUFFIXES = frozenset(
    (".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".sph", ".w64", ".wav")
)  # taken as audio when a directory is walked

_CHUNK = 1 << 18  # samples, over all channels, that are read or written at a time
_RATES = (1_000, 1_000_000)  # Hz; outside, a header is nonsense and resampling would take memory without end
_MOST_CHANNELS = 1024  # as many as libsndfile takes
_WRITTEN = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}


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
    name = f"'{path}'" if isinstance(path, str | os.PathLike) else "The audio input"
    try:
        if not isinstance(path, str | os.PathLike):
            return _spool_and_decode(path, sample_rate, name)
        with open(path, "rb") as file:
            return (_decode if file.seekable() else _spool_and_decode)(file, sample_rate, name)
    except OSError as error:
        raise AudioError(f"{name} cannot be read: {reason(error)}.") from error


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
    array = np.asarray(waveform)
    if array.ndim not in (1, 2):
        raise UsageError(f"A waveform has the shape (T,) or (channels, T), not {array.shape}.")
    array = np.atleast_2d(array)
    if not 1 <= len(array) <= _MOST_CHANNELS:
        raise UsageError(f"A waveform (channels, T) has 1 to {_MOST_CHANNELS} channels, but this one is {array.shape}.")
    if array.dtype in (np.int16, np.int32):
        scale = 2.0 ** (1 - 8 * array.dtype.itemsize)
    elif np.issubdtype(array.dtype, np.floating):
        scale = 1.0
    else:
        raise UsageError(f"A waveform holds floats or 16-bit or 32-bit integers, not {array.dtype}.")
    step = max(1, _CHUNK // len(array))
    blocks = (array[:, start : start + step].T * scale for start in range(0, array.shape[1], step))
    return _convert(blocks, sample_rate, target_rate, "The waveform")


def write(path: str | os.PathLike[str] | BinaryIO, waveform: ArrayLike, sample_rate: int, force: bool = False) -> None:
    """Write a waveform (T,), clipped to [-1, 1], with 16 bits per sample.

    Args:
        path: a path, whose suffix gives the format (.wav, .flac, .ogg, .opus, .mp3), or a binary file object, which
            gets a WAV file and need not seek.
        waveform: (T,) floats.
        sample_rate: in Hz.
        force: replace a file that exists.

    Raises:
        UsageError: for an unknown suffix, a waveform of another shape, or a file that exists.
        AudioError: for no samples or samples that are not finite, a rate that the format has not, an unwritable folder,
            a full disk.
    """
    array = np.asarray(waveform)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"A waveform to be written is floats (T,), not {array.dtype} {array.shape}.")
    if not len(array) or not np.isfinite(array).all():
        raise AudioError("The waveform to be written holds no samples or some that are not finite numbers.")
    if isinstance(path, str | os.PathLike):
        suffix = Path(path).suffix.lower()
        if suffix not in _WRITTEN:
            raise UsageError(f"'{path}' does not end in one of {', '.join(_WRITTEN)}, which name a format to write.")
        with replacing(path, force, AudioError) as temporary:
            temporary.write_bytes(_encode(array, sample_rate, suffix))
    else:
        encoded = _encode(array, sample_rate, ".wav")
        try:
            path.write(encoded)
        except OSError as error:
            raise AudioError(f"The audio output cannot be written: {reason(error)}.") from error


def _spool_and_decode(stream: BinaryIO, sample_rate: int, name: str) -> np.ndarray:
    with tempfile.TemporaryFile() as file:
        shutil.copyfileobj(stream, file)
        file.seek(0)
        return _decode(file, sample_rate, name)


def _decode(file: BinaryIO, sample_rate: int, name: str) -> np.ndarray:
    if os.fstat(file.fileno()).st_size == 0:
        raise AudioError(f"{name} is empty.")
    try:
        with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            return _convert(_blocks(sound), sound.samplerate, sample_rate, name)
    except soundfile.SoundFileError as error:
        raise AudioError(f"{name} is not audio that can be read.") from error


def _blocks(sound: soundfile.SoundFile) -> Iterator[np.ndarray]:
    step = max(1, _CHUNK // sound.channels)
    while len(block := sound.read(step, dtype="float32", always_2d=True)):
        yield block


def _convert(blocks: Iterable[np.ndarray], sample_rate: float, target_rate: float, name: str) -> np.ndarray:
    """Mix blocks (frames, channels) to one channel, check them and resample them as one signal."""
    if not _RATES[0] <= sample_rate <= _RATES[1]:
        raise AudioError(f"{name} has a sample rate of {sample_rate} Hz, which is not one of audio.")
    resampler = soxr.ResampleStream(sample_rate, target_rate, 1, dtype="float32", quality="HQ")
    pieces = []
    with np.errstate(over="ignore", invalid="ignore"):  # such samples are reported as an error instead
        for block in blocks:
            mono = _finite(block.mean(axis=1, dtype=np.float64).astype(np.float32), name)
            pieces.append(resampler.resample_chunk(mono))
    if not pieces:
        raise AudioError(f"{name} holds no samples.")
    pieces.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    waveform = _finite(np.concatenate(pieces), name)
    return waveform if len(waveform) else np.zeros(1, np.float32)  # under half a sample at the new rate


def _finite(waveform: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(waveform).all():
        raise AudioError(f"{name} holds samples that are not finite numbers (NaN or infinity).")
    return waveform


def _encode(waveform: np.ndarray, sample_rate: int, suffix: str) -> memoryview:
    kind, subtype = _WRITTEN[suffix]
    encoded = io.BytesIO()
    try:
        with (
            soundfile.SoundFile(encoded, "w", sample_rate, 1, subtype, format=kind) as sound,
            ThreadPoolExecutor(1) as worker,
        ):
            for start in range(0, len(waveform), _CHUNK):  # libsndfile crashes on minutes of Vorbis in one call
                chunk = np.rint(waveform[start : start + _CHUNK].astype(np.float64) * 32768)
                worker.submit(sound.write, np.clip(chunk, -32768, 32767).astype(np.int16)).result()
    except soundfile.SoundFileError as error:
        raise AudioError(f"A {suffix} file at {sample_rate} Hz cannot be written.") from error
    return encoded.getbuffer()
