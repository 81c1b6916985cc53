"""Bars of progress, as a terminal shows them."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vqaudio.cli.progress import note, skipped


def seen_on_a_terminal(code: str) -> str:
    """What a Python program writes to standard error where that is a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen([sys.executable, "-c", code], stderr=theirs, env=environment)
    os.close(theirs)
    seen: list[bytes] = []

    def read() -> None:
        try:
            while piece := os.read(ours, 4096):
                seen.append(piece)
        except OSError:  # the other end is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    assert process.wait(60) == 0
    reader.join()
    os.close(ours)
    return b"".join(seen).decode()


def test_a_bar_with_the_time_left_follows_the_sound() -> None:
    code = """
import time, numpy
from vqaudio.cli.progress import watching
with watching("encode", False) as watch:
    for _ in watch((numpy.zeros(1600) for _ in range(4)), 0.4, 16000):
        time.sleep(0.15)
"""
    seen = seen_on_a_terminal(code)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    assert "encode" in plain and re.search(r"left: +0:00:0\d", plain)


def test_a_bar_counts_the_files_of_a_tree() -> None:
    code = """
import time
from vqaudio.cli.progress import progress
with progress("decode", 3) as advance:
    for _ in range(3):
        time.sleep(0.15)
        advance()
"""
    seen = seen_on_a_terminal(code)
    assert "decode" in seen and "1/3" in seen and "left:" in seen


@pytest.mark.parametrize("body", ["watching('encode', True)", "progress('encode', 3, True)"])
def test_quiet_shows_none_there_either(body: str) -> None:
    assert seen_on_a_terminal(f"from vqaudio.cli.progress import *\nwith {body}: pass") == ""


def test_a_bar_without_an_end_counts_nothing() -> None:
    seen = seen_on_a_terminal("from vqaudio.cli.progress import *\nwith progress('align', None): pass")
    assert "align" in seen and "left:" not in seen and "/" not in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)


def test_names_in_notes_do_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    note("'\x1b[31m.wav'")
    skipped("'\x1b[2J.wav' is bad.")
    assert capsys.readouterr().err == "'\\x1b[31m.wav'\nSkipped: '\\x1b[2J.wav' is bad.\n"


def test_the_command_shows_one(tiny_codec: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", np.zeros(16000), 16000)
    words = ["encode", str(tmp_path / "in.wav"), str(tmp_path / "out.codes"), "--model", str(tiny_codec)]
    seen = seen_on_a_terminal(f"from vqaudio.cli import main; main({words!r}, standalone_mode=False)")
    assert "encode" in seen and "left:" in seen
