"""A training corpus: audio files found, packed once into one int16 file with an index, and cut into random crops.

Every run on the same files and rate shares one pack. A batch of crops is a pure function of the seed and the step, so
that a resumed run sees exactly the crops that an uninterrupted one would have seen, on any number of processes.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import logging
import os
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from vqaudio import audio
from vqaudio.errors import AudioError, TrainingError
from vqaudio.extras import torchaudio
from vqaudio.files import reason, replacing
from vqaudio.training.recipe import CorpusConfig

FULL_SCALE = 32768.0  # of int16
HELD_OUT_SHARE = 20  # one utterance in so many is held out where whole speakers are not
READ_AHEAD = 256  # files read in parallel before they are written in order

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
    root = Path(config.path).expanduser()
    match config.kind:
        case "manifest":
            found = _from_manifest(root, config.subset)
        case "folder":
            found = _from_folder(root)
        case "librispeech":
            subset = config.subset or "train-clean-100"
            _public("LIBRISPEECH", root, config.download, url=subset)
            files = (root / "LibriSpeech" / subset).glob("*/*/*.flac")
            found = [Source(path, path.parent.parent.name) for path in files]
        case "vctk":
            _public("VCTK_092", root, config.download, mic_id="mic1")
            corpus = root / "VCTK-Corpus-0.92"
            files = (corpus / "wav48_silence_trimmed").glob("*/*_mic1.flac")
            told = [path for path in files if (corpus / "txt" / path.parent.name).is_dir()]  # p315 has lost its texts
            found = [Source(path, path.parent.name) for path in told]
        case "ljspeech":
            _public("LJSPEECH", root, config.download)
            found = [Source(path, "LJ") for path in (root / "LJSpeech-1.1" / "wavs").glob("*.wav")]
    if not found:
        raise TrainingError(f"The corpus at '{root}' has no audio files.")
    return sorted(found, key=lambda source: source.path)


def _public(dataset: str, root: Path, download: bool, **options: str) -> None:
    """Have torchaudio fetch a public corpus, or see that it is there; its checksums are torchaudio's."""
    datasets = torchaudio().datasets
    try:
        if download:
            root.mkdir(parents=True, exist_ok=True)
        getattr(datasets, dataset)(str(root), download=download, **options)
    except (RuntimeError, ValueError, OSError) as error:
        detail = str(error).split("\n")[0].rstrip(".")
        raise TrainingError(
            f"The corpus {dataset} cannot be used at '{root}' ({detail}); 'corpus.download=true' fetches it."
        ) from error


def _from_manifest(path: Path, split: str) -> list[Source]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            needed = {"path", "speaker"} | ({"split"} if split else set())
            if missing := sorted(needed - set(rows.fieldnames or ())):
                raise TrainingError(f"The manifest '{path}' has no column '{missing[0]}'.")
            found = []
            for row in rows:
                if not (row["path"] and row["speaker"]):
                    raise TrainingError(f"Line {rows.line_num} of the manifest '{path}' lacks a path or a speaker.")
                if not split or row["split"] == split:
                    found.append(Source(path.parent / row["path"], row["speaker"]))
            return found
    except OSError as error:
        raise TrainingError(f"The manifest '{path}' cannot be read: {reason(error)}.") from error
    except (ValueError, csv.Error) as error:
        raise TrainingError(f"The manifest '{path}' is not a CSV file in UTF-8.") from error


def _from_folder(root: Path) -> list[Source]:
    if not root.is_dir():
        raise TrainingError(f"The corpus folder '{root}' is not there.")
    return [
        Source(path, path.parent.relative_to(root).as_posix())
        for folder, _, files in os.walk(root)
        for path in (Path(folder, file) for file in files)
        if path.suffix.lower() in audio.SUFFIXES
    ]


