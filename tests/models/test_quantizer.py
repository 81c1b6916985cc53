"""Vector quantisation against independent references: numpy, another library, and arithmetic by hand."""

import copy
import itertools
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from vqaudio.errors import ModelError
from vqaudio.models.config import CodecConfig, QuantizerConfig, SpectralConfig, check
from vqaudio.models.quantizer import (
    RIDGE,
    ResidualQuantizer,
    VectorQuantizer,
    correlations,
    follow,
    least_squares,
    nearest,
    perplexity,
    predict,
)


def identity(config: QuantizerConfig) -> VectorQuantizer:
    """A quantiser whose projections change nothing."""
    stage = VectorQuantizer(config, config.code_dim)
    for projection in (stage.project_in, stage.project_out):
        state = {"weight": torch.eye(config.code_dim)[:, :, None], "bias": torch.zeros(config.code_dim)}
        projection.load_state_dict(state)
    return stage


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 40), codes=st.integers(2, 50), dim=st.integers(1, 9))
def test_nearest_is_numpys(seed, count, codes, dim):
    rng = np.random.default_rng(seed)
    latents, codebook = rng.normal(size=(count, dim)), rng.normal(size=(codes, dim))
    distances = ((latents[:, None] - codebook[None]) ** 2).sum(2)
    np.testing.assert_array_equal(nearest(torch.from_numpy(latents), torch.from_numpy(codebook)), distances.argmin(1))


def test_nearest_is_that_of_another_library():
    other_library = pytest.importorskip("vector_quantize_pytorch")
    stage = identity(QuantizerConfig(codebook_size=32, code_dim=8, normalize=False)).eval()
    other = other_library.VectorQuantize(dim=8, codebook_size=32, kmeans_init=False).eval()
    other._codebook.embed.copy_(stage.codebook[None])
    latents = torch.randn(3, 8, 20)
    quantized, codes, _, _ = stage(latents)
    wanted, wanted_codes, _ = other(latents.transpose(1, 2))
    torch.testing.assert_close(codes, wanted_codes)
    torch.testing.assert_close(quantized, wanted.transpose(1, 2))


def test_moving_average_by_hand():
    config = QuantizerConfig(codebook_size=3, code_dim=2, normalize=False, decay=0.9, restart_below=0.0)
    stage = identity(config).train()
    start = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    stage.codebook.copy_(start)
    stage.sums.copy_(start)
    stage(torch.tensor([[[1.0, 3.0, 5.0], [0.0, 0.0, 0.0]]]))  # the first goes to code 0, the others to code 1
    counts = torch.tensor([0.9 + 0.1 * 1, 0.9 + 0.1 * 2, 0.9])
    sums = torch.tensor([[0.1 * 1, 0], [0.9 * 4 + 0.1 * 8, 0], [0, 0.9 * 4]])
    torch.testing.assert_close(stage.counts, counts)
    torch.testing.assert_close(stage.codebook, sums / counts[:, None])


@torch.no_grad()
def test_moving_averages_of_predictive_codes_by_hand():
    torch.manual_seed(0)
    config = QuantizerConfig(codebook_size=4, code_dim=3, predictive=True, decay=0.9, restart_below=0.0)
    stage = identity(config)
    stage.initialize(walks(rows=8, dim=3, frames=20))
    latents, old = walks(rows=8, dim=3, frames=20), copy.deepcopy(stage)
    points = latents.transpose(1, 2)
    codes = old.search(points)
    vectors = old.codebook[codes]
    predicted = predict(vectors, old.prediction)
    quantized = F.normalize(predicted + vectors, dim=2)
    stage.train()(latents)
    sums = torch.stack([(points - predicted)[codes == code].sum(0) for code in range(4)])
    torch.testing.assert_close(stage.sums, 0.9 * old.sums + 0.1 * sums)
    own, cross = correlations(quantized[:, :-1], points[:, 1:])
    torch.testing.assert_close(stage.autocorrelation, 0.9 * old.autocorrelation + 0.1 * own)
    torch.testing.assert_close(stage.crosscorrelation, 0.9 * old.crosscorrelation + 0.1 * cross)


