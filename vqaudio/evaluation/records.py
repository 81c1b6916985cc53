"""Measurements as JSON that every reader takes: numbers that are undefined become null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqaudio.files import replacing

if TYPE_CHECKING:
    from vqaudio.codec import Codec


def model(codec: Codec, path: str | None) -> dict[str, Any]:
    """What a record says of the model that was measured, and under which name or in which file it was found."""
    return {"name": codec.config.name, "fingerprint": codec.fingerprint.hex(), "path": path}


def json_values(value: Any) -> Any:
    """Plain JSON values: NaN becomes None, at any depth of dictionaries and lists."""
    if isinstance(value, dict):
        return {key: json_values(item) for key, item in value.items()}
    if isinstance(value, list):
        return [json_values(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def dumps(record: Mapping[str, Any], indent: int | None = None) -> str:
    """A record as JSON, of `json_values`."""
    return json.dumps(json_values(dict(record)), indent=indent, allow_nan=False)


def write(target: Path, record: Mapping[str, Any], force: bool) -> None:
    """Write a record to a file, as `json_values`.

    Raises:
        UsageError: where it exists and `force` is not given.
        VqaudioError: where it cannot be written.
    """
    with replacing(target, force) as temporary:
        temporary.write_text(dumps(record, indent=1) + "\n")