@dataclass(eq=False)
class Corpus:
    """Packed utterances: one int16 memory map and, for each of its N utterances, where it lies and who speaks."""

    samples: np.ndarray  # (total,) int16, read-only
    starts: np.ndarray  # (N,) int64, samples
    lengths: np.ndarray  # (N,) int64, samples
    speakers: np.ndarray  # (N,) int64, rows of speaker_names
    names: np.ndarray  # (N,) text
    speaker_names: np.ndarray  # (S,) text, sorted
    sample_rate: int  # Hz
    key: str  # of the sources and the rate
    _resident: dict[torch.device, Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, directory: str | Path) -> Corpus:
        """Open what `pack` wrote.

        Raises:
            TrainingError: where it is missing, incomplete or damaged.
        """
        try:
            with np.load(Path(directory) / "index.npz", allow_pickle=False) as index:
                arrays = {name: index[name] for name in ("starts", "lengths", "speakers", "names", "speaker_names")}
                sample_rate, key = int(index["sample_rate"]), str(index["key"])
            samples = np.memmap(Path(directory) / "samples.int16", dtype="<i2", mode="r")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise TrainingError(f"The packed corpus in '{directory}' cannot be opened: {error}.") from error
        if len(samples) != arrays["lengths"].sum():
            raise TrainingError(f"The packed corpus in '{directory}' does not have the length that its index states.")
        return cls(samples, sample_rate=sample_rate, key=key, **arrays)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def seconds(self) -> float:
        """Duration of all utterances together."""
        return len(self.samples) / self.sample_rate

    def split(self, validation_speakers: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Utterances to train on and utterances held out, as two sorted index arrays.

        Whole speakers are held out, chosen by a hash of their names. With `validation_speakers` 0, or fewer speakers
        than twice as many, one utterance in twenty is held out instead, by the same rule.

        Raises:
            TrainingError: where there is only one utterance.
        """
        if 0 < 2 * validation_speakers <= len(self.speaker_names):
            held_out = _shuffled(self.speaker_names, seed)[:validation_speakers]
            mask = np.isin(self.speakers, held_out)
        elif len(self) > 1:
            mask = np.zeros(len(self), bool)
            mask[_shuffled(self.names, seed)[: max(1, len(self) // HELD_OUT_SHARE)]] = True
        else:
            raise TrainingError("The corpus has only one utterance, so that none can be held out for validation.")
        return np.flatnonzero(~mask), np.flatnonzero(mask)

    def on(self, device: str | torch.device) -> Tensor:
        """All samples as int16 (total,): in GPU memory where they take less than half of what is free, else mapped."""
        device = torch.device(device)
        if device not in self._resident:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # torch has no read-only tensors; nothing writes here
                mapped = torch.from_numpy(self.samples)
            fits = device.type == "cuda" and self.samples.nbytes < torch.cuda.mem_get_info(device)[0] // 2
            self._resident[device] = mapped.to(device) if fits else mapped
        return self._resident[device]


def pack(config: CorpusConfig, sample_rate: int, directory: str | Path | None = None, quiet: bool = False) -> Corpus:
    """Pack a corpus into `samples.int16` and `index.npz`, or open the pack that is there of the same files.

    By default the pack lies in the user's cache, under a key made of the files and the rate, so that runs share it and
    a changed corpus is packed again. A file that cannot be read is named in a warning and left out.

    Raises:
        TrainingError: for a corpus without audio, or a pack that cannot be written.
    """
    found = sources(config)
    key = _key(found, sample_rate)
    directory = Path(directory) if directory else _cache() / key
    with contextlib.suppress(TrainingError):
        corpus = Corpus.open(directory)
        if corpus.key == key:
            return corpus
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"The corpus cannot be packed into '{directory}': {reason(error)}.") from error
    kept, lengths = [], []
    with replacing(directory / "samples.int16", force=True, error=TrainingError) as path, open(path, "wb") as file:
        for source, samples in _read_all(found, sample_rate, quiet):
            file.write(samples.tobytes())
            kept.append(source)
            lengths.append(len(samples))
        if not kept:
            raise TrainingError(f"No audio file of the corpus at '{config.path}' can be read.")
    speaker_names, speakers = np.unique([source.speaker for source in kept], return_inverse=True)
    with replacing(directory / "index.npz", force=True, error=TrainingError) as path, open(path, "wb") as file:
        np.savez_compressed(
            file,
            starts=np.cumsum([0, *lengths[:-1]], dtype=np.int64),
            lengths=np.array(lengths, np.int64),
            speakers=speakers.astype(np.int64),
            names=np.array([source.name for source in kept]),
            speaker_names=speaker_names,
            sample_rate=np.array(sample_rate),
            key=np.array(key),
        )
    return Corpus.open(directory)


class Crops:
    """Random crops of some utterances of a corpus, drawn in proportion to their length.

    Every batch is a pure function of (seed, step): each of `world` processes takes its own `size` items of one draw.
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
    ) -> None:
        self.corpus, self.indices, self.length, self.device = corpus, indices, length, torch.device(device)
        self.seed, self.rank, self.world = seed, rank, world
        self._ends = np.cumsum(corpus.lengths[indices])

    def batch(self, step: int, size: int) -> tuple[Tensor, Tensor]:
        """The crops of a step: waveform (size, 1, length) float32 in [-1, 1], and speaker (size,) int64, on the device.

        An utterance shorter than the crop is followed by zeros.
        """
        key = np.array([self.seed, step], dtype=np.int64).view(np.uint64)
        uniforms = np.random.Generator(np.random.Philox(key=key)).random((self.world * size, 2))
        uniforms = uniforms[self.rank * size : (self.rank + 1) * size]
        rows = np.searchsorted(self._ends, (uniforms[:, 0] * self._ends[-1]).astype(np.int64), side="right")
        utterances = self.indices[rows]
        spare = np.maximum(self.corpus.lengths[utterances] - self.length, 0)
        return _cut(self.corpus, utterances, (uniforms[:, 1] * (spare + 1)).astype(np.int64), self.length, self.device)


