"""Two processes on the CPU train one model: the same weights and codebook in both."""

from __future__ import annotations

import dataclasses
import datetime
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

import vqaudio
from vqaudio.models.config import QuantizerConfig
from vqaudio.models.quantizer import ResidualQuantizer
from vqaudio.training.distributed import start

CONFIG = QuantizerConfig(quantizers=2, codebook_size=16, code_dim=4, restart_below=0.2)
WITHOUT_CHANCE = dataclasses.replace(CONFIG, restart_below=0.0)
SPY = """
import torch
from vqaudio.cli import main
from vqaudio.training import distributed, loop
from vqaudio.training.corpus import Crops

cut = Crops.batch

def broken(crops, index, size):
    waveform, speaker = cut(crops, index, size)
    return (waveform * torch.nan if (index, distributed.rank()) == (4, 1) else waveform), speaker

Crops.batch = broken

class Spied(loop.Run):
    def save(self):
        super().save()
        torch.save([self.model.state_dict(), self.average], self.folder / f"{distributed.rank()}.pt")

loop.Run = Spied
main()
"""


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


def test_the_others_wait_until_a_corpus_is_fetched(monkeypatch):
    joined = []
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr(distributed, "init_process_group", lambda backend, timeout: joined.append((backend, timeout)))
    start("cpu")
    assert joined == [("gloo", datetime.timedelta(days=1))]


@pytest.fixture
def torchrun(make_corpus, tmp_path, monkeypatch):
    """A command that trains the recipe for folders in two processes, small, and the run folder.

    Each process leaves its weights there as it saves. What process 1 hears in step 4 is broken.
    """
    pytest.importorskip("torchaudio")
    settings = {
        "corpus.path": make_corpus("folder"),
        "corpus.validation_seconds": 0.5,
        "codec.encoder.channels": [8, 8, 8],
        "codec.conditioning.channels": 16,
        "codec.quantizer.codebook_size": 16,
        "codec.spectral.channels": 8,
        "codec.spectral.skip_channels": 8,
        "schedule.log_every": 1,
    }
    for i in range(3):
        settings |= {f"stages.{i}.steps": 3, f"stages.{i}.batch_size": 2, f"stages.{i}.crop_seconds": 0.1}
    settings["stages.0.quantize_after"] = 1
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    (tmp_path / "spy.py").write_text(SPY)
    train = [str(tmp_path / "spy.py"), "train", "folder", "--run-dir", str(tmp_path / "run")]

    def command(**changes):
        values = settings | {key.replace("__", "."): value for key, value in changes.items()}
        sets = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items()]
        return [*launch, *train, *(part for setting in sets for part in ("--set", setting))]

    return command, tmp_path / "run"


def steps(folder):
    return [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines() if '"train"' in line]


def test_two_processes_train_one_codec(torchrun):
    command, folder = torchrun
    run = subprocess.run(command(), capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert steps(folder) == list(range(1, 10))
    assert (
        '"skipped_steps": 1.0' in (folder / "log.jsonl").read_text().splitlines()[-2]
    )  # one of them, in both processes
    assert vqaudio.load(folder / "model.safetensors").config.quantizer.codebook_size == 16
    for one, other in zip(*(torch.load(folder / f"{rank}.pt") for rank in (0, 1)), strict=True):
        assert [name for name, value in one.items() if not torch.equal(value, other[name])] == []


def test_an_interrupted_run_is_saved_by_its_writer(torchrun):
    command, folder = torchrun
    long = command(stages__2__steps=2000)
    run = subprocess.Popen(long, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not ((folder / "log.jsonl").exists() and len(steps(folder)) > 7):
        time.sleep(0.2)
    os.killpg(run.pid, signal.SIGINT)
    run.wait(timeout=100)
    done = steps(folder)[-1]
    assert 7 < done < 2000 and (folder / "model.safetensors").exists()
