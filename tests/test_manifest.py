"""A manifest is read the same by whoever asks, and says in a sentence what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vqaudio.errors import TrainingError, UsageError
from vqaudio.manifest import folder, read


def test_paths_start_where_the_manifest_is_found(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "all.csv").write_text(f"path,speaker\na/1.wav,Ann\n{tmp_path}/2.wav,Bob\n")
    (tmp_path / "manifest.csv").symlink_to(tmp_path / "kept" / "all.csv")
    rows = read(tmp_path / "manifest.csv")
    assert [(path, row["speaker"]) for path, row in rows] == [
        (tmp_path / "a" / "1.wav", "Ann"),
        (tmp_path / "2.wav", "Bob"),
    ]


def test_rows_fill_the_columns_that_are_asked_for(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("speaker,path,text,split\nAnn,1.wav,ah\n,2.wav,,train\n")
    assert [row["text"] for _, row in read(manifest)] == ["ah", ""]
    with pytest.raises(UsageError, match=r"^Line 2 of the manifest '.*manifest\.csv' lacks a split\.$"):
        read(manifest, "split")
    with pytest.raises(TrainingError, match=r"^Line 3 of the manifest '.*manifest\.csv' lacks a speaker\.$"):
        read(manifest, "speaker", error=TrainingError)
    with pytest.raises(UsageError, match="has no column 'licence'"):
        read(manifest, "licence")


def test_folders_of_one_name_are_told_apart() -> None:
    root = Path("speech")
    assert [folder(root / name, root) for name in ("a/x/1.wav", "b/x/1.wav", "1.wav")] == ["a/x", "b/x", "."]
