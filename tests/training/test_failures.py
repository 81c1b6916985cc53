"""What goes wrong in a long run, and how it goes on: steps that are not finite, a kill, a full disk, broken audio."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("torchaudio")

from vqaudio.errors import TrainingError
from vqaudio.training import corpus, loop, skips
from vqaudio.training.adversary import Adversary
from vqaudio.training.checkpoint import load_checkpoint
from vqaudio.training.codec_task import CodecTask
from vqaudio.training.corpus import Crops
from vqaudio.training.recipe import ScheduleConfig, to_json

CHILD = """
import os, pathlib, sys
from vqaudio.errors import TrainingError
from vqaudio.training import loop
from vqaudio.training.recipe import Recipe, from_json

folder = pathlib.Path(sys.argv[1])
recipe = from_json((folder.parent / "plan.json").read_text(), Recipe)
"""
KILLED = """
write, writes = pathlib.Path.write_bytes, []

def torn(path, data):
    writes.append(path)
    if len(writes) == 3:  # the checkpoints before are those of steps 0 and 2
        with open(path, "wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            os.kill(os.getpid(), 9)
    return write(path, data)

pathlib.Path.write_bytes = torn
loop.train(recipe, folder, quiet=True)
"""
FULL = """
import shutil, subprocess

folder.parent.mkdir(exist_ok=True)
disk, result = folder.parent / "disk", folder
disk.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "none", str(disk)], check=True)
step, ballast = loop.Run._train_step, disk / "ballast"

