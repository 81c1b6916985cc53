"""What pages stand on: figures, pictures and sounds come back out of a page as they went in."""

from __future__ import annotations

import base64
import io
import re
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import soundfile
from matplotlib.figure import Figure
from PIL import Image

from vqaudio.errors import UsageError
from vqaudio.evaluation import page
from vqaudio.evaluation.clips import COLOURS, DECIBELS, SECONDS, clips
from vqaudio.evaluation.log_mel import HOP, MELS

RATE = 16000


def payload(uri: str, kind: str) -> io.BytesIO:
    head, _, body = uri.partition(",")
    assert head == f"data:{kind};base64"
    return io.BytesIO(base64.b64decode(body, validate=True))


def pixels(uri: str) -> np.ndarray:
    """(height, width, 3), as a viewer sees it."""
    return np.asarray(Image.open(payload(uri, "image/png")).convert("RGB"))


def plot() -> Figure:
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], [1, 0])
    axes.set_title("<&> 'quoted'")
    return figure


def test_a_sound_comes_back_within_half_a_step_of_16_bits() -> None:
    waveform = np.random.default_rng(0).uniform(-0.99, 0.99, 5000).astype(np.float32)
    heard, rate = soundfile.read(payload(page.sound(waveform, RATE), "audio/flac"), dtype="float64")
    assert rate == RATE and heard.shape == waveform.shape
    assert np.abs(heard - waveform).max() < 1.5 / 32768  # libsndfile scales by 32767


def test_a_sound_too_loud_is_clipped_and_does_not_wrap() -> None:
    heard, _ = soundfile.read(payload(page.sound(np.array([2.0, -2.0] * 4000, np.float32), RATE), "audio/flac"))
    assert heard[::2].min() > 0.999 and heard[1::2].max() < -0.999


def test_a_picture_has_the_colours_of_its_levels() -> None:
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 64, (20, 30)).astype(np.uint8)
    colours = rng.integers(0, 256, (64, 3)).astype(np.uint8)
    assert np.array_equal(pixels(page.picture(levels, colours)), colours[levels])


def test_a_figure_is_well_formed_svg_with_a_description() -> None:
    root = ElementTree.fromstring(page.svg(plot(), "first", 'better & "higher"'))
    assert root.tag.endswith("svg") and root.get("viewBox")
    assert root.get("role") == "img" and root.get("aria-label") == 'better & "higher"'
    assert root.get("width") is None  # as wide as what it stands in


def test_the_parts_of_two_figures_cannot_be_confused() -> None:
    first, second = page.svg(plot(), "first", ""), page.svg(plot(), "second", "")
    ids = [set(re.findall(r'\sid="([^"]+)"', svg)) for svg in (first, second)]
    assert ids[0] and not ids[0] & ids[1]
    for svg, own in zip((first, second), ids, strict=True):
        used = set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg))
        assert used and used <= own


def test_the_name_of_a_figure_is_no_markup() -> None:
    svg = page.svg(plot(), 'x"><script>\\q', "")
    assert "<script" not in svg and ElementTree.fromstring(svg).tag.endswith("svg")


def test_the_same_figure_is_the_same_svg() -> None:
    assert page.svg(plot(), "name", "") == page.svg(plot(), "name", "")


@pytest.mark.parametrize(("module", "package"), page.NEEDED.items())
def test_a_missing_package_is_named(module: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    page.check()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"{package}; pip install 'vqaudio\[eval\]'"):
        page.check()


def test_a_spectrogram_shows_a_tone_where_it_is() -> None:
    import librosa

    time = np.arange(RATE) / RATE
    low, high = (np.sin(2 * np.pi * frequency * time).astype(np.float32) for frequency in (400, 3000))
    found = clips({"low": low, "high": high}, RATE)
    centres = librosa.mel_frequencies(MELS + 2, fmin=0, fmax=RATE / 2)[1:-1]
    for clip, frequency in zip(found, (400, 3000), strict=True):
        seen = pixels(clip.spectrogram).sum(axis=2)
        assert seen.shape == (MELS, 1 + RATE // HOP)
        row = seen[::-1].sum(axis=1).argmax()  # counted from the lowest frequency
        assert abs(row - np.abs(centres - frequency).argmin()) <= 1


def test_spectrograms_have_the_scale_of_the_first() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    loud, quiet, silent = clips({"a": noise, "b": noise / 100, "c": np.zeros_like(noise)}, RATE)
    brightness = [pixels(clip.spectrogram).sum(axis=2).max() for clip in (loud, quiet, silent)]
    assert brightness[0] > brightness[1] > brightness[2]
    darkest = pixels(silent.spectrogram)
    assert (darkest == darkest[0, 0]).all()
    # 40 dB of the 80 that are shown are half of the colours
    levels = [np.asarray(Image.open(payload(clip.spectrogram, "image/png"))).max() for clip in (loud, quiet)]
    assert levels[0] - levels[1] == pytest.approx(40 / DECIBELS * (COLOURS - 1), abs=1)


def test_long_speech_is_cut() -> None:
    waveform = np.random.default_rng(0).uniform(-0.1, 0.1, int((SECONDS + 2) * RATE)).astype(np.float32)
    (clip,) = clips({"long": waveform}, RATE)
    assert clip.seconds == SECONDS
    heard, _ = soundfile.read(payload(clip.sound, "audio/flac"))
    assert len(heard) == SECONDS * RATE
