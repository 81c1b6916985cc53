"""`vqaudio` whose training runs leave behind what tests look at, in the folder that SPY names, for each process.

That is its weights as they are saved (`0.pt`), its number (`0.pid`) and every file that it opened for writing, made,
renamed or removed (`0.writes`). WaveNets hear no dither, the one chance that a recipe cannot switch off. What the last
process hears in the step that BROKEN names is not a number.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from vqaudio.cli import main
from vqaudio.models.wavenet import WaveNet
from vqaudio.training import distributed, loop
from vqaudio.training.corpus import Crops

RANK = os.environ.get("RANK", "0")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Undithered(loop.Run):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        for module in self.model.modules():
            if isinstance(module, WaveNet):
                module.distribution.dither = 0.0


class Spied(Undithered):
    def save(self):
        super().save()
        torch.save([self.model.state_dict(), self.average], Path(os.environ["SPY"]) / f"{RANK}.pt")


def break_crops(step: int) -> None:
    cut = Crops.batch

    def broken(crops, index, size):
        waveform, speaker = cut(crops, index, size)
        last = distributed.rank() == distributed.world() - 1
        return (waveform * torch.nan if last and index == step else waveform), speaker

    Crops.batch = broken  # type: ignore[method-assign]


def spy(folder: Path) -> None:
    (folder / f"{RANK}.pid").write_text(str(os.getpid()))
    writes = open(folder / f"{RANK}.writes", "w", buffering=1)  # noqa: SIM115 # as long as the process lives

    def hook(event, arguments):
        if (event == "open" and arguments[2] & WRITING) or event in ("os.mkdir", "os.rename", "os.remove"):
            writes.write(f"{event} {arguments[0]}\n")

    sys.addaudithook(hook)


if __name__ == "__main__":
    spy(Path(os.environ["SPY"]))
    break_crops(int(os.environ.get("BROKEN", "-1")))
    loop.Run = Spied  # type: ignore[misc]
    main()
