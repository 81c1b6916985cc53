"""demo: what a newcomer sees first."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import soundfile

from vqaudio import Codes


def said(text: str, name: str) -> str:
    found = re.search(rf"^{name} +(.*)$", text, re.MULTILINE)
    assert found, f"{name} is not in:\n{text}"
    return found[1]


def check(text: str, folder: Path) -> None:
    """What was printed is what lies there."""
    codes = Codes.load(folder / said(text, "Codes"))
    size = (folder / said(text, "Codes")).stat().st_size
    original, decoded = (soundfile.info(folder / said(text, name)) for name in ("Original", "Decoded"))
    assert original.frames == decoded.frames == codes.samples
    assert said(text, "Duration") == f"{codes.seconds:.2f} s"
    assert said(text, "Size").startswith(f"{size:,} bytes")
    assert said(text, "Bit rate").startswith(f"{8 * size / codes.seconds / 1000:.2f} kb/s")
    for way in ("Encode", "Decode"):
        assert float(said(text, way).split()[0]) > 0


@pytest.mark.usefixtures("tiny_default")
def test_every_run_gets_a_folder_of_its_own(run, tmp_path: Path) -> None:
    (tmp_path / "vqaudio-demo").write_text("a file of the user's")
    for name in ("vqaudio-demo-2", "vqaudio-demo-3"):
        result = run("demo")
        assert result.exit_code == 0
        assert Path(said(result.stdout, "Codes")).parent.name == name
        check(result.stdout, tmp_path)
    assert (tmp_path / "vqaudio-demo").read_text() == "a file of the user's"


def test_the_shipped_model(run, tmp_path: Path) -> None:
    result = run("demo")
    assert result.exit_code == 0, result.stderr
    check(result.stdout, tmp_path)
    assert float(said(result.stdout, "Bit rate").split()[0]) < 2.0  # under the prior; at fixed width it is 2.3
