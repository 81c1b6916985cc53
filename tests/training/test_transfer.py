"""Packed numbers on the device that trains: the pieces that the map holds, without the host waiting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import DynamicOutputShapeException

from vqaudio.training import transfer
from vqaudio.training.transfer import Packed, send

CPU, GPU = torch.device("cpu"), torch.device("cuda")
STARTS, LENGTHS = np.array([3, 40, 96, 7]), np.array([10, 3, 4, 0])


@pytest.fixture
def packed(tmp_path) -> Packed:
    """A map of a file of a hundred pairs."""
    path = tmp_path / "numbers"
    np.random.default_rng(0).integers(-32768, 32768, 200).astype("<i2").tofile(path)
    return Packed(np.memmap(path, dtype="<i2", mode="r").reshape(100, 2))


@pytest.fixture
def free(monkeypatch):
    """Sets how many bytes are free on a GPU that is not there."""

    def choose(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (count, 10 * count))
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)

    return choose


def check(packed: Packed, values: torch.Tensor, mask: torch.Tensor) -> None:
    assert values.shape == (4, 5, 2) and values.dtype == torch.int16 and mask.shape == (4, 5)
    for piece, there, start, length in zip(values.cpu().numpy(), mask.cpu().numpy(), STARTS, LENGTHS, strict=True):
        count = min(5, length)
        np.testing.assert_array_equal(piece[:count], packed.array[start : start + count])
        assert not piece[count:].any() and there.tolist() == [True] * count + [False] * (5 - count)


def test_pieces_are_those_of_the_map(packed):
    check(packed, *packed.pieces(STARTS, LENGTHS, 5, CPU))


@pytest.mark.parametrize(("count", "fits"), [(1200, True), (1199, False)])
def test_a_third_of_the_free_memory_is_enough_to_hold_all(packed, free, count, fits):
    free(count)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert packed.on(GPU).is_cuda == fits
        assert packed.on(GPU) is packed.on(GPU)


@pytest.mark.parametrize("count", [1200, 1199])
def test_the_host_waits_for_nothing(packed, free, count):
    """A tensor that is not there cannot be waited for: whatever asks for its values fails."""
    free(count)
    with FakeTensorMode(allow_non_fake_inputs=True):
        values, mask = packed.pieces(STARTS, LENGTHS, 5, GPU)
        assert values.is_cuda and mask.is_cuda and values.shape == (4, 5, 2) and mask.shape == (4, 5)
        if count == 1200:
            with pytest.raises(DynamicOutputShapeException):
                values[mask]


def test_what_is_there_is_not_sent():
    tensor = torch.ones(3)
    assert send(tensor, CPU) is tensor


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("parts", [transfer.PARTS, 1 << 60])
def test_a_gpu_gives_the_pieces_of_the_map_without_the_host_waiting(packed, monkeypatch, parts):
    monkeypatch.setattr(transfer, "PARTS", parts)
    assert packed.on(GPU).is_cuda == (parts == 3)
    torch.cuda.set_sync_debug_mode("error")
    try:
        pieces = packed.pieces(STARTS, LENGTHS, 5, GPU)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    check(packed, *pieces)
