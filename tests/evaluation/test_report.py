"""The report as a reader gets it: what stands in the page, and what a browser makes of it without a network."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
from markupsafe import Markup

from tests.browser import CHROMIUM, Tab, browser
from tests.pages import INSPECT, Elements, check_alone
from vqaudio import audio
from vqaudio.errors import AudioError
from vqaudio.evaluation import page, report
from vqaudio.evaluation.contenders import Coded, Contender, Original
from vqaudio.evaluation.log_mel import MELS
from vqaudio.evaluation.metrics import select
from vqaudio.evaluation.results import Evaluation, Result, Utterance
from vqaudio.evaluation.speech import Item

RATE = 16000
METRICS = select(["estoi", "mel"])


class Muffled:
    """A codec that keeps what lies below a frequency."""

    def __init__(self, name: str, bit_rate: float, cutoff: float) -> None:
        self.name, self.identity, self.bit_rate, self.cutoff = name, f"{name}, for tests", bit_rate, cutoff

    def code(self, waveform: np.ndarray, sample_rate: int) -> Coded:
        low = scipy.signal.butter(4, self.cutoff, fs=sample_rate, output="sos")
        decoded = scipy.signal.sosfiltfilt(low, waveform).astype(np.float32)
        return Coded(round(self.bit_rate * len(waveform) / sample_rate / 8), decoded, 0.01, 0.01)


class Vanished(Muffled):
    """A codec that cannot any more."""

    def code(self, waveform: np.ndarray, sample_rate: int) -> Coded:
        raise AudioError("The program opusenc is gone.")


CODECS = (Muffled("ours", 1000, 2000), Muffled("opus:6", 6000, 3000), Muffled("opus:12", 12000, 6000))
RUN = report.Run(
    "vqaudio evaluate 'my <speech>' --report out.html",
    "my <speech>",
    {"python": "3.11", "torch": "2.11"},
    ["The metric 'pesq' is left out & missed."],
    datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc),
)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    """Three files of modulated noise, 1 to 12 seconds, one with markup in its name and in its transcript."""
    root = tmp_path_factory.mktemp("speech")
    items = []
    for index, (name, seconds) in enumerate((("a.wav", 1), ("b <i>&amp.wav", 2), ("long.wav", 12))):
        rng = np.random.default_rng(index)
        waveform = rng.standard_normal(seconds * RATE) * np.repeat(rng.random(seconds * 20), RATE // 20)
        audio.write(root / name, 0.3 * waveform / np.abs(waveform).max(), RATE)
        items.append(Item(root / name, "somebody", "A <b>BOLD</b> WORD" if index == 1 else None))
    return items


@pytest.fixture(scope="module")
def measured(speech: list[Item]) -> Evaluation:
    """Three codecs, measured, and a file that was skipped."""
    everybody: tuple[Contender, ...] = (Original(), *CODECS)
    evaluation = Evaluation(METRICS, [Result(c.name, c.identity) for c in everybody])
    for item in speech:
        reference = audio.read(item.path, RATE)
        for result, contender in zip(evaluation.results, everybody, strict=True):
            result.utterances.append(_measure(item, contender, reference))
    evaluation.skipped.append(("bad.wav", "'bad.wav' is <not> audio."))
    return evaluation


def _measure(item: Item, contender: Contender, reference: np.ndarray) -> Utterance:
    coded = contender.code(reference, RATE)
    values = {metric.name: metric.function(reference, coded.decoded, RATE) for metric in METRICS}
    weights = dict.fromkeys(values, 1.0)
    return Utterance(str(item.path), len(reference) / RATE, coded.size, 0.01, 0.01, 0, values, weights)


@pytest.fixture(scope="module")
def rendered(measured: Evaluation, speech: list[Item]) -> str:
    """The whole page, with a section of its own."""
    section = report.Section("conversion", "Voice <conversion>", Markup("<p id=mine>A table</p>"))
    return report.render(measured, RUN, CODECS, speech, [section])


def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(rendered: str) -> None:
    check_alone(rendered)


def test_links_and_names_in_the_page_fit(rendered: str) -> None:
    elements = Elements(rendered)
    names = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(set(names)) == len(names)
    targets = {(a["href"] or "")[1:] for a in elements.of("a")}
    assert targets <= set(names) and "conversion" in targets


def test_it_can_be_read_without_eyes(rendered: str) -> None:
    elements = Elements(rendered)
    assert elements.of("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in elements.found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))
    assert all(image["alt"] for image in elements.of("img"))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in elements.of("svg"))
    assert all(player["aria-label"] and "controls" in player for player in elements.of("audio"))
    assert all(cell.get("scope") in ("col", "row") for cell in elements.of("th"))


def test_every_codec_can_be_heard_and_seen_on_every_chosen_file(rendered: str, speech: list[Item]) -> None:
    elements = Elements(rendered)
    expected = {f"{item.path}, {name}" for item in speech for name in ("original", "ours", "opus:6", "opus:12")}
    assert {player["aria-label"] for player in elements.of("audio")} == expected
    assert {image["alt"] for image in elements.of("img")} == {f"Spectrogram of {what}" for what in expected}
    assert len(elements.of("svg")) == 2 * len(METRICS)
    assert len(elements.of("article")) == 3


def test_the_originals_sound_as_they_are_in_their_file(rendered: str, speech: list[Item]) -> None:
    players = {player["aria-label"]: player["src"] or "" for player in Elements(rendered).of("audio")}
    reference = audio.read(speech[0].path, RATE)
    assert players[f"{speech[0].path}, original"] == page.sound(reference, RATE)
    muffled = CODECS[0].code(reference, RATE).decoded
    assert players[f"{speech[0].path}, ours"] == page.sound(muffled, RATE)


def test_what_it_says_is_text_and_never_markup(rendered: str) -> None:
    for said in (RUN.command, RUN.notes[0], "'bad.wav' is <not> audio.", "A <b>BOLD</b> WORD", "Voice <conversion>"):
        assert said not in rendered and Markup.escape(said) in rendered
    assert "<p id=mine>A table</p>" in rendered  # but a section is markup already
    assert "2026-01-02" in rendered and "torch 2.11" in rendered and "opus:6, for tests" in rendered
    assert "12.0 s, the first 10 s here" in rendered


def test_a_codec_that_fails_the_second_time_costs_the_sounds_alone(measured: Evaluation, speech: list[Item]) -> None:
    steps: list[int] = []
    contenders = (CODECS[0], Vanished("opus:6", 1, 1), CODECS[2])
    text = report.render(measured, RUN, contenders, speech, advance=lambda: steps.append(1))
    elements = Elements(text)
    assert not elements.of("audio") and text.count("The program opusenc is gone.") == 3 == len(steps)
    assert len(elements.of("svg")) == 2 * len(METRICS)


def test_one_codec_without_metrics_makes_a_page_too(measured: Evaluation, speech: list[Item]) -> None:
    bare = Evaluation((), measured.results[:2])
    elements = Elements(report.render(bare, RUN, CODECS[:1], speech))
    assert not elements.open and not elements.of("svg") and len(elements.of("audio")) == 6


# Plays two sounds, the second a little later, and says which is still playing.
PLAY_TWO = """
(async () => {
  const [first, second] = document.querySelectorAll("audio");
  first.muted = second.muted = true;
  await first.play();
  const alone = !first.paused;
  await second.play();
  return [alone, first.paused, second.paused];
})()
"""


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    """A browser."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with browser() as opened:
        yield opened


