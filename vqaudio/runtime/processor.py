"""What the processor that numba compiles for can multiply, and what of that is fast."""

from __future__ import annotations

import ctypes
import platform
from typing import Any

import numba
from llvmlite.binding import get_host_cpu_name
from numba.core.codegen import get_host_cpu_features

ASK, TILE_DATA = 0x1023, 18  # arch_prctl's ARCH_REQ_XCOMP_PERM, and the part of a thread's state that it is asked for
ARCH_PRCTL = 158  # the number of the system call


def _permits_tiles() -> bool:
    """Ask Linux for the room that tiles take in the state of this process's threads; not asked, it kills who uses
    them."""
    if platform.system() != "Linux":
        return False
    return ctypes.CDLL(None).syscall(ARCH_PRCTL, ASK, TILE_DATA) == 0


settings: Any = numba.config  # which NUMBA_CACHE_DIR, ... fill
FEATURES: str = get_host_cpu_features() if settings.CPU_FEATURES is None else settings.CPU_FEATURES
_has = FEATURES.split(",")
WIDE = "+avx512f" in _has
PAIRED = WIDE and "+avx512bf16" in _has  # vectors of pairs of bfloat16
TILED = PAIRED and "+amx-tile" in _has and "+amx-bf16" in _has and _permits_tiles()  # whole tiles of such pairs
FASTER_PAIRED = TILED or (PAIRED and (settings.CPU_NAME or get_host_cpu_name()).startswith("znver"))  # than float32
INTEGER_PAIRED = WIDE and "+avx512vnni" in _has  # vectors of pairs of int16, in one instruction
