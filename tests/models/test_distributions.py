"""Distributions of samples: they sum to one over all bins, equal float64 references, and sample what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from vqaudio.models.constants import FLOOR, LOG_SCALES
from vqaudio.models.distributions import Distribution, LogisticMixture, MuLaw

BIN_CENTRES = torch.arange(-32768, 32768) / 32768
BOTH: list[tuple[Distribution, int]] = [(LogisticMixture(), 12), (MuLaw(), 256)]  # each with its P


def mixture(logits: list[float], means: list[float], log_scales: list[float]) -> Tensor:
    """Parameters (1, 1, P, 1)."""
    return torch.tensor(logits + means + log_scales)[None, None, :, None]


def total(distribution: Distribution, parameters: Tensor, samples: Tensor) -> float:
    """The probability of all `samples` (N,) together."""
    every = parameters.expand(1, 1, -1, len(samples))
    return float(distribution.log_likelihood(every, samples[None, None]).double().exp().sum())


def logistic_cdf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (1 + np.tanh(x / 2))


@pytest.mark.parametrize(
    ("means", "log_scales"),
    [
        ([0.0, 0.1], [-3.0, -5.0]),
        ([0.3333, -0.70001], [-9.0, -8.0]),
        ([-1.0, 1.0], [-9.0, -9.0]),
        ([-1.00001, 0.99999], [-30.0, -1e9]),
        ([50.0, -1e6], [-9.0, 0.0]),
        ([0.5, -0.5], [2.0, 1e9]),
        ([1e9, 1e9], [1e9, -1e9]),
    ],
)
def test_logistic_bins_sum_to_one(means: list[float], log_scales: list[float]) -> None:
    for logits in ([0.0, 0.0], [1e4, -1e4], [-3.0, 2.0]):
        assert total(LogisticMixture(), mixture(logits, means, log_scales), BIN_CENTRES) == pytest.approx(1, abs=2e-4)


@settings(max_examples=25, deadline=None)
@given(
    logits=st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=3),
    means=st.lists(st.floats(-2, 2, width=32), min_size=3, max_size=3),
    log_scales=st.lists(st.floats(-20, 10, width=32), min_size=3, max_size=3),
)
def test_any_logistic_mixture_sums_to_one(logits: list[float], means: list[float], log_scales: list[float]) -> None:
    assert total(LogisticMixture(), mixture(logits, means, log_scales), BIN_CENTRES) == pytest.approx(1, abs=5e-4)


@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0, 1e30])
def test_mu_law_levels_sum_to_one(scale: float) -> None:
    logits = scale * torch.randn(256, generator=torch.Generator().manual_seed(0))[None, None, :, None]
    law = MuLaw()
    assert total(law, logits, law.decode(torch.arange(256))) == pytest.approx(1, abs=1e-5)


def test_logistic_likelihood_equals_a_float64_integral() -> None:
    rng = np.random.default_rng(0)
    logits, means = rng.normal(size=(2, 500)), rng.uniform(-0.9, 0.9, size=(2, 500))
    log_scales = rng.uniform(-6, -1, size=(2, 500))
    samples = np.clip(means[0] + 4 * rng.normal(size=500) * np.exp(log_scales[0]), -1, 32767 / 32768)
    samples[:4] = [-1, 32767 / 32768, -32767 / 32768, 32766 / 32768]
    upper = np.where(samples > 1 - 1.5 / 32768, np.inf, samples + 0.5 / 32768)
    lower = np.where(samples < -1 + 0.5 / 32768, -np.inf, samples - 0.5 / 32768)
    weights = np.exp(logits) / np.exp(logits).sum(0)
    scales = np.exp(log_scales)
    expected = np.sum(
        weights * (logistic_cdf((upper - means) / scales) - logistic_cdf((lower - means) / scales)), axis=0
    )
    parameters = torch.from_numpy(np.concatenate([logits, means, log_scales]))[None, None]
    measured = LogisticMixture().log_likelihood(parameters, torch.from_numpy(samples)[None, None])[0, 0]
    likely = expected > 1e-9  # where the float64 difference itself is exact enough
    assert likely.sum() > 400
    np.testing.assert_allclose(measured.numpy()[likely], np.log(expected[likely]), atol=2e-3)


def test_logistic_tails_stay_finite_with_their_gradients() -> None:
    parameters = mixture([0.0, 0.0], [1e4, -0.9], [-40.0, -9.0]).requires_grad_()
    likelihood = LogisticMixture().log_likelihood(parameters, torch.full((1, 1, 1), -0.5))
    likelihood.sum().backward()
    assert likelihood.isfinite().all() and parameters.grad is not None and parameters.grad.isfinite().all()


def test_gradients_are_bounded_by_the_narrowest_scale() -> None:
    parameters = mixture([0.0], [0.3], [-50.0]).requires_grad_()
    LogisticMixture().log_likelihood(parameters, torch.zeros(1, 1, 1)).sum().backward()
    assert parameters.grad is not None
    assert float(parameters.grad.abs().max()) == pytest.approx(math.exp(-LOG_SCALES[0]), rel=1e-3)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.0])
def test_logistic_samples_invert_the_cumulative_distribution(temperature: float) -> None:
    uniforms = torch.full((1, 1, 999, 2), 0.5)
    uniforms[..., 1] = torch.arange(1, 1000) / 1000
    samples = LogisticMixture().sample(mixture([0.0], [0.1], [-4.0]).expand(1, 1, 3, 999), uniforms, temperature)
    if temperature == 0:
        torch.testing.assert_close(samples, torch.full_like(samples, 0.1))
    else:
        cumulative = logistic_cdf((samples[0, 0].double().numpy() - 0.1) / (temperature * math.exp(-4)))
        np.testing.assert_allclose(cumulative, np.arange(1, 1000) / 1000, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_components_are_chosen_in_proportion(temperature: float) -> None:
    weights = np.array([0.2, 0.5, 0.3]) ** (1 / temperature)
    parameters = mixture(np.log([0.2, 0.5, 0.3]).tolist(), [-0.5, 0.0, 0.5], [-9.0] * 3).expand(1, 1, 9, 10000)
    uniforms = torch.full((1, 1, 10000, 2), 0.5)
    uniforms[..., 0] = (torch.arange(10000) + 0.5) / 10000
    samples = LogisticMixture().sample(parameters, uniforms, temperature)
    counts = [int(torch.isclose(samples, torch.tensor(mean)).sum()) for mean in (-0.5, 0.0, 0.5)]
    np.testing.assert_allclose(counts, 10000 * weights / weights.sum(), atol=2)


def test_temperature_zero_takes_the_likeliest() -> None:
    uniforms = torch.rand(1, 1, 50, 2, generator=torch.Generator().manual_seed(0))
    parameters = mixture([0.0, 0.1], [-0.5, 0.25], [-1.0, -1.0]).expand(1, 1, 6, 50)
    assert LogisticMixture().sample(parameters, uniforms, 0.0).unique().tolist() == [0.25]
    logits = torch.randn(1, 1, 256, 1, generator=torch.Generator().manual_seed(0))
    law = MuLaw()
    samples = law.sample(logits.expand(1, 1, 256, 50), uniforms, 0.0)
    assert law.encode(samples).unique().tolist() == [int(logits.argmax())]


def test_samples_stay_among_the_bins() -> None:
    uniforms = torch.tensor([[[[0.5, 2**-24], [0.5, 1 - 2**-24]]]])
    samples = LogisticMixture().sample(mixture([0.0], [0.0], [5.0]).expand(1, 1, 3, 2), uniforms, 1.0)
    assert samples.flatten().tolist() == [-1.0, 32767 / 32768]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_mu_law_samples_invert_the_cumulative_distribution(temperature: float) -> None:
    logits = 2 * torch.randn(256, generator=torch.Generator().manual_seed(0))
    draws = 4000
    uniforms = ((torch.arange(draws) + 0.5) / draws)[None, None, :, None].expand(1, 1, draws, 2)
    law = MuLaw()
    samples = law.sample(logits[None, None, :, None].expand(1, 1, 256, draws), uniforms, temperature)
    counts = np.bincount(law.encode(samples).flatten().numpy(), minlength=256)
    tempered = np.exp(logits.double().numpy() / temperature)
    np.testing.assert_allclose(counts, draws * tempered / tempered.sum(), atol=2)


def test_mu_law_is_the_published_companding() -> None:
    law = MuLaw()
    samples = np.linspace(-1, 1, 20001)
    companded = np.sign(samples) * np.log(1 + 255 * np.abs(samples)) / np.log(256)
    exact = (companded + 1) / 2 * 255
    indices = law.encode(torch.from_numpy(samples)).numpy()
    assert np.abs(indices - exact).max() <= 0.5 + 1e-4
    assert indices.min() == 0 and indices.max() == 255
    np.testing.assert_allclose(law.compand(torch.from_numpy(samples)).numpy(), companded, atol=1.001 / 255)


def test_mu_law_decodes_into_the_level_it_came_from() -> None:
    law = MuLaw()
    levels = torch.arange(256)
    assert torch.equal(law.encode(law.decode(levels)), levels)
    assert law.decode(levels)[[0, 255]].tolist() == pytest.approx([-1, 1], abs=1e-6)
    assert law.encode(torch.tensor([-7.0, 7.0])).tolist() == [0, 255]


@pytest.mark.parametrize(("distribution", "size"), BOTH)
def test_one_step_and_many_are_the_same(distribution: Distribution, size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    parameters = torch.randn(2, 4, size, 7, generator=generator)
    uniforms = torch.rand(2, 4, 7, 2, generator=generator)
    samples = distribution.sample(parameters, uniforms, 0.8)
    likelihood = distribution.log_likelihood(parameters, samples)
    assert samples.shape == likelihood.shape == (2, 4, 7)
    for t in range(7):
        one = distribution.sample(parameters[..., t], uniforms[:, :, t], 0.8)
        torch.testing.assert_close(one, samples[..., t])
        torch.testing.assert_close(distribution.log_likelihood(parameters[..., t], one), likelihood[..., t])


@pytest.mark.parametrize(("distribution", "size"), BOTH)
def test_arithmetic_is_in_float32_under_autocast(distribution: Distribution, size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    parameters = torch.randn(1, 1, size, 50, generator=generator).bfloat16()
    samples = torch.rand(1, 1, 50, generator=generator) - 0.5
    uniforms = torch.rand(1, 1, 50, 2, generator=generator)
    likelihood = distribution.log_likelihood(parameters.float(), samples)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(distribution.log_likelihood(parameters, samples), likelihood)
        drawn = distribution.sample(parameters, uniforms, 1.0)
    assert torch.equal(drawn, distribution.sample(parameters.float(), uniforms, 1.0))


def test_network_numbers_are_brought_to_the_level_of_each_band() -> None:
    levels = torch.tensor([0.1, 0.02])
    numbers = torch.tensor([0.5, 0.5, 1.0, -1.0, FLOOR - 3, 1.0])[None, None, :, None].expand(1, 2, 6, 3)
    parameters = LogisticMixture().at_level(numbers, levels)
    for band, level in enumerate((0.1, 0.02)):
        expected = [0.5, 0.5, level, -level, math.log(level) + FLOOR, math.log(level) + 1]
        assert parameters[0, band, :, 2].tolist() == pytest.approx(expected)
    logits = torch.randn(1, 2, 256, 3)
    assert torch.equal(MuLaw().at_level(logits, levels), logits)


def test_gradients_of_a_network_are_bounded_in_silence() -> None:
    numbers = torch.tensor([0.0, 1.0, -50.0])[None, None, :, None].requires_grad_()
    parameters = LogisticMixture().at_level(numbers, torch.tensor([0.05]))
    LogisticMixture().log_likelihood(parameters, torch.zeros(1, 1, 1)).sum().backward()
    assert numbers.grad is not None
    assert float(numbers.grad.abs().max()) == pytest.approx(math.exp(-FLOOR), rel=1e-3)
