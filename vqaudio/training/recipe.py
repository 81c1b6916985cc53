"""What a training run is made of: a recipe of frozen dataclasses, declared by a script and overridden by `--set`.

A recipe is found by name or path, overridden, resolved against its corpus, and saved as JSON beside the results. `Plan`
holds what every recipe has, whatever it trains; `Recipe` is that of a codec, `PriorRecipe` that of a prior.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import runpy
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, overload

from vqaudio.errors import ModelError, RecipeError
from vqaudio.models.config import (
    Alphabet,
    CodecConfig,
    Part,
    PriorConfig,
    check,
    check_prior,
    convert,
    from_dict,
)

if TYPE_CHECKING:
    from vqaudio.training.index import Index

AnyPlan = TypeVar("AnyPlan", bound="Plan")

NO_ROWS = "A table has no rows for speakers held out; set corpus.validation_speakers=0."


@dataclass(frozen=True)
class CorpusConfig:
    """Where the speech comes from.

    `manifest` reads a CSV with the columns path, speaker and split; `folder` any tree of audio, in which a file's
    speaker is the folder it lies in; the others are the public corpora, read (and downloaded) by torchaudio.
    """

    kind: Literal["manifest", "folder", "librispeech", "vctk", "ljspeech"] = "folder"
    path: str = "."
    subset: str = ""  # of a public corpus ("train-clean-100") or of a manifest's split column ("train")
    download: bool = False
    validation_speakers: int = 8  # held out; with 0, or fewer speakers than twice this, utterances are held out instead
    validation_seconds: float = 60.0  # heard at each validation
    sample_seconds: float = 3.0  # of held-out speech whose decoding is logged; 0 for none


@dataclass(frozen=True)
class LossWeights:
    """The weight of each named loss. With a weight of zero the part behind it does not run: no decoder, no conditioning
    for log-mel, no discriminators."""

    spectral: float = 1.0  # multi-resolution log-mel and magnitude distance of the spectral decoder
    pitch: float = 0.2  # of the spectral decoder's voice, counted beside spectral
    intelligibility: float = 0.0  # what ESTOI misses in the spectral decoder's speech, counted beside spectral
    mel: float = 1.0  # auxiliary log-mel from the conditioning
    commitment: float = 0.25
    codebook: float = 1.0  # only where the codebook learns by gradient
    kl: float = 1.0  # of a Gaussian bottleneck, nats per sample
    wavenet: float = 1.0
    adversarial: float = 0.0  # above zero, the spectral decoder also trains against discriminators
    feature: float = 2.0  # discriminator feature matching, beside adversarial


@dataclass(frozen=True)
class Steps:
    """A stretch of training, whatever is trained."""

    name: str
    steps: int
    learning_rate: float = field(default=5e-4, kw_only=True)
    crop_seconds: float = field(default=1.0, kw_only=True)
    batch_size: int = field(default=16, kw_only=True)  # of all processes together


@dataclass(frozen=True)
class Stage(Steps):
    """A stretch of training in which the same parts of a codec learn on the same losses."""

    parts: tuple[Part, ...]
    weights: LossWeights = field(default_factory=LossWeights)
    quantize_after: int = 0  # steps of the stage without quantisation, after which the codebook starts from the data
    commitment_ramp: int = 0  # steps from then on over which the commitment weight rises
    kl_ramp: int = 0  # steps from then on over which the weight of the KL divergence rises: KL warm-up


@dataclass(frozen=True)
class OptimizerConfig:
    """Muon and AdamW at one learning rate, with warm-up and cosine decay within each stage."""

    betas: tuple[float, float] = (0.8, 0.99)
    weight_decay: float = 1e-2
    warmup_steps: int = 200
    final_share: float = 0.05  # of the learning rate, at the end of a stage
    clip_norm: float = 1.0
    weight_ema: float = 0.999
    accumulate: int = 1  # micro-batches per step


@dataclass(frozen=True)
class ScheduleConfig:
    """How often things happen, in steps."""

    log_every: int = 50
    validate_every: int = 1000
    sample_every: int = 5000
    checkpoint_every: int = 500


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A declared training run: what all have in common."""

    verb: ClassVar[str]  # of the command line, which runs plans of this kind

    name: str
    corpus: CorpusConfig
    stages: tuple[Steps, ...]
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    initial: str = ""  # a saved model to start from, or the name of one that comes with vqaudio
    speeds: tuple[float, ...] = (1.0,)  # one of which each batch is played at: more voices than the corpus has
    seed: int = 0
    bf16: bool = True
    compile: bool = False

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def check(self) -> None:
        """See that the plan makes sense.

        Raises:
            RecipeError: with the first thing that does not.
        """
        try:
            json.dumps(dataclasses.asdict(self), allow_nan=False)
        except ValueError as error:
            raise RecipeError("Every number of the recipe must be finite.") from error
        for stage in self.stages:
            _check_stage(stage, "has no step or more", stage.steps >= 0)
            _check_stage(stage, "has a positive learning rate", stage.learning_rate > 0)
            _check_stage(stage, "has a batch and crops", stage.batch_size > 0 and stage.crop_seconds > 0)
            _check_stage(stage, "has crops of an hour at most", stage.crop_seconds <= 3600)
        if not self.total_steps > 0 or self.optimizer.accumulate < 1:
            raise RecipeError("The recipe must have at least one step, and one micro-batch in it.")
        if not all(0 <= beta < 1 for beta in (*self.optimizer.betas, self.optimizer.weight_ema)):
            raise RecipeError("The optimiser's betas and the weights' moving average must lie in [0, 1).")
        if not 0 <= self.seed < 2**63:
            raise RecipeError("The seed must be a whole number from 0 to 2^63 - 1.")
        if not all(0.5 <= speed <= 2 for speed in self.speeds) or not self.speeds:
            raise RecipeError("The recipe must play speech at one speed or several, from half to double.")
        if self.optimizer.weight_decay < 0 or self.optimizer.clip_norm <= 0:
            raise RecipeError("The optimiser's weight decay must not be negative, and gradients clipped above zero.")
        if not 0 <= self.corpus.sample_seconds <= 3600:
            raise RecipeError("A sample must be no longer than an hour, and its seconds not be negative.")
        if min(dataclasses.astuple(self.schedule)) < 1:
            raise RecipeError("The intervals of the schedule must be at least one step.")


