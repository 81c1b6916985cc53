"""The audio that a run logs: `samples/STEP-NAME.flac` in its folder."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path


def sample_path(folder: Path, step: int, name: str) -> Path:
    """Where a run in `folder` keeps the sample of a name at a step."""
    return folder / "samples" / f"{step}-{name}.flac"


def find_samples(folder: Path) -> dict[int, dict[str, Path]]:
    """The samples of the run in `folder`: files by name, by step in order."""
    found: defaultdict[int, dict[str, Path]] = defaultdict(dict)
    for path in sorted((folder / "samples").glob("*.flac")):
        step, dash, name = path.stem.partition("-")
        if dash and step.isdecimal():
            found[int(step)][name] = path
    return dict(sorted(found.items()))
