"""What a run tells: numbers as JSON lines, and a spectrogram that shows what is in the sound."""

import json

import pytest
import torch

pytest.importorskip("tensorboard")

from vqaudio.training.logs import Log, spectrogram


def test_numbers_are_json_lines_that_a_resumed_run_goes_on_with(tmp_path):
    for step in (1, 2):
        with Log(tmp_path, quiet=True) as log:
            log.numbers(step, "first", "train", {"loss": 0.123456789})
            log.audio(step, "tone", torch.zeros(4000), 16000)
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [1, 2]
    assert entries[0]["stage"] == "first" and entries[0]["loss"] == 0.123457
    assert list((tmp_path / "tensorboard").iterdir())


def test_spectrogram_shows_a_tone_at_its_height():
    tone = torch.sin(2 * torch.pi * 4000 * torch.arange(16000) / 16000)
    picture = spectrogram(tone)
    assert picture.shape[:2] == (1, 257)
    assert picture[0, :, 20].argmax() == 256 - 128
    assert picture.min() >= 0 and picture.max() <= 1