@dataclass(frozen=True, kw_only=True)
class Recipe(Plan):
    """How to train a codec; `vqaudio train` resolves it, saves it beside the results and runs it."""

    verb = "train"

    codec: CodecConfig
    stages: tuple[Stage, ...]
    bottleneck: Literal["codes", "gaussian"] = "codes"  # "gaussian" makes a VAE, to compare with
    gain_range_db: tuple[float, float] = (-34.0, 14.0)  # random change of each crop's level, up to full scale

    def check(self) -> None:
        """See that the recipe makes sense.

        Raises:
            RecipeError: with the first thing that does not.
        """
        super().check()
        _check_architecture(self.codec)
        for stage in self.stages:
            if stage.steps:
                for condition, holds in self._conditions(stage).items():
                    _check_stage(stage, condition, holds)
        if self.codec.speaker.kind == "lookup" and self.corpus.validation_speakers:
            raise RecipeError(NO_ROWS)

    def _conditions(self, stage: Stage) -> dict[str, bool]:
        """What has to hold of a stage, and whether it does."""
        weights, learns = stage.weights, set(stage.parts)
        decoders = {name for name in ("spectral", "wavenet") if getattr(self.codec, name)}
        counted = {name for name in ("mel", *decoders) if getattr(weights, name) > 0}
        reached = {"encoder", "quantizer", "conditioning"} | (counted - {"mel"})
        reached |= {"speaker"} if self.codec.speaker.kind != "none" else set()
        by_loss = self.bottleneck == "codes" and self.codec.quantizer.codebook == "loss" and "quantizer" in learns
        return {
            "learns something from a loss": bool(counted and reached & learns),
            "learns intelligibility beside the spectral loss": weights.spectral > 0 or weights.intelligibility == 0,
            "learns from discriminators beside the spectral loss": "spectral" in counted or weights.adversarial == 0,
            "has crops of a frame or more": stage.crop_seconds * self.codec.frame_rate >= 1,
            f"quantises (after {stage.quantize_after} steps) before it ends": stage.quantize_after < stage.steps,
            "starts a codebook only where the quantizer learns": stage.quantize_after == 0 or "quantizer" in learns,
            "weighs the loss of a codebook that learns by it": weights.codebook > 0 or not by_loss,
        }


