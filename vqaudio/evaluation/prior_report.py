"""All that `vqaudio evaluate-prior` measures, in one place and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vqaudio.codec import Codec
from vqaudio.evaluation import context, generated
from vqaudio.evaluation.context import BLOCK_SECONDS, Context
from vqaudio.evaluation.counted import Counted
from vqaudio.evaluation.estimates import Estimate
from vqaudio.evaluation.generated import Generated, Plan
from vqaudio.evaluation.metrics import Metric
from vqaudio.evaluation.prior import Cost, Speech, costs, saving, ways
from vqaudio.prior import Prior

PASSES = 2  # over the speech: what it costs, and its context
KINDS = 5  # of samples: real speech and four priors


@dataclass(frozen=True)
class Report:
    """What a prior is worth.

    Attributes:
        speech: held-out.
        costs: of it under every prior, and in files.
        saving: of files under the prior, as a share of those at fixed width.
        context: what the past is worth to the integer prior.
        generated: what is drawn from every prior, real speech first.
    """

    speech: Speech
    costs: list[Cost]
    saving: Estimate
    context: Context
    generated: list[Generated]

    def to_dict(self) -> dict[str, Any]:
        """Everything as values for JSON."""
        speech, costs = self.speech, self.costs
        return {
            "files": len(speech.codes),
            "seconds": sum(codes.seconds for codes in speech.codes),
            "costs": {c.name: {"bits_per_code": vars(c.per_code), "kilobits_per_second": vars(c.rate)} for c in costs},
            "saving": vars(self.saving),
            "context": dataclasses.asdict(self.context) | {"extra": self.context.extra.tolist()},
            "blocks": [vars(self.context.block(seconds)) for seconds in BLOCK_SECONDS],
            "samples": [dataclasses.asdict(drawn) for drawn in self.generated],
            "utterances": [
                {
                    "path": path,
                    "seconds": codes.seconds,
                    "codes": codes.quantizers * codes.frames,
                    "bits": {cost.name: cost.utterances[i] for cost in costs},
                }
                for i, (path, codes) in enumerate(zip(speech.paths, speech.codes, strict=True))
            ],
            "skipped": [{"path": path, "reason": reason} for path, reason in speech.skipped],
        }


def measure(
    speech: Speech,
    counted: Counted,
    prior: Prior,
    others: Mapping[str, Prior],
    codec: Codec,
    plan: Plan,
    metrics: Sequence[Metric],
    advance: Callable[[], None] = lambda: None,
) -> Report:
    """Measure a prior of a codec.

    Args:
        speech: held-out codes of that codec.
        counted: on training speech.
        others: further priors of the codec, by name.
        plan: what is drawn from the priors.
        metrics: that judge decoded speech alone.
        advance: called `PASSES` times for each utterance and up to `KINDS` times for each sample of the plan.

    Raises:
        UsageError: where what the plan asks for is out of range.
    """
    codes = speech.codes
    found = ways(counted, prior, others, voices=any(utterance.speaker for utterance in codes))
    rows = costs(codes, found, prior, advance)
    return Report(
        speech=speech,
        costs=rows,
        saving=saving(rows),
        context=context.measure(prior, codes, advance),
        generated=list(generated.compare(codes, counted, prior, codec, plan, metrics, advance)),
    )
