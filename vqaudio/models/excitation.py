"""What the voice of the spectral decoder begins as: a pulse at every period of the pitch, with all harmonics alike.

A network that looks at a few frames cannot know the phase that a tone has come to, which is the sum over its past. The
pulses do, in whole numbers, so that a stream comes to the same phase however it is cut (after the sources of Wang et
al. 2019, arXiv 1904.12088, section II-B).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vqaudio.models.constants import TURN


def increments(pitch: Tensor, sample_rate: int) -> Tensor:
    """Pitch in Hz, any shape, 0 where nothing is voiced, to turns per sample in units of 1 / TURN, int64."""
    return torch.round(pitch.double() * (TURN / sample_rate)).long()


def phases(increments: Tensor, hop: int, start: int = 0) -> Tensor:
    """The phase (B, frames) at which each frame begins, in units of 1 / TURN of a turn, int64.

    Args:
        increments: (B, frames), per sample.
        hop: samples per frame.
        start: the phase at which the first frame begins. Every voiced stretch that begins later does so at 0.
    """
    steps = increments * hop
    after = steps.cumsum(1)
    before = after - steps
    # where nothing is voiced the sum rests, so that the largest of its values there is the last one
    rest = torch.where(increments == 0, after, torch.zeros_like(after)).cummax(1).values
    rest = torch.cat([torch.zeros_like(rest[:, :1]), rest[:, :-1]], dim=1)
    unbroken = (increments == 0).cumsum(1) - (increments == 0).long() == 0
    return (before - rest + torch.where(unbroken, start, 0)) % TURN


def pulses(increments: Tensor, phases: Tensor, hop: int) -> Tensor:
    """(B, frames) of both to samples (B, frames * hop) in float32: all cosines k * phase below the last frequency that
    is a multiple of the pitch and below half the rate, of amplitude 1; 0 where nothing is voiced."""
    place = torch.arange(hop, device=increments.device)
    phase = (phases[:, :, None] + increments[:, :, None] * place) % TURN
    step = increments[:, :, None].clamp(min=1)
    count = (TURN // 2 - 1) // step
    half = torch.sin(phase.double() * (math.pi / TURN))
    many = torch.sin((phase * (2 * count + 1) % (2 * TURN)).double() * (math.pi / TURN))
    ratio = torch.where(half == 0, (2 * count + 1).double(), many / torch.where(half == 0, 1.0, half))
    sound = torch.where(increments[:, :, None] > 0, 0.5 * ratio - 0.5, 0.0)
    return sound.float().flatten(1)
