"""A codec as a training task: crops at random levels, losses by stage, the start of the codebook, discriminators."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from vqaudio.errors import RecipeError
from vqaudio.extras import torchaudio
from vqaudio.models.autoencoder import PARTS, Output
from vqaudio.models.objective import Objective
from vqaudio.models.quantizer import histogram
from vqaudio.models.vae import VAE
from vqaudio.models.vqvae import VQVAE
from vqaudio.runtime.gpu_wavenet import TorchWaveNet
from vqaudio.runtime.wavenet import Piece
from vqaudio.shipped import model_file
from vqaudio.training import distributed
from vqaudio.training.adversary import Adversary
from vqaudio.training.checkpoint import as_tensor, check_same, with_prefix, without_prefix
from vqaudio.training.corpus import Corpus, Crops, pack, validation_items
from vqaudio.training.logs import Log
from vqaudio.training.losses import ramped, use_of_codes, wanted, weighted
from vqaudio.training.recipe import Recipe, resolve
from vqaudio.training.task import Task
from vqaudio.training.validation import validate
from vqaudio.weights import FORMAT, VAE_FORMAT, load_model, save_model

COUNTS = "counts_"  # and the number of a quantiser: how often each of its codes occurs
VARYING = ("quantizer", "speaker", "conditioning")  # they drop and exchange what decoders hear, also when frozen
PER_CODE = (".codebook", ".bits")  # what a quantiser has a row or number of for each code
INITIAL_BATCHES = 8  # batches of latents from which the codebook starts


def prepare(recipe: Recipe, device: torch.device, quiet: bool) -> tuple[Recipe, Callable[[], Task]]:
    """Pack the corpus; the recipe resolved against it, and what builds its task.

    Raises:
        RecipeError: where the corpus does not fit the recipe.
        TrainingError: for a corpus without audio, or where torchaudio does not load.
    """
    torchaudio()  # or its lack would be found out only when the corpus is packed
    corpus = pack(recipe.corpus, recipe.codec.sample_rate, quiet=quiet)
    resolved = resolve(recipe, corpus)
    return resolved, lambda: CodecTask(resolved, corpus, device)


class CodecTask(Task):
    """The networks of a codec, and everything that trains and judges them.

    Args:
        recipe: resolved.
        corpus: what it is trained on.
        device: of the run.

    Raises:
        TrainingError: for a corpus of which nothing can be held out.
    """

    def __init__(self, recipe: Recipe, corpus: Corpus, device: torch.device) -> None:
        self.recipe, self.corpus, self.device = recipe, corpus, device
        self.model: VQVAE | VAE = VAE(recipe.codec) if recipe.bottleneck == "gaussian" else VQVAE(recipe.codec)
        self.model.to(device)
        codec = recipe.codec
        self.objective = Objective(codec.sample_rate, codec.hop, codec.conditioning.mels).to(device)
        adversarial = any(stage.weights.adversarial > 0 for stage in recipe.stages if stage.steps)
        self.adversary = Adversary(recipe.optimizer, device) if adversarial else None
        self.judged: tuple[Tensor, Tensor] | None = None  # decoded and original (B, 1, T), for the adversary to learn
        self.train_indices, self.held_out = corpus.split(recipe.corpus.validation_speakers)

    def begin(self) -> None:
        """Start from the codec that the recipe names, if it names one.

        Raises:
            ModelError: where it is not there.
            RecipeError: where it is of another shape.
        """
        if self.recipe.initial:
            first = next(stage for stage in self.recipe.stages if stage.steps)
            load_parts(self.model, self.recipe.initial, anew=first.quantize_after > 0)

    def enter(self, index: int) -> None:
        self.stage = stage = self.recipe.stages[index]
        for name in PARTS:
            if part := self.model.part(name):
                part.train(name in stage.parts)
                part.requires_grad_(name in stage.parts)
                if name in VARYING:
                    part.training = True
        if stage.weights.mel == 0:  # no gradient comes from there, and processes would wait at each step to find it out
            self.model.conditioning.mel.requires_grad_(False)
        codec, corpus = self.recipe.codec, self.corpus
        length = round(stage.crop_seconds * codec.frame_rate) * codec.hop
        crop = (corpus, self.train_indices, length, self.recipe.seed, self.device)
        self.crops = Crops(*crop, distributed.rank(), distributed.world(), self.recipe.speeds)
        seconds = self.recipe.corpus.validation_seconds
        self.validation = validation_items(corpus, self.held_out, seconds, length, self.device)
        length = max(1, round(self.recipe.corpus.sample_seconds * codec.frame_rate)) * codec.hop
        self.example = validation_items(corpus, self.held_out, 0, length, self.device)

    def begin_step(self, within: int) -> bool:
        """Start the codebook from the data, where the stage begins to quantise now."""
        if not (isinstance(self.model, VQVAE) and 0 < self.stage.quantize_after == within):
            return False
        with torch.no_grad():
            batches = [self._batch(-1 - i)[0] for i in range(INITIAL_BATCHES)]
            self.model.quantizer.initialize(torch.cat([self.model.encoder(batch) for batch in batches]))
        return True

    def losses(self, forward: nn.Module, index: int, within: int) -> dict[str, Tensor]:
        """The losses by name, and how often each code occurs (K,)."""
        stage = self.stage
        waveform, speaker = self._batch(index)
        output: Output = forward(
            waveform,
            speaker,
            pitch=self.objective.pitch(waveform) if "spectral" in wanted(stage) else None,
            wanted=wanted(stage),
            objective=self.objective,
            quantize=within >= stage.quantize_after,
        )
        losses = dict(output.losses)
        if self.adversary and stage.weights.adversarial > 0 and output.decoded is not None:
            losses |= self.adversary.judge(output.decoded, waveform)
            self.judged = (output.decoded.detach(), waveform)
        losses["total"] = weighted(losses, ramped(stage, within))
        if output.quantized is not None:
            size = self.recipe.codec.quantizer.codebook_size
            codes = output.quantized.codes.unbind(1)
            losses |= {f"{COUNTS}{i}": histogram(stream, size) for i, stream in enumerate(codes)}
        return losses

    def after_backward(self) -> dict[str, Tensor]:
        """Let the discriminators hear the same."""
        judged, self.judged = self.judged, None
        return {"discriminator": self.adversary.learn(*judged)} if self.adversary and judged else {}

    def clip(self) -> list[Tensor]:
        return self.adversary.clip() if self.adversary else []

    def update(self, rate: float, skipped: Tensor) -> None:
        if self.adversary:
            self.adversary.step(rate, skipped)

    def moving(self) -> list[Tensor]:
        """Also the codebooks that learn by gradient: their dead codes restart as they are passed."""
        return super().moving() + [p for name, p in self.model.named_parameters() if name.endswith(".codebook")]

    @staticmethod
    def figures(means: dict[str, Tensor]) -> dict[str, float]:
        """The means of the losses, and of the counts the perplexity of all codes together."""
        figures: dict[str, float] = {}
        for name, mean in means.items():
            if name.startswith(COUNTS):
                figures |= use_of_codes(name.removeprefix(COUNTS), mean)
            else:
                figures[name] = float(mean)
        return figures

    def validate(self, steps: int) -> dict[str, float]:
        """Losses on held-out speech, the codes in use, and whether the decoder listens to them."""
        return validate(self.model, self.validation, self.objective, self.stage, self.ready(steps))

    def ready(self, steps: int) -> bool:
        """Whether the stage has begun to quantise."""
        return steps > self.stage.quantize_after

    def log_samples(self, log: Log, step: int, steps: int) -> None:
        """An original and what the decoders of the stage make of it; nothing where none does, or the recipe wants no
        samples."""
        if not self.recipe.corpus.sample_seconds:
            return
        waveform, speaker = self.example
        output = self.model(waveform, speaker, wanted=wanted(self.stage), quantize=self.ready(steps))
        sounds = {} if output.decoded is None else {"spectral": output.decoded}
        if "wavenet" in wanted(self.stage) and self.model.wavenet is not None:
            sounds["wavenet"] = self._sampled(output)
        if sounds:
            for name, sound in {"original": waveform, **sounds}.items():
                log.audio(step, name, sound[0, 0], self.recipe.codec.sample_rate)

    def _sampled(self, output: Output) -> Tensor:
        """What the WaveNet makes of a pass over one item (1, 1, T)."""
        assert self.model.wavenet is not None
        speaker = None if output.speaker is None else output.speaker[0].cpu().numpy()
        piece = Piece(output.conditioning[0].T.cpu().numpy(), speaker)
        (signal,) = TorchWaveNet(self.model.wavenet).generate([piece])
        return self.model.wavenet.join(torch.from_numpy(signal)[None].to(self.device))

    def save(self, path: Path, weights: dict[str, Tensor]) -> None:
        save_model(path, self.recipe.codec, weights, force=True, form=form_of(self.model))

    def tensors(self) -> dict[str, Tensor]:
        own = with_prefix("adversary", self.adversary.tensors()) if self.adversary else {}
        return own | {"corpus": as_tensor(self.corpus.digest)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Raises a RecipeError for another corpus, which the recipe names only by its place."""
        check_same(tensors["corpus"], self.corpus.digest, "corpus")
        if self.adversary:
            self.adversary.restore(without_prefix("adversary", tensors))

    def _batch(self, index: int) -> tuple[Tensor, Tensor]:
        """Crops (B, 1, T) at a random level, full scale at most, and their speakers (B,)."""
        waveform, speaker = self.crops.batch(index, self.stage.batch_size)
        low, high = self.recipe.gain_range_db
        level = low + (high - low) * torch.rand(len(waveform), 1, 1, device=waveform.device)
        loudest = 1 / waveform.abs().amax(2, keepdim=True).clamp(min=1e-5)
        return waveform * torch.minimum(10 ** (level / 20), loudest), speaker