def validation_items(
    corpus: Corpus, indices: np.ndarray, seconds: float, length: int, device: str | torch.device = "cpu"
) -> tuple[Tensor, Tensor]:
    """The crops heard at every validation: waveform (N, 1, length) and speaker (N,), about `seconds` in all.

    They do not overlap, and the speakers take turns. N is smaller where the utterances do not suffice.
    """
    order = indices[_shuffled(corpus.names[indices], seed=0)]
    counts = np.maximum(corpus.lengths[order] // length, 1)
    crops = [(index, crop * length) for index, count in zip(order, counts, strict=True) for crop in range(count)]
    turns: Counter[int] = Counter()
    ranked = []
    for index, start in crops:
        ranked.append((turns[corpus.speakers[index]], index, start))
        turns[corpus.speakers[index]] += 1
    ranked.sort(key=lambda crop: crop[0])
    chosen = np.array(ranked[: max(1, round(seconds * corpus.sample_rate / length))], np.int64).reshape(-1, 3)
    return _cut(corpus, chosen[:, 1], chosen[:, 2], length, torch.device(device))


def _cut(
    corpus: Corpus, utterances: np.ndarray, starts: np.ndarray, length: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Gather crops (B, 1, length), each from `starts` samples into its utterance, and their speakers (B,)."""
    samples = corpus.on(device)
    first = torch.from_numpy(corpus.starts[utterances] + starts).to(samples.device)
    left = torch.from_numpy(corpus.lengths[utterances] - starts).to(samples.device)
    offsets = torch.arange(length, device=samples.device)
    inside = offsets < left[:, None]
    crops = samples[torch.where(inside, first[:, None] + offsets, 0)] * inside
    waveform = crops.to(device)[:, None].float() / FULL_SCALE
    return waveform, torch.from_numpy(corpus.speakers[utterances]).to(device)


def _read_all(found: list[Source], sample_rate: int, quiet: bool) -> Iterator[tuple[Source, np.ndarray]]:
    """Read files in parallel, in their order, as int16; few enough at a time to bound the memory."""
    blocks = [found[start : start + READ_AHEAD] for start in range(0, len(found), READ_AHEAD)]
    console = Console(stderr=True)
    with ThreadPoolExecutor() as pool:
        results = (item for block in blocks for item in pool.map(lambda source: _read(source, sample_rate), block))
        for source, samples in track(
            zip(found, results, strict=True),
            "Packing the corpus",
            total=len(found),
            console=console,
            disable=quiet or not console.is_terminal,
        ):
            if samples is not None:
                yield source, samples


def _read(source: Source, sample_rate: int) -> np.ndarray | None:
    try:
        waveform = audio.read(source.path, sample_rate)
    except AudioError as error:
        log.warning("Left out of the corpus: %s", error)
        return None
    return np.clip(np.rint(waveform * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype("<i2")


def _shuffled(names: Iterable[str], seed: int) -> np.ndarray:
    """Indices of `names` in an order that depends on the names and the seed alone."""
    digests = [hashlib.sha256(os.fsencode(f"{seed} {name}")).digest() for name in names]
    return np.array(sorted(range(len(digests)), key=digests.__getitem__), np.int64)


def _key(found: list[Source], sample_rate: int) -> str:
    """A name for the pack of these files, as they are now, at this rate."""
    digest = hashlib.sha256(f"1 {sample_rate}".encode())
    for source in found:
        stat = source.path.stat() if source.path.exists() else None
        state = (stat.st_size, stat.st_mtime_ns) if stat else None
        digest.update(os.fsencode(f"\0{source.path.resolve()}\0{source.speaker}\0{state}"))
    return digest.hexdigest()[:20]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vqaudio" / "corpora"
