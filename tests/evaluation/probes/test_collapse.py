"""The collapse probe on models whose latents say what is known: everything, nothing, or a given number of bits."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy import stats

from tests.conftest import TINY
from vqaudio.cli import main
from vqaudio.codec import Codec
from vqaudio.errors import ModelError, UsageError
from vqaudio.evaluation.probes.collapse import codes_in_use, collapse, column_names, load_vae, rows, units_in_use
from vqaudio.evaluation.probes.likelihood import likelihood
from vqaudio.models.config import CodecConfig
from vqaudio.models.vae import VAE
from vqaudio.models.vqvae import VQVAE
from vqaudio.weights import VAE_FORMAT, save_model

RATE = TINY.sample_rate
WRONG = ("shuffled_in_time", "other_utterance", "zero")


def speech_like(seed: int, seconds: float = 0.5) -> np.ndarray:
    """Noise whose level changes at random every 16 ms."""
    rng = np.random.default_rng(seed)
    samples = int(seconds * RATE)
    levels = np.repeat(rng.choice([0.001, 0.3], samples // 256 + 1), 256)[:samples]
    return (levels * rng.uniform(-1, 1, samples)).astype(np.float32)


def vae(config: CodecConfig = TINY) -> VAE:
    torch.manual_seed(0)
    return VAE(config).eval()


def vqvae() -> VQVAE:
    torch.manual_seed(0)
    return VQVAE(TINY).eval()


@pytest.fixture
def vae_file(tmp_path: Path) -> Path:
    path = tmp_path / "vae.safetensors"
    save_model(path, TINY, vae().state_dict(), form=VAE_FORMAT)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    import soundfile

    (tmp_path / "speech").mkdir()
    for seed in range(3):
        soundfile.write(tmp_path / "speech" / f"{seed}.wav", speech_like(seed), RATE)
    return tmp_path / "speech"


def fix_posterior(model: VAE, mean: float, variance: float) -> None:
    """Let the posterior be the same whatever is heard."""
    layer = model.bottleneck.project_in
    assert layer.bias is not None
    torch.nn.init.zeros_(layer.weight)
    half = len(layer.bias) // 2
    with torch.no_grad():
        layer.bias[:half], layer.bias[half:] = mean, math.log(variance)


def test_a_posterior_that_is_the_prior_has_collapsed():
    model = vae()
    fix_posterior(model, 0.0, 1.0)
    result = collapse("vae", model, [speech_like(0), speech_like(1)])
    assert result.kl == 0 and result.bottleneck.active == (0,) and result.bottleneck.size == TINY.quantizer.code_dim
    assert result.information_rate == pytest.approx(0, abs=1e-6)
    assert result.likelihood is not None and result.bound == result.likelihood.true


def test_a_constant_posterior_away_from_the_prior_costs_but_says_nothing():
    model = vae()
    fix_posterior(model, 2.0, 0.5)
    result = units_in_use(model, [torch.from_numpy(speech_like(0))[None, None]])
    each = 0.5 * (4 + 0.5 - 1 - math.log(0.5)) / math.log(2)
    assert result.kl == pytest.approx(TINY.quantizer.code_dim * each, rel=1e-5)
    assert result.information == pytest.approx(0, abs=1e-6) and result.active == (0,)


def test_the_information_bound_is_the_gaussian_s_and_below_the_kl():
    model = vae()
    heard = [torch.from_numpy(speech_like(seed))[None, None] for seed in range(3)]
    result = units_in_use(model, heard)
    with torch.no_grad():
        p = [model.bottleneck.posterior(model.encoder(w)) for w in heard]
    means = np.concatenate([q.mean[0].numpy() for q in p], axis=1).astype(float)
    variances = np.concatenate([q.log_variance.exp()[0].numpy() for q in p], axis=1).astype(float)
    together = np.cov(means, bias=True) + np.diag(variances.mean(axis=1))
    apart = stats.norm(0, np.sqrt(variances)).entropy().sum(axis=0).mean()
    nats = stats.multivariate_normal(np.zeros(len(means)), together).entropy() - apart
    assert result.information == pytest.approx(nats / math.log(2), rel=1e-4)
    assert 0 < result.information <= result.kl
    assert result.active == (int((means.var(axis=1) > 0.01).sum()),) and result.frames == means.shape[1]


def test_a_wavenet_that_is_deaf_loses_nothing_by_wrong_latents():
    for model in (vae(), vqvae()):
        assert model.wavenet is not None and model.wavenet.stack.local is not None
        torch.nn.init.zeros_(model.wavenet.stack.local.weight)
        result = collapse("deaf", model, [speech_like(0), speech_like(1)]).likelihood
        assert result is not None and all(getattr(result, name) == result.true for name in WRONG)


def test_a_wavenet_that_listens_is_disturbed_by_wrong_latents():
    model = vae()
    with torch.no_grad():
        model.bottleneck.project_out.weight.mul_(10)
    result = collapse("vae", model, [speech_like(0), speech_like(1)]).likelihood
    assert result is not None and all(abs(getattr(result, name) - result.true) > 1e-5 for name in WRONG)


def test_codes_cost_a_constant_and_say_their_entropy():
    model, waveforms = vqvae(), [speech_like(0), speech_like(1)]
    result = collapse("codes", model, waveforms)
    quantizer = TINY.quantizer
    assert result.kl_rate == pytest.approx(quantizer.quantizers * 5 * TINY.frame_rate)  # log2 of 32 codes
    with torch.no_grad():
        codes = [model.quantizer(model.encoder(torch.from_numpy(w)[None, None])).codes[0].numpy() for w in waveforms]
    counts = [np.bincount(stream, minlength=quantizer.codebook_size) for stream in np.concatenate(codes, axis=1)]
    assert result.bottleneck.active == tuple(int((c > 0).sum()) for c in counts)
    entropies = [stats.entropy(c) for c in counts]
    assert result.bottleneck.perplexity == pytest.approx([math.exp(e) for e in entropies], rel=1e-5)
    assert result.bottleneck.information == pytest.approx(sum(entropies) / math.log(2), rel=1e-5)
    assert result.likelihood == likelihood(model, waveforms)
    assert result.bound == pytest.approx(result.likelihood.true + 10 / TINY.hop)


def test_one_code_for_everything_says_nothing():
    model = vqvae()
    for stage in model.quantizer.stages:
        torch.nn.init.zeros_(stage.project_in.weight)
    result = codes_in_use(model, [torch.from_numpy(speech_like(0))[None, None]])
    assert result.active == (1, 1) and result.information == pytest.approx(0, abs=1e-6)


def test_the_probe_repeats_itself_and_leaves_the_generator_alone():
    waveforms = [speech_like(0), speech_like(1)]
    state = torch.get_rng_state()
    first = collapse("vae", model := vae(), waveforms)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert collapse("vae", model, waveforms) == first
    assert torch.equal(torch.get_rng_state(), before)
    torch.set_rng_state(state)


def test_what_cannot_be_probed_is_said(tiny_codec: Path):
    with pytest.raises(UsageError, match="no utterance"):
        collapse("vae", vae(), [np.zeros(10, np.float32)])
    with pytest.raises(ModelError, match="a codec, not a continuous VAE"):
        load_vae(tiny_codec)


def test_columns_are_named_by_what_tells_the_files_apart():
    assert column_names([Path("a/x.safetensors"), Path("a/y.safetensors")]) == ["x", "y"]
    assert column_names([Path("a/model.safetensors"), Path("b/model.safetensors")]) == ["a", "b"]
    same = [Path("a/x/model.safetensors"), Path("b/x/model.safetensors")]
    assert column_names(same) == [str(path) for path in same]


def test_rows_that_no_model_has_are_left_out():
    waveforms = [speech_like(0), speech_like(1)]
    silent = vae(dataclasses.replace(TINY, wavenet=None))
    codes, continuous = collapse("a", vqvae(), waveforms), collapse("b", silent, waveforms)
    both = dict(rows([codes, continuous]))
    assert both["nll, true latents"][1] == both["bound, nll and KL"][1] == both["perplexity"][1] == ""
    assert both["active units"] == ["", f"{continuous.bottleneck.active[0]} of 4"]
    alone = dict(rows([continuous]))
    assert not {"nll, true latents", "bound, nll and KL", "active codes", "perplexity"} & set(alone)


def test_the_command_writes_table_json_and_figure(folder: Path, tiny_codec: Path, vae_file: Path, tmp_path: Path):
    target, figure = tmp_path / "out.json", tmp_path / "out.png"
    arguments = ["probe", "collapse", str(folder), "--model", str(tiny_codec), "--vae", str(vae_file)]
    arguments += ["--limit", "2", "--json", str(target), "--figure", str(figure)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "2 utterances" in result.output and "active units" in result.output
    record = json.loads(target.read_text())
    assert record["model"]["name"] == "tiny" and record["model"]["path"] == str(tiny_codec)
    models = record["models"]
    wrong = ("shuffled_in_time", "other_utterance", "zero")
    assert all(math.isfinite(m["likelihood"][name]) for m in models for name in ("true", *wrong))
    assert [(m["name"], m["kind"]) for m in models] == [("tiny", "codes"), ("vae", "gaussian")]
    expected = collapse("vae", load_vae(vae_file), [speech_like(0), speech_like(1)])
    assert models[1]["kl_per_second"] == pytest.approx(expected.kl_rate, rel=0.01)  # the files have 16 bits
    assert figure.read_bytes().startswith(b"\x89PNG")
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 2 and "--force" in again.output


def test_a_model_without_a_wavenet_has_the_rows_that_need_none(folder: Path, tmp_path: Path):
    config = dataclasses.replace(TINY, wavenet=None)
    Codec(config, VQVAE(config).arrays()).save(tmp_path / "spectral.safetensors")
    arguments = ["--model", str(tmp_path / "spectral.safetensors"), "--figure", str(tmp_path / "out.png")]
    result = CliRunner().invoke(main, ["probe", "collapse", str(folder), *arguments])
    assert result.exit_code == 0, result.output
    assert "The model spectral has no WaveNet" in result.stderr and "nll" not in result.stdout
    assert "perplexity" in result.stdout and "of 32" in result.stdout
    assert (tmp_path / "out.png").is_file()
