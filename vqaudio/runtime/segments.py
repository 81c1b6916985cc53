"""A long signal sampled in pieces side by side: where it is cut, and how the pieces are joined.

A piece begins some frames before its cut, so that the network has found its way when it counts, and ends a few frames
after the next one, over which the two are blended. Cuts lie where the codes say that speech pauses; they follow from
the codes alone, whatever the threads and the chunks, and finding one needs no look ahead.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vqaudio.runtime.product import Floats
from vqaudio.runtime.wavenet import Piece, Streams, WaveNet

if TYPE_CHECKING:
    from vqaudio.runtime.gpu_wavenet import TorchWaveNet

SHORTEST = 0.6  # seconds between two cuts
LONGEST = 1.5
BLEND = 0.008
PAUSE = 0.15  # a pause is fainter than all but this share of the frames since the last cut, at first


@dataclass(frozen=True)
class Segment:
    """Frames [first, stop) of the signal, sampled from `start` on and up to `end`, for the blend with the next one."""

    start: int
    first: int
    stop: int
    end: int


class Cutter:
    """Finds the cuts of one signal as the levels of its frames come; the longer it finds no pause, the less it asks."""

    def __init__(self, frame_rate: float) -> None:
        self.shortest, self.longest = (max(1, round(seconds * frame_rate)) for seconds in (SHORTEST, LONGEST))
        self.sorted_levels: list[float] = []  # since the last cut

    def cut_before(self, level: float) -> bool:
        """Whether a cut lies before the next frame, which has this level."""
        length = len(self.sorted_levels)
        urgency = (length - self.shortest) / max(1, self.longest - self.shortest)
        cut = urgency >= 0 and (
            urgency >= 1 or level <= self.sorted_levels[int((PAUSE + (1 - PAUSE) * urgency) * length)]
        )
        if cut:
            self.sorted_levels = []
        bisect.insort(self.sorted_levels, level)
        return cut


class Sampler:
    """Conditioning in, samples out, in chunks of any size, for one signal.

    Args:
        levels: gives the levels (n,) of frames of conditioning (n, C), to cut by; None for one piece without cuts.
        frame_rate: Hz.
        speaker: (S,) or None.
    """

    def __init__(
        self,
        wavenet: WaveNet | TorchWaveNet,
        levels: Callable[[Floats], Floats] | None,
        frame_rate: float,
        speaker: Floats | None,
        *,
        seed: int = 0,
        temperature: float = 1.0,
        threads: int = 1,
    ) -> None:
        self.wavenet, self.levels, self.speaker = wavenet, levels, speaker
        self.seed, self.temperature, self.threads = seed, temperature, threads
        self.lead = -(-wavenet.receptive_steps // wavenet.steps)  # frames that a piece begins before its cut
        self.blend = max(1, round(BLEND * frame_rate))
        self.cutter = Cutter(frame_rate)
        self.frames, self.first = 0, 0  # frames so far, and where the segment that is not cut off yet begins
        self.cuts: list[tuple[int, int]] = []  # (first, stop) of segments to be sampled
        self.rows: Floats | None = None  # conditioning from frame `kept` on
        self.kept = 0
        self.tail = np.zeros((wavenet.bands, 0), np.float32)  # what the last piece leaves for the blend
        self.bank = wavenet.bank.start()

    def push(self, conditioning: Floats, last: bool) -> Floats:
        """The next frames (n, C) to the samples (m,) of the segments that are sampled now."""
        self.rows = conditioning if self.rows is None else np.concatenate([self.rows, conditioning])
        if self.levels is not None:
            for level in self.levels(conditioning):
                if self.cutter.cut_before(float(level)):
                    self._close()
                self.frames += 1
        else:
            self.frames += len(conditioning)
        if last:
            self._close()
        ready = [cut for cut in self.cuts if last or cut[1] + self.blend <= self.frames]
        if not last and len(ready) < self.wavenet.group * self.threads:
            return np.zeros(0, np.float32)
        self.cuts = self.cuts[len(ready) :]
        signal = self._sampled([self._segment(*cut) for cut in ready])
        return self.wavenet.bank.push(self.bank, signal, last)

    def _close(self) -> None:
        if self.frames > self.first:
            self.cuts.append((self.first, self.frames))
            self.first = self.frames

    def _segment(self, first: int, stop: int) -> Segment:
        return Segment(max(0, first - self.lead), first, stop, min(self.frames, stop + self.blend))

    def _sampled(self, segments: Sequence[Segment]) -> Floats:
        """The signal (bands, steps) of the next segments, blended into each other."""
        assert self.rows is not None
        steps = self.wavenet.steps
        curve = rise(self.blend * steps)
        pieces = [
            Piece(self.rows[s.start - self.kept : s.end - self.kept], self.speaker, s.start * steps) for s in segments
        ]
        sampled = self.wavenet.generate(pieces, seed=self.seed, temperature=self.temperature, threads=self.threads)
        parts = []
        for segment, signal in zip(segments, sampled, strict=True):
            own = signal[:, (segment.first - segment.start) * steps :]
            blended = self.tail.shape[1]
            own[:, :blended] *= curve[:blended]
            own[:, :blended] += self.tail
            length = (segment.stop - segment.first) * steps
            parts.append(own[:, :length])
            self.tail = own[:, length:] * curve[::-1][: own.shape[1] - length]
        kept = max(0, segments[-1].stop - self.lead)
        self.rows, self.kept = self.rows[kept - self.kept :], kept
        return np.concatenate(parts, axis=1)


class LiveSampler:
    """`Sampler` for a signal that is heard while it comes: every frame is sampled at once, in the same pieces.

    Args: as for `Sampler`.
    """

    def __init__(
        self,
        wavenet: WaveNet,
        levels: Callable[[Floats], Floats],
        frame_rate: float,
        speaker: Floats | None,
        *,
        seed: int = 0,
        temperature: float = 1.0,
    ) -> None:
        self.wavenet, self.levels, self.speaker = wavenet, levels, speaker
        self.seed, self.temperature = seed, temperature
        self.lead = -(-wavenet.receptive_steps // wavenet.steps)
        self.blend = max(1, round(BLEND * frame_rate))
        self.cutter = Cutter(frame_rate)
        self.frames = 0
        self.before: Floats | None = None  # the last frames of conditioning, as many as a piece begins early
        self.piece = Streams(wavenet)
        self.ending = Streams(wavenet)  # the piece before, while it is blended into this one
        self.blended = self.blend  # frames since the cut
        self.bank = wavenet.bank.start()

    def push(self, conditioning: Floats, last: bool) -> Floats:
        """The next frames (n, C) to the samples (m,) that they complete."""
        rows = conditioning if self.before is None else np.concatenate([self.before, conditioning])
        early = len(rows) - len(conditioning)
        cuts = [i for i, level in enumerate(self.levels(conditioning)) if self.cutter.cut_before(float(level))]
        bounds = sorted({0, *cuts, len(conditioning)})
        parts = [np.zeros((self.wavenet.bands, 0), np.float32)]
        for begin, end in itertools.pairwise(bounds):
            if begin in cuts or not self.frames:
                self._begin(rows[max(0, early + begin - self.lead) : early + begin])
            parts.append(self._signal(rows[early + begin : early + end]))
            self.frames += end - begin
        self.before = rows[max(0, len(rows) - self.lead) :]
        return self.wavenet.bank.push(self.bank, np.concatenate(parts, axis=1), last)

    def _begin(self, lead: Floats) -> None:
        """Start a piece that has heard the frames before it; the one that there was goes on for the blend."""
        if self.frames:
            self.ending, self.blended = self.piece, 0
        self.piece = Streams(self.wavenet)
        self.piece.add(Piece(lead, self.speaker, (self.frames - len(lead)) * self.wavenet.steps))
        if len(lead):
            self._advance(self.piece, lead)

    def _signal(self, rows: Floats) -> Floats:
        """The next frames (n, C) of the piece to its signal (bands, steps)."""
        signal, steps = self._advance(self.piece, rows), self.wavenet.steps
        count = min(self.blend - self.blended, len(rows))
        if count > 0:
            curve = rise(self.blend * steps)
            here = slice(self.blended * steps, (self.blended + count) * steps)
            ended = self._advance(self.ending, rows[:count])
            signal[:, : count * steps] *= curve[here]
            signal[:, : count * steps] += ended * curve[::-1][here]
            self.blended += count
        return signal

    def _advance(self, streams: Streams, rows: Floats) -> Floats:
        return streams.advance(rows[None], self.seed, self.temperature)[0]


def rise(steps: int) -> Floats:
    """A quarter of a sine: two pieces are independent noise where they overlap, so that their powers add up."""
    return np.sin(math.pi / 2 * (np.arange(steps) + 0.5) / steps).astype(np.float32)
