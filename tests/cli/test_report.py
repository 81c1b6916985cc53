"""`vqaudio report` from the shell's side."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from vqaudio.training.recipe import load_recipe, to_json

LINE = json.dumps({"time": 1e9, "step": 50, "stage": "codes", "kind": "train", "mel": 0.5}) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run that has logged a line."""
    path = tmp_path / "run"
    path.mkdir()
    (path / "recipe.json").write_text(to_json(load_recipe("folder")))
    (path / "log.jsonl").write_text(LINE)
    return path


def test_the_page_lies_in_the_run_or_where_one_wants_it(run, folder: Path) -> None:
    assert run("report", folder).output == f"The page is in '{folder / 'report.html'}'.\n"
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    assert run("report", folder, "--output", "out.html").exit_code == 0
    assert Path("out.html").read_bytes() == (folder / "report.html").read_bytes()


def test_curves_of_one_run_are_drawn_beside_another(run, folder: Path) -> None:
    assert run("report", folder, "--curves", "mine.jsonl").output == "The curves are in 'mine.jsonl'.\n"
    assert [json.loads(line)["mel"] for line in Path("mine.jsonl").read_text().splitlines()] == [0.5]
    assert not (folder / "report.html").exists()
    assert run("report", folder, "--against", "mine.jsonl").exit_code == 0
    assert "Grey is mine.jsonl." in (folder / "report.html").read_text()


def test_curves_of_a_run_that_went_on_from_another(run, folder: Path) -> None:
    assert "cannot be read" in run("report", folder, "--curves", "both.jsonl", "--append").stderr
    run("report", folder, "--curves", "both.jsonl")
    assert run("report", folder, "--curves", "both.jsonl", "--append").exit_code == 0
    assert [json.loads(line)["step"] for line in Path("both.jsonl").read_text().splitlines()] == [50, 100]


@pytest.mark.parametrize("option", ["--output", "--curves"])
def test_nothing_is_replaced_unasked(run, folder: Path, tmp_path: Path, option: str) -> None:
    target = tmp_path / "out"
    target.write_text("precious")
    result = run("report", folder, option, target)
    assert result.exit_code == 2 and "--force" in result.stderr and target.read_text() == "precious"
    assert run("report", folder, option, target, "--force").exit_code == 0
    assert target.read_text() != "precious" and not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize(
    ("log", "code", "words", "arguments"),
    [
        (LINE, 2, "no training run", ["elsewhere"]),
        ("", 1, "logged nothing yet", []),
        (LINE + "{\n" + LINE, 1, "Line 2", []),
        (LINE, 2, "no such file", ["--against", "gone.jsonl"]),
        (LINE, 2, "--output", ["--curves", "a.jsonl", "--output", "a.html"]),
        (LINE, 2, "--append is for --curves", ["--append"]),
        (LINE, 2, "not there", ["--output", "gone/a.html"]),
        (LINE, 1, "no space left", ["--force", "--output", "/dev/full"]),
    ],
)
def test_what_goes_wrong_is_one_sentence(
    run, folder: Path, log: str, code: int, words: str, arguments: list[str]
) -> None:
    if "/dev/full" in arguments and not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    (folder / "log.jsonl").write_text(log)
    place = [] if arguments[:1] == ["elsewhere"] else [folder]
    result = run("report", *place, *arguments)
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1 and words in result.stderr
    assert result.stdout == "" and not list(folder.glob("*.html"))


def test_a_page_without_its_packages_is_refused(run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    result = run("report", folder)
    assert result.exit_code == 2 and "jinja2" in result.stderr and not (folder / "report.html").exists()