@dataclass(frozen=True, kw_only=True)
class PriorRecipe(Plan):
    """How to train a prior over the codes of a finished codec; `vqaudio train-prior` runs it."""

    verb = "train-prior"

    codec: str = ""  # a model file, or the name of one that comes with vqaudio; empty is the default one
    prior: PriorConfig = field(default_factory=PriorConfig)
    source: Literal["encoder", "uniform"] = "encoder"  # of the codes to train on; "uniform" is there to compare with

    def check(self) -> None:
        """See that the recipe makes sense.

        Raises:
            RecipeError: with the first thing that does not.
        """
        super().check()
        if not 0 <= self.prior.speaker_dropout <= 1:
            raise RecipeError("The share of training items that hear no speaker must lie between 0 and 1.")

    def check_codec(self, codec: CodecConfig) -> None:
        """See that the recipe makes sense for a codec.

        Raises:
            RecipeError: with the first thing that does not.
        """
        try:
            check_prior(self.prior, Alphabet.of(codec, b""))
        except ModelError as error:
            raise RecipeError(str(error)) from error
        for stage in self.stages:
            _check_stage(stage, "has crops of a frame or more", stage.crop_seconds * codec.frame_rate >= 1)
        if codec.speaker.kind == "lookup" and self.corpus.validation_speakers:
            raise RecipeError(NO_ROWS)


def _check_architecture(codec: CodecConfig) -> None:
    """See that the networks can be built, whatever the rows of a table that the corpus is still to fill in."""
    rows = max(2, codec.speaker.speakers)
    try:
        check(dataclasses.replace(codec, speaker=dataclasses.replace(codec.speaker, speakers=rows)))
    except ModelError as error:
        raise RecipeError(str(error)) from error


def _check_stage(stage: Steps, condition: str, holds: bool) -> None:
    if not holds:
        raise RecipeError(f"The recipe must see to it that its stage '{stage.name}' {condition}.")


@overload
def load_recipe(name_or_path: str | Path) -> Recipe: ...
@overload
def load_recipe(name_or_path: str | Path, kind: type[AnyPlan]) -> AnyPlan: ...
def load_recipe(name_or_path: str | Path, kind: type[Plan] = Recipe) -> Plan:
    """Find a recipe: the path of a Python file that declares one of a kind, or the name of a shipped one ("vctk").

    Raises:
        RecipeError: where there is none, the file fails, or it declares none or several.
    """
    path = Path(name_or_path)
    if path.suffix != ".py":
        path = _shipped(str(name_or_path))
    if not path.is_file():
        raise RecipeError(f"The recipe '{path}' is not there.")
    try:
        declared = runpy.run_path(str(path), run_name="vqaudio_recipe").values()
    except (Exception, SystemExit) as error:
        raise RecipeError(f"The recipe '{path}' fails with {type(error).__name__}: {error}.") from error
    plans = [value for value in declared if isinstance(value, Plan)]
    found = [plan for plan in plans if isinstance(plan, kind)]
    if plans and not found:
        raise RecipeError(f"The recipe '{path}' is one for 'vqaudio {plans[0].verb}'.")
    if len(found) != 1:
        raise RecipeError(
            f"The recipe '{path}' must declare exactly one {kind.__name__}, and it declares {len(found)}."
        )
    return found[0]


def recipes_directory() -> Path:
    """Where the shipped recipes lie: in the installed package, else in the repository."""
    package = Path(__file__).parents[1]
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def override(recipe: AnyPlan, settings: Iterable[str]) -> AnyPlan:
    """Replace single values, each given as "codec.spectral.channels=96".

    A key goes from field to field; a place in a tuple is its number, a stage also its name ("stages.decoder.steps=10"),
    and "codec.decoder.channels" is a setting of whichever decoder is the default.
    A value is JSON, or else plain text, and must fit the type of its field.

    Raises:
        RecipeError: for an unknown key, with the nearest that is known, or a value that does not fit.
    """
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise RecipeError(f"The setting '{setting}' is not of the form key=value.")
        recipe = _replaced(recipe, recipe, type(recipe), path.split("."), path, text)
    return recipe


def resolve(recipe: Recipe, corpus: Index) -> Recipe:
    """Fill in what only the corpus knows: the number of speakers of a `lookup` table that states none.

    Raises:
        RecipeError: where the table is smaller than the corpus needs.
    """
    speaker, needed = recipe.codec.speaker, len(corpus.speaker_names)
    if speaker.kind != "lookup" or speaker.speakers >= needed:
        return recipe
    if speaker.speakers:
        raise RecipeError(f"The recipe has room for {speaker.speakers} speakers, and the corpus has {needed}.")
    if needed < 2:
        raise RecipeError("A table is for two speakers and more, and the corpus has one; set codec.speaker.kind=none.")
    return override(recipe, [f"codec.speaker.speakers={needed}"])


