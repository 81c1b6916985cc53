"""A log read back: resumed, torn, damaged; and made thin."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from vqaudio.errors import UsageError, VqaudioError
from vqaudio.evaluation import run_log
from vqaudio.evaluation.run_log import Entry, aligned, latest, read_log, read_run, shipped_curves, thin, write_curves
from vqaudio.shipped import FOLDER
from vqaudio.training.recipe import Plan, Steps, load_recipe, to_json


def line(step: int, kind: str = "train", stage: str = "codes", **figures: Any) -> str:
    return json.dumps({"time": 1e9 + step, "step": step, "stage": stage, "kind": kind, **figures}) + "\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


def test_lines_come_back_with_their_figures(log: Path) -> None:
    noon = datetime.fromtimestamp(1e9 + 50).astimezone()
    log.write_text(line(50, mel=0.5, used_codes_0=7) + line(50, "validation", mel=0.6))
    assert read_log(log) == [
        Entry(50, "codes", "train", {"mel": 0.5, "used_codes_0": 7}, noon),
        Entry(50, "codes", "validation", {"mel": 0.6}, noon),
    ]


def test_of_a_resumed_run_the_later_lines_count(log: Path) -> None:
    first = line(1, mel=1.0) + line(2, mel=2.0) + line(2, "validation", mel=2.5) + line(3, mel=3.0) + line(4, mel=4.0)
    log.write_text(first + line(2, mel=20.0) + line(2, "validation", mel=25.0) + line(3, mel=30.0))
    assert [(e.step, e.kind, e.values["mel"]) for e in read_log(log)] == [
        (1, "train", 1.0),
        (2, "train", 20.0),
        (2, "validation", 25.0),
        (3, "train", 30.0),
    ]


def test_a_torn_last_line_is_passed_over_wherever_it_is_torn(log: Path) -> None:
    last = line(2, mel=0.25)
    for length in range(len(last) - 1):
        log.write_text(line(1, mel=0.5) + last[:length])
        assert [entry.step for entry in read_log(log)] == [1]


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        "7",
        '{"step": 1}',
        line(2, mel="high").strip(),
        line(2, "other").strip(),
        "\xff\0",
        '{"step": 2, "stage": "codes", "kind": "train", "mel": 1' + "0" * 400 + "}",
        line(2, time=math.nan).strip(),
        line(2, time=1.76e12).strip(),  # milliseconds
        line(2, time=1e300).strip(),
    ],
)
def test_a_damaged_line_is_named(log: Path, damage: str) -> None:
    log.write_text(line(1, mel=0.5) + damage + "\n" + line(3, mel=0.5), encoding="latin-1")
    with pytest.raises(VqaudioError, match=r"^Line 2 of '.*log\.jsonl' is damaged") as caught:
        read_log(log)
    assert caught.value.exit_code == 1


def test_thin_curves_are_means_of_stretches_within_stages() -> None:
    now = datetime.now().astimezone()
    train = [Entry(step, "a" if step <= 5 else "b", "train", {"mel": float(step)}, now) for step in range(1, 11)]
    validation = [Entry(step, "a", "validation", {"mel": step / 2}, now) for step in (4, 5)]
    found = thin([*train, *validation], points=4)  # stretches of three
    assert [(e.step, e.kind, e.stage, e.values["mel"], e.time) for e in found] == [
        (3, "train", "a", 2.0, None),
        (4, "validation", "a", 2.0, None),
        (5, "train", "a", 4.5, None),
        (5, "validation", "a", 2.5, None),
        (8, "train", "b", 7.0, None),
        (10, "train", "b", 9.5, None),
    ]


def test_figures_that_are_not_finite_do_not_spoil_a_mean() -> None:
    values = [{"mel": 1.0, "bound": math.nan}, {"mel": math.inf}, {"mel": 3.0}]
    (found,) = thin([Entry(i + 1, "a", "train", v) for i, v in enumerate(values)], points=1)
    assert found.values == {"mel": 2.0}


def test_curves_are_small_and_read_as_a_log(log: Path, tmp_path: Path) -> None:
    log.write_text("".join(line(step, mel=1 / step, spectral=1.0) for step in range(1, 2001)))
    target = tmp_path / "x.jsonl"
    write_curves(target, read_log(log), force=False)
    found = read_log(target)
    assert len(found) == math.ceil(2000 / math.ceil(2000 / run_log.POINTS))
    assert found[0].values["mel"] == pytest.approx(sum(1 / step for step in range(1, 18)) / 17, rel=1e-3)
    assert found[-1].step == 2000 and found[0].time is None and "time" not in target.read_text()
    assert target.stat().st_size < log.stat().st_size / 10
    with pytest.raises(UsageError, match="exists already"):
        write_curves(target, [], force=False)


def test_curves_go_behind_those_of_the_run_before(log: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.jsonl"
    log.write_text(line(1, mel=1.0) + line(2, mel=2.0))
    write_curves(target, read_log(log), force=False)
    write_curves(target, read_log(log), force=False, append=True)
    assert [(entry.step, entry.values["mel"]) for entry in read_log(target)] == [(1, 1.0), (2, 2.0), (3, 1.0), (4, 2.0)]
    with pytest.raises(UsageError, match="cannot be read"):
        write_curves(tmp_path / "gone.jsonl", read_log(log), force=False, append=True)


def test_a_reference_begins_its_stages_where_the_run_does() -> None:
    """One of two stages, `b` in two runs with `a` between, beside a run with other lengths of stages."""

    def entries(*steps: tuple[int, str]) -> list[Entry]:
        return [Entry(step, stage, "train", {}) for step, stage in steps]

    reference = entries((10, "a"), (20, "a"), (30, "b"), (40, "b"), (50, "c"), (60, "b"))
    stages = [Steps("x", 5), Steps("c", 0), Steps("a", 12), Steps("b", 100)]
    assert aligned(reference, stages) == entries((15, "a"), (27, "b"), (37, "b"), (47, "b"))
    assert aligned(reference, [Steps("b", 5), Steps("c", 0)]) == entries((10, "b"), (20, "b"), (30, "b"))
    assert aligned(reference, [Steps("x", 5)]) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_curves_on_a_full_disk() -> None:
    with pytest.raises(VqaudioError, match="no space left"):
        write_curves(Path("/dev/full"), [Entry(1, "a", "train", {"mel": 1.0})], force=True)


def test_the_latest_of_a_kind() -> None:
    entries = [Entry(1, "a", "train", {}), Entry(2, "a", "validation", {}), Entry(3, "a", "train", {})]
    assert latest(entries, "train") is entries[2] and latest(entries, "train", entries[1]) is entries[0]
    assert latest(entries, "validation", entries[0]) is None
    assert latest(entries, "train", Entry(4, "b", "train", {})) is None


def test_a_folder_without_a_run_or_with_nothing_logged(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(UsageError, match="no training run"):
            read_run(folder)
    (tmp_path / "recipe.json").write_text(to_json(load_recipe("folder")))
    for content in (None, "", '{"time"'):
        if content is not None:
            (tmp_path / "log.jsonl").write_text(content)
        with pytest.raises(VqaudioError, match="logged nothing yet"):
            read_run(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "7", '{"prior": 1}', '{"name": "x"}', "\xff"])
def test_a_damaged_recipe(tmp_path: Path, content: str) -> None:
    (tmp_path / "recipe.json").write_text(content, encoding="latin-1")
    (tmp_path / "log.jsonl").write_text(line(1, mel=1.0))
    with pytest.raises(VqaudioError, match=r"recipe\.json' is damaged: ") as caught:
        read_run(tmp_path)
    assert caught.value.exit_code == 1 and str(caught.value).count(". ") == 0


def test_curves_that_are_shipped_are_those_of_a_recipe_and_found_by_its_name_and_its_beginning() -> None:
    for path in FOLDER.glob("*.curves.jsonl"):
        name = path.name.removesuffix(".curves.jsonl").removesuffix(".start")
        plan = load_recipe(name, Plan)
        assert plan.name == name
        began = dataclasses.replace(plan, initial="" if ".start." in path.name else "somewhere")
        assert shipped_curves(began) == path
        assert {entry.stage for entry in read_log(path)} <= {stage.name for stage in plan.stages}
    assert shipped_curves(dataclasses.replace(plan, name="no such recipe")) is None
