"""How a GPU computes while it trains, and that nothing of it stays; the settings are there without a GPU too."""

from __future__ import annotations

import pytest
import torch

from vqaudio.training.precision import fast_arithmetic


def settings() -> tuple[str, bool, bool]:
    cudnn = torch.backends.cudnn
    return torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark


@pytest.mark.parametrize(("tf32", "inside"), [(True, ("high", True, True)), (False, ("highest", False, True))])
def test_a_gpu_computes_fast_in_the_body_alone(tf32, inside):
    before = settings()
    with pytest.raises(KeyboardInterrupt), fast_arithmetic(torch.device("cuda:1"), tf32):
        assert settings() == inside
        raise KeyboardInterrupt
    assert settings() == before


def test_the_cpu_computes_as_ever():
    before = settings()
    with fast_arithmetic(torch.device("cpu"), tf32=True):
        assert settings() == before
