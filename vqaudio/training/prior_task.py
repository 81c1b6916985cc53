"""A prior as a training task: the likelihood of crops of the codes that a finished codec gives on the corpus."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from vqaudio.codec import load
from vqaudio.errors import RecipeError
from vqaudio.models.config import Alphabet
from vqaudio.models.prior import CodePrior, nats
from vqaudio.runtime.integers import quantize
from vqaudio.shipped import prior_file
from vqaudio.training import distributed
from vqaudio.training.checkpoint import as_tensor, check_same
from vqaudio.training.codes_corpus import CodeCrops, CodesCorpus, Crop, pack_codes, validation_crop
from vqaudio.training.corpus import pack
from vqaudio.training.recipe import PriorRecipe
from vqaudio.training.task import Task
from vqaudio.weights import load_prior_file, save_prior

NATS_PER_BIT = math.log(2)


def prepare(recipe: PriorRecipe, device: torch.device, quiet: bool) -> tuple[PriorRecipe, Callable[[], Task]]:
    """Pack the codes of the corpus; the recipe, and what builds its task.

    Raises:
        ModelError: for a codec that is not there.
        RecipeError: where the codec does not fit the recipe or the corpus.
        TrainingError: for a corpus without audio.
    """
    codec = load(recipe.codec or None, threads=1)  # as many utterances at a time as there are cores
    recipe.check_codec(codec.config)
    audio = pack(recipe.corpus, codec.config.sample_rate, quiet=quiet)
    speaker, needed = codec.config.speaker, len(audio.speaker_names)
    if speaker.kind == "lookup" and speaker.speakers < needed:
        raise RecipeError(f"The codec has room for {speaker.speakers} speakers, and the corpus has {needed}.")
    corpora = {speed: pack_codes(audio, codec, quiet=quiet, speed=speed) for speed in {1.0, *recipe.speeds}}
    alphabet = Alphabet.of(codec.config, codec.fingerprint)
    return recipe, lambda: PriorTask(recipe, alphabet, corpora, device)


class PriorTask(Task):
    """The network of a prior, and the codes that train and judge it.

    Args:
        recipe: of the prior.
        alphabet: of the codec.
        corpora: codes of that codec on the speech by the speed at which it is played: those of the recipe to train on,
            and 1 to judge by.
        device: of the run.

    Raises:
        TrainingError: for a corpus of which nothing can be held out.
    """

    def __init__(
        self, recipe: PriorRecipe, alphabet: Alphabet, corpora: dict[float, CodesCorpus], device: torch.device
    ) -> None:
        self.recipe, self.alphabet, self.device = recipe, alphabet, device
        self.corpus, self.played = corpora[1.0], [corpora[speed] for speed in recipe.speeds]
        self.model: CodePrior = CodePrior(recipe.prior, alphabet)
        self.model.to(device)
        self.train_indices, self.held_out = self.corpus.split(recipe.corpus.validation_speakers)

    def begin(self) -> None:
        """Start from the prior that the recipe names, if it names one.

        Raises:
            ModelError: where it is not there.
            RecipeError: where it is of another codec or shape.
        """
        if self.recipe.initial:
            start_from(self.model, self.recipe.initial)

    def enter(self, index: int) -> None:
        self.stage = self.recipe.stages[index]
        frame_rate = self.alphabet.sample_rate / self.alphabet.hop
        length = round(self.stage.crop_seconds * frame_rate)
        crop = (self.played, self.train_indices, length, self.recipe.seed, self.device)
        self.crops = CodeCrops(*crop, distributed.rank(), distributed.world())
        count = round(self.recipe.corpus.validation_seconds * frame_rate / length)
        self.validation = validation_crop(self.corpus, self.held_out, count, length, self.device)

    def losses(self, forward: nn.Module, index: int, within: int) -> dict[str, Tensor]:
        """Nats per code, and the same in bits."""
        crop = self.crops.batch(index, self.stage.batch_size)
        if self.recipe.source == "uniform":  # samples of the prior under which the codec is trained
            crop = crop._replace(codes=torch.randint_like(crop.codes, self.alphabet.codebook_size))
        # every code of a micro-batch counts alike, whichever process hears it
        count = distributed.mean(crop.mask.sum())
        total = (_sums(nats(forward(crop.codes, crop.voices), crop.codes), crop.mask) / count).mean()
        return {"total": total, "bits": total.detach() / NATS_PER_BIT}

    def validate(self, steps: int) -> dict[str, float]:
        """Nats and bits per code, bits of each of several quantisers, and bits of a prior that knows nothing."""
        batches = zip(
            *(tensor.split(distributed.share(self.stage.batch_size)) for tensor in self.validation), strict=True
        )
        crops = [Crop(*tensors) for tensors in batches]
        sums = torch.stack([_sums(self.model.loss(crop.codes, crop.voices), crop.mask) for crop in crops]).sum(0)
        bits = (sums / self.validation.mask.sum() / NATS_PER_BIT).tolist()
        mean = sum(bits) / len(bits)
        figures = {"total": mean * NATS_PER_BIT, "bits": mean, "bits_uniform": math.log2(self.alphabet.codebook_size)}
        return figures | ({f"bits_{q}": value for q, value in enumerate(bits)} if len(bits) > 1 else {})

    def save(self, path: Path, weights: dict[str, Tensor]) -> None:
        """Write the prior, with the integers that it rounds to."""
        config = self.recipe.prior
        own = {name: value.half().float().cpu().numpy() for name, value in weights.items()}  # as the file holds them
        save_prior(path, config, self.alphabet, own | quantize(config, self.alphabet, own), force=True)

    def tensors(self) -> dict[str, Tensor]:
        """Codec and corpus, which the recipe names only by their places."""
        return {"codec": as_tensor(bytes.fromhex(self.alphabet.fingerprint)), "corpus": as_tensor(self.corpus.digest)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """See that codec and corpus are still the same.

        Raises:
            RecipeError: where one is not.
        """
        check_same(tensors["codec"], bytes.fromhex(self.alphabet.fingerprint), "codec")
        check_same(tensors["corpus"], self.corpus.digest, "corpus")


def start_from(model: CodePrior, path: str) -> None:
    """Give a prior the weights of a saved one.

    Raises:
        ModelError: where there is no such prior.
        RecipeError: where it is of another codec or shape.
    """
    saved, own = load_prior_file(prior_file(path)), model.state_dict()
    if saved.alphabet.fingerprint != model.alphabet.fingerprint:
        raise RecipeError(
            f"'{path}' is a prior of the codec {saved.alphabet.codec} ({saved.alphabet.fingerprint}), not of "
            f"{model.alphabet.codec} ({model.alphabet.fingerprint})."
        )
    weights = {name: torch.from_numpy(array) for name, array in saved.state.items() if name in own}
    if {name: value.shape for name, value in weights.items()} != {name: value.shape for name, value in own.items()}:
        raise RecipeError(f"'{path}' does not fit the recipe: its network has another shape.")
    model.load_state_dict(weights)


def _sums(values: Tensor, mask: Tensor) -> Tensor:
    """Sums (quantizers,) of values (B, quantizers, frames) where the mask (B, frames) holds."""
    return (values * mask[:, None]).sum((0, 2))
