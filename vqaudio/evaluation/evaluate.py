"""Measure codecs on files of speech: real bit rate, use of the codes, speed, and the metrics of the registry.

Every codec codes every file, as a user's file is coded, to bytes and back. Files are spread over processes of one
thread each; what is known from an earlier run is not measured again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vqaudio import audio
from vqaudio.errors import AudioError
from vqaudio.evaluation.cache import Cache, keys
from vqaudio.evaluation.contenders import Contender, Original
from vqaudio.evaluation.delay import judged
from vqaudio.evaluation.metrics import Metric
from vqaudio.evaluation.results import Evaluation, Result, Utterance
from vqaudio.evaluation.speech import Item, naming
from vqaudio.evaluation.workers import gather
from vqaudio.files import reason


def evaluate(
    contenders: Sequence[Contender],
    items: Sequence[Item],
    metrics: tuple[Metric, ...],
    *,
    cache: Cache | None = None,
    jobs: int = 1,
    advance: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Code, decode and measure files; the original is measured too, as the first codec.

    Args:
        contenders: the codec that it is about, then those to compare it with.
        cache: of earlier measurements; None measures everything.
        jobs: processes.
        advance: called after each file.

    Raises:
        UsageError: where a codec can code nothing: it has no such decoder, say.
        AudioError: where not one file could be measured.
    """
    bench = Bench((Original(), *contenders), metrics, cache)
    measured, skipped = gather(bench.measure, items, "files", jobs, advance)
    result = Evaluation(
        metrics,
        [Result(c.name, c.identity) for c in bench.contenders],
        [(str(item.path), sentence) for item, sentence in skipped],
    )
    for utterances in measured:
        for own, utterance in zip(result.results, utterances, strict=True):
            own.utterances.append(utterance)
    return result


class Bench:
    """Codecs and the metrics that judge them; one in each process.

    Args: as for `evaluate`.
    """

    def __init__(self, contenders: tuple[Contender, ...], metrics: tuple[Metric, ...], cache: Cache | None) -> None:
        self.contenders, self.metrics, self.cache = contenders, metrics, cache

    def measure(self, item: Item) -> list[Utterance]:
        """Code, decode and measure one file by every codec.

        Raises:
            AudioError: where it cannot be read or coded.
        """
        places = self._keys(item)
        found = [self._known(item, key) for key in places]
        if all(found):
            return [utterance for utterance in found if utterance]
        reference = audio.read(item.path, audio.SAMPLE_RATE)
        return [
            known or self._measure(item, contender, key, reference)
            for known, contender, key in zip(found, self.contenders, places, strict=True)
        ]

    def _keys(self, item: Item) -> list[str]:
        """Under which the cache, if there is one, keeps what each codec makes of a file."""
        if self.cache is None:
            return [""] * len(self.contenders)
        try:
            return keys(item, [contender.identity for contender in self.contenders])
        except OSError as error:
            raise AudioError(f"'{item.path}' cannot be read: {reason(error)}.") from error

    def _known(self, item: Item, key: str) -> Utterance | None:
        return None if self.cache is None else self.cache.find(key, str(item.path), self.metrics)

    def _measure(self, item: Item, contender: Contender, key: str, reference: np.ndarray) -> Utterance:
        rate = audio.SAMPLE_RATE
        with naming(item):
            coded = contender.code(reference, rate)
        decoded, lag = judged(reference, coded.decoded, rate)
        utterance = Utterance(
            path=str(item.path),
            seconds=len(reference) / rate,
            size=coded.size,
            encode_seconds=coded.encode_seconds,
            decode_seconds=coded.decode_seconds,
            delay=lag,
            values={m.name: m(reference, decoded, rate, item.text) for m in self.metrics},
            weights={m.name: m.weight(reference, rate, item.text) for m in self.metrics},
            histogram=coded.histogram,
        )
        if self.cache is not None:
            self.cache.keep(key, utterance, self.metrics)
        return utterance
