"""Nothing is used that the processor, numba or the system does not have, and what is used is faster."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("setting", [{"NUMBA_CPU_NAME": "generic"}, {"NUMBA_ENABLE_AVX": "0"}])
def test_no_instructions_are_used_that_numba_does_not_compile_for(setting):
    asked = "from vqaudio.runtime.processor import *; print(WIDE, PAIRED, TILED, INTEGER_PAIRED)"
    command = [sys.executable, "-c", asked]
    said = subprocess.run(command, env=os.environ | setting, capture_output=True, text=True, check=True)
    assert said.stdout == "False False False False\n"


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


@pytest.mark.parametrize(
    ("system", "answer", "tiled"), [("Linux", 0, True), ("Linux", -1, False), ("Windows", 0, False)]
)
def test_tiles_are_used_where_the_system_permits_them(system, answer, tiled):
    asked = f"""
import ctypes, platform, types, numba
called = []
ctypes.CDLL = lambda _: types.SimpleNamespace(syscall=lambda *numbers: called.append(numbers) or {answer})
platform.system = lambda: "{system}"
from vqaudio.runtime.processor import FASTER_PAIRED, TILED
print(TILED, FASTER_PAIRED, called)
"""
    setting = {
        "NUMBA_CPU_NAME": "sapphirerapids",
        "NUMBA_CPU_FEATURES": "+avx512f,+avx512bf16,+amx-tile,+amx-bf16",
    }
    said = subprocess.run([sys.executable, "-c", asked], env=os.environ | setting, capture_output=True, text=True)
    asks = [(158, 0x1023, 18)] if system == "Linux" else []  # arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
    assert said.stdout == f"{tiled} {tiled} {asks}\n", said.stderr
