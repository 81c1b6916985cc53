"""Compiled training: it gives the losses of eager training, from one graph without breaks."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

pytest.importorskip("torchaudio")

from tests.conftest import TINY
from vqaudio.models.objective import Objective
from vqaudio.models.quantizer import nearest
from vqaudio.models.vqvae import VQVAE
from vqaudio.training import loop
from vqaudio.training.recipe import LossWeights, Recipe

COMPILER = os.environ.get("CXX", "g++")


def losses(recipe: Recipe, folder: Path) -> list[dict[str, float]]:
    loop.train(recipe, folder, quiet=True)
    entries = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [{name: e[name] for name in ("total", "gradient_norm")} for e in entries if e["kind"] == "train"]


def test_a_compiled_run_has_the_losses_of_an_eager_one(recipe, tmp_path, monkeypatch):
    """Traced and differentiated as for any backend; to generate code for all of it would take minutes."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager", fullgraph=True))
    codes = dataclasses.replace(recipe.stages[0], steps=3, quantize_after=0, weights=LossWeights(spectral=0.0))
    recipe = dataclasses.replace(recipe, bf16=False, stages=(codes,))
    eager = losses(recipe, tmp_path / "eager")
    compiled = losses(dataclasses.replace(recipe, compile=True), tmp_path / "compiled")
    assert len(eager) == 3
    for one, other in zip(eager, compiled, strict=True):
        assert other == pytest.approx(one, rel=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"codebook": "ema"},
        {"codebook": "loss"},
        {"predictive": True, "quantizers": 1, "paths": 4},
        {"predictive": True, "rate_weight": 0.01},
    ],
)
def test_the_whole_model_is_one_graph(options):
    quantizer = dataclasses.replace(TINY.quantizer, dropout=0.3, **options)
    model = VQVAE(dataclasses.replace(TINY, quantizer=quantizer))
    objective = Objective(TINY.sample_rate, TINY.hop, TINY.conditioning.mels)
    with torch.autocast("cpu", torch.bfloat16):
        explained = torch._dynamo.explain(model)(
            0.1 * torch.randn(2, 1, 1280), wanted=("mel", "spectral", "intelligibility", "wavenet"), objective=objective
        )
    assert explained.graph_count == 1, explained.break_reasons


@pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"needs the C++ compiler {COMPILER}")
def test_the_compiled_search_finds_the_nearest_codes(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.manual_seed(0)
    latents, codebook = torch.randn(100, 4), torch.randn(16, 4)
    expected = torch.cdist(latents, codebook).argmin(1)
    assert torch.equal(nearest(latents, codebook), expected)
    assert torch.equal(torch.compile(nearest)(latents, codebook), expected)
