"""Checkpoints: everything comes back, and a failed write leaves the one before."""

import pytest
import torch

from vqaudio.errors import TrainingError
from vqaudio.training import checkpoint


def test_what_is_saved_comes_back(tmp_path):
    path = tmp_path / "last.safetensors"
    tensors = {"a.weight": torch.randn(3, 4).t(), "count": torch.tensor(3), "random": torch.get_rng_state()}
    checkpoint.save_checkpoint(path, {"step": 7, "best": float("inf")}, tensors)
    progress, loaded = checkpoint.load_checkpoint(path)
    assert progress == {"step": 7, "best": float("inf")}
    assert loaded.keys() == tensors.keys() and all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    path = tmp_path / "last.safetensors"
    checkpoint.save_checkpoint(path, {"step": 1}, {})

    def fail(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "write_bytes", fail)
    with pytest.raises(TrainingError, match="no space left"):
        checkpoint.save_checkpoint(path, {"step": 2}, {})
    assert checkpoint.load_checkpoint(path)[0] == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.safetensors"]


def test_optimizer_goes_on_where_it_was():
    torch.manual_seed(0)
    models = [torch.nn.Linear(3, 2) for _ in range(2)]
    optimizers = [torch.optim.AdamW(model.parameters(), 0.1) for model in models]
    data = torch.randn(8, 3)

    def step(i):
        optimizers[i].zero_grad()
        models[i](data).square().sum().backward()
        optimizers[i].step()

    step(0)
    step(0)
    models[1].load_state_dict(models[0].state_dict())
    state = {name: t.clone() for name, t in checkpoint.optimizer_tensors(optimizers[0], models[0]).items()}
    checkpoint.restore_optimizer(optimizers[1], models[1], state)
    step(0)
    step(1)
    assert torch.equal(models[0].weight, models[1].weight)
