"""A training corpus: audio files found, packed once into one int16 file with an index, and cut into random crops.

Every run on the same files and rate shares one pack. Where the crops lie is drawn in `index`.
"""

from __future__ import annotations

import hashlib
import logging
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vqaudio import audio, manifest
from vqaudio.errors import AudioError, TrainingError
from vqaudio.extras import torchaudio
from vqaudio.files import TEMPORARY, replacing
from vqaudio.runtime.schedule import available_threads, side_by_side
from vqaudio.training import packs
from vqaudio.training.index import Draw, Index, validation_places
from vqaudio.training.recipe import CorpusConfig
from vqaudio.training.transfer import Packed, send

FULL_SCALE = 32768.0  # of int16
BAD_ARCHIVES = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """One utterance: its file and its speaker's name, unique within the corpus."""

    path: Path
    speaker: str

    @property
    def name(self) -> str:
        """The same wherever the corpus lies, so that what is held out does not depend on the place."""
        return f"{self.speaker}/{self.path.name}"


def sources(config: CorpusConfig) -> list[Source]:
    """List the utterances of a corpus, sorted by path, after the download of a public one where that is asked for.

    Raises:
        TrainingError: for a corpus that is not there, is damaged, or has no audio files.
    """
    root = Path(os.path.expanduser(config.path))
    match config.kind:
        case "manifest":
            found = _from_manifest(root, config.subset)
        case "folder":
            found = _from_folder(root)
        case "librispeech":
            subset = config.subset or "train-clean-100"
            corpus = root / "LibriSpeech" / subset
            _public("LIBRISPEECH", root, corpus, config.download, url=subset)
            files = corpus.glob("*/*/*.flac")
            found = [Source(path, path.parent.parent.name) for path in files]
        case "vctk":
            corpus = root / "VCTK-Corpus-0.92"
            _public("VCTK_092", root, corpus, config.download, mic_id="mic1")
            files = (corpus / "wav48_silence_trimmed").glob("*/*_mic1.flac")
            told = [path for path in files if (corpus / "txt" / path.parent.name).is_dir()]  # p315 has lost its texts
            found = [Source(path, path.parent.name) for path in told]
        case "ljspeech":
            corpus = root / "LJSpeech-1.1"
            _public("LJSPEECH", root, corpus, config.download)
            found = [Source(path, "LJ") for path in (corpus / "wavs").glob("*.wav")]
    if not found:
        raise TrainingError(f"The corpus at '{root}' has no audio files.")
    return sorted(found, key=lambda source: source.path)


def _public(dataset: str, root: Path, corpus: Path, download: bool, **options: str) -> None:
    """Have torchaudio fetch and unpack a public corpus, or see that it is there; its checksums are torchaudio's.

    torchaudio takes a folder that is there for the whole corpus. A mark beside it says that it is still being unpacked.
    """
    datasets = torchaudio().datasets
    mark = root / f".{corpus.name}{TEMPORARY}"
    try:
        if download:
            root.mkdir(parents=True, exist_ok=True)
            if mark.exists():
                shutil.rmtree(corpus, ignore_errors=True)
            if not corpus.exists():
                mark.touch()
        elif mark.exists():
            raise RuntimeError("it was not unpacked to its end")
        getattr(datasets, dataset)(str(root), download=download, **options)
        mark.unlink(missing_ok=True)
    except (*BAD_ARCHIVES, RuntimeError, ValueError, OSError) as error:
        detail = str(error).split("\n")[0].rstrip(".")
        raise TrainingError(
            f"The corpus {dataset} cannot be used at '{root}' ({detail}); 'corpus.download=true' fetches it."
        ) from error


def _from_manifest(path: Path, split: str) -> list[Source]:
    rows = manifest.read(path, "speaker", *(["split"] if split else []), error=TrainingError)
    return [Source(file, row["speaker"]) for file, row in rows if not split or row["split"] == split]


def _from_folder(root: Path) -> list[Source]:
    if not root.is_dir():
        raise TrainingError(f"The corpus folder '{root}' is not there.")
    return [Source(path, manifest.folder(path, root)) for path in audio.files_below(root)]


@dataclass(eq=False)
class Corpus(Index):
    """Packed waveforms: one int16 memory map and its index, in samples."""

    samples: np.ndarray  # (total,) int16, read-only
    sample_rate: int  # Hz
    left_out: int = 0  # files that could not be read

    def __post_init__(self) -> None:
        self.packed = Packed(self.samples)

    @classmethod
    def open(cls, directory: str | Path) -> Corpus:
        """Open what `pack` wrote.

        Raises:
            TrainingError: where it is missing, incomplete or damaged.
        """
        index, further, samples = packs.read(directory, "samples.int16", "<i2", "sample_rate", "left_out")
        packs.check_length(directory, samples, index["lengths"].sum())
        rate, left_out = (int(further[name]) for name in ("sample_rate", "left_out"))
        return cls(**index, samples=samples, sample_rate=rate, left_out=left_out)


