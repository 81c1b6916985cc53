"""What can be read of the speaker: a linear classifier on codes, on the conditioning and on the speaker vector.

The codes are meant to carry what is said, and the speaker vector who says it (van den Oord et al. 2017, section 4.3). A
probe (Alain and Bengio 2016, arXiv 1610.01644) shows how far that is so: a logistic regression names the speaker of
short excerpts from utterances that it was not fitted to. It cannot tell a voice from its microphone and room where each
speaker was recorded in one place.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vqaudio.errors import UsageError
from vqaudio.evaluation.estimates import Estimate
from vqaudio.evaluation.probes.speaker_features import TITLES, Speech, Utterance

FOLDS = 5  # of the cross-validation, where a speaker has as many utterances
PACKAGES = {"librosa.feature.spectral": "librosa", "sklearn": "scikit-learn"}  # by module


@dataclass(frozen=True)
class Row:
    """How often the speaker is named from one kind of feature.

    Attributes:
        name: a key of `TITLES`.
        width: numbers for each excerpt.
        accuracy: share of excerpts whose speaker is named, the mean over speakers, with its interval over utterances.
        utterances: the share of each of `Report.utterances`.
    """

    name: str
    width: int
    accuracy: Estimate
    utterances: list[float]


@dataclass(frozen=True)
class Report:
    """What the classifier reads.

    Attributes:
        rows: one for each kind of feature that the model has.
        speakers: whose names it chooses from.
        utterances: that it was tested on, each while it was fitted to others.
        seconds: of an excerpt.
        notes: a sentence for what was left out, but for files that cannot be read.
    """

    rows: list[Row]
    speakers: list[str]
    utterances: list[Utterance]
    seconds: float
    notes: list[str]

    @property
    def chance(self) -> float:
        """Accuracy of any guess that does not depend on the excerpt."""
        return 1 / len(self.speakers)

    @property
    def excerpts(self) -> int:
        """Of all utterances."""
        return sum(utterance.excerpts for utterance in self.utterances)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "notes": self.notes,
            "speakers": self.speakers,
            "excerpts": self.excerpts,
            "excerpt_seconds": self.seconds,
            "chance": self.chance,
            "rows": [
                {"name": row.name, "title": TITLES[row.name], "width": row.width, "accuracy": asdict(row.accuracy)}
                for row in self.rows
            ],
            "utterances": [
                {
                    "path": utterance.path,
                    "speaker": utterance.speaker,
                    "excerpts": utterance.excerpts,
                    "accuracy": {row.name: row.utterances[i] for row in self.rows},
                }
                for i, utterance in enumerate(self.utterances)
            ],
        }


def probe(speech: Speech, advance: Callable[[], None] = lambda: None) -> Report:
    """Fit classifiers and test them on utterances that they were not fitted to, every utterance once.

    The utterances of each speaker are dealt to folds in stretches. Every utterance of a speaker, and every speaker,
    weighs the same in the accuracy, however long they talk.

    Args:
        advance: called after each kind of feature.

    Raises:
        UsageError: for fewer than two speakers of two utterances.
    """
    counts = Counter(utterance.speaker for utterance in speech.utterances)
    speakers = sorted(speaker for speaker, count in counts.items() if count > 1)
    if len(speakers) < 2:
        raise UsageError(
            "To tell speakers apart takes two of them with two utterances each; who speaks is read from the manifest, "
            f"or else from the folder of a file, and {len(speakers)} of {len(counts)} speakers here have as many."
        )
    tested = [utterance for utterance in speech.utterances if counts[utterance.speaker] > 1]
    folds = deal([utterance.speaker for utterance in tested])
    rows = []
    for name in tested[0].features:
        shares = _shares(name, tested, folds)
        accuracy = Estimate.of(shares, [1 / counts[utterance.speaker] for utterance in tested])
        rows.append(Row(name, tested[0].features[name].shape[1], accuracy, shares))
        advance()
    notes = list(speech.notes)
    if alone := sorted(set(counts) - set(speakers)):
        notes.append(f"Left out: speakers of whom there is one utterance alone: {', '.join(alone)}.")
    return Report(rows, speakers, tested, speech.seconds, notes)


def deal(speakers: Sequence[str]) -> np.ndarray:
    """The fold (N,) of each utterance, given who speaks: successive stretches of the utterances of each speaker, so
    that every speaker of at least two is heard both in a fold and outside."""
    names = np.array(speakers)
    folds = np.zeros(len(names), np.int64)
    count = min(FOLDS, max(Counter(speakers).values()))
    for speaker in set(speakers):
        own = np.flatnonzero(names == speaker)
        folds[own] = np.arange(len(own)) * count // len(own)
    return folds


def _shares(name: str, utterances: Sequence[Utterance], folds: np.ndarray) -> list[float]:
    """Of each utterance, the share of excerpts whose speaker is named by a classifier fitted to the other folds."""
    from sklearn.model_selection import PredefinedSplit, cross_val_predict

    owner = np.repeat(np.arange(len(utterances)), [utterance.excerpts for utterance in utterances])
    inputs = np.concatenate([utterance.features[name] for utterance in utterances]).astype(np.float64)
    names = np.array([utterance.speaker for utterance in utterances])[owner]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The number of unique classes")  # many speakers of few excerpts
        guesses = cross_val_predict(_classifier(), inputs, names, cv=PredefinedSplit(folds[owner]))
    return (np.bincount(owner, guesses == names) / np.bincount(owner)).tolist()


def _classifier() -> Any:
    """Logistic regression on standardised features. Its regularisation is the library's own for all kinds of features,
    so that nothing is tuned on what is tested."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000))