def form_of(model: VQVAE | VAE) -> str:
    """The form of a model's file."""
    return VAE_FORMAT if isinstance(model, VAE) else FORMAT


def load_parts(model: VQVAE | VAE, path: str, anew: bool = False) -> None:
    """Start the parts that a saved model of the same kind has from its weights; parts that it lacks keep their own.

    Args:
        model: to give the weights to.
        path: of the saved model, or the name of one that comes with vqaudio.
        anew: whether training begins with a codebook from the data, which may be of another size than the saved one.

    Raises:
        ModelError: where there is no such model.
        RecipeError: where a part has another shape, or the encoder hears in another way.
    """
    own = model.state_dict()
    file = load_model(model_file(path), form_of(model))
    saved = {name: torch.from_numpy(value) for name, value in file.state.items() if name in own}
    if anew and file.config.quantizer.codebook_size != model.config.quantizer.codebook_size:
        saved = {name: value for name, value in saved.items() if not name.endswith(PER_CODE)}
    for name, value in saved.items():
        if own[name].shape != value.shape:
            raise RecipeError(f"'{path}' does not fit the recipe: '{name}' has another shape.")
    theirs, ours = (dataclasses.asdict(config.encoder) for config in (file.config, model.config))
    for key in theirs:
        if theirs[key] != ours[key]:  # which the shapes need not tell
            raise RecipeError(
                f"'{path}' does not fit the recipe: its encoder's {key} is {theirs[key]}, not {ours[key]}."
            )
    if file.config.quantizer.predictive and not model.config.quantizer.predictive:
        raise RecipeError(f"'{path}' does not fit the recipe: its codes are predictive.")
    model.load_weights({**own, **saved})
