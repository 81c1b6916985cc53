"""Two processes on the CPU train one model: the same weights and codebook in both."""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import distributed, multiprocessing

import vqaudio
from vqaudio.models.config import QuantizerConfig
from vqaudio.models.quantizer import ResidualQuantizer
from vqaudio.training.distributed import start

CONFIG = QuantizerConfig(quantizers=2, codebook_size=16, code_dim=4, restart_below=0.2)


def _quantize(rank, latents, address, results):
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(CONFIG, 6)
    torch.manual_seed(rank)  # what is drawn may differ, what is learned may not
    quantizer.initialize(latents[rank])
    for _ in range(3):
        quantizer.train()(latents[rank])
    results.put((rank, [stage.codebook.numpy() for stage in quantizer.stages]))
    distributed.destroy_process_group()


def test_codebooks_are_the_same_in_all_processes(tmp_path):
    latents = torch.randn(2, 4, 6, 50, generator=torch.Generator().manual_seed(1))
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    address = f"file://{tmp_path}/rendezvous"
    processes = [context.Process(target=_quantize, args=(i, latents, address, results)) for i in range(2)]
    for process in processes:
        process.start()
    books = dict(results.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(60)
    assert all((one == other).all() for one, other in zip(books[0], books[1], strict=True))


def test_the_others_wait_until_a_corpus_is_fetched(monkeypatch):
    joined = []
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr(distributed, "init_process_group", lambda backend, timeout: joined.append((backend, timeout)))
    start("cpu")
    assert joined == [("gloo", datetime.timedelta(days=1))]


@pytest.fixture
def torchrun(make_corpus, tmp_path):
    """A command that trains the recipe for folders in two processes, small, and the run folder."""
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
    train = ["-m", "vqaudio", "train", "folder", "--run-dir", str(tmp_path / "run")]

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
    assert vqaudio.load(folder / "model.safetensors").config.quantizer.codebook_size == 16


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
