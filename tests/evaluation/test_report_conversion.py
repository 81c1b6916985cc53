"""Voice conversion in the report and in the command: what the section says, and the pairs that it lets one hear."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import vqaudio
from vqaudio import audio
from vqaudio.cli import main
from vqaudio.evaluation import conversion, report_conversion
from vqaudio.evaluation.conversion import CONVERTED, DECODED, ORIGINAL, REFERENCE, Conversion, Likeness, Measured
from vqaudio.evaluation.pairs import Pair, pairs
from vqaudio.evaluation.speech import items

RATE = 16000


@pytest.fixture
def speakers(tmp_path: Path) -> Path:
    """Two speakers, a loud high and a faint low buzz, with two utterances of two seconds each."""
    # so unlike each other that an untrained model, too, hears two voices
    for name, pitch, level in (("anna", 220, 0.2), ("bert", 110, 0.01)):
        (tmp_path / "speech" / name).mkdir(parents=True)
        for index in range(2):
            time = np.arange(2 * RATE) / RATE
            buzz = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 20))
            loudness = np.repeat(np.random.default_rng(index).random(40), RATE // 20)
            audio.write(tmp_path / "speech" / name / f"{index}.wav", (level * buzz * loudness).astype(np.float32), RATE)
    return tmp_path / "speech"


def measured(found: list[Pair], to_target: list[float]) -> Conversion:
    """Pairs with these likenesses to the target once converted."""
    rest = Likeness(0.25, 0.75)
    return Conversion(
        (),
        [
            Measured(
                pair, 2.0, {ORIGINAL: rest, DECODED: rest, CONVERTED: Likeness(value, 0.5), REFERENCE: rest}, {}, {}
            )
            for pair, value in zip(found, to_target, strict=True)
        ],
    )


def test_the_pairs_to_hear_reach_from_the_least_to_the_most_alike(speakers: Path) -> None:
    likenesses = [0.3, 0.9, 0.1, math.nan, 0.5, 0.7, 0.2, 0.8]
    chosen = report_conversion.choose(measured(pairs(items(speakers), 8), likenesses))
    assert [m.likeness[CONVERTED].target for m in chosen] == [0.1, 0.3, 0.7, 0.9]
    one = report_conversion.choose(measured(pairs(items(speakers), 1), [0.4]))
    assert len(one) == 1


def test_the_section_says_what_was_measured_and_plays_it(speakers: Path, tiny_codec: Path) -> None:
    done: list[int] = []
    result = measured(pairs(items(speakers), 2), [0.75, 0.125])
    page = report_conversion.render(result, vqaudio.load(tiny_codec), None, lambda: done.append(1))
    assert "<strong>50 (0 to 100) %</strong>" in page  # one of two is nearer to the target
    assert "0.250 (0.250 to 0.250)" in page and "0.438 (0.125 to 0.750)" in page
    assert page.index("to the target 0.125") < page.index("to the target 0.750")
    assert page.count("<audio") == page.count("data:audio/flac") == 8 and len(done) == 2


def test_evaluate_converts_voices_on_request(
    speakers: Path, tiny_codec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    record, page, figure = (tmp_path / name for name in ("out.json", "out.html", "out.png"))
    options = ["--jobs", "1", "--model", str(tiny_codec), "--metrics", "mel", "--limit", "1", "--json", str(record)]
    options += ["--conversion", "2", "--report", str(page), "--figure", str(figure)]
    result = CliRunner().invoke(main, ["evaluate", str(speakers), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "voices of 2 pairs" in result.output
    kept = json.loads(record.read_text())
    assert kept["files"] == 1 and kept["conversion"]["pairs"] == 2
    assert {m["source_speaker"] for m in kept["conversion"]["measured"]} == {"anna", "bert"}
    assert "Voice conversion" in page.read_text() and figure.read_bytes()[1:4] == b"PNG"


def test_pairs_convert_as_the_section_plays_them(speakers: Path, tiny_codec: Path) -> None:
    load = functools.partial(vqaudio.load, tiny_codec, threads=1)
    (pair,) = pairs(items(speakers), 1)
    heard = conversion.sounds(load(), pair)
    assert not np.array_equal(heard.decoded, heard.converted)
    assert conversion.evaluate(load, [pair]).pairs[0].seconds == 2.0