@pytest.mark.parametrize("normalize", [False, True])
def test_codebook_moves_only_while_training(normalize):
    stage = VectorQuantizer(QuantizerConfig(codebook_size=8, code_dim=4, normalize=normalize), 6)
    before = stage.codebook.clone()
    stage.eval()(torch.randn(2, 6, 10))
    torch.testing.assert_close(stage.codebook, before, rtol=0, atol=0)
    stage.train()(torch.randn(2, 6, 10))
    assert not torch.equal(stage.codebook, before)


def predictive(**options: Any) -> VectorQuantizer:
    """A predictive quantiser that has to predict."""
    stage = identity(QuantizerConfig(codebook_size=8, code_dim=4, predictive=True, **options))
    stage.prediction.copy_(0.4 * torch.randn_like(stage.prediction))
    stage.codebook.mul_(0.7)
    return stage


def walks(*, rows: int, dim: int, frames: int, steadiness: float = 0.95) -> torch.Tensor:
    """Random walks on the sphere (rows, dim, frames), each point near the one before."""
    point, points = F.normalize(torch.randn(rows, dim), dim=1), []
    for _ in range(frames):
        step = (1 - steadiness**2) ** 0.5 * torch.randn(rows, dim) / dim**0.5
        point = F.normalize(steadiness * point + step, dim=1)
        points.append(point)
    return torch.stack(points, 2)


@pytest.mark.parametrize("rate_weight", [0.0, 0.1])
def test_predictive_codes_are_those_of_numpy(rate_weight):
    torch.manual_seed(0)
    stage = predictive(rate_weight=rate_weight).eval()
    costs = np.zeros(8)
    if rate_weight:
        stage.bits.copy_(torch.arange(8.0))
        costs = rate_weight * np.arange(8)
    latents = walks(rows=3, dim=4, frames=20)
    quantized, codes, _, commitment = stage(latents)
    matrix, codebook = stage.prediction.numpy().astype(float), stage.codebook.numpy().astype(float)
    distances = []
    for row, own, found in zip(latents.numpy(), codes.numpy(), quantized.detach().numpy(), strict=True):
        before = np.zeros(4)
        for point, code, quantised in zip(row.T.astype(float), own, found.T, strict=True):
            sums = matrix @ before + codebook
            candidates = sums / np.linalg.norm(sums, axis=1, keepdims=True)
            assert code == (((point - candidates) ** 2).sum(1) / 2 + costs).argmin()
            before = candidates[code]
            np.testing.assert_allclose(quantised, before, atol=1e-5)
            distances.append(((point - before) ** 2).sum())
    assert commitment.item() == pytest.approx(np.mean(distances), rel=1e-4)
    torch.testing.assert_close(stage.decode(codes), quantized)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31), frames=st.integers(1, 6), delay=st.integers(0, 6))
