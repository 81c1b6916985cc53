"""Several processes on the CPU train one model: they learn and log what one process would, and it can go on alone."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing

pytest.importorskip("torchaudio")

import vqaudio
from tests.training.runs import interrupted_after
from tests.training.spied import Undithered
from vqaudio.errors import RecipeError
from vqaudio.models.config import QuantizerConfig
from vqaudio.models.quantizer import ResidualQuantizer
from vqaudio.training import distributed as training_distributed
from vqaudio.training import loop
from vqaudio.training.checkpoint import load_checkpoint
from vqaudio.training.codec_task import CodecTask
from vqaudio.training.corpus import pack
from vqaudio.training.distributed import start
from vqaudio.training.recipe import to_json
from vqaudio.training.skips import Skips

ROOT = Path(__file__).parents[2]
CONFIG = QuantizerConfig(quantizers=2, codebook_size=16, code_dim=4, restart_below=0.2)
WITHOUT_CHANCE = dataclasses.replace(CONFIG, restart_below=0.0)


def learned(latents, config, initialize):
    """What three batches (B, D, T) leave in the buffers and codebooks of a quantiser."""
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(config, 6)
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    torch.manual_seed(rank)  # what is drawn may differ, what is learned may not
    if initialize:
        quantizer.initialize(latents)
    for _ in range(3):
        quantizer.train()(latents)
    return {name: value.detach().numpy() for name, value in quantizer.state_dict().items() if "project" not in name}


def cases(latents):
    """The state of quantisers with and without chance in what they learn, by name."""
    return {
        "drawn": learned(latents, CONFIG, initialize=True),
        "ema": learned(latents, WITHOUT_CHANCE, initialize=False),
        "predictive": learned(latents, dataclasses.replace(WITHOUT_CHANCE, predictive=True, paths=3), initialize=False),
        "loss": learned(latents, dataclasses.replace(WITHOUT_CHANCE, codebook="loss"), initialize=False),
    }


def _quantize(rank, latents, address, results):
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    results.put((rank, cases(latents[rank])))
    distributed.destroy_process_group()


def test_codebooks_are_those_of_one_process_that_hears_everything(tmp_path):
    latents = torch.randn(2, 4, 6, 50, generator=torch.Generator().manual_seed(1))
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    address = f"file://{tmp_path}/rendezvous"
    processes = [context.Process(target=_quantize, args=(i, latents, address, results)) for i in range(2)]
    for process in processes:
        process.start()
    found = dict(results.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(60)
    alone = cases(latents.flatten(0, 1))
    for case, state in alone.items():
        for name, value in state.items():
            np.testing.assert_array_equal(found[0][case][name], found[1][case][name])
            if case != "drawn":
                np.testing.assert_allclose(found[0][case][name], value, rtol=1e-4, atol=1e-5)


def _fetch(rank, succeeds, address, results, both):
    brief = datetime.timedelta(seconds=3)
    both.wait(120)
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2, timeout=brief)
    try:
        with training_distributed.first_alone():
            if rank == 0:
                time.sleep(5)
                assert succeeds
            results.put((rank, time.time()))
    except (AssertionError, RuntimeError) as error:
        results.put((rank, type(error)))


@pytest.mark.parametrize("succeeds", [True, False])
def test_the_others_wait_until_a_corpus_is_fetched_or_who_fetches_it_is_gone(tmp_path, succeeds):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    address = f"file://{tmp_path}/rendezvous"
    both = context.Barrier(2)
    processes = [context.Process(target=_fetch, args=(i, succeeds, address, results, both)) for i in range(2)]
    for process in processes:
        process.start()
    found = dict(results.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(60)
    if succeeds:
        assert found[0] <= found[1]
    else:
        assert found[0] is AssertionError and issubclass(found[1], RuntimeError)


def test_a_process_on_a_gpu_says_which_one_is_its_own(monkeypatch):
    joined = {}
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: joined.update(set=device))
    monkeypatch.setattr(distributed, "init_process_group", lambda backend, **rest: joined.update(rest, backend=backend))
    start("cuda:1")
    place = torch.device("cuda:1")
    assert joined.items() >= {"set": place, "backend": "nccl", "device_id": place}.items()


def test_every_process_has_a_gpu_of_its_own(monkeypatch):
    assert training_distributed.own_device("cuda:1") == "cuda:1"
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert training_distributed.own_device("cuda") == "cuda:3" and training_distributed.own_device("cpu") == "cpu"


def test_a_step_is_skipped_here_that_is_broken_elsewhere(monkeypatch):
    def reduce(tensor, op):
        """With a process whose loss is finite, then with one whose loss is not."""
        assert op == distributed.ReduceOp.MAX
        tensor.clamp_(min=next(elsewhere))

    elsewhere = iter([0.0, 1.0, 0.0])
    monkeypatch.setattr(training_distributed, "world", lambda: 2)
    monkeypatch.setattr(distributed, "all_reduce", reduce)
    skips = Skips(torch.device("cpu"))
    judged = [float(skips.judge([torch.tensor(loss)])) for loss in (1.0, 1.0, torch.inf)]
    assert judged == [0.0, 1.0, 1.0] and (skips.total, skips.in_a_row) == (2, 2)


def test_the_process_that_validates_hears_no_more_at_once_than_when_it_trains(recipe, monkeypatch):
    task = CodecTask(recipe, pack(recipe.corpus, recipe.codec.sample_rate, quiet=True), torch.device("cpu"))
    task.enter(0)
    monkeypatch.setattr(training_distributed, "world", lambda: 2)
    heard: list[int] = []
    task.model.register_forward_pre_hook(lambda network, inputs: heard.append(len(inputs[0])))
    task.validate(1)
    assert sum(heard) == len(task.validation[0]) > max(heard) == recipe.stages[0].batch_size // 2


def test_every_process_and_step_draws_for_itself(monkeypatch):
    draws = {}
    for number, step, rank in itertools.product((0, 1), (0, 1), (0, 1, 2)):
        monkeypatch.setattr(training_distributed, "rank", lambda rank=rank: rank)
        training_distributed.seed(number, step)
        draws[number, step, rank] = tuple(torch.rand(4).tolist())
        training_distributed.seed(number, step)
        assert tuple(torch.rand(4).tolist()) == draws[number, step, rank]
    assert len(set(draws.values())) == 12


@pytest.fixture
def plan(recipe):
    """A recipe that learns every part on every loss, with nothing left to chance but the crops.

    Gains, dropout, jitter and restarts are drawn by each process for itself, as is the start of the codebook from data.
    """
    codec = dataclasses.replace(
        recipe.codec,
        quantizer=dataclasses.replace(recipe.codec.quantizer, dropout=0.0, restart_below=0.0),
        speaker=dataclasses.replace(recipe.codec.speaker, dropout=0.0),
        conditioning=dataclasses.replace(recipe.codec.conditioning, jitter=0.0),
    )
    stages = tuple(dataclasses.replace(stage, quantize_after=0, batch_size=2) for stage in recipe.stages)
    twice = dataclasses.replace(recipe.optimizer, accumulate=2)
    corpus = dataclasses.replace(recipe.corpus, sample_seconds=0.0)
    level = (0.0, 0.0)
    return dataclasses.replace(
        recipe, corpus=corpus, codec=codec, stages=stages, optimizer=twice, gain_range_db=level, bf16=False
    )


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    """What to say to Python so that it trains a plan, spied upon, into the folder `many`."""
    monkeypatch.setenv("SPY", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def write(plan):
        declared = (
            f"from vqaudio.training.recipe import Recipe, from_json\nRECIPE = from_json({to_json(plan)!r}, Recipe)"
        )
        (tmp_path / "tiny.py").write_text(declared)
        spied = str(ROOT / "tests" / "training" / "spied.py")
        return [spied, "train", str(tmp_path / "tiny.py"), "--run-dir", str(tmp_path / "many"), "--quiet"]

    return write


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def curve(folder):
    """The logged numbers of every training step; where a step was taken twice, of the second time."""
    entries = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return {entry["step"]: entry for entry in entries if entry["kind"] == "train"}


def assert_alike(folder, other, steps):
    """See that two runs logged the same numbers at the steps 1 to `steps`.

    Sums over a batch in another order differ by some 1e-7 of their size, the log keeps six digits, and both optimisers
    divide a gradient by its size, so that a weight whose gradient is near zero takes another step. In ten steps that
    makes less than 1e-5 of them.
    """
    one, two = curve(folder), curve(other)
    for step in range(1, steps + 1):
        assert one[step].keys() == two[step].keys()
        for name in one[step].keys() - {"time", "times_real_time", "stage", "kind"}:
            assert two[step][name] == pytest.approx(one[step][name], rel=1e-4, abs=1e-6), (step, name)


def test_two_processes_train_as_one_does_and_one_of_them_writes(plan, arguments, tmp_path, monkeypatch):
    run = subprocess.run([*TORCHRUN, *arguments(plan)], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    monkeypatch.setattr(loop, "Run", Undithered)
    loop.train(plan, tmp_path / "one", quiet=True)
    assert_alike(tmp_path / "one", tmp_path / "many", steps=10)
    assert vqaudio.load(tmp_path / "many" / "model.safetensors").config == plan.codec
    for one, other in zip(*(torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)), strict=True):
        assert [name for name, value in one.items() if not torch.equal(value, other[name])] == []
    writes = [(tmp_path / f"{rank}.writes").read_text() for rank in (0, 1)]
    for place in ("many", "cache"):
        assert f" {tmp_path / place}" in writes[0] and f" {tmp_path / place}" not in writes[1]


def test_a_step_that_is_broken_in_one_process_is_skipped_in_both(plan, arguments, tmp_path, monkeypatch):
    monkeypatch.setenv("BROKEN", "8")  # of two micro-batches a step
    run = subprocess.run([*TORCHRUN, *arguments(plan)], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert {step: entry["skipped_steps"] for step, entry in curve(tmp_path / "many").items() if step in (4, 5, 6)} == {
        4: 0,
        5: 1,
        6: 1,
    }
    for one, other in zip(*(torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)), strict=True):
        assert all(torch.isfinite(value).all() for value in one.values())
        assert [name for name, value in one.items() if not torch.equal(value, other[name])] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_stopped_or_killed_goes_on_in_one_process(plan, arguments, tmp_path, monkeypatch, number):
    long = dataclasses.replace(plan, stages=(*plan.stages[:2], dataclasses.replace(plan.stages[2], steps=5000)))
    run = subprocess.Popen([*TORCHRUN, *arguments(long)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not (
        (tmp_path / "many" / "log.jsonl").exists() and 9 in curve(tmp_path / "many")
    ):
        time.sleep(0.1)
    if number == signal.SIGKILL:
        for rank in (0, 1):
            os.kill(int((tmp_path / f"{rank}.pid").read_text()), number)
    run.send_signal(number)
    assert run.wait(timeout=100) != 0
    done, last = load_checkpoint(tmp_path / "many" / "last.safetensors")[0]["step"], max(curve(tmp_path / "many"))
    assert 8 <= done < 5000 and (done == last if number == signal.SIGTERM else done <= last)
    for folder, resume in (("many", True), ("one", False)):
        monkeypatch.setattr(loop, "Run", interrupted_after(Undithered, done + 3))
        with pytest.raises(KeyboardInterrupt):
            loop.train(long, tmp_path / folder, resume=resume, quiet=True)
    assert_alike(tmp_path / "one", tmp_path / "many", steps=min(done + 3, 14))
    assert set(curve(tmp_path / "many")) >= set(range(1, done + 4))


def test_a_batch_that_cannot_be_shared_is_an_error(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(training_distributed, "world", lambda: 3)
    with pytest.raises(RecipeError, match="3 processes cannot share the batch of 2 of the stage 'codes'"):
        loop.train(plan, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
    fits = [dataclasses.replace(stage, batch_size=3) for stage in plan.stages[:1]]
    unused = [dataclasses.replace(stage, steps=0) for stage in plan.stages[1:]]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.json").touch()
    with pytest.raises(RecipeError, match="holds a run already"):  # the next thing that is looked at
        loop.train(dataclasses.replace(plan, stages=(*fits, *unused)), tmp_path / "run", quiet=True)
