"""The filter bank on the CPU against the module."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from vqaudio.models.filterbank import PQMF
from vqaudio.runtime.filterbank import Bank


@given(st.lists(st.integers(0, 30), max_size=6))
def test_the_bank_joins_sub_bands_in_any_chunks_as_the_module_does(sizes):
    signal = np.random.default_rng(0).normal(size=(4, sum(sizes) + 5)).astype(np.float32)
    bank, parts, begin = Bank(4), [], 0
    past = bank.start()
    for size in sizes:
        parts.append(bank.push(past, signal[:, begin : begin + size], False))
        begin += size
    parts.append(bank.push(past, signal[:, begin:], True))
    expected = PQMF(4).synthesis(torch.from_numpy(signal)[None])[0, 0].numpy()
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-5)
