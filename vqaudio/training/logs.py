"""What a run tells of itself: JSON lines for machines, TensorBoard for eyes and ears, one line at a time for people.

Its samples are also kept as files, for `vqaudio report`.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import torch
from rich.console import Console
from torch import Tensor

from vqaudio import audio
from vqaudio.errors import AudioError, TrainingError
from vqaudio.extras import tensorboard
from vqaudio.files import reason
from vqaudio.training.samples import sample_path

LONGEST_LINE = 1 << 16  # bytes


class Log:
    """The log of one run. Only the process that writes has one.

    Args:
        directory: of the run; `log.jsonl` and the TensorBoard files go there.
        quiet: whether to leave the terminal alone.

    Raises:
        TrainingError: where a file cannot be written, now or later.
    """

    def __init__(self, directory: Path, quiet: bool = False) -> None:
        self._directory = directory
        with self._writing():
            self._file = open(directory / "log.jsonl", "a+b")  # noqa: SIM115
            drop_torn_line(self._file)
            self._board = tensorboard().SummaryWriter(directory / "tensorboard")
        self._console = Console(stderr=True, quiet=quiet, highlight=False, markup=False)

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._writing(), contextlib.closing(self._board), self._file:
                pass
        except TrainingError:
            if value is None:  # else what came first is what to tell
                raise

    def numbers(self, step: int, stage: str, kind: str, values: dict[str, float]) -> None:
        """Log named numbers; `kind` is "train" or "validation"."""
        entry = {"time": round(time.time(), 1), "step": step, "stage": stage, "kind": kind}
        line = json.dumps(entry | {name: float(f"{value:.6g}") for name, value in values.items()})
        with self._writing():
            self._file.write(line.encode() + b"\n")
            self._file.flush()
            for name, value in values.items():
                self._board.add_scalar(f"{kind}/{name}", value, step)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        self._console.print(f"{stage} {step} {kind}: {shown}", soft_wrap=True)

    def say(self, sentence: str) -> None:
        """Tell the terminal something that is not a number."""
        self._console.print(sentence, soft_wrap=True)

    def audio(self, step: int, name: str, waveform: Tensor, sample_rate: int) -> None:
        """Log a waveform (T,) and its spectrogram, and keep it as the FLAC file of `sample_path`."""
        waveform = waveform.detach().float().cpu().nan_to_num().clamp(-1, 1)
        path = sample_path(self._directory, step, name)
        with self._writing():
            self._board.add_audio(f"audio/{name}", waveform[None], step, sample_rate)
            self._board.add_image(f"spectrogram/{name}", spectrogram(waveform), step)
            path.parent.mkdir(exist_ok=True)
            audio.write(path, waveform.numpy(), sample_rate, force=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """One sentence for what stops the files."""
        try:
            yield
        except AudioError as error:
            raise TrainingError(str(error)) from error
        except OSError as error:
            raise TrainingError(f"The log in '{self._directory}' cannot be written: {reason(error)}.") from error


def drop_torn_line(file: BinaryIO) -> None:
    """Cut off the end of a file of lines that a full disk or a kill left without its newline."""
    end = file.seek(0, os.SEEK_END)
    start = file.seek(max(0, end - LONGEST_LINE))
    whole = start + file.read(end - start).rfind(b"\n") + 1
    if whole < end:
        file.truncate(whole)


def spectrogram(waveform: Tensor) -> Tensor:
    """A waveform (T,) as a grey picture (1, bins, frames): log magnitude over 80 dB, low frequencies at the bottom."""
    spectrum = torch.stft(
        waveform, 512, 128, window=torch.hann_window(512), pad_mode="constant", return_complex=True
    ).abs()
    level = 20 * torch.log10(spectrum / spectrum.max().clamp(min=1e-5) + 1e-5)
    return (level / 80 + 1).clamp(0, 1).flip(0)[None]
