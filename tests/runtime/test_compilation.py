"""What is compiled is kept from one process to the next, and never taken for something else."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from numba import njit

from vqaudio.runtime import compilation


def test_a_place_where_nothing_can_be_written_costs_the_cache_alone(monkeypatch):
    def refuse(*_, cache: bool = False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(compilation, "njit", refuse)
    assert compilation.entry(lambda x: x + 1)(1) == 2


def test_a_full_disk_costs_the_cache_alone(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.save", refuse)
    assert compilation.entry(lambda x: x + 2)(1) == 3


def test_the_cache_is_another_one_for_other_sources_and_processors(tmp_path, monkeypatch):
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    for name in ("kernels.py", "functions.py"):
        (runtime / name).write_text("old")
    monkeypatch.setattr(compilation, "__file__", str(runtime / "compilation.py"))
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path / "cache"))
    before, again = compilation._cache_folder.__wrapped__(), compilation._cache_folder.__wrapped__()
    (runtime / "functions.py").write_text("new")
    after = compilation._cache_folder.__wrapped__()
    monkeypatch.setattr(compilation, "FEATURES", "+of,+another,+processor")
    elsewhere = compilation._cache_folder.__wrapped__()
    monkeypatch.setattr(compilation, "TILED", not compilation.TILED)
    otherwise = compilation._cache_folder.__wrapped__()  # as where a system lets one process use tiles and another not
    assert before == again and len({before, after, elsewhere, otherwise}) == 4
    assert {folder.parent for folder in (before, after, elsewhere, otherwise)} == {tmp_path / "cache"}


def double(x):
    return 2 * x


def test_a_result_in_the_cache_that_is_of_other_arguments_is_not_taken(tmp_path, monkeypatch):
    """As two processes may leave behind that save at once."""
    monkeypatch.setattr(compilation, "_cache_folder", lambda: tmp_path)
    first = compilation.entry(double)
    assert repr((first(2), first(2.0))) == "(4, 4.0)"
    one, other = sorted(tmp_path.glob("**/*.nbc"))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    again = compilation.entry(double)
    assert repr((again(2), again(2.0))) == "(4, 4.0)"


@pytest.mark.parametrize("pattern", ["**/*.nbi", "**/*.nbc"])
@pytest.mark.parametrize("left", [0, 40])
def test_a_file_of_the_cache_that_is_torn_is_replaced(tmp_path, monkeypatch, pattern, left):
    monkeypatch.setattr(compilation, "_cache_folder", lambda: tmp_path)
    compilation.entry(double)(2)
    (torn,) = tmp_path.glob(pattern)
    whole = torn.stat().st_size
    torn.write_bytes(torn.read_bytes()[:left])
    assert compilation.entry(double)(2) == 4
    assert sum(file.stat().st_size for file in tmp_path.glob(pattern)) >= whole - 100
    assert compilation.entry(double)(2) == 4


def test_it_is_said_once_that_it_compiles_however_many_threads_want_it(caplog, monkeypatch):
    kernel = compilation.entry(lambda x: x + 3)
    kernel._cache._cache_path = "nowhere"
    monkeypatch.setattr(compilation.Path, "glob", lambda *_: time.sleep(0.1) or [])  # as long as a slow disk takes
    with ThreadPoolExecutor(2) as pool:
        for _ in range(3):
            pool.submit(compilation.announce, kernel, "the kernel")
    assert [record.message[:20] for record in caplog.records] == ["Compiling the kernel"]


def test_the_first_use_says_that_it_compiles_and_the_next_does_not(tmp_path, tiny_codec):
    coding = f"import numpy, vqaudio; vqaudio.load({str(tiny_codec)!r}).encode(numpy.zeros(999, 'f'), 16000)"
    said = [
        subprocess.run(
            [sys.executable, "-c", coding],
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stderr
        for _ in range(2)
    ]
    assert said[0].startswith("Compiling") and said[1] == ""
