"""How kernels are compiled by numba, and kept on disk from one process to the next."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import njit

from vqaudio.errors import VqaudioError
from vqaudio.files import user_cache
from vqaudio.runtime.processor import FEATURES, TILED, settings

# A multiplication and an addition may be rounded as one, which is the same for every row; nothing is reordered.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
inner = njit(**OPTIONS)

log = logging.getLogger(__name__)
_announced: set[Any] = set()
_announcing = threading.Lock()  # or every thread would say so


def announced() -> int:
    """How many parts have been compiled here so far."""
    return len(_announced)


def entry(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls, and keep the result on disk where there is a place for it."""
    chosen = settings.CACHE_DIR
    try:
        settings.CACHE_DIR = str(_cache_folder())
        compiled = njit(cache=True, **OPTIONS)(function)
    except (RuntimeError, VqaudioError):  # numba finds no folder that it may write to, or there is no home
        return njit(**OPTIONS)(function)
    finally:
        settings.CACHE_DIR = chosen
    load, save = compiled._cache.load_overload, compiled._cache.save_overload

    def load_if_right(signature: Any, context: Any) -> Any:
        try:
            found = load(signature, context)
        except Exception:  # a file that a crash of the machine left torn fails in many ways
            with contextlib.suppress(OSError):
                compiled._cache.flush()
            return None
        # of two processes that save at once one may name the other's result as its own
        return found if found and tuple(found.signature.args) == tuple(signature) else None

    def save_if_possible(*arguments: Any) -> None:
        with contextlib.suppress(OSError):  # a full disk costs time at the next start, not this result
            save(*arguments)

    compiled._cache.load_overload, compiled._cache.save_overload = load_if_right, save_if_possible
    return compiled


def sources() -> bytes:
    """The SHA-256 over the sources that codes and kernels depend on."""
    package = Path(__file__).parents[1]
    files = sorted([*package.glob("runtime/*.py"), *package.glob("models/*.py")])
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).digest()


@functools.cache
def _cache_folder() -> Path:
    """Where compiled code is kept: a folder for each processor and each state of the sources, of which numba itself
    sees only the file of an entry, and not those of the functions that it calls."""
    processor = f"{settings.CPU_NAME} {FEATURES} {TILED}".encode()
    state = hashlib.sha256(processor + sources()).hexdigest()[:12]
    beside = Path(__file__).parent / "__pycache__"
    if chosen := settings.CACHE_DIR:
        kept = Path(chosen)
    elif os.access(beside if beside.exists() else beside.parent, os.W_OK):
        kept = beside
    else:
        return user_cache(f"kernels-{state}")
    return kept / f"kernels-{state}"


def announce(kernel: Any, part: str) -> None:
    """Say so where an entry, which people know as `part`, is neither compiled nor in numba's cache on disk."""
    cache = kernel.stats.cache_path
    module, name = kernel.py_func.__module__.rsplit(".", 1)[-1], kernel.py_func.__qualname__
    with _announcing:
        if kernel in _announced or kernel.signatures or (cache and any(Path(cache).glob(f"{module}.{name}-*.nbi"))):
            return
        _announced.add(kernel)
    how_often = "once" if cache else "at every start, unless NUMBA_CACHE_DIR names a folder that can be written to,"
    log.warning(f"Compiling {part} for this machine; this happens {how_often} and takes about ten seconds.")


def element(builder: ir.IRBuilder, array: Any, row: Any, column: Any) -> Any:
    """In an intrinsic, where an element of four bytes of an array lies whose columns lie side by side, as bytes."""
    byte = ir.IntType(8).as_pointer()
    start = builder.gep(builder.bitcast(array.data, byte), [builder.mul(row, builder.extract_value(array.strides, 0))])
    return builder.gep(start, [builder.mul(column, column.type(4))])
