"""`vqaudio evaluate --report` from the shell's side."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from vqaudio import audio
from vqaudio.cli import main


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three seconds of noise in three files, of which one has a name that is no text; and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "speech"
    folder.mkdir()
    for index, name in enumerate(("0.wav", "1.wav", "\udcff.wav")):
        audio.write(folder / name, np.random.default_rng(index).uniform(-0.1, 0.1, 16000), 16000)
    return folder


def run(*arguments: object) -> Result:
    """The command's result; an exception that is no exit is raised."""
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments), "--jobs", "1"], catch_exceptions=False)


def test_the_report_lets_one_hear_every_file(directory: Path, tiny_codec: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.html"
    result = run(directory, "--model", tiny_codec, "--metrics", "mel", "--report", target)
    assert result.exit_code == 0, result.output
    page = target.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and page.count("<audio ") == 6 and "<h1>tiny" in page
    assert not list(tmp_path.glob(".*.part"))


def test_a_report_replaces_nothing_unasked_and_says_so_at_once(
    directory: Path, tiny_codec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.html"
    target.write_text("precious")
    monkeypatch.setattr("vqaudio.load", lambda *_, **__: pytest.fail("too late"))
    result = run(directory, "--model", tiny_codec, "--report", target)
    assert result.exit_code == 2 and "--force" in result.output and target.read_text() == "precious"


def test_a_report_without_its_packages_is_refused_at_once(
    directory: Path, tiny_codec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setattr("vqaudio.load", lambda *_, **__: pytest.fail("too late"))
    result = run(directory, "--model", tiny_codec, "--report", tmp_path / "out.html")
    assert result.exit_code == 2 and "jinja2" in result.output and "vqaudio[eval]" in result.output
    assert not (tmp_path / "out.html").exists()