def test_with_room_for_all_sequences_the_search_decides_for_the_best_of_them(seed, frames, delay):
    """Each code when its delay is over, for the best sequence so far of those that begin as was decided."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(frames, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    matrix, codebook, costs = 0.6 * rng.normal(size=(3, 3)), 0.7 * rng.normal(size=(3, 3)), 0.3 * rng.random(3)

    def missed(sequence):
        before, total = np.zeros(3), 0.0
        for point, code in zip(points, sequence, strict=False):
            before = matrix @ before + codebook[code]
            before /= np.linalg.norm(before)
            total += ((point - before) ** 2).sum() / 2 + costs[code]
        return total

    decided = ()
    for length in range(1, frames + 1):
        free = itertools.product(range(3), repeat=length - len(decided))
        best = min((decided + rest for rest in free), key=missed)
        decided = best if length == frames else best[: max(0, length - delay)]
    inputs = (torch.from_numpy(array) for array in (points[None], matrix, codebook, costs))
    assert follow(*inputs, 3**frames, delay)[0].tolist() == list(decided)


def test_more_paths_miss_less():
    torch.manual_seed(0)
    stages = [
        identity(QuantizerConfig(codebook_size=16, code_dim=8, predictive=True, paths=paths)).eval()
        for paths in (1, 2, 8)
    ]
    stages[0].initialize(walks(rows=64, dim=8, frames=50))
    points = walks(rows=64, dim=8, frames=50)
    for stage in stages[1:]:
        stage.load_state_dict(stages[0].state_dict())
    one, two, eight = (stage(points)[3].item() for stage in stages)
    assert two < 0.97 * one
    assert eight < 0.97 * two


def test_a_code_waits_for_no_more_frames_than_the_delay():
    torch.manual_seed(0)
    stage = predictive(paths=4)
    points, delay = walks(rows=8, dim=4, frames=60), stage.config.delay
    before = stage.codes(points)
    points[:, :, 40:] = walks(rows=8, dim=4, frames=20)
    assert torch.equal(stage.codes(points)[:, : 40 - delay], before[:, : 40 - delay])
    assert not torch.equal(stage.codes(points)[:, 40 - delay : 40], before[:, 40 - delay : 40])


def test_a_point_that_is_not_finite_is_forgotten():
    torch.manual_seed(0)
    stage = predictive(paths=4)
    points = walks(rows=32, dim=4, frames=60)
    before = stage.codes(points)
    points[:, :, 20] = torch.nan
    assert (stage.codes(points)[:, 40:] == before[:, 40:]).float().mean() > 0.9


def test_several_paths_are_for_one_predictive_quantiser():
    for options in ({"paths": 2}, {"paths": 2, "predictive": True, "quantizers": 2}):
        with pytest.raises(ModelError, match="a search along several paths"):
            check(CodecConfig(quantizer=QuantizerConfig(**options), spectral=SpectralConfig()))


def test_a_weight_on_the_rate_saves_bits_for_little_distance():
    torch.manual_seed(0)
    losses, bits = {}, {}
    for weight in (0.0, 0.018):
        config = QuantizerConfig(codebook_size=16, code_dim=8, predictive=True, rate_weight=weight, decay=0.9)
        stage = identity(config)
        torch.manual_seed(1)
        stage.initialize(walks(rows=64, dim=8, frames=50))
        for _ in range(60):
            stage.train()(walks(rows=64, dim=8, frames=50))
        _, codes, _, commitment = stage.eval()(walks(rows=1024, dim=8, frames=50))
        share = np.bincount(codes.flatten(), minlength=16) / codes.numel()
        losses[weight], bits[weight] = commitment.item(), scipy.stats.entropy(share, base=2)
        if weight:
            told = stage.bits.exp2().reciprocal().numpy()
            assert np.abs(told - share).sum() < 0.25 * np.abs(1 / 16 - share).sum()
    # what the start finds differs by seed and threads: 0.19 to 0.66 bits for 1.09 to 1.26 times the distance, six seeds
    assert bits[0.018] < bits[0.0] - 0.1
    assert losses[0.018] < 1.3 * losses[0.0]


def test_an_average_starts_from_the_bits_of_the_codes():
    stage = predictive(rate_weight=0.1)
    shares = torch.tensor([8.0, 4, 4, 4, 4, 4, 2, 2]) / 32
    stage.bits.copy_(-shares.log2())
    before, codebook = stage.bits.clone(), stage.codebook.clone()
    stage.start_average()
    torch.testing.assert_close(stage.counts / stage.counts.sum(), shares)
    torch.testing.assert_close(stage.sums / stage.counts[:, None], codebook)
    assert torch.equal(stage.bits, before)


def test_a_prediction_is_the_least_squares_of_numpy():
    torch.manual_seed(0)
    before, points = torch.randn(2, 50, 3), torch.randn(2, 50, 3)
    found = least_squares(*correlations(before, points))
    wide = np.concatenate([before.flatten(0, 1).numpy(), (100 * RIDGE) ** 0.5 * np.eye(3)])
    wanted = np.linalg.lstsq(wide, np.concatenate([points.flatten(0, 1).numpy(), np.zeros((3, 3))]), rcond=None)[0].T
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_prediction_codes_steady_points_better_after_a_start_from_the_data_and_in_training():
    torch.manual_seed(0)
    plain, stage = (
        identity(QuantizerConfig(codebook_size=16, code_dim=8, predictive=known, decay=0.9)) for known in (False, True)
    )
    losses = {}
    for quantizer in (plain, stage):
        quantizer.initialize(walks(rows=64, dim=8, frames=50))
        for _ in range(30):
            quantizer.train()(walks(rows=64, dim=8, frames=50))
        losses[quantizer] = quantizer.eval()(walks(rows=64, dim=8, frames=50))[3].item()
    assert losses[stage] < 0.6 * losses[plain]
    trained = stage.prediction.clone()
    torch.testing.assert_close(trained, trained.diagonal().mean() * torch.eye(8), atol=0.1, rtol=0)
    assert 0.7 < trained.diagonal().mean() < 1
    stage.train()(walks(rows=64, dim=8, frames=50, steadiness=0.5))
    assert not torch.equal(stage.prediction, trained)


def test_an_average_that_starts_leaves_the_prediction_as_it_is():
    stage = predictive()
    before = stage.prediction.clone()
    stage.start_average()
    torch.testing.assert_close(least_squares(stage.autocorrelation, stage.crosscorrelation), before)


def test_a_graph_is_as_large_for_more_frames():
    stage = VectorQuantizer(QuantizerConfig(codebook_size=8, code_dim=4, predictive=True, paths=4), 6)
    small, large = (torch._dynamo.explain(stage)(torch.randn(2, 6, frames)).op_count for frames in (12, 24))
    assert small == large


@pytest.mark.parametrize(("paths", "delay"), [(1, 0), (3, 8)])
def test_the_compiler_is_told_what_the_search_gives(paths, delay):
    stage = predictive()
    points = walks(rows=3, dim=4, frames=20).transpose(1, 2)
    inputs = points, stage.prediction, stage.codebook, stage.costs()
    found = follow(*inputs, paths, delay)
    predicted = predict(stage.codebook[found], stage.prediction)
    with FakeTensorMode() as mode:
        points, prediction, codebook, costs = map(mode.from_tensor, inputs)
        told = follow(points, prediction, codebook, costs, paths, delay)
        told_predicted = predict(codebook[told], prediction)
    for one, other in ((found, told), (predicted, told_predicted)):
        assert (one.shape, one.stride(), one.dtype) == (other.shape, other.stride(), other.dtype)


def test_what_is_lost_is_forgotten():
    """Two decoders of the same codes agree soon, whatever they have heard before: most pairs, for how many depends on
    what the start from the data finds."""
    torch.manual_seed(0)
    stage = identity(QuantizerConfig(codebook_size=16, code_dim=8, predictive=True))
    stage.initialize(walks(rows=64, dim=8, frames=50))
    codes = stage.codes(walks(rows=32, dim=8, frames=100))
    whole, late = stage.decode(codes), stage.decode(codes[:, 50:])
    distances = (whole[:, :, 50:] - late).square().sum(1)
    assert distances.mean(0)[40] < 0.5 * distances.mean(0)[0]
    distance = distances.median(0).values
    assert distance[0] > 0.1
    assert distance[40] < 0.005 * distance[0]


def test_a_start_from_what_is_not_finite_leaves_codebook_and_prediction():
    stage = predictive()
    before = stage.codebook.clone(), stage.prediction.clone()
    stage.initialize(torch.randn(1, 4, 50).index_fill(2, torch.tensor([7]), torch.nan))
    assert torch.equal(stage.codebook, before[0]) and torch.equal(stage.prediction, before[1])


def test_a_rate_has_a_weight_where_codes_are_predictive():
    for options in (
        {"predictive": False, "rate_weight": 0.01},
        {"predictive": True, "rate_weight": -0.01},
        {"predictive": True, "rate_weight": 0.01, "restart_below": 0.0},
    ):
        with pytest.raises(ModelError, match="codes whose rate has a weight"):
            check(CodecConfig(quantizer=QuantizerConfig(**options), spectral=SpectralConfig()))


@pytest.mark.parametrize("options", [{"normalize": False}, {"codebook": "loss"}])
def test_predictive_codes_are_on_the_sphere_and_follow_averages(options):
    config = CodecConfig(quantizer=QuantizerConfig(predictive=True, **options), spectral=SpectralConfig())
    with pytest.raises(ModelError, match="predictive quantiser"):
        check(config)


@pytest.mark.parametrize("predicts", [False, True])
def test_gradient_passes_straight_through(predicts):
    stage = predictive() if predicts else identity(QuantizerConfig(codebook_size=8, code_dim=4, normalize=False))
    stage.eval()
    latents = F.normalize(torch.randn(2, 4, 5), dim=1).requires_grad_()
    quantized = stage(latents)[0]
    gradient = torch.randn_like(quantized)
    quantized.backward(gradient)
    (wanted,) = torch.autograd.grad(stage.project_out(stage.project(latents)), latents, gradient)
    assert torch.equal(latents.grad, wanted)


def test_losses_move_only_their_own_side():
    stage = identity(QuantizerConfig(codebook_size=8, code_dim=4, normalize=False, codebook="loss"))
    latents = torch.randn(2, 4, 5, requires_grad=True)
    _, codes, codebook, commitment = stage(latents)
    vectors = stage.codebook.detach()[codes].transpose(1, 2)
    distance = (latents - vectors).square().sum(1).mean()
    torch.testing.assert_close(codebook, distance)
    torch.testing.assert_close(commitment, distance)
    codebook.backward()
    assert latents.grad is None
    stage.codebook.grad = None
    stage(latents)[3].backward()
    assert stage.codebook.grad is None
    torch.testing.assert_close(latents.grad, 2 * (latents.detach() - vectors) / codes.numel())


@pytest.mark.parametrize("codebook", ["ema", "loss"])
def test_dead_codes_restart_from_the_data(codebook):
    torch.manual_seed(0)
    config = QuantizerConfig(codebook_size=16, code_dim=4, decay=0.5, restart_below=0.1, codebook=codebook)
    stage = VectorQuantizer(config, 4).train()
    stage.codebook.data.copy_(F.normalize(torch.ones(16, 4) + 1e-3 * torch.randn(16, 4), dim=1))  # all in one place
    for _ in range(40):
        _, _, codebook_loss, commitment_loss = stage(torch.randn(4, 4, 64))
        (codebook_loss + commitment_loss).backward()  # which a codebook that changes under it would stop
    codes = stage.eval()(torch.randn(4, 4, 256))[1]
    assert len(codes.unique()) == 16
    torch.testing.assert_close(stage.codebook.norm(dim=1), torch.ones(16))


@pytest.mark.parametrize("codebook", ["ema", "loss"])
def test_a_code_that_restarts_counts_as_one_in_even_use(codebook):
    config = QuantizerConfig(codebook_size=2, code_dim=2, normalize=False, restart_below=0.1, codebook=codebook)
    stage = identity(config).train()
    stage.codebook.data.copy_(torch.tensor([[0.0, 0.0], [100.0, 100.0]]))
    stage.counts.copy_(torch.tensor([10.0, 0.0]))
    stage(torch.ones(1, 2, 10))
    assert stage.counts[1] == pytest.approx(5, rel=0.05)
    torch.testing.assert_close(stage.codebook[1].detach(), torch.ones(2))


def test_a_start_from_the_data_is_where_the_averages_begin():
    torch.manual_seed(0)
    stage = identity(QuantizerConfig(codebook_size=8, code_dim=4))
    stage.initialize(torch.randn(4, 4, 64))
    torch.testing.assert_close(stage.sums / stage.counts[:, None], stage.codebook)


def test_start_from_the_data_finds_the_clusters():
    torch.manual_seed(0)
    centres = F.normalize(torch.randn(6, 8), dim=1)
    points = centres[torch.randint(6, (600,))] + 0.01 * torch.randn(600, 8)
    stage = identity(QuantizerConfig(codebook_size=24, code_dim=8))
    stage.initialize(points.t()[None])
    assert (centres @ stage.codebook.t()).max(1).values.min() > 0.99


def test_residual_quantisers_add_up():
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(QuantizerConfig(quantizers=3, codebook_size=16, code_dim=4), 6).eval()
    latents = torch.randn(2, 6, 9)
    result = quantizer(latents)
    assert result.codes.shape == (2, 3, 9)
    torch.testing.assert_close(quantizer.decode(result.codes), result.latents)
    last = quantizer.stages[2].decode(result.codes[:, 2])
    torch.testing.assert_close(quantizer.decode(result.codes[:, :2]) + last, result.latents)


def test_losses_are_those_of_all_residual_quantisers():
    torch.manual_seed(0)
    config = QuantizerConfig(quantizers=3, codebook_size=8, code_dim=4, codebook="loss")
    quantizer = ResidualQuantizer(config, 6).eval()
    rest, wanted = torch.randn(2, 6, 10), torch.zeros(2)
    result = quantizer(rest)
    for stage in quantizer.stages:
        part, _, codebook, commitment = stage(rest)
        rest, wanted = rest - part, wanted + torch.stack([codebook, commitment])
    torch.testing.assert_close(torch.stack([result.codebook_loss, result.commitment_loss]), wanted)


def test_more_quantisers_code_better_after_a_start_from_the_data():
    torch.manual_seed(0)
    config = QuantizerConfig(quantizers=3, codebook_size=64, code_dim=6, normalize=False)
    quantizer = ResidualQuantizer(config, 6)
    for stage in quantizer.stages:
        for projection in (stage.project_in, stage.project_out):
            projection.weight.data.copy_(torch.eye(6)[:, :, None])
            projection.bias.data.zero_()
    latents = torch.randn(4, 6, 200)
    quantizer.initialize(latents)
    quantizer.eval()
    codes = quantizer(latents).codes
    errors = [F.mse_loss(quantizer.decode(codes[:, :n]), latents).item() for n in (1, 2, 3)]
    assert errors[2] < 0.5 * errors[1] < 0.25 * errors[0]


def test_quantiser_dropout_leaves_out_later_stages_while_training():
    torch.manual_seed(0)
    config = QuantizerConfig(quantizers=2, codebook_size=8, code_dim=4, codebook="loss", dropout=1.0)
    quantizer = ResidualQuantizer(config, 4).train()
    latents = torch.randn(64, 4, 3)
    first = quantizer.stages[0](latents)[0]
    alone = (quantizer(latents).latents - first).abs().amax((1, 2)) < 1e-6
    assert 10 < alone.sum() < 54


def test_quantisation_stays_fp32_under_autocast():
    torch.manual_seed(0)
    plain = ResidualQuantizer(QuantizerConfig(quantizers=2, codebook_size=8, code_dim=4, restart_below=0.0), 4).train()
    mixed = copy.deepcopy(plain)
    latents = torch.randn(2, 4, 50).bfloat16()
    wanted = plain(latents)
    with torch.autocast("cpu", torch.bfloat16):
        result = mixed(latents)
    assert result.latents.dtype == torch.float32
    assert torch.equal(result.latents, wanted.latents) and torch.equal(result.codes, wanted.codes)
    assert torch.equal(result.commitment_loss, wanted.commitment_loss)
    learned = mixed.state_dict()
    assert {"stages.0.counts", "stages.0.sums"} <= learned.keys()
    assert [name for name, value in plain.state_dict().items() if not torch.equal(value, learned[name])] == []


def test_perplexity_counts_codes_in_even_use():
    assert perplexity(torch.tensor([5.0, 5.0, 0.0, 5.0])).item() == pytest.approx(3.0)
    assert perplexity(torch.tensor([3.0, 1.0])).item() == pytest.approx(
        math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    )


def test_the_bypass_is_what_quantisation_without_loss_gives():
    """Two stages, of which the first leaves a rest for the second."""
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(QuantizerConfig(quantizers=2, codebook_size=3, code_dim=4, normalize=False), 6).eval()
    latents = torch.randn(1, 6, 3)
    first, second = quantizer.stages
    with torch.no_grad():
        first.codebook.copy_(first.project(latents)[0].t())
        rest = latents - first.project_out(first.project(latents))
        second.codebook.copy_(second.project(rest)[0].t())
        torch.testing.assert_close(quantizer.bypass(latents), quantizer(latents).latents)
    quantizer.bypass(latents).square().sum().backward()
    for stage in quantizer.stages:
        assert stage.project_in.weight.grad.abs().sum() > 0 and stage.project_out.weight.grad.abs().sum() > 0
