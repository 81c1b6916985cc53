"""Muon and AdamW: which weights go where, and updates that a singular value decomposition confirms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vqaudio.models.config import QuantizerConfig
from vqaudio.models.quantizer import ResidualQuantizer
from vqaudio.training.optimizer import NARROWEST, Muon, matrices, optimizers, orthogonal, update
from vqaudio.training.recipe import OptimizerConfig


@pytest.mark.parametrize("shape", [(3, 24, 40), (2, 40, 24), (1, 32, 32)])
def test_orthogonal_keeps_the_singular_vectors_and_evens_out_the_values(shape):
    torch.manual_seed(0)
    updates = torch.randn(shape) * torch.logspace(-3, 3, shape[0])[:, None, None]
    u, _, vh = torch.linalg.svd(updates, full_matrices=False)
    inside = u.mT @ orthogonal(updates) @ vh.mT  # diagonal where the singular vectors are the same
    values = inside.diagonal(dim1=1, dim2=2)
    assert values.min() > 0.5 and values.max() < 1.3
    assert (inside - torch.diag_embed(values)).abs().max() < 0.05


def test_no_gradient_direction_is_no_update():
    assert not orthogonal(torch.zeros(2, 16, 20)).any()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((384, 192, 3), (2, 192, 576)),  # filter and gate
        ((514, 192, 1), (1, 514, 192)),
        ((192, 1, 32), (1, 192, 32)),
        ((20, 64), (1, 20, 64)),
    ],
)
def test_matrices_of_a_weight(shape, expected):
    weight = torch.arange(float(torch.tensor(shape).prod())).reshape(shape)
    found = matrices(weight)
    assert found.shape == expected
    assert torch.equal(found.reshape(shape), weight)
    assert torch.equal(found[0, 0], weight[0].flatten())


def test_the_halves_of_a_gated_layer_are_two_matrices():
    weight = torch.randn(64, 32, 3)
    assert torch.equal(matrices(weight)[1].reshape(32, 32, 3), weight[32:])


def test_every_parameter_that_learns_is_in_one_optimiser():
    model = nn.Sequential(nn.Conv1d(1, 32, 4), nn.Conv1d(32, 32, 3), nn.Conv1d(32, NARROWEST // 2, 1), nn.Linear(4, 4))
    model[1].bias.requires_grad_(False)
    built = optimizers(model, OptimizerConfig())
    held = [id(p) for optimizer in built for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert [type(optimizer).__name__ for optimizer in built] == ["Muon", "AdamW"]
    assert {id(p) for p in built[0].param_groups[0]["params"]} == {id(model[1].weight)}


def test_codebooks_are_left_to_adamw():
    quantizer = ResidualQuantizer(QuantizerConfig(codebook="loss"), 64)
    muon, adamw = optimizers(quantizer, OptimizerConfig())
    codebook = quantizer.stages[0].codebook
    assert any(p is codebook for p in adamw.param_groups[0]["params"])
    assert any(p is quantizer.stages[0].project_in.weight for p in muon.param_groups[0]["params"])


def test_tables_are_left_to_adamw():
    model = nn.Sequential(nn.Embedding(64, 32), nn.Linear(32, 32, bias=False))
    muon, adamw = optimizers(model, OptimizerConfig())
    assert [id(p) for p in muon.param_groups[0]["params"]] == [id(model[1].weight)]
    assert [id(p) for p in adamw.param_groups[0]["params"]] == [id(model[0].weight)]


def test_an_update_has_the_size_of_the_learning_rate():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(64, 32, 3))
    weight.grad = 1e-6 * torch.randn(64, 32, 3)
    Muon([weight], weight_decay=0.0, lr=0.01).step()
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.2 * 0.01, rel=0.2)
    assert float((weight.detach() * weight.grad).sum()) < 0


def test_weight_decay_shrinks_by_a_share_of_the_learning_rate():
    weight = nn.Parameter(torch.ones(16, 16))
    weight.grad = torch.zeros(16, 16)
    Muon([weight], weight_decay=0.5, lr=0.1).step()
    assert torch.allclose(weight, torch.full((16, 16), 0.95))


def test_both_optimisers_go_by_the_recipe():
    model = nn.Linear(32, 32)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    built = optimizers(model, OptimizerConfig(weight_decay=0.5, betas=(0.6, 0.7)))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    update(built, 0.1, torch.tensor(0.0))
    for parameter, old in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(parameter.detach(), 0.95 * old)
    model.bias.grad = torch.ones(32)
    update(built, 0.1, torch.tensor(0.0))
    moments = built[1].state[model.bias]
    torch.testing.assert_close(moments["exp_avg"], torch.full((32,), 0.4))
    torch.testing.assert_close(moments["exp_avg_sq"], torch.full((32,), 0.3))


def test_a_skipped_step_changes_nothing_and_another_is_as_without_skips():
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 4)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    built = [optimizers(model, OptimizerConfig()) for model in models]
    for values in (1.0, torch.nan, torch.inf, 2.0, 3.0):
        finite = bool(torch.isfinite(torch.tensor(values)))
        for model, own in zip(models, built, strict=True):
            for parameter in model.parameters():
                parameter.grad = torch.arange(float(parameter.numel())).reshape(parameter.shape).cos() * values
            if finite or own is built[0]:
                update(own, 0.1, torch.tensor(0.0 if finite else 1.0))
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(*built, strict=True):
        for mine, theirs in zip(one.state.values(), other.state.values(), strict=True):
            assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_it_learns_what_the_directions_of_a_bad_scaling_hide():
    """Least squares whose inputs have scales from 1 to 1000: plain gradients hardly see the smaller ones."""
    torch.manual_seed(0)
    inputs = torch.randn(512, 16) * torch.logspace(0, 3, 16)
    target = torch.randn(16, 16)
    weight = nn.Parameter(torch.zeros(16, 16))
    steepest = 2 / 16 * float(torch.linalg.eigvalsh(inputs.T @ inputs / 512)[-1])  # curvature of the loss below

    def error_after(optimizer: torch.optim.Optimizer, rate: float, decay: float) -> float:
        nn.init.zeros_(weight)
        for step in range(300):
            weight.grad = None
            (inputs @ (weight - target).T).square().mean().backward()
            optimizer.param_groups[0]["lr"] = rate * (1 - decay * step / 300)
            optimizer.step()
        return float((weight.detach() - target).norm() / target.norm())

    assert error_after(torch.optim.SGD([weight]), 1 / steepest, 0.0) > 0.6
    assert error_after(Muon([weight], weight_decay=0.0), 0.2, 1.0) < 0.2
