"""The codes that a codec gives on a training corpus, packed once, and cut into random crops.

Every run on the same audio and the same codec shares one pack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vqaudio.codec import Codec, unpack_indices
from vqaudio.errors import TrainingError
from vqaudio.files import replacing
from vqaudio.runtime.compilation import sources
from vqaudio.runtime.schedule import available_threads, side_by_side
from vqaudio.training import packs
from vqaudio.training.corpus import Corpus
from vqaudio.training.index import Draw, Index, validation_places
from vqaudio.training.transfer import Packed, send


@dataclass(eq=False)
class CodesCorpus(Index):
    """Packed codes: one uint16 memory map and its index, in frames."""

    codes: np.ndarray  # (total, quantizers) uint16, read-only
    voices: np.ndarray  # (N, indices) int64, what the codec sends of the speaker

    def __post_init__(self) -> None:
        self.packed = Packed(self.codes.view(np.int16))  # torch has little to do with uint16

    @classmethod
    def open(cls, directory: str | Path) -> CodesCorpus:
        """Open what `pack_codes` wrote.

        Raises:
            TrainingError: where it is missing, incomplete or damaged.
        """
        index, further, codes = packs.read(directory, "codes.uint16", "<u2", "voices", "quantizers")
        quantizers = int(further["quantizers"])
        packs.check_length(directory, codes, quantizers * index["lengths"].sum())
        return cls(**index, codes=codes.reshape(-1, quantizers), voices=further["voices"])


def pack_codes(
    corpus: Corpus, codec: Codec, directory: str | Path | None = None, quiet: bool = False, speed: float = 1.0
) -> CodesCorpus:
    """Encode every utterance of a corpus into `codes.uint16` and `index.npz`, or open the pack that is there.

    By default the pack lies beside that of the audio, under a name that covers all that codes depend on: that of the
    audio, the fingerprint of the codec and how it searches, the sources of vqaudio and the speed. Whether bfloat16 is
    multiplied does not count: codes differ then, and tell the same.

    Args:
        corpus: at the codec's sample rate.
        codec: on the CPU; of one with a table of speakers the rows are those of the corpus.
        directory: of the pack.
        quiet: show no progress.
        speed: at which the utterances are played, pitch and formants with it, to the hundredth.

    Raises:
        TrainingError: for a pack that cannot be written.
    """
    percent, quantizer = round(100 * speed), codec.config.quantizer
    key = f"{corpus.key}-{codec.fingerprint.hex()}-{quantizer.paths}-{quantizer.delay}-{sources().hex()[:8]}-{percent}"
    sizes, table = codec.config.speaker.sizes, codec.config.speaker.kind == "lookup"

    def encoded(utterance: int) -> tuple[np.ndarray, list[int]]:
        """Codes (frames, quantizers) and what the codec sends of the speaker."""
        start = corpus.starts[utterance]
        samples = corpus.samples[start : start + corpus.lengths[utterance]]
        speaker = int(corpus.speakers[utterance]) if table else True
        codes = codec.encode(samples, corpus.sample_rate * percent // 100, speaker=speaker)
        return codes.numpy().T.astype("<u2"), unpack_indices(codes.speaker, sizes)

    def make(folder: Path) -> None:
        lengths, voices = [], []
        with replacing(folder / "codes.uint16", force=True, error=TrainingError) as path, open(path, "wb") as file:
            results = side_by_side(encoded, range(len(corpus)), available_threads())
            for codes, voice in packs.watched(results, "Encoding the corpus", len(corpus), quiet):
                file.write(codes.tobytes())
                lengths.append(len(codes))
                voices.append(voice)
        packs.write_index(
            folder,
            lengths,
            speakers=corpus.speakers,
            names=corpus.names,
            speaker_names=corpus.speaker_names,
            voices=np.array(voices, np.int64).reshape(len(voices), len(sizes)),
            quantizers=np.array(codec.config.quantizer.quantizers),
            key=np.array(key),
        )

    return packs.ready(Path(directory) if directory else packs.cache() / key, key, CodesCorpus.open, make)


class Crop(NamedTuple):
    """Pieces of packed codes; where an utterance ends before its piece, the codes are 0 and the mask says so."""

    codes: Tensor  # (B, quantizers, frames) int64
    voices: Tensor  # (B, indices) int64
    mask: Tensor  # (B, frames) bool, what is there


class CodeCrops:
    """Random crops of some utterances, each batch one of the steps of a `Draw` in one of the corpora, which are those
    utterances at several speeds."""

    def __init__(
        self,
        corpora: Sequence[CodesCorpus],
        indices: np.ndarray,
        length: int,
        seed: int,
        device: str | torch.device = "cpu",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.corpora, self.length, self.device = corpora, length, torch.device(device)
        self.draws = [Draw(corpus, indices, length, seed, rank, world) for corpus in corpora]

    def batch(self, step: int, size: int) -> Crop:
        """This process's share of the crops of a step, of `size` in all and `length` frames, on the device."""
        speed = self.draws[0].choice(step, len(self.draws))
        return _cut(self.corpora[speed], *self.draws[speed].places(step, size), self.length, self.device)


def validation_crop(
    corpus: CodesCorpus, indices: np.ndarray, count: int, length: int, device: str | torch.device = "cpu"
) -> Crop:
    """The crops heard at every validation, `count` or as many as the utterances suffice for.

    They do not overlap, and the speakers take turns.
    """
    return _cut(corpus, *validation_places(corpus, indices, count, length), length, torch.device(device))


def _cut(corpus: CodesCorpus, utterances: np.ndarray, starts: np.ndarray, length: int, device: torch.device) -> Crop:
    """Gather crops, each from `starts` frames into its utterance."""
    first, left = corpus.starts[utterances] + starts, corpus.lengths[utterances] - starts
    values, mask = corpus.packed.pieces(first, left, length, device)
    codes = (values.long() & 0xFFFF).transpose(1, 2).contiguous()
    return Crop(codes, send(corpus.voices[utterances], device), mask)
