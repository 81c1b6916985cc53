"""Sums of products: the numbers of numpy, and the same bits however the rows come."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from vqaudio.runtime import product
from vqaudio.runtime.product import (
    LANES,
    MIDDLE,
    PAIRED,
    SINGLE,
    TALL,
    VECTOR,
    accumulate,
    paired_weights,
    pairs,
    strip,
)

paired = pytest.mark.skipif(not PAIRED, reason="the processor does not multiply pairs of bfloat16")


@njit
def add(totals, weights, inputs):
    accumulate(totals, weights, inputs)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@given(st.integers(1, 21), st.integers(1, 40), st.integers(1, 13))
def test_equals_numpy(rows, depth, vectors):
    totals, weights, inputs = random(rows, vectors * LANES), random(depth, vectors * LANES), random(rows, depth)
    expected = totals + inputs.astype(np.float64) @ weights
    add(totals, weights, inputs)
    np.testing.assert_allclose(totals, expected, atol=1e-4)


def rounded(rows: np.ndarray) -> np.ndarray:
    return torch.from_numpy(rows).bfloat16().double().numpy()


def test_pairs_are_rounded_as_torch_rounds():
    ties = np.array([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 0, -0.0, 3.4e38], np.float32)
    for rows in (ties.reshape(2, 3).repeat(2, axis=1), random(7, 10) * 1e-3):
        halves = pairs(rows).view(np.uint16).astype(np.uint32) << 16
        np.testing.assert_array_equal(halves.view(np.float32), rounded(rows))


@paired
@given(st.integers(1, 21), st.integers(1, 20), st.integers(1, 13))
def test_pairs_equal_numpy(rows, depth, vectors):
    totals, weights, inputs = random(rows, vectors * LANES), random(2 * depth, vectors * LANES), random(rows, 2 * depth)
    expected = totals + rounded(inputs) @ rounded(weights)
    add(totals, paired_weights(weights), pairs(inputs))
    np.testing.assert_allclose(totals, expected, atol=1e-4)


@pytest.mark.parametrize("short", [False, pytest.param(True, marks=paired)])
@given(st.integers(1, 30), st.data())
def test_a_row_does_not_depend_on_the_rows_beside_it(short, rows, data):
    weights, inputs = random(34, 5 * LANES), random(rows, 34)
    if short:
        weights, inputs = paired_weights(weights), pairs(inputs)
    together = np.zeros((rows, 5 * LANES), np.float32)
    add(together, weights, inputs)
    first = data.draw(st.integers(0, rows - 1))
    last = data.draw(st.integers(first + 1, rows))
    alone = np.zeros((last - first, 5 * LANES), np.float32)
    add(alone, weights, inputs[first:last])
    np.testing.assert_array_equal(together[first:last], alone)


def test_rows_of_the_inputs_may_overlap():
    line, weights = random(50), random(16, LANES)
    windows = np.lib.stride_tricks.sliding_window_view(line, 16)[::4]
    totals = np.zeros((len(windows), LANES), np.float32)
    add(totals, weights, np.lib.stride_tricks.as_strided(line, windows.shape, (16, 4)))
    np.testing.assert_allclose(totals, windows @ weights, atol=1e-5)


@pytest.mark.parametrize("lanes", [8, 16])
def test_wide_and_narrow_vectors_give_the_same_bits(lanes):
    weights, inputs = random(70, 3 * LANES), random(4, 70)
    add_four = strip(4, (3, 1), lanes)

    @njit
    def by_four(totals, weights, inputs):
        add_four(totals, weights, inputs, 0, 0)

    expected, totals = np.zeros((4, 3 * LANES), np.float32), np.zeros((4, 3 * LANES), np.float32)
    add(expected, weights, inputs)
    by_four(totals, weights, inputs)
    np.testing.assert_array_equal(totals, expected)


def test_a_place_where_nothing_can_be_written_costs_the_cache_alone(monkeypatch):
    def refuse(*_, cache: bool = False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(product, "njit", refuse)
    assert product.entry(lambda x: x + 1)(1) == 2


def test_a_full_disk_costs_the_cache_alone(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.save", refuse)
    assert product.entry(lambda x: x + 2)(1) == 3


def test_the_cache_is_another_one_for_other_sources_and_processors(tmp_path, monkeypatch):
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    for name in ("kernels.py", "functions.py"):
        (runtime / name).write_text("old")
    monkeypatch.setattr(product, "__file__", str(runtime / "product.py"))
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path / "cache"))
    before, again = product._cache_folder.__wrapped__(), product._cache_folder.__wrapped__()
    (runtime / "functions.py").write_text("new")
    after = product._cache_folder.__wrapped__()
    monkeypatch.setattr(product, "FEATURES", "+of,+another,+processor")
    elsewhere = product._cache_folder.__wrapped__()
    assert before == again and len({before, after, elsewhere}) == 3
    assert before.parent == after.parent == elsewhere.parent == tmp_path / "cache"


@pytest.mark.parametrize("setting", [{"NUMBA_CPU_NAME": "generic"}, {"NUMBA_ENABLE_AVX": "0"}])
def test_no_instructions_are_used_that_numba_does_not_compile_for(setting):
    asked = "from vqaudio.runtime import product; print(product.WIDE, product.PAIRED, product.INTEGER_PAIRED)"
    command = [sys.executable, "-c", asked]
    said = subprocess.run(command, env=os.environ | setting, capture_output=True, text=True, check=True)
    assert said.stdout == "False False False\n"


@pytest.mark.parametrize(
    ("name", "features", "faster"),
    [
        ("znver5", "+avx512f,+avx512bf16", True),
        ("emeraldrapids", "+avx512f,+avx512bf16", False),
        ("znver3", "+avx2", False),
    ],
)
def test_pairs_of_bfloat16_are_used_where_they_are_faster(name, features, faster):
    command = [sys.executable, "-c", "from vqaudio.runtime import layers; print(layers.Weights({}).paired)"]
    setting = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
    said = subprocess.run(command, env=os.environ | setting, capture_output=True, text=True, check=True)
    assert said.stdout == f"{faster}\n"


def test_blocks_that_differ_have_names_that_differ():
    """By which code from the caches of several processes is linked: another block of that name would be called."""
    made = [(r, w[i:], lanes) for r, w in (TALL, MIDDLE, SINGLE) for i in range(len(w)) for lanes in (VECTOR, 4)]
    names = {strip(*block).py_func.__qualname__ for block in made}
    assert len(names) == len(made) == 2 * sum(len(widths) for _, widths in (TALL, MIDDLE, SINGLE))


def double(x):
    return 2 * x


def test_a_result_in_the_cache_that_is_of_other_arguments_is_not_taken(tmp_path, monkeypatch):
    """As two processes may leave behind that save at once."""
    monkeypatch.setattr(product, "_cache_folder", lambda: tmp_path)
    first = product.entry(double)
    assert repr((first(2), first(2.0))) == "(4, 4.0)"
    one, other = sorted(tmp_path.glob("**/*.nbc"))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    again = product.entry(double)
    assert repr((again(2), again(2.0))) == "(4, 4.0)"


@pytest.mark.parametrize("pattern", ["**/*.nbi", "**/*.nbc"])
@pytest.mark.parametrize("left", [0, 40])
def test_a_file_of_the_cache_that_is_torn_is_replaced(tmp_path, monkeypatch, pattern, left):
    monkeypatch.setattr(product, "_cache_folder", lambda: tmp_path)
    product.entry(double)(2)
    (torn,) = tmp_path.glob(pattern)
    whole = torn.stat().st_size
    torn.write_bytes(torn.read_bytes()[:left])
    assert product.entry(double)(2) == 4
    assert sum(file.stat().st_size for file in tmp_path.glob(pattern)) >= whole - 100
    assert product.entry(double)(2) == 4


def test_it_is_said_once_that_it_compiles(caplog):
    kernel = product.entry(lambda x: x + 3)
    kernel._cache._cache_path = "nowhere"
    for _ in range(2):
        product.announce(kernel, "the kernel")
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
