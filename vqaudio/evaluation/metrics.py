"""How close decoded speech is to its original: every metric of the evaluation, in one registry.

A metric is a function `f(reference (T,), decoded (T,), sample_rate) -> float` on float32 waveforms of one
length, without delay; NaN says that it is undefined for this utterance. PESQ (ITU-T P.862.2), STOI (Taal et al. 2011),
ESTOI (Jensen and Taal 2016), DNSMOS (Reddy et al. 2022, arXiv 2110.01763) and speaker similarity (the encoder of
Resemblyzer, Wan et al. 2018, arXiv 1710.10467) come from the published packages, so that the figures compare.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vqaudio.errors import UsageError
from vqaudio.evaluation import registry

PESQ_SECONDS = 20.0  # longest piece that PESQ scores at once
STOI_SECONDS = 0.4  # STOI correlates 30 frames of 12.8 ms
MELS, MEL_WINDOW, MEL_HOP = 80, 512, 160  # bands, samples, samples
MEL_FLOOR = 1e-8  # power of a mel band; 16-bit rounding noise lies below it


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: what `--metrics` and the JSON call it.
        title: what a table calls it.
        unit: of its values; empty for a bare ratio.
        higher_is_better: the direction.
        package: the distribution that it needs, by the name that pip knows.
        module: what to import from that package.
        judges_decoded_alone: whether the reference is ignored, so that the original has a score of its own.
        function: (reference (T,), decoded (T,), sample_rate in Hz) to the value.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool
    package: str
    module: str
    function: Callable[[np.ndarray, np.ndarray, int], float]
    judges_decoded_alone: bool = False

    def __call__(self, reference: np.ndarray, decoded: np.ndarray, sample_rate: int, text: str | None = None) -> float:
        """The value for one utterance, (T,) and (T,) at `sample_rate` Hz; NaN where it is undefined.

        Args:
            text: what is said, where that is known.

        Raises:
            UsageError: where the waveforms have not the same length.
        """
        if reference.ndim != 1 or reference.shape != decoded.shape:
            raise UsageError(
                f"The metric '{self.name}' compares two waveforms of one length, not of shapes {reference.shape} and "
                f"{decoded.shape}."
            )
        return self.function(reference, decoded, sample_rate)

    def weight(self, reference: np.ndarray, sample_rate: int, text: str | None = None) -> float:
        """What the utterance weighs in a mean."""
        return 1.0


def pesq(reference: np.ndarray, decoded: np.ndarray, sample_rate: int) -> float:
    """Wide-band PESQ (MOS-LQO, 1 to 4.64) at 16 kHz; undefined where it finds no speech or hears only silence.

    The package holds 50 utterances and crashes beyond. An utterance takes at least 0.4 s of speech and pause, so longer
    audio is scored in equal pieces of at most 20 s and averaged.
    """
    import pesq as package

    pieces = math.ceil(len(reference) / (PESQ_SECONDS * sample_rate))
    scores = []
    for ours, theirs in zip(np.array_split(reference, pieces), np.array_split(decoded, pieces), strict=True):
        if theirs.any():  # the package divides by the level
            try:
                scores.append(package.pesq(sample_rate, ours, theirs, "wb"))
            except package.PesqError:
                continue
    return float(np.mean(scores)) if scores else math.nan


def stoi(reference: np.ndarray, decoded: np.ndarray, sample_rate: int, extended: bool = False) -> float:
    """Short-time objective intelligibility (0 to 1), extended or not; undefined for less than 0.4 s of speech."""
    import pystoi

    if len(reference) < STOI_SECONDS * sample_rate or not reference.any():
        return math.nan
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Not enough STFT frames", category=RuntimeWarning)
        try:
            return float(pystoi.stoi(reference, decoded, sample_rate, extended=extended))
        except RuntimeWarning:
            return math.nan


def log_mel_distance(reference: np.ndarray, decoded: np.ndarray, sample_rate: int) -> float:
    """Mean absolute difference in dB of two log-mel spectrograms: 80 bands, 512-sample Hann windows, hop 160."""
    import librosa

    def decibels(waveform: np.ndarray) -> np.ndarray:
        mel = librosa.feature.melspectrogram(
            y=waveform, sr=sample_rate, n_fft=MEL_WINDOW, hop_length=MEL_HOP, n_mels=MELS, pad_mode="constant"
        )
        return 10 * np.log10(np.maximum(mel, MEL_FLOOR))

    return float(np.abs(decibels(reference) - decibels(decoded)).mean())


def dnsmos(reference: np.ndarray, decoded: np.ndarray, sample_rate: int) -> float:
    """DNSMOS P.835, overall (1 to 5), of the decoded speech alone, 16 kHz; speech shorter than 9 s is repeated."""
    return float(_dnsmos_judge()(np.clip(decoded, -1.0, 1.0), sample_rate, False)["ovrl_mos"])


def speaker_similarity(reference: np.ndarray, decoded: np.ndarray, sample_rate: int) -> float:
    """Cosine between the Resemblyzer voice vectors of both, prepared as the package does: raised to -30 dBFS where they
    are quieter, long silences cut out. Undefined where that leaves nothing."""
    ours, theirs = (voice_vector(waveform, sample_rate) for waveform in (reference, decoded))
    return math.nan if ours is None or theirs is None else float(ours @ theirs)


def voice_vector(waveform: np.ndarray, sample_rate: int) -> np.ndarray | None:
    """The Resemblyzer voice vector (256,), of length 1, of a waveform (T,), prepared as for `speaker_similarity`; None
    where that leaves nothing."""
    from resemblyzer import preprocess_wav

    kept = preprocess_wav(waveform, source_sr=sample_rate) if waveform.any() else waveform[:0]
    return _voice_encoder().embed_utterance(kept) if len(kept) else None


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("pesq", "PESQ", "MOS", True, "pesq", "pesq", pesq),
        Metric("estoi", "ESTOI", "", True, "pystoi", "pystoi", functools.partial(stoi, extended=True)),
        Metric("stoi", "STOI", "", True, "pystoi", "pystoi", stoi),
        Metric("mel", "log-mel distance", "dB", False, "librosa", "librosa", log_mel_distance),
        Metric("dnsmos", "DNSMOS", "MOS", True, "speechmos", "speechmos.dnsmos", dnsmos, judges_decoded_alone=True),
        Metric("speaker", "speaker similarity", "", True, "resemblyzer", "resemblyzer", speaker_similarity),
    )
}


def select(names: Iterable[str]) -> tuple[Metric, ...]:
    """The metrics of these names, in the registry's order.

    Raises:
        UsageError: for an unknown name; it names the nearest.
    """
    return registry.select(METRICS, "metric", names)


usable = functools.partial(registry.usable, "metric", "eval")


@functools.cache
def _dnsmos_judge() -> Any:
    """The package's DNSMOS with one thread for each network, because many processes measure at once."""
    import onnxruntime
    from speechmos import dnsmos as package

    folder = Path(package.__file__).parent / "dnsmos_models"
    overall, general = str(folder / "sig_bak_ovr.onnx"), str(folder / "model_v8.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    judge = package.DNSMOS(overall, general)
    judge.onnx_sess = onnxruntime.InferenceSession(overall, options)
    judge.p808_onnx_sess = onnxruntime.InferenceSession(general, options)
    return judge


@functools.cache
def _voice_encoder() -> Any:
    from resemblyzer import VoiceEncoder

    return VoiceEncoder("cpu", verbose=False)
