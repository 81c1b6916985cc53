"""The command line, run in this process or as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from vqaudio.cli import main

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, tiny_codec: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `vqaudio ARGUMENTS` in a fresh folder; those that code take the tiny codec unless told otherwise."""
    monkeypatch.chdir(tmp_path)

    def invoke(verb: str, *arguments: object, stdin: bytes | None = None) -> Result:
        words = [verb, *map(str, arguments)]
        if verb in ("encode", "decode", "convert") and "--model" not in words:
            words += ["--model", str(tiny_codec)]
        return CliRunner().invoke(main, words, input=stdin, catch_exceptions=False)

    return invoke


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Start `vqaudio ARGUMENTS` as a process in a fresh folder, with pipes."""

    def popen(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        pipes: dict[str, object] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(  # type: ignore[call-overload]
            [sys.executable, "-m", "vqaudio", *map(str, arguments)],
            cwd=tmp_path,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # the tests may run under nohup
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
            **(pipes | options),
        )

    return popen


@pytest.fixture
def wav(tmp_path: Path, tone: np.ndarray) -> Path:
    """A WAV file of half a second."""
    path = tmp_path / "in.wav"
    soundfile.write(path, tone, 16000)
    return path


@pytest.fixture
def codes_file(run: Run, wav: Path, tmp_path: Path) -> Path:
    """The codes of `wav` under the tiny codec."""
    path = tmp_path / "in.codes"
    assert run("encode", wav, path).exit_code == 0
    return path