def to_json(recipe: Plan) -> str:
    """The whole recipe as JSON text."""
    return json.dumps(dataclasses.asdict(recipe), indent=2) + "\n"


def from_json(text: str, kind: type[AnyPlan]) -> AnyPlan:
    """Rebuild the recipe of a kind that `to_json` wrote.

    Raises:
        RecipeError: for text that is not a recipe.
    """
    try:
        return from_dict(kind, json.loads(text))
    except (ValueError, ModelError) as error:
        raise RecipeError(f"The saved recipe cannot be used: {str(error).rstrip('.')}.") from error


def read_recipe(path: Path, kind: type[AnyPlan]) -> AnyPlan:
    """The recipe of a kind that a run folder holds.

    Raises:
        RecipeError: for a file that cannot be read or is not a recipe.
    """
    try:
        return from_json(path.read_text(encoding="utf-8"), kind)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"The saved recipe '{path}' cannot be read.") from error


def _shipped(name: str) -> Path:
    known = {path.stem: path for path in recipes_directory().glob("*.py")}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
        hint = f"; the nearest shipped recipe is '{near[0]}'" if near else ""
        raise RecipeError(f"There is no recipe '{name}'{hint}.")
    return known[name]


def _replaced(recipe: Plan, value: Any, hint: Any, keys: list[str], path: str, text: str) -> Any:
    """`value`, of the type `hint`, with the part that `keys` lead to replaced by what `text` says."""
    if not keys:
        return _parsed(hint, text, path)
    key, *rest = keys
    if isinstance(value, CodecConfig) and key == "decoder" and rest:
        key = value.decoder
    if dataclasses.is_dataclass(value) and key in (hints := typing.get_type_hints(type(value))):
        part = _replaced(recipe, getattr(value, key), hints[key], rest, path, text)
        return dataclasses.replace(typing.cast(Any, value), **{key: part})
    if isinstance(value, tuple) and (place := _place(value, key)) is not None:
        kinds = typing.get_args(hint)
        kind = kinds[0] if kinds[-1] is Ellipsis else kinds[place]
        return (*value[:place], _replaced(recipe, value[place], kind, rest, path, text), *value[place + 1 :])
    if value is None:
        absent = path.removesuffix("." + ".".join(keys))
        raise RecipeError(f"The recipe has no '{absent}', so '{path}' cannot be set; '{absent}={{}}' adds it first.")
    near = difflib.get_close_matches(path, _paths(recipe), n=1, cutoff=0.0)[0]
    raise RecipeError(f"The recipe has no setting '{path}'; the nearest is '{near}'.")


def _place(items: tuple[Any, ...], key: str) -> int | None:
    names = [getattr(item, "name", None) for item in items]
    if key in names:
        return names.index(key)
    return int(key) if key in map(str, range(len(items))) else None


def _parsed(hint: Any, text: str, path: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    for candidate in (value, text):  # a folder may well be called 2024
        try:
            return convert(hint, candidate, path)
        except ModelError as error:
            reason = error
    raise RecipeError(str(reason)) from reason


def difference(one: Any, other: Any, path: str = "") -> str:
    """The first key in which two recipes of a kind differ; empty where they are the same."""
    if one == other:
        return ""
    if dataclasses.is_dataclass(one) and type(one) is type(other):
        pairs = [(part.name, getattr(one, part.name), getattr(other, part.name)) for part in dataclasses.fields(one)]
    elif isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
        pairs = [(getattr(a, "name", str(i)), a, b) for i, (a, b) in enumerate(zip(one, other, strict=True))]
    else:
        return path
    return next(key for name, a, b in pairs if (key := difference(a, b, f"{path}.{name}".removeprefix("."))))


def _paths(value: Any, prefix: str = "") -> Iterator[str]:
    """Every key that can be set, stages by their names, and the default decoder also by that."""
    if isinstance(value, CodecConfig):
        yield from _paths(getattr(value, value.decoder), f"{prefix}decoder.")
    if dataclasses.is_dataclass(value):
        for part in dataclasses.fields(value):
            yield prefix + part.name
            yield from _paths(getattr(value, part.name), f"{prefix}{part.name}.")
    elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        for item in value:
            yield from _paths(item, f"{prefix}{item.name}.")