def pack(config: CorpusConfig, sample_rate: int, directory: str | Path | None = None, quiet: bool = False) -> Corpus:
    """Pack a corpus into `samples.int16` and `index.npz`, or open the pack that is there of the same files.

    By default the pack lies in the user's cache, under a key made of the files and the rate, so that runs share it and
    a changed corpus is packed again. A file that cannot be read is named in a warning and left out; another warning
    tells how many, also of a pack that is there.

    Raises:
        TrainingError: for a corpus without audio, or a pack that cannot be written.
    """
    found = sources(config)
    key = _key(found, sample_rate)

    def make(folder: Path) -> None:
        kept, lengths = [], []
        with replacing(folder / "samples.int16", force=True, error=TrainingError) as path, open(path, "wb") as file:
            read = side_by_side(lambda source: _read(source, sample_rate), found, available_threads())
            watched = packs.watched(read, "Packing the corpus", len(found), quiet)
            for source, samples in zip(found, watched, strict=True):
                if samples is not None:
                    file.write(samples.tobytes())
                    kept.append(source)
                    lengths.append(len(samples))
            if not kept:
                raise TrainingError(f"No audio file of the corpus at '{config.path}' can be read.")
        speaker_names, speakers = np.unique([source.speaker for source in kept], return_inverse=True)
        packs.write_index(
            folder,
            lengths,
            speakers=speakers.astype(np.int64),
            names=np.array([source.name for source in kept]),
            speaker_names=speaker_names,
            sample_rate=np.array(sample_rate),
            left_out=np.array(len(found) - len(kept)),
            key=np.array(key),
        )

    place = Path(directory) if directory else packs.cache() / key
    corpus = packs.ready(place, key, Corpus.open, make)
    if corpus.left_out:
        log.warning(
            "%d of the %d files of the corpus were left out; without '%s' they are tried again.",
            corpus.left_out,
            len(found),
            place,
        )
    return corpus


class Crops:
    """Random crops of some utterances of a corpus, each batch one of the steps of a `Draw`.

    Args:
        length: of a crop, in samples.
        speeds: at one of which each batch is played, its pitch and formants with it, to the hundredth.
    """

    def __init__(
        self,
        corpus: Corpus,
        indices: np.ndarray,
        length: int,
        seed: int,
        device: str | torch.device = "cpu",
        rank: int = 0,
        world: int = 1,
        speeds: Sequence[float] = (1.0,),
    ) -> None:
        self.corpus, self.length, self.device = corpus, length, torch.device(device)
        self.draws, self.resamplers = [], []
        for percent in (round(100 * speed) for speed in speeds):
            self.draws.append(Draw(corpus, indices, -(-percent * length // 100), seed, rank, world))
            self.resamplers.append(torchaudio().transforms.Resample(percent, 100).to(device))

    def batch(self, step: int, size: int) -> tuple[Tensor, Tensor]:
        """This process's share of the crops of a step, of `size` in all: waveform (B, 1, length) float32 in [-1, 1],
        and speaker (B,) int64, on the device.

        An utterance shorter than the crop is followed by zeros. Played at another speed, samples may lie outside by a
        little.
        """
        speed = self.draws[0].choice(step, len(self.draws))
        draw = self.draws[speed]
        waveform, speaker = _cut(self.corpus, *draw.places(step, size), draw.length, self.device)
        with torch.autocast(self.device.type, enabled=False):  # speech is not to be rounded to bfloat16
            return self.resamplers[speed](waveform)[..., : self.length], speaker


def validation_items(
    corpus: Corpus, indices: np.ndarray, seconds: float, length: int, device: str | torch.device = "cpu"
) -> tuple[Tensor, Tensor]:
    """The crops heard at every validation: waveform (N, 1, length) and speaker (N,), about `seconds` in all.

    They do not overlap, and the speakers take turns. N is smaller where the utterances do not suffice.
    """
    places = validation_places(corpus, indices, round(seconds * corpus.sample_rate / length), length)
    return _cut(corpus, *places, length, torch.device(device))


def _cut(
    corpus: Corpus, utterances: np.ndarray, starts: np.ndarray, length: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Gather crops (B, 1, length), each from `starts` samples into its utterance, and their speakers (B,)."""
    first, left = corpus.starts[utterances] + starts, corpus.lengths[utterances] - starts
    crops, _ = corpus.packed.pieces(first, left, length, device)
    return crops[:, None].float() / FULL_SCALE, send(corpus.speakers[utterances], device)


def _read(source: Source, sample_rate: int) -> np.ndarray | None:
    """The samples (T,) int16 of an utterance; None where it cannot be read, which is told."""
    try:
        with audio.reading(source.path, sample_rate) as recording:
            return np.concatenate([audio.integers(part) for part in recording])
    except AudioError as error:
        log.warning("Left out of the corpus: %s", error)
        return None


def _key(found: list[Source], sample_rate: int) -> str:
    """A name for the pack of these files, as they are now, at this rate."""
    digest = hashlib.sha256(f"1 {sample_rate}".encode())
    for source in found:
        stat = source.path.stat() if source.path.exists() else None
        state = (stat.st_size, stat.st_mtime_ns) if stat else None
        digest.update(os.fsencode(f"\0{os.path.realpath(source.path)}\0{source.speaker}\0{state}"))
    return digest.hexdigest()[:20]