def fill(run, stage):
    if run.step == 3:
        try:
            with open(ballast, "wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 12))
        except OSError as error:
            assert error.strerror == "No space left on device"
    return step(run, stage)

loop.Run._train_step = fill
try:
    loop.train(recipe, disk / "run", quiet=True)
except TrainingError as error:
    print(error)
loop.Run._train_step = step
print(sorted(path.name for path in (disk / "run").iterdir() if path.suffix in (".part", ".safetensors")))
ballast.unlink()
loop.train(recipe, disk / "run", resume=True, quiet=True)
shutil.copytree(disk / "run", result)
"""


@pytest.fixture
def plan(recipe):
    """Ten steps that save every two, and neither log nor validate but at the ends of the stages."""
    return dataclasses.replace(recipe, schedule=ScheduleConfig(1, 100, 100, 2))


@pytest.fixture
def short(plan):
    """Five steps of one stage."""
    return dataclasses.replace(plan, stages=plan.stages[:1])


@pytest.fixture
def long(plan):
    """Sixteen steps of one stage."""
    stage = dataclasses.replace(plan.stages[0], steps=16)
    return dataclasses.replace(plan, stages=(stage,))


def state(folder):
    """Progress and tensors of a run."""
    return load_checkpoint(folder / "last.safetensors")


def different(one, other):
    """Names of the tensors of two checkpoints that are not the same to the bit."""
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


def assert_same_run(one, other):
    (progress, tensors), (other_progress, other_tensors) = state(one), state(other)
    assert progress == other_progress and different(tensors, other_tensors) == []


def break_waveforms(patch, indices):
    """Let the crops of some micro-batches be no numbers."""
    cut = Crops.batch

    def broken(crops, index, size):
        waveform, speaker = cut(crops, index, size)
        return (waveform * torch.nan if index in indices else waveform), speaker

    patch.setattr(Crops, "batch", broken)


def break_gradients(patch, indices):
    """Let some losses be finite, and their gradients not."""
    losses = CodecTask.losses

    def broken(task, forward, index, within):
        found = losses(task, forward, index, within)
        if index in indices:
            found["total"] = found["total"] + (0 * found["total"]).sqrt()
        return found

    patch.setattr(CodecTask, "losses", broken)


def break_discriminators(patch, indices):
    """Let the discriminators hear no numbers in some of their steps; the first is step 5."""
    learn, heard = Adversary.learn, []

    def broken(adversary, decoded, waveform):
        heard.append(len(heard) + 5)
        return learn(adversary, decoded, waveform * (torch.nan if heard[-1] in indices else 1.0))

    patch.setattr(Adversary, "learn", broken)


def interrupt_before(patch, step):
    """Have Ctrl-C stop the run at the end of a step."""
    train_step = loop.Run._train_step

    def stopping(run, stage):
        run.interrupted = run.step == step
        return train_step(run, stage)

    patch.setattr(loop.Run, "_train_step", stopping)


class TestSkippedSteps:
    @pytest.mark.parametrize(
        ("fault", "codebook", "bad"),
        [
            (break_waveforms, "ema", {1, 3, 6, 9}),
            (break_gradients, "ema", {3, 6}),
            (break_gradients, "loss", {3, 4}),
            (break_discriminators, "ema", {6, 7}),
        ],
    )
    def test_leave_everything_as_it_was(self, plan, tmp_path, monkeypatch, fault, codebook, bad):
        quantizer = dataclasses.replace(plan.codec.quantizer, codebook=codebook, restart_below=0.9999)
        plan = dataclasses.replace(plan, codec=dataclasses.replace(plan.codec, quantizer=quantizer))
        train_step, unchanged = loop.Run._train_step, set()

        def now(run):
            return {name: tensor.clone() for name, tensor in run.tensors().items()}

        def watched(run, stage):
            before = now(run)
            result = train_step(run, stage)
            after = now(run)
            if before.keys() == after.keys() and not different(before, after):
                unchanged.add(run.step)
            return result

        monkeypatch.setattr(loop.Run, "_train_step", watched)
        fault(monkeypatch, bad)
        loop.train(plan, tmp_path / "run", quiet=True)
        assert unchanged == bad

    def test_are_counted_and_left_out_of_the_figures(self, plan, tmp_path, monkeypatch):
        plan = dataclasses.replace(plan, schedule=ScheduleConfig(2, 100, 100, 2))
        break_waveforms(monkeypatch, {1, 6, 7})
        loop.train(plan, tmp_path / "run", quiet=True)
        lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
        assert "NaN" not in "".join(lines)
        logged = [entry for entry in map(json.loads, lines) if entry["kind"] == "train"]
        assert [entry["skipped_steps"] for entry in logged] == [1, 1, 1, 1, 3, 3]
        assert ["total" in entry for entry in logged] == [True, True, True, True, False, True]
        assert state(tmp_path / "run")[0]["skipped"] == 3

    def test_one_bad_micro_batch_skips_the_whole_step(self, long, tmp_path, monkeypatch):
        twice = dataclasses.replace(long, optimizer=dataclasses.replace(long.optimizer, accumulate=2))
        break_waveforms(monkeypatch, {8})
        loop.train(twice, tmp_path / "run", quiet=True)
        progress, tensors = state(tmp_path / "run")
        assert progress["skipped"] == 1
        assert all(torch.isfinite(tensor).all() for tensor in tensors.values())

    def test_ten_in_a_row_stop_the_run_which_then_goes_on_as_if_it_had_not(self, long, tmp_path, monkeypatch):
        bad = range(3, 13)
        with monkeypatch.context() as patch:
            break_waveforms(patch, bad)
            with pytest.raises(TrainingError, match="10 steps in a row, up to step 13"):
                loop.train(long, tmp_path / "stopped", quiet=True)
        progress, tensors = state(tmp_path / "stopped")
        assert progress["step"] == 13 and progress["skipped"] == 10
        assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
        loop.train(long, tmp_path / "stopped", resume=True, quiet=True)
        with monkeypatch.context() as patch:
            break_waveforms(patch, bad)
            patch.setattr(skips, "MOST_IN_A_ROW", 100)
            patch.setattr(loop, "MOST_IN_A_ROW", 100)
            loop.train(long, tmp_path / "whole", quiet=True)
        assert_same_run(tmp_path / "stopped", tmp_path / "whole")

    def test_after_too_many_nothing_is_learnt_until_the_host_looks(self, long, tmp_path, monkeypatch):
        class OnGpu(loop.Run):
            def __init__(self, *arguments):
                super().__init__(*arguments)
                self.look_every = 15

        monkeypatch.setattr(loop, "Run", OnGpu)
        break_waveforms(monkeypatch, range(3, 13))
        with pytest.raises(TrainingError, match="up to step 15"):
            loop.train(long, tmp_path / "run", quiet=True)
        late = state(tmp_path / "run")
        monkeypatch.setattr(OnGpu, "_check_skips", lambda run: setattr(run, "look_every", 1))
        monkeypatch.setattr(OnGpu, "_train_step", Stop(loop.Run._train_step, 3))
        with pytest.raises(KeyboardInterrupt):
            loop.train(long, tmp_path / "good", quiet=True)
        assert not different(late[1], state(tmp_path / "good")[1])

    @pytest.mark.parametrize("bad", [range(3, 12), range(3, 13)])
    def test_are_counted_across_a_resume(self, long, tmp_path, monkeypatch, bad):
        break_waveforms(monkeypatch, bad)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            interrupt_before(patch, 6)
            loop.train(long, tmp_path / "parts", quiet=True)
        too_many = pytest.raises(TrainingError, match="up to step 13") if len(bad) > 9 else contextlib.nullcontext()
        for folder, resume in ((tmp_path / "parts", True), (tmp_path / "whole", False)):
            with too_many:
                loop.train(long, folder, resume=resume, quiet=True)
        assert_same_run(tmp_path / "parts", tmp_path / "whole")


class Stop:
    """A training step after so many of which the run is interrupted."""

    def __init__(self, train_step, steps):
        self.train_step, self.steps = train_step, steps

    def __get__(self, run, kind):
        def step(stage):
            run.interrupted = run.step == self.steps - 1
            return self.train_step(run, stage)

        return step


class Unhurried(TorchDispatchMode):
    """Forbids what makes the host wait for a GPU, as far as tensors on the CPU tell."""

    WAITS = ("_local_scalar_dense", "nonzero", "bincount", "masked_select", "is_nonzero", "equal", "unique")

    def __init__(self):
        super().__init__()
        self.watching, self.seen = True, 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name = function.overloadpacket.__name__
        self.seen += 1
        if self.watching and name.startswith(self.WAITS):
            raise AssertionError(f"{name} makes the host wait for the device")
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("kind", ["recipe", "prior_recipe"])
def test_the_host_never_waits_for_the_device_between_two_looks(kind, request, tmp_path, monkeypatch):
    plan = dataclasses.replace(request.getfixturevalue(kind), schedule=ScheduleConfig(100, 100, 100, 100))
    looked, mode = [], Unhurried()

    class OnGpu(loop.Run):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.look_every = loop.LOOK_EVERY

        def _advance(self, log):
            with mode:
                super()._advance(log)

        def _log_figures(self, window, stage, log):
            mode.watching = False
            super()._log_figures(window, stage, log)
            mode.watching = True

        def _validate(self, stage, log):
            mode.watching = False
            super()._validate(stage, log)
            mode.watching = True

        def _check_skips(self):
            mode.watching = False
            super()._check_skips()
            mode.watching = True
            looked.append(self.step)

    monkeypatch.setattr(loop, "Run", OnGpu)
    loop.train(plan, tmp_path / "run", quiet=True)
    assert looked == [sum(stage.steps for stage in plan.stages[: i + 1]) for i in range(len(plan.stages))]
    assert mode.seen > 1000


def test_a_gpu_without_memory_is_one_sentence(short, tmp_path, monkeypatch):
    def full(run, stage):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(loop.Run, "_train_step", full)
    with pytest.raises(TrainingError, match=r"^The GPU has no memory for \d+ crops of .* s at once; 'stages\..*'"):
        loop.train(short, tmp_path / "run", quiet=True)


def child(script, plan, folder, *before):
    """Run a script that trains a plan into a folder in a process of its own."""
    (folder.parent / "plan.json").write_text(to_json(plan))
    command = [*before, sys.executable, "-c", CHILD + script, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2])


def test_a_kill_in_the_middle_of_a_checkpoint(short, tmp_path):
    killed = child(KILLED, short, tmp_path / "killed")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert state(tmp_path / "killed")[0]["step"] == 2
    assert len(list((tmp_path / "killed").glob(".*.part"))) == 1
    loop.train(short, tmp_path / "killed", resume=True, quiet=True)
    assert not list((tmp_path / "killed").glob(".*"))
    loop.train(short, tmp_path / "whole", quiet=True)
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


@pytest.fixture
def cramped(monkeypatch):
    """A context in which files cannot become longer than a kilobyte."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(bound):
        resource.setrlimit(resource.RLIMIT_FSIZE, (bound, hard))

    yield limit
    limit(soft)


class TestFullDisk:
    def test_leaves_the_checkpoint_before_to_resume_from(self, short, tmp_path):
        if subprocess.run(["sh", "-c", "unshare -rm true"], capture_output=True).returncode:
            pytest.skip("no disk can be mounted here")
        short = dataclasses.replace(short, schedule=ScheduleConfig(100, 100, 100, 2))  # the log would be full first
        filled = child(FULL, short, tmp_path / "filled", "unshare", "-rm")
        assert filled.returncode == 0, filled.stderr
        sentence, files = filled.stdout.splitlines()
        assert sentence.endswith("last.safetensors' cannot be written: no space left on device.")
        assert files == "['last.safetensors']"
        loop.train(short, tmp_path / "whole", quiet=True)
        assert_same_run(tmp_path / "filled", tmp_path / "whole")

    def test_at_the_first_checkpoint_leaves_the_folder_free(self, short, tmp_path, cramped):
        corpus.pack(short.corpus, short.codec.sample_rate, quiet=True)
        cramped(1000)
        with pytest.raises(TrainingError, match=r"last\.safetensors' cannot be written: file too large"):
            loop.train(short, tmp_path / "run", quiet=True)
        cramped(-1)
        assert list((tmp_path / "run").iterdir()) == []
        loop.train(short, tmp_path / "run", quiet=True)


def test_a_run_on_a_corpus_with_a_broken_file_resumes_on_the_same_pack(short, tmp_path, monkeypatch, caplog):
    broken = Path(short.corpus.path) / "ann" / "1.wav"
    broken.write_text("This is no sound.")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_before(patch, 3)
        loop.train(short, tmp_path / "parts", quiet=True)
    assert [name in caplog.text for name in (str(broken), "1 of the 5 files")] == [True, True]
    monkeypatch.setattr(corpus, "_read", lambda *_: pytest.fail("packed again"))
    loop.train(short, tmp_path / "parts", resume=True, quiet=True)
    loop.train(short, tmp_path / "whole", quiet=True)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")
