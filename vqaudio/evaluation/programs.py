"""Opus, Codec 2 and Speex, coded by the programs that their makers ship, so that the sizes are those of real files.

Every program gets the settings that serve speech best at few bits, its container included, as measured on ten files of
LibriSpeech:

- Opus (RFC 6716): in frames of 60 ms, and at full effort and a variable rate, as opusenc works by itself. Frames of
  20 ms, its default, take 0.7 to 0.8 kb/s more for the same ESTOI. No room is kept for tags, which by default is 512
  bytes. `--speech` changes no packet, for libopus finds that it is speech.
- Codec 2 (Rowe 2011): a `.c2` file, whose header of 7 bytes tells the decoder its mode. A frame takes whole bytes, so
  that the mode of 1300 b/s has 1400 b/s in the file, that of 700 has 800 and that of 450 has 600.
- Speex (Valin 2006): its wide band, which is that of the originals and which speexenc advises for 16 kHz, at full
  effort, with ten frames to a packet, which saves 0.6 kb/s. Neither band is better in everything. At 6 kb/s (qualities
  2 and 1) the narrow one has the worse PESQ (1.92 for 2.08) and speaker similarity (0.78 for 0.86) and the better ESTOI
  (0.76 for 0.72) and DNSMOS (2.74 for 2.57); at 4.2 kb/s (1 and 0) it is better in PESQ, ESTOI and DNSMOS.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vqaudio import audio
from vqaudio.errors import AudioError, UsageError
from vqaudio.evaluation.contenders import Coded, fitted
from vqaudio.evaluation.versions import versions

CODEC2_MODES = ("3200", "2400", "1600", "1400", "1300", "1200", "700C", "450")  # b/s, but for whole bytes in a frame
PATIENCE = 60.0  # seconds that a program may take, and as many more as the audio lasts
PROBE_SECONDS = 1.0  # of noise by which a program that tells no version is known


@dataclass(frozen=True)
class ProgramCodec:
    """A codec as two programs, which read and write files in the folder that they run in. A `Contender`.

    Attributes:
        name: as `vqaudio.evaluation.contenders.Contender` has it.
        package: of Debian, that brings the programs.
        encoder, decoder: the command lines, each with its input file before its output file at the end; `.raw` is
            16-bit samples without a header.
        sample_rate: of the waveforms that they read and write, Hz.
        frame: samples that the encoder takes at a time, of which it drops a part that is not whole.
        tells_version: whether the programs know `--version`.
    """

    name: str
    package: str
    encoder: tuple[str, ...]
    decoder: tuple[str, ...]
    sample_rate: int
    frame: int = 1
    tells_version: bool = True

    @property
    def identity(self) -> str:
        """Name, command lines, and versions as the programs tell them.

        Raises:
            UsageError: where a program is not there.
        """
        return f"{self.name}: {' '.join(self.encoder)}; {' '.join(self.decoder)}; {_make(self)}"

    def missing(self) -> str | None:
        """Why it cannot be used here, as the rest of a sentence."""
        for program in (self.encoder[0], self.decoder[0]):
            if shutil.which(program) is None:
                return f"its program {program} is not there; the Debian package {self.package} brings it"
        return None

    def code(self, waveform: np.ndarray, sample_rate: int) -> Coded:
        """Code and decode a waveform (T,) float32, which is clipped to [-1, 1], at `sample_rate` Hz.

        Raises:
            AudioError: where a program fails or does not end; it tells what the program said first.
            UsageError: where a program is not there.
        """
        prepared = audio.prepare(waveform, sample_rate, self.sample_rate)
        patience = PATIENCE + len(prepared) / self.sample_rate
        with tempfile.TemporaryDirectory(prefix="vqaudio-") as temporary:
            folder = Path(temporary)
            self._write(folder / self.encoder[-2], prepared)
            encode_seconds = self._run(self.encoder, folder, patience)
            size = (folder / self.encoder[-1]).stat().st_size
            decode_seconds = self._run(self.decoder, folder, patience)
            decoded = self._read(folder / self.decoder[-1])
        return Coded(
            size, fitted(decoded, self.sample_rate, len(waveform), sample_rate), encode_seconds, decode_seconds
        )

    def _write(self, path: Path, waveform: np.ndarray) -> None:
        waveform = np.pad(waveform, (0, -len(waveform) % self.frame))
        if path.suffix == ".raw":
            with open(path, "wb") as file:
                audio.write_raw(file, iter([waveform]))
        else:
            audio.write(path, waveform, self.sample_rate)

    def _read(self, path: Path) -> np.ndarray:
        if path.suffix == ".raw":
            return np.fromfile(path, "<i2")
        try:
            return audio.read(path, self.sample_rate)
        except AudioError as error:
            raise AudioError(
                f"The program {self.decoder[0]} of the codec '{self.name}' wrote no audio that can be read."
            ) from error

    def _run(self, command: tuple[str, ...], folder: Path, patience: float) -> float:
        """Run a program in a folder; the seconds that it took."""
        start = time.perf_counter()
        try:
            done = subprocess.run(
                command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=patience, errors="replace"
            )
        except OSError as error:
            raise UsageError(
                f"The program {command[0]} of the codec '{self.name}' cannot be run: {error.strerror}."
            ) from error
        except subprocess.TimeoutExpired as error:
            raise AudioError(
                f"The program {command[0]} of the codec '{self.name}' did not end in {patience:.0f} s."
            ) from error
        seconds = time.perf_counter() - start
        if done.returncode or not (folder / command[-1]).is_file():
            said = (done.stderr + done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
            raise AudioError(f"The program {command[0]} of the codec '{self.name}' failed: {said[0].strip('. ')}.")
        return seconds


def opus(kilobits: float) -> ProgramCodec:
    """Opus at a nominal rate in kb/s, 6 to 256. It decodes at 16 kHz, without delay."""
    options = ("--quiet", "--bitrate", f"{kilobits:g}", "--framesize", "60", "--padding", "0")
    return ProgramCodec(
        f"opus:{kilobits:g}",
        "opus-tools",
        ("opusenc", *options, "in.wav", "coded.opus"),
        ("opusdec", "--quiet", "--rate", "16000", "--no-dither", "coded.opus", "out.wav"),
        16000,
    )


def codec2(mode: str) -> ProgramCodec:
    """Codec 2 in one of `CODEC2_MODES`, at 8 kHz."""
    return ProgramCodec(
        f"codec2:{mode}",
        "codec2",
        ("c2enc", mode, "in.raw", "coded.c2"),
        ("c2dec", mode, "coded.c2", "out.raw"),
        8000,
        frame=160 if mode in ("3200", "2400") else 320,
        tells_version=False,
    )


def speex(quality: int) -> ProgramCodec:
    """Speex in wide band at a quality of 0 to 10.

    speexdec leaves out the delay of 223 samples, but not of files of one Ogg page, such as 4.6 s at quality 1.
    """
    options = ("--wideband", "--quality", str(quality), "--comp", "10", "--nframes", "10")
    return ProgramCodec(
        f"speex:{quality}",
        "speex",
        ("speexenc", *options, "in.wav", "coded.spx"),
        ("speexdec", "coded.spx", "out.wav"),
        16000,
    )


@functools.cache
def _make(codec: ProgramCodec) -> str:
    """The versions of what results depend on, found once in a process."""
    resampler = versions(())["soxr"]
    if codec.tells_version:
        return "; ".join((_version(codec.encoder[0]), _version(codec.decoder[0]), f"soxr {resampler}"))
    noise = 0.1 * np.random.default_rng(0).standard_normal(round(PROBE_SECONDS * codec.sample_rate))
    coded = codec.code(noise.astype(np.float32), codec.sample_rate)
    digest = hashlib.sha256(coded.decoded.tobytes()).hexdigest()
    return f"turns noise into {digest[:16]}; soxr {resampler}"


@functools.cache
def _version(program: str) -> str:
    """The first line that a program says of its version."""
    try:
        done = subprocess.run(
            (program, "--version"), stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"The program {program} does not tell its version: {error}.") from error
    return (done.stdout + done.stderr).partition("\n")[0].strip()
