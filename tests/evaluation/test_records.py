"""Records are JSON that every reader takes, whatever was measured."""

from __future__ import annotations

import json
import math
from pathlib import Path

from vqaudio.evaluation import records


def test_what_is_undefined_becomes_null(tmp_path: Path) -> None:
    records.write(tmp_path / "a.json", {"a": math.nan, "b": [{"c": math.nan, "d": 0.5}]}, force=False)
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": None, "b": [{"c": None, "d": 0.5}]}
