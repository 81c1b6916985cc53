"""What a record of measurements says of the software that made them."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from collections.abc import Iterable

# whose versions always count
DISTRIBUTIONS = (
    "vqaudio",
    "torch",
    "numpy",
    "scipy",
    "numba",
    "soundfile",
    "soxr",
    "librosa",
    "onnxruntime",
    "webrtcvad",
)


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of Python and of what is installed of the packages that figures depend on, the given ones among them."""
    found = {name: _installed(name) for name in (*DISTRIBUTIONS, *packages)}
    return {"python": platform.python_version(), **{name: version for name, version in found.items() if version}}


@functools.cache  # a look-up takes half a millisecond, and the cache of measurements asks for every file and metric
def _installed(name: str) -> str | None:
    """The version of a distribution, None where it is not there."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
