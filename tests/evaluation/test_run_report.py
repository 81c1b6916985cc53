"""The page of a training run: its numbers are those of the log, and a browser shows all of it without a network."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.browser import CHROMIUM, Tab, browser
from tests.pages import INSPECT, Elements, check_alone
from vqaudio import audio
from vqaudio.errors import VqaudioError
from vqaudio.evaluation.log_mel import MELS
from vqaudio.evaluation.run_figures import curves, panels
from vqaudio.evaluation.run_log import TRAIN, Entry, read_log, read_run
from vqaudio.evaluation.run_report import Reference, find_reference, render
from vqaudio.training.recipe import PriorRecipe, load_recipe, override, to_json
from vqaudio.training.samples import sample_path

RATE = 16000


def write_log(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def entry(step: int, stage: str, kind: str = "train", **figures: Any) -> dict[str, Any]:
    return {"time": 1e9 + step, "step": step, "stage": stage, "kind": kind, **figures}


@pytest.fixture
def codec_run(tmp_path: Path) -> Path:
    """A run of 300 steps in two stages, stopped at step 250, with samples at two steps."""
    folder = tmp_path / "run"
    folder.mkdir()
    settings = ["name=<mine>", "stages.codes.steps=100", "stages.decoder.steps=200", "stages.together.steps=0"]
    recipe = override(load_recipe("folder"), settings)
    (folder / "recipe.json").write_text(to_json(recipe))
    codes: dict[str, Any] = {
        "codebook": 0.0,
        "perplexity_0": 12.0,
        "used_codes_0": 16.0,
        "perplexity_1": 3.5,
        "used_codes_1": 4.0,
    }
    lines = [entry(50, "codes", mel=0.75, times_real_time=11.0, **codes)]
    lines += [entry(100, "codes", mel=0.5, times_real_time=12.0, **codes), entry(100, "codes", "validation", mel=0.625)]
    lines += [
        entry(200, "decoder", mel=0.4444, spectral=2.25),
        entry(200, "decoder", "validation", mel=0.5555, odd_one=7.0),
    ]
    lines += [entry(250, "decoder", mel=0.4321, spectral=2.125)]
    write_log(folder / "log.jsonl", lines)
    for step, seed in ((100, 1), (200, 2)):
        for name in ("original", "spectral"):
            path = sample_path(folder, step, name)
            path.parent.mkdir(exist_ok=True)
            audio.write(path, np.random.default_rng(seed).uniform(-0.1, 0.1, RATE // 2), RATE)
    return folder


@pytest.fixture
def reference() -> Reference:
    values = [("codes", 90, "train", 0.9), ("decoder", 190, "train", 0.85), ("decoder", 190, "validation", 0.8)]
    values.append(("decoder", 260, "train", 0.7))
    return Reference("another & run", [Entry(step, stage, kind, {"mel": mel}) for stage, step, kind, mel in values])


def table(html: str) -> dict[str, list[str]]:
    """The cells of the latest figures by their row, the headings under the name of their column."""
    text = html[html.index("<table>") : html.index("</table>")]
    rows = re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)
    cells = [[re.sub("<[^>]+>", " ", cell).split() for cell in re.findall("<t[hd].*?</t[hd]>", row)] for row in rows]
    return {" ".join(first): [" ".join(cell) for cell in rest] for first, *rest in cells}


def test_the_numbers_are_the_latest_of_the_log(codec_run: Path) -> None:
    html = render(read_run(codec_run), None)
    assert table(html) == {
        "figure": ["training step 250", "validation step 200"],
        "log-mel distance of the conditioning": ["0.4321", "0.5555"],
        "spectral loss of the decoder": ["2.125", "-"],
        "odd one": ["-", "7"],
    }
    assert "at step 250 of 300" in html and "<em>decoder</em>" in html
    assert "&lt;mine&gt;" in html and "<mine>" not in html


def test_a_reference_stands_beside_as_it_was_at_that_step_of_the_stage(codec_run: Path, reference: Reference) -> None:
    html = render(read_run(codec_run), reference)
    found = table(html)
    assert found["figure"] == [
        "training step 250",
        "reference step 190",
        "validation step 200",
        "reference step 190",
    ]
    assert found["log-mel distance of the conditioning"] == ["0.4321", "0.85", "0.5555", "0.8"]
    assert "Grey is another &amp; run." in html
    alone = table(render(read_run(codec_run), Reference("x", reference.entries[:1])))  # it was never in this stage
    assert alone["figure"] == ["training step 250", "validation step 200"]


def test_every_figure_has_a_panel_and_quantisers_share_one(codec_run: Path) -> None:
    found = {panel.name: panel.figures for panel in panels(read_run(codec_run).entries)}
    assert found == {
        "mel": ["mel"],
        "spectral": ["spectral"],
        "perplexity": ["perplexity_0", "perplexity_1"],
        "used_codes": ["used_codes_0", "used_codes_1"],
        "times_real_time": ["times_real_time"],
        "odd_one": ["odd_one"],
    }  # a codebook loss that is zero throughout says nothing


def test_counts_have_whole_ticks() -> None:
    entries = [Entry(step, "codes", TRAIN, {"used_codes_0": value}) for step, value in ((1, 3.0), (2, 4.0))]
    (panel,) = panels(entries)
    (axes,) = curves(panel, entries, [], []).axes
    assert all(float(tick).is_integer() for tick in axes.get_yticks())


def test_curves_go_through_the_figures_and_break_between_stages(codec_run: Path, reference: Reference) -> None:
    run = read_run(codec_run)
    (panel,) = (panel for panel in panels(run.entries) if panel.name == "mel")
    (axes,) = curves(panel, run.entries, reference.entries, run.plan.stages).axes
    drawn = [(line.get_color(), np.array(line.get_xydata(), float)) for line in axes.lines]
    own = [points for colour, points in drawn if colour == "#b3261e" and len(points)]
    nan = [np.nan, np.nan]
    np.testing.assert_array_equal(own[0], [[50, 0.75], [100, 0.5], nan, [200, 0.4444], [250, 0.4321], nan])
    np.testing.assert_array_equal(own[1], [[100, 0.625], nan, [200, 0.5555], nan])
    grey = [points for colour, points in drawn if colour == "#757575"]
    np.testing.assert_array_equal(grey[0], [[90, 0.9], nan, [190, 0.85], [260, 0.7], nan])
    np.testing.assert_array_equal(grey[1], [[190, 0.8], nan])
    np.testing.assert_array_equal(grey[2][:, 0], [100, 100])  # where the second stage begins
    assert [text.get_text() for text in axes.texts] == ["codes", "decoder"]


def test_the_page_stands_alone(codec_run: Path, reference: Reference) -> None:
    html = render(read_run(codec_run), reference)
    check_alone(html)
    elements = Elements(html)
    names = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(set(names)) == len(names)
    assert {(a["href"] or "")[1:] for a in elements.of("a")} <= set(names)
    assert len(elements.of("audio")) == len(elements.of("img")) == 4 and len(elements.of("svg")) == 6
    assert all(svg["aria-label"] for svg in elements.of("svg"))


def test_a_sample_that_cannot_be_read_says_so_in_its_place(codec_run: Path) -> None:
    sample_path(codec_run, 100, "spectral").write_bytes(b"no sound")
    html = render(read_run(codec_run), None)
    assert "100-spectral.flac" in html and len(Elements(html).of("audio")) == 2


def test_a_finished_prior_without_samples(tmp_path: Path) -> None:
    recipe = override(load_recipe("speech16k_prior", PriorRecipe), ["stages.prior.steps=20"])
    (tmp_path / "recipe.json").write_text(to_json(recipe))
    figures: dict[str, Any] = {"bits": 4.25, "bits_uniform": 9.0, "bits_0": 4.0, "bits_1": 4.5}
    write_log(tmp_path / "log.jsonl", [entry(20, "prior", bits=4.5), entry(20, "prior", "validation", **figures)])
    run = read_run(tmp_path)
    html = render(run, None)
    assert table(html)["bits per code"] == ["4.5", "4.25"]
    assert table(html)["bits per code, quantiser 1"] == ["-", "4.5"]
    assert [panel.figures for panel in panels(run.entries)] == [["bits", "bits_uniform", "bits_0", "bits_1"]]
    assert "A prior after all its 20 steps" in html and "<audio" not in html and 'id="samples"' not in html
    check_alone(html)


def test_reference_curves_are_those_asked_for_else_those_of_the_recipe(
    codec_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = read_run(codec_run)
    monkeypatch.setattr("vqaudio.shipped.FOLDER", tmp_path)
    assert find_reference(run, None) is None
    asked = tmp_path / "asked.jsonl"
    beginning, further = (tmp_path / f"<mine>{which}.curves.jsonl" for which in (".start", ""))
    for step, path in enumerate((beginning, further, asked), 1):
        write_log(path, [entry(step, "codes", mel=step)])
    went_on = dataclasses.replace(run, plan=dataclasses.replace(run.plan, initial="trained.safetensors"))
    names = ("a run of <mine> from nothing", "the shipped <mine>, going on from trained weights")
    for one, path, name in zip((run, went_on), (beginning, further), names, strict=True):
        found = find_reference(one, None)
        assert found == Reference(name, read_log(path))
    assert find_reference(run, asked) == Reference(str(asked), read_log(asked))
    write_log(asked, [entry(300, "decoder", mel=1.0)])
    assert find_reference(run, asked) is None  # which begins far behind the last step of the run
    asked.write_text("")
    with pytest.raises(VqaudioError, match="no curves"):
        find_reference(run, asked)


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    """A browser."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with browser() as opened:
        yield opened


def test_a_browser_shows_and_plays_everything_also_on_a_telephone_at_night(
    tab: Tab, codec_run: Path, reference: Reference, tmp_path: Path
) -> None:
    path = tmp_path / "run.html"
    path.write_text(render(read_run(codec_run), reference), encoding="utf-8")
    for width, dark in ((1400, False), (400, True)):
        tab.open(path, width, dark)
        seen = tab.evaluate(INSPECT)
        assert tab.problems == []
        assert [round(duration, 2) for duration in seen["durations"]] == [0.5] * 4
        assert all(width > 20 and height == MELS for width, height in seen["pictures"])
        assert len(seen["plots"]) == 6 and all(min(sizes) > 100 for sizes in seen["plots"])
        assert seen["wide"] <= width
        background = [int(n) for n in re.findall(r"\d+", seen["background"])[:3]]
        assert max(background) < 64 if dark else min(background) > 192
