"""Which files are measured, and what a manifest says of them, wherever it lies and whatever is wrong with it."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqaudio import audio
from vqaudio.errors import AudioError, UsageError
from vqaudio.evaluation.speech import Item, audio_files, items, readable


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two speakers of two files each, below a folder of their own; the files need not be audio to be listed."""
    for name in ("ann/1.wav", "ann/2.flac", "bob/1.wav", "bob/2.WAV"):
        path = tmp_path / "corpus" / "eval" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "corpus" / "eval" / "ann" / "notes.txt").write_text("not audio")
    return tmp_path / "corpus"


def write(manifest: Path, *rows: dict[str, str]) -> Path:
    manifest.parent.mkdir(parents=True, exist_ok=True)
    with open(manifest, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    return manifest


def told(found: list[Item]) -> dict[str, tuple[str, str | None]]:
    """Speaker and text by folder and name."""
    return {f"{item.path.parent.name}/{item.path.name}": (item.speaker, item.text) for item in found}


FOLDERS = {"ann/1.wav": "ann", "ann/2.flac": "ann", "bob/1.wav": "bob", "bob/2.WAV": "bob"}
UNTOLD = {name: (folder, None) for name, folder in FOLDERS.items()}


def test_audio_is_found_at_any_depth_sorted_and_nothing_else(corpus: Path) -> None:
    (corpus / "eval" / "folder.wav").mkdir()
    (corpus / "eval" / "gone.wav").symlink_to(corpus / "absent.wav")
    assert audio_files(corpus) == [corpus / "eval" / name for name in FOLDERS]


@given(st.integers(1, 40), st.integers(1, 50))
def test_a_limit_spreads_over_the_sorted_files(
    tmp_path_factory: pytest.TempPathFactory, count: int, limit: int
) -> None:
    folder = tmp_path_factory.mktemp("many")
    for i in range(count):
        (folder / f"{i:02}.wav").touch()
    everything, few = audio_files(folder), audio_files(folder, limit)
    places = [everything.index(path) for path in few]
    assert len(few) == min(count, limit) and places[0] == 0
    gaps = np.diff([*places, count])
    assert gaps.max() - gaps.min() <= 1


def test_directories_without_audio_are_errors(tmp_path: Path) -> None:
    for find in (audio_files, items):
        with pytest.raises(AudioError, match="no audio"):
            find(tmp_path)
        with pytest.raises(UsageError, match="not a directory"):
            find(tmp_path / "absent")


def test_without_a_manifest_the_folder_names_the_speaker(corpus: Path) -> None:
    found = items(corpus / "eval")
    assert told(found) == UNTOLD
    assert [item.path for item in found] == audio_files(corpus / "eval")
    assert told(items(corpus / "eval", limit=2)) == {name: UNTOLD[name] for name in ("ann/1.wav", "bob/1.wav")}


def test_a_manifest_above_names_files_relative_to_itself(corpus: Path) -> None:
    write(
        corpus / "manifest.csv",
        {"path": "eval/ann/1.wav", "speaker": "Ann", "text": 'Say "ah", Ann.'},
        {"path": "./eval/../eval/bob/1.wav", "speaker": "", "text": "Größe"},
        {"path": str(corpus / "eval" / "bob" / "2.WAV"), "speaker": "Robert", "text": ""},
    )
    bob = {"bob/1.wav": ("bob", "Größe"), "bob/2.WAV": ("Robert", None)}
    assert told(items(corpus / "eval")) == UNTOLD | {"ann/1.wav": ("Ann", 'Say "ah", Ann.')} | bob
    assert told(items(corpus / "eval" / "bob")) == bob | {"bob/1.wav": (".", "Größe")}
    assert told(items(corpus)) == {
        "ann/1.wav": ("Ann", 'Say "ah", Ann.'),
        "ann/2.flac": ("eval/ann", None),
        "bob/1.wav": ("eval/bob", "Größe"),
        "bob/2.WAV": ("Robert", None),
    }


def test_a_directory_may_be_named_relative_to_where_one_is(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(corpus / "manifest.csv", {"path": "eval/ann/1.wav", "speaker": "Ann"})
    monkeypatch.chdir(corpus / "eval" / "bob")
    (first, _) = items(Path("../ann"))
    assert first == Item(Path("../ann/1.wav"), "Ann", None)
    assert items(Path("."))[0].path == Path("1.wav")


def test_the_nearest_manifest_alone_counts(corpus: Path) -> None:
    write(corpus / "manifest.csv", {"path": "eval/ann/1.wav", "speaker": "far"}, {"path": "eval/bob/1.wav"})
    write(corpus / "eval" / "manifest.csv", {"path": "bob/1.wav", "speaker": "near"})
    assert told(items(corpus / "eval")) == UNTOLD | {"bob/1.wav": ("near", None)}
    assert told(items(corpus))["ann/1.wav"] == ("far", None)


def test_a_manifest_that_is_named_counts_instead_of_the_nearest(corpus: Path, tmp_path: Path) -> None:
    write(corpus / "manifest.csv", {"path": "eval/ann/1.wav", "speaker": "nearest"})
    other = write(tmp_path / "lists" / "mine.csv", {"path": "../corpus/eval/bob/1.wav", "speaker": "named"})
    assert told(items(corpus / "eval", manifest=other)) == UNTOLD | {"bob/1.wav": ("named", None)}


def test_symbolic_links_lead_to_the_same_files(corpus: Path, tmp_path: Path) -> None:
    write(corpus / "manifest.csv", {"path": "eval/ann/1.wav", "speaker": "Ann", "text": "ah"})
    linked = tmp_path / "elsewhere"
    linked.symlink_to(corpus / "eval", target_is_directory=True)
    found = items(linked)
    assert told(found)["ann/1.wav"] == ("Ann", "ah")
    assert found[0].path == linked / "ann" / "1.wav"
    picked = tmp_path / "picked"
    picked.mkdir()
    (picked / "a.wav").symlink_to(corpus / "eval" / "ann" / "1.wav")
    assert items(picked) == [Item(picked / "a.wav", ".", None)]  # no manifest lies above it
    assert items(picked, manifest=corpus / "manifest.csv") == [Item(picked / "a.wav", "Ann", "ah")]


def test_a_manifest_that_is_named_has_to_name_some_of_the_files(corpus: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "mine.csv", {"path": "corpus/eval/bob/1.wav", "speaker": "named"})
    assert told(items(corpus / "eval", limit=1, manifest=other)) == {"ann/1.wav": UNTOLD["ann/1.wav"]}
    with pytest.raises(UsageError, match=r"^The manifest '.*mine\.csv' names none of the files in '.*ann'\.$"):
        items(corpus / "eval" / "ann", manifest=other)


def test_a_manifest_may_be_a_link_whose_paths_start_where_it_is_found(corpus: Path, tmp_path: Path) -> None:
    write(tmp_path / "kept" / "manifest.csv", {"path": "eval/ann/1.wav", "speaker": "Ann"})
    (corpus / "manifest.csv").symlink_to(tmp_path / "kept" / "manifest.csv")
    assert told(items(corpus))["ann/1.wav"] == ("Ann", None)


def test_columns_may_be_missing_or_in_any_order(corpus: Path) -> None:
    write(corpus / "manifest.csv", {"seconds": "1", "text": "ah", "path": "eval/ann/1.wav"})
    assert told(items(corpus / "eval"))["ann/1.wav"] == ("ann", "ah")


@pytest.mark.parametrize(
    "text",
    [
        "path,speaker\n",
        "path,speaker\nother/1.wav,nobody\n",
        "path\neval/ann/1.wav,too,many\n",
    ],
    ids=["header only", "other files", "long rows"],
)
def test_a_manifest_that_tells_nothing_is_harmless(corpus: Path, text: str) -> None:
    (corpus / "manifest.csv").write_text(text)
    assert told(items(corpus / "eval")) == UNTOLD


def test_a_manifest_that_a_spreadsheet_wrote_is_read(corpus: Path) -> None:
    """With a byte order mark and line ends of its own."""
    (corpus / "manifest.csv").write_bytes("\ufeffpath,speaker\r\neval/ann/1.wav,Ann\r\n".encode())
    assert told(items(corpus))["ann/1.wav"] == ("Ann", None)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "has no column 'path'"),
        (b"file,speaker\n1.wav,Ann\n", "has no column 'path'"),
        (b"speaker,path\nnobody\n", "Line 2 of .* lacks a path"),
        (b"speaker,path\nnobody,\n", "Line 2 of .* lacks a path"),
        (b"path,speaker\n\xff\xfe,Ann\n", "cannot be read"),
        (b"path,speaker\na\0b.wav,Ann\n", "cannot be read"),
        (b"path\n" + b"x" * 200_000 + b"\n", "cannot be read"),
    ],
    ids=[
        "empty",
        "no column path",
        "a short row",
        "no path",
        "not UTF-8",
        "a path with a zero byte",
        "an endless field",
    ],
)
def test_a_manifest_that_is_none_is_refused_in_a_sentence(corpus: Path, data: bytes, reason: str) -> None:
    (corpus / "manifest.csv").write_bytes(data)
    for manifest in (None, corpus / "manifest.csv"):
        with pytest.raises(UsageError, match=reason) as caught:
            items(corpus / "eval", manifest=manifest)
        assert f"he manifest '{corpus / 'manifest.csv'}'" in str(caught.value)


def test_a_named_manifest_has_to_be_there(corpus: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.csv' cannot be read"):
        items(corpus, manifest=corpus / "absent.csv")
    with pytest.raises(UsageError, match="cannot be read"):
        items(corpus, manifest=corpus)


def test_the_manifest_of_the_real_speech_tells_speakers_and_texts(speech: Path) -> None:
    found = items(speech / "eval" / "speechocean", limit=20)
    with open(speech / "manifest.csv", newline="", encoding="utf-8") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    for item in found:
        row = rows[os.path.relpath(item.path, speech)]
        assert (item.speaker, item.text) == (row["speaker"], row["text"])
        assert len(audio.read(item.path)) == pytest.approx(float(row["seconds"]) * audio.SAMPLE_RATE, abs=16)


def test_readable_files_are_read_and_the_others_told(corpus: Path) -> None:
    files = audio_files(corpus)
    for path in files[1:]:
        audio.write(path, np.full(900, 0.1, np.float32), 16000, force=True)
    told: list[str] = []
    assert len(list(readable(files, 16000, told.append))) == len(files) - 1
    assert len(told) == 1 and files[0].name in told[0]
    with pytest.raises(AudioError, match="None of the 1 files can be read"):
        list(readable(files[:1], 16000, told.append))
