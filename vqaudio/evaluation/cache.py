"""Measurements that are known already: kept by the content of the file and everything else that they depend on.

A measurement is found again only for the same bytes of audio, the same transcript, the same codec, the same versions of
the packages that measure, and the same source of vqaudio; anything else is measured anew.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vqaudio.errors import VqaudioError
from vqaudio.evaluation.metrics import Metric
from vqaudio.evaluation.results import Utterance
from vqaudio.evaluation.speech import Item
from vqaudio.evaluation.versions import versions
from vqaudio.files import reason, replacing, user_cache
from vqaudio.runtime.processor import FASTER_PAIRED

SCALARS = ("seconds", "size", "encode_seconds", "decode_seconds", "delay")


class Cache:
    """A folder of measurements, one JSON file for each file of audio and codec.

    Args:
        folder: by default one in the user's cache.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or user_cache("evaluations")

    def find(self, key: str, path: str, metrics: tuple[Metric, ...]) -> Utterance | None:
        """The measurement of the file at `path` under a key of `key`, if it is whole and has all these metrics."""
        try:
            record = json.loads(self._place(key).read_text())
            values = {m.name: _number(record["values"][_label(m)]) for m in metrics}
            weights = {m.name: _number(record["weights"][_label(m)]) for m in metrics}
            histogram = record["histogram"]
            return Utterance(
                path=path,
                values=values,
                weights=weights,
                histogram=None if histogram is None else np.array(histogram, np.int64),
                **{name: record[name] for name in SCALARS},
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, key: str, utterance: Utterance, metrics: tuple[Metric, ...]) -> None:
        """Keep a measurement, beside what was measured of the same before by other metrics.

        Raises:
            VqaudioError: where the folder cannot be written.
        """
        place = self._place(key)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise VqaudioError(
                f"Nothing can be kept in '{self.folder}': {reason(error)}; --no-cache does without."
            ) from error
        record: dict[str, Any] = {name: getattr(utterance, name) for name in SCALARS}
        record["histogram"] = None if utterance.histogram is None else utterance.histogram.tolist()
        for kind, measured in (("values", utterance.values), ("weights", utterance.weights)):
            record[kind] = _known(place).get(kind, {}) | {_label(m): measured[m.name] for m in metrics}
        with replacing(place, force=True) as temporary:
            temporary.write_text(json.dumps(record))

    def _place(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key[2:]}.json"


def keys(item: Item, identities: Sequence[str]) -> list[str]:
    """What measurements of a file by codecs of these identities depend on, but for the metrics: hexadecimal.

    Raises:
        OSError: where the file cannot be read.
    """
    content = hashlib.sha256(item.path.read_bytes()).hexdigest()
    common = [content, item.text, _source(), versions(()), FASTER_PAIRED]
    return [hashlib.sha256(json.dumps([*common, identity]).encode()).hexdigest() for identity in identities]


@functools.cache
def _source() -> str:
    """A hash of the source of vqaudio: whatever is changed there may change what is measured."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _label(metric: Metric) -> str:
    """A metric with the version of the package that computes it."""
    return f"{metric.name} {versions([metric.package]).get(metric.package, '')}"


def _known(place: Path) -> Mapping[str, Any]:
    try:
        known = json.loads(place.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _number(value: object) -> float:
    """A number of a record.

    Raises:
        TypeError: where it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(value)
    return float(value)
