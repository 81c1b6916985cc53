"""Runs that something happens to at a step, and what their logs say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vqaudio.training.loop import Run


def entries(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of a kind of a run's log."""
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["kind"] == kind]


def stop_before(run_type: type[Run], step: int, action: Callable[[Run], object]) -> type[Run]:
    """A run whose training step number `step` starts with `action`."""

    class Stopping(run_type):  # type: ignore[misc, valid-type]
        def _train_step(self, stage: Any) -> Any:
            if self.step == step:
                action(self)
            return super()._train_step(stage)

    return Stopping


def interrupted_after(run_type: type[Run], steps: int) -> type[Run]:
    """A run that is interrupted when it has taken so many steps."""
    return stop_before(run_type, steps - 1, lambda run: setattr(run, "interrupted", True))
