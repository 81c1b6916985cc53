"""The gated stack against a plain numpy layer, its receptive field by measurement, and its incremental pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vqaudio.models.gated import GatedLayer, GatedStack

Array = NDArray[np.float64]


def reference_layer(layer: GatedLayer, x: Array, condition: Array, dilation: int, causal: bool) -> tuple[Array, Array]:
    """The published equations, one output at a time: x (C, T) and condition (2C, T) to the next x and the skip."""
    assert layer.dilated.bias is not None and layer.output.bias is not None
    weight, bias = (p.detach().double().numpy() for p in (layer.dilated.weight, layer.dilated.bias))
    mix, mix_bias = (p.detach().double().numpy() for p in (layer.output.weight[:, :, 0], layer.output.bias))
    channels, steps = x.shape
    taps = weight.shape[2]
    ahead = 0 if causal else (taps - 1) * dilation // 2
    following, skips = [], []
    for t in range(steps):
        gates = bias + condition[:, t]
        for tap in range(taps):
            source = t + ahead - (taps - 1 - tap) * dilation
            if 0 <= source < steps:
                gates = gates + weight[:, :, tap] @ x[:, source]
        activation = np.tanh(gates[:channels]) / (1 + np.exp(-gates[channels:]))
        mixed = mix @ activation + mix_bias
        following.append(x[:, t] + mixed[:channels])
        skips.append(mixed[channels:])
    return np.array(following).T, np.array(skips).T


@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (2, 1), (2, 4), (3, 1), (3, 3)])
@pytest.mark.parametrize("causal", [True, False])
def test_layer_equals_the_equations(kernel: int, dilation: int, causal: bool) -> None:
    torch.manual_seed(0)
    layer = GatedLayer(3, 5, kernel, dilation, causal).double()
    x, condition = torch.randn(1, 3, 20).double(), torch.randn(1, 6, 20).double()
    following, skip = layer(x, condition)
    expected = reference_layer(layer, x[0].numpy(), condition[0].numpy(), dilation, causal)
    np.testing.assert_allclose(following[0].detach().numpy(), expected[0], atol=1e-12)
    np.testing.assert_allclose(skip[0].detach().numpy(), expected[1], atol=1e-12)


def test_stack_sums_the_skips_of_its_layers() -> None:
    torch.manual_seed(0)
    stack = GatedStack(3, 5, 2, (1, 2, 4), local_channels=2, speaker_channels=4, causal=True).double()
    x, local, speaker = torch.randn(1, 3, 12).double(), torch.randn(1, 2, 3).double(), torch.randn(1, 4).double()
    assert stack.local is not None and stack.speaker is not None
    bias = stack.speaker(speaker)[0].detach().numpy()
    gates = stack.local(local)[0].detach().numpy().repeat(4, axis=1) + bias[:, None]
    signal, total = x[0].numpy(), np.zeros((5, 12))
    for index, layer in enumerate(stack.layers):
        signal, skip = reference_layer(layer, signal, gates[6 * index : 6 * index + 6], (1, 2, 4)[index], True)
        total += skip / np.sqrt(3)
    expected = total / (1 + np.exp(-total))
    np.testing.assert_allclose(stack(x, local, speaker, repeat=4)[0].detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("kernel", "dilations"), [(2, (1, 2, 4, 8)), (3, (1, 3, 9)), (3, (1, 2, 1, 2)), (1, (1, 1))])
def test_an_output_hears_what_all_kernels_span(kernel: int, dilations: tuple[int, ...], causal: bool) -> None:
    torch.manual_seed(0)
    stack = GatedStack(4, 6, kernel, dilations, causal=causal).double()
    x = torch.randn(1, 4, 101, dtype=torch.float64, requires_grad=True)
    stack(x)[0, :, 50].sum().backward()
    assert x.grad is not None
    touched = x.grad[0].abs().sum(0).nonzero()[:, 0]
    first, last = int(touched[0]), int(touched[-1])
    assert last - first == (kernel - 1) * sum(dilations)
    ahead = 0 if causal else sum((kernel - 1) * dilation // 2 for dilation in dilations)
    assert last == 50 + ahead


@pytest.mark.parametrize("local", [0, 3])
@pytest.mark.parametrize("speaker", [0, 2])
def test_conditions_have_the_documented_shapes(local: int, speaker: int) -> None:
    stack = GatedStack(4, 6, 2, (1, 2), local_channels=local, speaker_channels=speaker)
    conditions = stack.conditions(
        torch.randn(2, local, 5) if local else None, torch.randn(2, speaker) if speaker else None, repeat=3
    )
    steps = 15 if local else 1
    shape = (2, 8, steps) if local or speaker else None
    assert [c if c is None else tuple(c.shape) for c in conditions] == [shape, shape]


@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_steps_equal_the_whole(kernel: int) -> None:
    torch.manual_seed(0)
    stack = GatedStack(4, 6, kernel, (1, 2, 4), local_channels=3, speaker_channels=2, causal=True)
    x, local, speaker = torch.randn(2, 4, 24), torch.randn(2, 3, 6), torch.randn(2, 2)
    whole = stack(x, local, speaker, repeat=4)
    conditions = stack.conditions(local, speaker, repeat=4)
    past = stack.silent_past(2)
    steps = [
        stack.step(x[:, :, t : t + 1], [c if c is None else c[:, :, t : t + 1] for c in conditions], past)
        for t in range(24)
    ]
    torch.testing.assert_close(torch.cat(steps, dim=2), whole, atol=1e-6, rtol=1e-5)
    assert [tuple(p.shape) for p in past] == [(2, 4, (kernel - 1) * dilation) for dilation in (1, 2, 4)]
