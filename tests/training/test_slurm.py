"""The script for Slurm, against programs that do on this machine what those of the same names do on many: `srun` starts
a step and kills it at SIGTERM, `scancel` signals the step, `scontrol` queues again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torchaudio")

from tests.training.runs import interrupted_after
from vqaudio.training import loop
from vqaudio.training.checkpoint import load_checkpoint
from vqaudio.training.recipe import recipes_directory, to_json

SCRIPT = recipes_directory() / "slurm.sh"
ROOT = Path(__file__).parents[2]
SCONTROL = """#!/usr/bin/env bash
case $1 in
show) echo localhost; echo second ;;
requeue) echo "$2" >> requeued ;;
esac
"""
TELLING = """#!/usr/bin/env bash
printf '%s\\n' "$@" > told
"""
SCANCEL = """#!/usr/bin/env bash
[ "$*" = "--signal=TERM 71" ] && kill -TERM "$(cat step)"
"""
WAITING = """#!/usr/bin/env bash
echo "$SRUN_CPUS_PER_TASK" > cores
bash -c 'trap "sleep 0.2; echo saved > stopped; exit 1" TERM
echo $$ > step; touch started; while :; do sleep 0.05; done' & step=$!
trap 'kill -KILL $step' TERM
wait $step
"""
TWO_NODES = """#!/usr/bin/env bash
while [[ $1 == -* ]]; do shift; done
"$@" & one=$!
"$@" & other=$!
wait $one && wait $other
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A function that starts the script as a job of two nodes, with the given `srun`."""
    programs = tmp_path / "bin"
    programs.mkdir()

    def start(srun, *arguments, **environment):
        for name, text in (("srun", srun), ("scontrol", SCONTROL), ("scancel", SCANCEL)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
        slurm = {"SLURM_JOB_ID": "71", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "node[1-2]"}
        slurm |= {"SLURM_CPUS_PER_TASK": "5"}
        places = {"RUN_DIR": str(tmp_path / "run"), "PYTHONPATH": str(ROOT), "PATH": path}
        return subprocess.Popen(
            ["bash", SCRIPT, *arguments], cwd=tmp_path, env=os.environ | slurm | places | environment
        )

    return start


def test_is_a_script():
    subprocess.run(["bash", "-n", SCRIPT], check=True)
    assert "#SBATCH --ntasks-per-node=1\n" in SCRIPT.read_text()  # torchrun starts the processes of a node


def test_starts_a_run_and_resumes_one_that_is_there(job, tmp_path):
    told = []
    for _ in range(2):
        assert job(TELLING, "--set", "seed=1", RECIPE="vctk", CORPUS="/data").wait(60) == 0
        told.append((tmp_path / "told").read_text().split("\n"))
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / "recipe.json").touch()
    assert "localhost:29500" in told[0] and "vctk" in told[0] and "corpus.path=/data" in told[0]
    assert told[0][-3:-1] == ["--set", "seed=1"]
    assert "--resume" not in told[0] and "--resume" in told[1]


def test_fails_as_training_does(job, tmp_path):
    assert job("#!/usr/bin/env bash\nexit 3\n").wait(60) == 3
    assert not (tmp_path / "requeued").exists()


def test_saves_and_queues_again_before_its_time_is_up(job, tmp_path):
    process = job(WAITING)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (tmp_path / "started").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == 0
    assert (tmp_path / "stopped").exists() and (tmp_path / "requeued").read_text() == "71\n"
    assert (tmp_path / "cores").read_text() == "5\n"


def test_goes_on_on_two_nodes_with_a_run_of_one_process(job, recipe, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "Run", interrupted_after(loop.Run, 4))
        loop.train(recipe, tmp_path / "run", quiet=True)
    declared = f"from vqaudio.training.recipe import Recipe, from_json\nRECIPE = from_json({to_json(recipe)!r}, Recipe)"
    (tmp_path / "tiny.py").write_text(declared)
    with socket.create_server(("", 0)) as free:
        port = str(free.getsockname()[1])
    places = {"RECIPE": str(tmp_path / "tiny.py"), "CORPUS": recipe.corpus.path, "PORT": port}
    assert job(TWO_NODES, "--quiet", DEVICE="cpu", PROCESSES="1", **places).wait(300) == 0
    log = map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines())
    assert [entry["step"] for entry in log if entry["kind"] == "train"] == list(range(1, 11))
    assert load_checkpoint(tmp_path / "run" / "last.safetensors")[0]["step"] == 10
    assert (tmp_path / "run" / "model.safetensors").exists()
