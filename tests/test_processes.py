"""Processes that work for another end with it, and leave nothing half-written."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vqaudio.processes import ends, handling, pool

ROOT = Path(__file__).parents[1]
WORKING = """
import sys, time
from pathlib import Path
from vqaudio.files import replacing
from vqaudio.processes import pool, tidily

def work(path):
    with tidily(), replacing(path) as temporary:
        temporary.write_bytes(b"half")
        time.sleep(30)

if __name__ == "__main__":
    with pool(1, list) as workers:
        list(workers.map(work, [Path(sys.argv[1], name) for name in "abc"]))
"""


def test_handlers_are_those_of_the_body_and_then_those_of_before():
    before, seen = signal.getsignal(signal.SIGTERM), []
    with pytest.raises(KeyError), handling(lambda number, _: seen.append(number), signal.SIGTERM):
        signal.raise_signal(signal.SIGTERM)
        raise KeyError
    assert seen == [signal.SIGTERM] and signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_signals_are_handled_as_before():
    def handled():
        with handling(lambda *_: None, signal.SIGTERM):
            return signal.getsignal(signal.SIGTERM)

    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        assert thread.submit(handled).result() is signal.getsignal(signal.SIGTERM)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="terminals that close do not tell")
def test_under_nohup_a_closed_terminal_ends_nothing():
    with handling(lambda *_: None, signal.SIGHUP):
        assert ends() == [signal.SIGTERM, signal.SIGHUP]
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert ends() == [signal.SIGTERM]


def test_a_pool_leaves_the_terminal_to_its_owner_and_ends_with_a_failure():
    with pytest.raises(KeyError), pool(1, list) as workers:
        for name in ("SIGINT", "SIGHUP"):
            if number := getattr(signal, name, None):
                assert workers.submit(signal.getsignal, number).result() == signal.SIG_IGN
        unfinished = workers.submit(time.sleep, 5)
        raise KeyError
    with pytest.raises((concurrent.futures.BrokenExecutor, concurrent.futures.CancelledError)):
        unfinished.result()


@pytest.mark.skipif(sys.platform == "win32", reason="processes there end without a word")
def test_workers_of_a_process_that_is_killed_end_and_take_away_what_they_have_begun(tmp_path):
    script, folder = tmp_path / "working.py", tmp_path / "out"
    script.write_text(WORKING)
    folder.mkdir()
    owner = subprocess.Popen(
        [sys.executable, script, folder], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
    )
    while owner.poll() is None and not any(folder.iterdir()):
        time.sleep(0.01)
    assert owner.poll() is None
    owner.kill()
    owner.communicate(timeout=20)  # which waits for all who hold the pipe, the worker too
    assert os.listdir(folder) == []
