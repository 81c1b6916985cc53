"""What a record of measurements says of the software that made them."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable

DISTRIBUTIONS = (  # whose versions always count
    *("vqaudio", "torch", "numpy", "scipy", "numba", "soundfile", "soxr", "librosa", "onnxruntime", "webrtcvad"),
)


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of Python and of what is installed of the packages that figures depend on, the given ones among them."""
    found = {"python": platform.python_version()}
    for name in (*DISTRIBUTIONS, *packages):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
