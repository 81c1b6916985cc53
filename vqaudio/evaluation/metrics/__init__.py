"""How close decoded speech is to its original: every metric of the evaluation, in one registry.

The functions are in the files of this package: `perceptual` (what listeners would say), `spectral`, `pitch`, `voice`
and `recognition`. Each takes (reference (T,), decoded (T,), sample_rate) on float32 waveforms of one length and gives a
float; NaN says that it is undefined for this utterance. All but PESQ, DNSMOS, the speaker similarity and the word error
rate compare frame by frame, so that a delay of the decoded speech has to be taken out first (`evaluation.delay`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from vqaudio.errors import UsageError
from vqaudio.evaluation import registry
from vqaudio.evaluation.metrics.perceptual import dnsmos, pesq, stoi
from vqaudio.evaluation.metrics.pitch import pitch_error, voicing_error
from vqaudio.evaluation.metrics.recognition import spoken_words, word_error_rate
from vqaudio.evaluation.metrics.spectral import log_mel_distance, mel_cepstral_distortion
from vqaudio.evaluation.metrics.voice import speaker_similarity


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: what `--metrics` and the JSON call it.
        title: what a table calls it.
        unit: of its values; empty for a bare ratio.
        higher_is_better: the direction.
        package: the distribution that it needs, by the name that pip knows.
        module: whose import tells whether it can be computed.
        function: (reference (T,), decoded (T,), sample_rate in Hz) to the value; where there are `words`, it takes the
            transcript or None as a fourth argument.
        judges_decoded_alone: whether the reference is ignored, so that the original has a score of its own.
        words: of a rate per word, (reference (T,), sample_rate in Hz, transcript or None) to the words of an utterance.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool
    package: str
    module: str
    function: Callable[..., float]
    judges_decoded_alone: bool = False
    words: Callable[[np.ndarray, int, str | None], float] | None = None

    @property
    def label(self) -> str:
        """The title with the unit."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    @property
    def arrow(self) -> str:
        """Which way is better."""
        return "↑" if self.higher_is_better else "↓"

    @property
    def heading(self) -> str:
        """Of a column: title, unit and arrow."""
        return f"{self.label} {self.arrow}"

    def __call__(self, reference: np.ndarray, decoded: np.ndarray, sample_rate: int, text: str | None = None) -> float:
        """The value for one utterance, (T,) and (T,) at `sample_rate` Hz; NaN where it is undefined.

        Args:
            text: what is said in the reference, where that is known.

        Raises:
            UsageError: where the waveforms have not the same length.
        """
        if reference.ndim != 1 or reference.shape != decoded.shape:
            raise UsageError(
                f"The metric '{self.name}' compares two waveforms of one length, not of shapes {reference.shape} and "
                f"{decoded.shape}."
            )
        if self.words is not None:
            return self.function(reference, decoded, sample_rate, text)
        return self.function(reference, decoded, sample_rate)

    def weight(self, reference: np.ndarray, sample_rate: int, text: str | None = None) -> float:
        """What the utterance weighs in a mean: its words where the value is a rate per word, else 1."""
        return 1.0 if self.words is None else self.words(reference, sample_rate, text)


SPECTRA, PITCH = "librosa.feature.spectral", "librosa.core.pitch"  # librosa itself loads them, and fails, at their use

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("pesq", "PESQ", "MOS", True, "pesq", "pesq", pesq),
        Metric("estoi", "ESTOI", "", True, "pystoi", "pystoi", functools.partial(stoi, extended=True)),
        Metric("stoi", "STOI", "", True, "pystoi", "pystoi", stoi),
        Metric("mel", "log-mel distance", "dB", False, "librosa", SPECTRA, log_mel_distance),
        Metric("mcd", "mel-cepstral distortion", "dB", False, "librosa", SPECTRA, mel_cepstral_distortion),
        Metric("f0", "F0 error", "cents", False, "librosa", PITCH, pitch_error),
        Metric("voicing", "voicing error", "%", False, "librosa", PITCH, voicing_error),
        Metric("dnsmos", "DNSMOS", "MOS", True, "speechmos", "speechmos.dnsmos", dnsmos, judges_decoded_alone=True),
        Metric("speaker", "speaker similarity", "", True, "resemblyzer", "resemblyzer", speaker_similarity),
        Metric(
            "wer",
            "word error rate",
            "%",
            False,
            "pocketsphinx",
            "vqaudio.evaluation.metrics.recogniser",  # imports a package for the edit distance as well
            word_error_rate,
            words=spoken_words,
        ),
    )
}


def select(names: Iterable[str]) -> tuple[Metric, ...]:
    """The metrics of these names, in the registry's order.

    Raises:
        UsageError: for an unknown name; it names the nearest.
    """
    return registry.select(METRICS, "metric", names)


usable = functools.partial(registry.usable, "metric", "eval")