@pytest.fixture
def place(rendered: str, tmp_path: Path) -> Path:
    """The page as a file."""
    path = tmp_path / "report.html"
    path.write_text(rendered, encoding="utf-8")
    return path


def test_a_browser_shows_and_plays_everything(tab: Tab, place: Path) -> None:
    tab.problems.clear()
    tab.open(place, width=1400)
    seen = tab.evaluate(INSPECT)
    assert tab.problems == []
    assert sorted({round(duration, 2) for duration in seen["durations"]}) == [1.0, 2.0, 10.0]
    assert len(seen["durations"]) == len(seen["pictures"]) == 12
    assert all(width > 50 and height == MELS for width, height in seen["pictures"])
    assert len(seen["plots"]) == 2 * len(METRICS)
    assert all(min(sizes) > 100 for sizes in seen["plots"])
    assert seen["wide"] <= 1400


def test_it_fits_a_telephone_and_the_night(tab: Tab, place: Path) -> None:
    tab.open(place, width=400, dark=True)
    seen = tab.evaluate(INSPECT)
    assert seen["wide"] <= 400  # tables scroll by themselves
    assert all(min(sizes) > 100 and sizes[0] < 400 for sizes in seen["plots"])
    background, text = ([int(n) for n in re.findall(r"\d+", seen[what])[:3]] for what in ("background", "text"))
    assert max(background) < 64 and min(text) > 192


def test_one_player_plays_at_a_time(tab: Tab, place: Path) -> None:
    tab.open(place, width=1400)
    tab.call("Runtime.evaluate", expression="0", userGesture=True)
    assert tab.evaluate(PLAY_TWO) == [True, True, False]


def test_what_goes_wrong_in_a_page_would_be_noticed(tab: Tab, rendered: str, tmp_path: Path) -> None:
    wrong = '<img src="https://example.org/x.png" alt="x"><script>nothing()</script></main>'
    broken = re.sub(r'src="data:audio/flac;base64,[^"]{400}', 'src="data:audio/flac;base64,', rendered, count=1)
    path = tmp_path / "broken.html"
    path.write_text(broken.replace("</main>", wrong), encoding="utf-8")
    tab.problems.clear()
    tab.open(path, width=1400)
    assert any("nothing is not defined" in problem for problem in tab.problems)
    assert any("ERR_NAME_NOT_RESOLVED" in problem for problem in tab.problems)
    loads = INSPECT.replace("await image.decode();", "")
    assert tab.evaluate(loads)["durations"].count(0) == 1
