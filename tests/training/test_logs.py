"""What a run tells: numbers as JSON lines, and a spectrogram that shows what is in the sound."""

import errno
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("tensorboard")

from vqaudio import audio
from vqaudio.errors import TrainingError
from vqaudio.training import logs
from vqaudio.training.logs import Log, spectrogram
from vqaudio.training.samples import find_samples


def test_numbers_are_json_lines_that_a_resumed_run_goes_on_with(tmp_path):
    for step in (1, 2):
        with Log(tmp_path, quiet=True) as log:
            log.numbers(step, "first", "train", {"loss": 0.123456789})
            log.audio(step, "tone", torch.zeros(4000), 16000)
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [1, 2]
    assert entries[0]["stage"] == "first" and entries[0]["loss"] == 0.123457
    assert list((tmp_path / "tensorboard").iterdir())


def test_sounds_are_kept_as_files(tmp_path):
    tone = 0.5 * torch.sin(torch.arange(4000) / 9)
    with Log(tmp_path, quiet=True) as log:
        for scale in (1.0, 0.5):  # a resumed run writes some once more
            log.audio(7, "tone", scale * tone, 16000)
    (found,) = find_samples(tmp_path)[7].items()
    assert found == ("tone", tmp_path / "samples" / "7-tone.flac")
    assert list((tmp_path / "samples").iterdir()) == [found[1]]
    assert torch.allclose(torch.from_numpy(audio.read(found[1])), 0.5 * tone, atol=1e-4)


def test_sounds_that_find_the_disk_full(tmp_path, monkeypatch):
    class Full(audio._Sink):
        def write(self, data):
            self.problem = OSError(errno.ENOSPC, "No space left on device")
            return 0

    monkeypatch.setattr(audio, "_Sink", Full)
    with pytest.raises(TrainingError, match="no space left"), Log(tmp_path, quiet=True) as log:
        log.audio(1, "tone", torch.zeros(4000), 16000)


def test_half_a_line_of_a_run_that_was_killed_is_dropped(tmp_path):
    for step in (1, 2):
        with Log(tmp_path, quiet=True) as log:
            log.numbers(step, "first", "train", {"loss": 1.0})
        with open(tmp_path / "log.jsonl", "a") as file:
            file.write('{"time": 1.0, "st')
    Log(tmp_path, quiet=True).__exit__(None, None, None)
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [1, 2]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_numbers_that_find_the_disk_full(tmp_path):
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    with pytest.raises(TrainingError, match="no space left"), Log(tmp_path, quiet=True) as log:
        log.numbers(1, "first", "train", {"loss": 1.0})


def test_a_log_that_cannot_be_begun(tmp_path):
    with pytest.raises(TrainingError, match="cannot be written"):
        Log(tmp_path / "nowhere", quiet=True)
    (tmp_path / "tensorboard").write_text("A file of somebody's.")
    with pytest.raises(TrainingError, match="cannot be written"):
        Log(tmp_path, quiet=True)


class FullBoard:
    """TensorBoard on a full disk."""

    def __init__(self, directory):
        pass

    def fail(self, *arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    add_scalar = add_audio = add_image = close = fail


@pytest.mark.parametrize(
    "use",
    [
        lambda log: log.numbers(1, "first", "train", {"loss": 1.0}),
        lambda log: log.audio(1, "tone", torch.zeros(4000), 16000),
        lambda log: None,
    ],
    ids=["numbers", "audio", "the end"],
)
def test_tensorboard_that_finds_the_disk_full(tmp_path, monkeypatch, use):
    monkeypatch.setattr(logs, "tensorboard", lambda: SimpleNamespace(SummaryWriter=FullBoard))
    with pytest.raises(TrainingError, match="no space left"), Log(tmp_path, quiet=True) as log:
        use(log)


def test_the_first_failure_is_the_one_that_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "tensorboard", lambda: SimpleNamespace(SummaryWriter=FullBoard))
    with pytest.raises(KeyboardInterrupt), Log(tmp_path, quiet=True):
        raise KeyboardInterrupt


def test_a_sound_that_is_not_finite_is_kept_as_far_as_it_is(tmp_path):
    broken = torch.tensor([0.25, float("nan"), float("inf")] * 100)
    with Log(tmp_path, quiet=True) as log:
        log.audio(1, "broken", broken, 16000)
    kept = audio.read(tmp_path / "samples" / "1-broken.flac")
    assert np.allclose(kept.reshape(-1, 3), [0.25, 0.0, 1.0], atol=1e-4)


def test_brackets_in_a_name_are_said_as_they_are(tmp_path, capsys):
    with Log(tmp_path) as log:
        log.numbers(1, "a [/b] [red]", "train", {"loss": 1.0})
    assert "a [/b] [red] 1 train: loss 1" in capsys.readouterr().err


def test_spectrogram_of_a_sound_shorter_than_its_window():
    assert spectrogram(torch.ones(64)).shape[:2] == (1, 257)


def test_spectrogram_shows_a_tone_at_its_height():
    tone = torch.sin(2 * torch.pi * 4000 * torch.arange(16000) / 16000)
    picture = spectrogram(tone)
    assert picture.shape[:2] == (1, 257)
    assert picture[0, :, 20].argmax() == 256 - 128
    assert picture.min() >= 0 and picture.max() <= 1
