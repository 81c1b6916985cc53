"""WaveNet: the incremental pass equals the parallel one, causality, receptive field, likelihood, and generation."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vqaudio.errors import UsageError
from vqaudio.models.config import WaveNetConfig
from vqaudio.models.constants import LEVELS
from vqaudio.models.distributions import LogisticMixture
from vqaudio.models.random import uniforms
from vqaudio.models.wavenet import WaveNet

HOP = 64
CHANNELS, SPEAKER = 6, 5
KINDS = list(itertools.product((1, 4), ("logistic", "mulaw")))


def small(bands: Any = 1, output: Any = "logistic", speaker: int = SPEAKER) -> WaveNet:
    """A net with random weights, large enough in the head for its parameters to depend visibly on the past."""
    torch.manual_seed(0)
    config = WaveNetConfig(
        bands=bands, channels=8, skip_channels=12, kernel=2, dilations=(1, 2, 4), output=output, mixtures=2
    )
    net = WaveNet(config, CHANNELS, speaker, HOP).eval()
    with torch.no_grad():
        net.output.weight.mul_(3)
    return net


def inputs(frames: int = 2, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    waveform = 0.05 * torch.randn(batch, 1, frames * HOP, generator=generator)
    conditioning = torch.randn(batch, CHANNELS, frames, generator=generator)
    return waveform, conditioning, torch.randn(batch, SPEAKER, generator=generator)


def predicted(net: WaveNet, waveform: Tensor, conditioning: Tensor, speaker: Tensor | None) -> Tensor:
    """The parameters of every step of a waveform, by the parallel pass."""
    return net.predict(net.split(waveform), conditioning, speaker)


@torch.no_grad()
def stepped(net: WaveNet, waveform: Tensor, conditioning: Tensor, speaker: Tensor | None) -> Tensor:
    """What `predicted` gives, by the incremental pass over the true samples."""
    signal = net.split(waveform)
    past = net.stack.silent_past(len(waveform))
    previous = torch.zeros_like(signal[:, :, 0])
    steps = []
    for frame, conditions in enumerate(net.conditions(conditioning, speaker)):
        for step in range(frame * HOP // net.bands, (frame + 1) * HOP // net.bands):
            steps.append(net.step(previous, conditions, past))
            previous = signal[:, :, step]
    return torch.stack(steps, dim=3)


def silence_head(net: WaveNet) -> Tensor:
    """Let the net say the same of every sample, and give the bias that says it."""
    assert net.output.bias is not None
    net.output.weight.zero_()
    return net.output.bias.zero_()


@pytest.mark.parametrize(("bands", "output"), KINDS)
@pytest.mark.parametrize("speaker", [0, SPEAKER])
def test_steps_equal_the_parallel_pass(bands: int, output: str, speaker: int) -> None:
    net = small(bands, output, speaker)
    waveform, conditioning, vector = inputs()
    arguments = waveform, conditioning, vector if speaker else None
    parallel = predicted(net, *arguments)
    assert parallel.shape == (2, bands, net.config.sample_parameters, 2 * HOP // bands)
    torch.testing.assert_close(stepped(net, *arguments), parallel, atol=1e-4, rtol=0)


@pytest.mark.parametrize("bands", [1, 4])
def test_steps_equal_the_parallel_pass_for_a_single_frame(bands: int) -> None:
    net = small(bands)
    arguments = inputs(frames=1)
    torch.testing.assert_close(stepped(net, *arguments), predicted(net, *arguments), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("bands", "output"), KINDS)
def test_a_sample_changes_no_earlier_output(bands: int, output: str) -> None:
    net = small(bands, output)
    waveform, conditioning, speaker = inputs()
    before = predicted(net, waveform, conditioning, speaker)
    half_filter = net.bank.delay // 2 if net.bank is not None else 0
    for position in (0, 37, 2 * HOP - 1):
        changed = waveform.clone()
        changed[..., position] += 0.3
        after = predicted(net, changed, conditioning, speaker)
        differs = (after != before).flatten(0, 2).any(0).nonzero()[:, 0]
        first_allowed = max(math.ceil((position - half_filter) / bands), 0) + 1  # the first step that hears it, and one
        assert len(differs) == 0 or int(differs[0]) >= first_allowed
        if position < HOP:
            assert int(differs[0]) <= first_allowed + half_filter // bands  # and it is heard


@pytest.mark.parametrize(("bands", "output"), KINDS)
def test_conditioning_changes_nothing_before_its_frame(bands: int, output: str) -> None:
    net = small(bands, output)
    waveform, conditioning, speaker = inputs()
    changed = conditioning.clone()
    changed[:, :, 1] += 1
    same = predicted(net, waveform, changed, speaker) == predicted(net, waveform, conditioning, speaker)
    steps = same.all(dim=1).all(dim=1)
    assert bool(steps[:, : HOP // bands].all()) and not bool(steps[:, HOP // bands].any())


def test_speakers_are_heard() -> None:
    net = small()
    waveform, conditioning, speaker = inputs()
    assert not torch.allclose(
        predicted(net, waveform, conditioning, speaker), predicted(net, waveform, conditioning, speaker + 1)
    )


@pytest.mark.parametrize("bands", [1, 4])
def test_measured_receptive_field_is_the_stated_one(bands: int) -> None:
    net = small(bands)
    waveform, conditioning, speaker = inputs(frames=4, batch=1)
    waveform.requires_grad_()
    step = 2 * HOP // bands
    predicted(net, waveform, conditioning, speaker)[..., step].sum().backward()
    assert waveform.grad is not None
    touched = waveform.grad[0, 0].nonzero()[:, 0]
    first, last = int(touched[0]), int(touched[-1])
    half_filter = net.bank.delay // 2 if net.bank is not None else 0  # through which a sub-band hears samples
    assert first == (step - net.config.receptive_steps) * bands - half_filter
    assert last == (step - 1) * bands + half_filter
    assert net.config.receptive_steps == 8


@pytest.mark.parametrize(("bands", "output"), KINDS)
def test_loss_is_the_mean_of_what_the_parameters_say(bands: int, output: str) -> None:
    net = small(bands, output)
    waveform, conditioning, speaker = inputs()
    parameters = stepped(net, waveform, conditioning, speaker)
    likelihood = net.distribution.log_likelihood(parameters, net.split(waveform))
    expected = -likelihood.sum(dim=(1, 2)) / waveform.shape[2] + (math.log(2) if bands == 4 else 0)
    torch.testing.assert_close(net.loss(waveform, conditioning, speaker), expected, atol=1e-4, rtol=1e-5)


def test_nats_of_both_banks_are_comparable() -> None:
    """White noise has no structure: under the best logistic, one band and four must cost the same."""
    waveform = 0.05 * torch.randn(1, 1, 400 * HOP, generator=torch.Generator().manual_seed(0))
    losses = []
    for bands in (1, 4):
        net = small(bands, speaker=0)
        with torch.no_grad():
            bias = silence_head(net)
            bias.view(bands, 3, 2)[:, 2] = math.log(0.028 / bands**0.5) - torch.tensor(LEVELS[bands]).log().unsqueeze(1)
            losses.append(float(net.loss(waveform, torch.zeros(1, CHANNELS, 400), None)))
    assert losses[0] == pytest.approx(losses[1], abs=0.01)
    entropy = 0.5 * math.log(2 * math.pi * math.e * 0.05**2) + math.log(32768)
    assert entropy < losses[0] < entropy + 0.05


def test_dither_is_added_only_while_training() -> None:
    net = small()
    arguments = inputs()
    assert torch.equal(net.loss(*arguments), net.loss(*arguments))
    net.train()
    assert not torch.equal(net.loss(*arguments), net.loss(*arguments))


@pytest.mark.parametrize(("bands", "output"), KINDS)
@pytest.mark.parametrize("level", [0.0, 0.05, 1.0])
def test_bf16_training_has_finite_gradients(bands: int, output: str, level: float) -> None:
    net = small(bands, output).train()
    _, conditioning, speaker = inputs()
    waveform = level * (2 * torch.rand(2, 1, 2 * HOP, generator=torch.Generator().manual_seed(0)) - 1).sign()
    with torch.autocast("cpu", torch.bfloat16):
        loss = net.loss(waveform, conditioning, speaker)
    assert loss.dtype == torch.float32 and bool(loss.isfinite().all())
    loss.mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())


@pytest.mark.parametrize("bands", [1, 4])
def test_training_on_a_tone_and_silence_learns(bands: int) -> None:
    net = small(bands, speaker=0).train()
    waveform = torch.zeros(2, 1, 2 * HOP)
    waveform[0, 0] = 0.3 * torch.sin(torch.arange(2 * HOP) * 0.05)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    losses = []
    for _ in range(40):
        loss = net.loss(waveform, torch.zeros(2, CHANNELS, 2), None).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize(("bands", "output"), KINDS)
def test_generation_is_a_function_of_its_seed(bands: int, output: str) -> None:
    net = small(bands, output)
    _, conditioning, speaker = inputs(frames=1)
    first = net.generate(conditioning, speaker, seed=3)
    assert first.shape == (2, 1, HOP) and bool(first.isfinite().all())
    assert torch.equal(net.generate(conditioning, speaker, seed=3), first)
    assert not torch.allclose(net.generate(conditioning, speaker, seed=4), first, atol=1e-3)
    assert not torch.allclose(first[0], first[1], atol=1e-3)


@pytest.mark.parametrize(("bands", "output"), KINDS)
def test_an_item_does_not_depend_on_its_batch(bands: int, output: str) -> None:
    net = small(bands, output)
    _, conditioning, speaker = inputs(frames=1, batch=3)
    together = net.generate(conditioning, speaker, seed=3)
    for items in (1, 2):
        alone = net.generate(conditioning[:items], speaker[:items], seed=3)
        torch.testing.assert_close(alone, together[:items], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("bands", "output"), KINDS)
def test_generation_is_causal_in_the_conditioning(bands: int, output: str) -> None:
    net = small(bands, output)
    _, conditioning, speaker = inputs()
    changed = conditioning.clone()
    changed[:, :, 1] += 1
    first, second = net.generate(conditioning, speaker), net.generate(changed, speaker)
    safe = HOP - (net.bank.delay // 2 if net.bank is not None else 0)  # half a synthesis filter spreads back
    assert torch.equal(first[..., :safe], second[..., :safe]) and not torch.equal(first, second)
    prefix = net.generate(conditioning[:, :, :1], speaker)
    torch.testing.assert_close(prefix[..., :safe], first[..., :safe], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("bands", "output"), KINDS)
def test_temperature_zero_ignores_the_seed(bands: int, output: str) -> None:
    net = small(bands, output)
    _, conditioning, speaker = inputs(frames=1)
    cold = net.generate(conditioning, speaker, seed=1, temperature=0.0)
    assert torch.equal(cold, net.generate(conditioning, speaker, seed=2, temperature=0.0))


@pytest.mark.parametrize("output", ["logistic", "mulaw"])
def test_generated_samples_are_those_of_the_parallel_distribution(output: str) -> None:
    """Hearing what it generated, the parallel pass draws the same samples from the same uniforms."""
    net = small(1, output)
    _, conditioning, speaker = inputs(frames=1)
    waveform = net.generate(conditioning, speaker, seed=9, temperature=0.7)
    parameters = predicted(net, waveform, conditioning, speaker)
    numbers = torch.from_numpy(uniforms(9, 0, HOP, 1, (0, 1))).transpose(1, 2)
    torch.testing.assert_close(net.distribution.sample(parameters, numbers, 0.7), waveform, atol=1e-4, rtol=0)


def test_untrained_distributions_have_the_level_of_speech() -> None:
    for bands in (1, 4):
        net = small(bands)
        assert isinstance(net.distribution, LogisticMixture)
        with torch.no_grad():
            silence_head(net)
        waveform, conditioning, speaker = inputs()
        log_scales = predicted(net, waveform, conditioning, speaker)[0, :, -1, 0]
        np.testing.assert_allclose(log_scales.exp().detach().numpy(), LEVELS[bands], rtol=1e-5)


@pytest.mark.parametrize("temperature", [-0.1, math.nan, math.inf])
def test_a_temperature_that_is_none_is_an_error(temperature: float) -> None:
    _, conditioning, speaker = inputs()
    with pytest.raises(UsageError, match="temperature"):
        small().generate(conditioning, speaker, temperature=temperature)
