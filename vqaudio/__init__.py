"""vqaudio, a neural speech codec: one or two hundred bytes per second of speech, and back.

    codec = vqaudio.load()
    codes = codec.encode(waveform, sample_rate)
    waveform = codec.decode(codes)

The names below are imported when they are first used, so that `import vqaudio` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vqaudio import errors

if TYPE_CHECKING:
    from vqaudio.codec import Codec, load
    from vqaudio.codes import Codes
    from vqaudio.prior import Prior

__version__ = "0.1.0"
__all__ = ["Codec", "Codes", "Prior", "__version__", "errors", "load"]

_HOMES = {"Codec": "vqaudio.codec", "Codes": "vqaudio.codes", "Prior": "vqaudio.prior", "load": "vqaudio.codec"}


def __getattr__(name: str) -> Any:
    """Import a public name from the module that holds it (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vqaudio' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
