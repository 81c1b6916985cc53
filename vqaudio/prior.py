"""The prior as its users meet it: how many bits codes are worth, new codes out of nothing, and codes in fewer bytes.

What is sampled and what files are coded under is the integer network of `vqaudio.runtime.integer_prior`, which is the
same everywhere; the floating-point network that it was rounded from is in torch, for scores.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vqaudio import shipped
from vqaudio.codec import unpack_indices
from vqaudio.codes import Codes, check_codes
from vqaudio.container import Coder
from vqaudio.errors import ModelError, UsageError, whole
from vqaudio.models.config import Alphabet, PriorConfig
from vqaudio.models.random import uniforms
from vqaudio.runtime.integer_prior import IntegerPrior, Stepper
from vqaudio.runtime.integers import fingerprint
from vqaudio.runtime.schedule import available_threads
from vqaudio.weights import Arrays, load_prior_file, save_prior

if TYPE_CHECKING:
    from vqaudio.codec import Codec
    from vqaudio.models.prior import CodePrior

LONGEST = 600.0  # seconds that are sampled at once
GROUP = 8  # blocks that a thread decodes together
SPAN = 2500  # frames that are scored at once


@dataclass(frozen=True)
class Score:
    """What codes cost under a prior.

    Attributes:
        bits: of each code (quantizers, frames), float64.
        frame_rate: frames per second.
    """

    bits: NDArray[np.float64]
    frame_rate: float

    @property
    def per_code(self) -> float:
        """Bits per code."""
        return float(self.bits.mean())

    @property
    def per_second(self) -> float:
        """Bits per second."""
        return float(self.bits.sum() / self.bits.shape[1] * self.frame_rate)

    @property
    def per_position(self) -> NDArray[np.float64]:
        """Bits of each frame (frames,)."""
        return self.bits.sum(0)


class Prior:
    """A trained prior over the codes of one codec; `Prior.load` reads one.

    Args:
        config: the architecture.
        alphabet: which codec's codes, and what they look like.
        state: the weights by name, and the arrays of the integer network.
        card: the model card, Markdown.

    Attributes:
        model: four bytes that name the codec.
        fingerprint: four bytes that name the integer network in the `.codes` files that are written under it.

    Raises:
        ModelError: where the arrays do not fit the configuration.
    """

    def __init__(self, config: PriorConfig, alphabet: Alphabet, state: Arrays, card: str = "") -> None:
        self.config, self.alphabet, self.state, self.card = config, alphabet, dict(state), card
        try:
            self.model = bytes.fromhex(alphabet.fingerprint)
            self.integers = IntegerPrior(config, alphabet, self.state)
            self.fingerprint = fingerprint(config, alphabet, self.state)
        except (KeyError, ValueError, IndexError) as error:
            raise ModelError("The weights of the prior do not fit its configuration.") from error

    def __repr__(self) -> str:
        return f"<Prior {self.fingerprint.hex()} over the codes of {self.alphabet.codec} ({self.alphabet.fingerprint})>"

    @staticmethod
    def load(path: str | os.PathLike[str] | None = None) -> Prior:
        """Read a prior: a file, or by the name of its model one that comes with vqaudio; by default that of speech16k.

        Raises:
            ModelError: where the file is missing, damaged, or not a prior.
        """
        return _read(shipped.prior_file(path))

    def save(self, path: str | os.PathLike[str], force: bool = False) -> None:
        """Write the prior as one file.

        Raises:
            UsageError: where the file exists and `force` is not given.
            ModelError: where it cannot be written.
        """
        save_prior(path, self.config, self.alphabet, self.state, self.card, force)

    @functools.cached_property
    def network(self) -> CodePrior:
        """The floating-point network, in torch, for scores. To train it changes neither files nor what is sampled:
        these go by the integers that `vqaudio train-prior` makes of a network.

        Raises:
            ModelError: where the file has none that fits.
        """
        import torch

        from vqaudio.models.prior import CodePrior

        with torch.device("cpu"), torch.random.fork_rng(devices=[]):  # a caller's own choice and draws stay outside
            network = CodePrior(self.config, self.alphabet).float()
        try:
            network.load_state_dict({name: torch.from_numpy(self.state[name]) for name in network.state_dict()})
        except (KeyError, TypeError, RuntimeError) as error:
            raise ModelError("The prior has no network in floating point that fits its configuration.") from error
        return network.eval().requires_grad_(False)

    def score(self, codes: Codes) -> Score:
        """What codes cost under the floating-point network, every code after all before it.

        Raises:
            ModelError: for codes of another codec.
        """
        import torch

        self.check(codes)
        array = torch.from_numpy(codes.numpy().astype(np.int64))[None]
        indices = self._indices(codes.speaker)
        speaker = None if indices is None else torch.tensor([indices], device="cpu")
        reach, spans = self.config.receptive_field, []
        for start in range(0, codes.frames, SPAN):
            first = max(0, start - reach)
            with torch.no_grad(), torch.autocast("cpu", enabled=False):
                nats = self.network.loss(array[:, :, first : start + SPAN], speaker)[0, :, start - first :]
            spans.append(nats.double().numpy() / math.log(2))
        return Score(np.concatenate(spans, axis=1), codes.sample_rate / codes.hop)

    def sample(
        self,
        seconds: float,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        seed: int = 0,
        stream: int = 0,
        speaker: bytes = b"",
        prompt: Codes | None = None,
    ) -> Codes:
        """Draw codes.

        Args:
            seconds: of speech to draw.
            temperature: 1 draws what the prior says; towards 0 the likeliest codes win.
            top_k: draw from that many likeliest codes only.
            top_p: draw from the likeliest codes that together have this probability.
            seed, stream: what is drawn depends on both; streams of one seed are independent.
            speaker: as in `Codes.speaker`; empty for no one in particular.
            prompt: codes to go on from, in the voice that they carry; the result begins with them.

        Raises:
            ModelError: for a prompt of another codec, or a speaker that the codec does not know.
            UsageError: for a number out of range.
        """
        self._check_options(seconds, temperature, top_k, top_p, stream)
        alphabet = self.alphabet
        if prompt is not None:
            self.check(prompt)
            speaker = speaker or prompt.speaker
        given = np.zeros((0, alphabet.quantizers), np.uint16) if prompt is None else prompt.numpy().T
        samples = round(seconds * alphabet.sample_rate)
        frames = len(given) + -(-samples // alphabet.hop)
        stepper = Stepper(self.integers, self._indices(speaker), frames)
        drawn = np.empty((frames, alphabet.quantizers), np.uint16)
        numbers = uniforms(seed, 0, frames, alphabet.quantizers, (stream,))[0, :, :, 0]
        for frame in range(frames):
            for q in range(alphabet.quantizers):
                frequencies = stepper.frequencies()
                if frame < len(given):
                    code = int(given[frame, q])
                else:
                    code = choose(frequencies, float(numbers[frame, q]), temperature, top_k, top_p)
                drawn[frame, q] = code
                stepper.push(code)
        return Codes(
            codes=np.ascontiguousarray(drawn.T),
            codebook_size=alphabet.codebook_size,
            hop=alphabet.hop,
            sample_rate=alphabet.sample_rate,
            samples=len(given) * alphabet.hop + samples,
            model=self.model,
            speaker=speaker,
        )

    def encode(self, blocks: Sequence[np.ndarray], speaker: bytes) -> list[bytes]:
        """The payloads of blocks of codes (frames, quantizers), as `vqaudio.container.Coder` has it, on all threads.

        Raises:
            ModelError: for codes of another codec.
        """
        alphabet, indices = self.alphabet, self._indices(speaker)
        for codes in blocks:
            if codes.shape[1] != alphabet.quantizers or codes.max() >= alphabet.codebook_size:
                raise ModelError(f"The codes are not those of {alphabet.codec}, which the prior is for.")
        with ThreadPoolExecutor(available_threads()) as pool:
            return list(pool.map(lambda codes: self.integers.encode(codes, indices), blocks))

    def decode(self, payloads: Sequence[bytes], frames: Sequence[int], speaker: bytes) -> list[np.ndarray | None]:
        """The codes (frames, quantizers) of blocks, as `vqaudio.container.Coder` has it, on all threads.

        Raises:
            ModelError: for a speaker that the codec does not know.
        """
        indices, threads = self._indices(speaker), available_threads()
        size = min(GROUP, -(-len(payloads) // threads))

        def group(start: int) -> list[np.ndarray | None]:
            end = start + size
            return [*self.integers.decode(payloads[start:end], frames[start:end], indices)]

        with ThreadPoolExecutor(threads) as pool:
            return [codes for decoded in pool.map(group, range(0, len(payloads), size)) for codes in decoded]

    def check(self, codes: Codes) -> None:
        """See that codes are of the prior's codec, with all of its quantisers.

        Raises:
            ModelError: where they are not; UsageError: for what are no codes.
        """
        check_codes(codes)
        alphabet = self.alphabet
        if codes.model != self.model:
            raise ModelError(
                f"The codes are of model {codes.model.hex()}, but the prior at hand is for {alphabet.codec} "
                f"({alphabet.fingerprint})."
            )
        if (codes.quantizers, codes.codebook_size) != (alphabet.quantizers, alphabet.codebook_size):
            raise ModelError(
                f"The prior is for {alphabet.quantizers} quantisers of {alphabet.codebook_size} codes each."
            )

    def _indices(self, speaker: bytes) -> list[int] | None:
        return unpack_indices(speaker, self.alphabet.speaker) if speaker else None

    def _check_options(self, seconds: float, temperature: float, top_k: int | None, top_p: float, stream: int) -> None:
        least = 1 / self.alphabet.sample_rate
        if not least <= seconds <= LONGEST:
            raise UsageError(f"From one sample to {LONGEST:g} s can be sampled at once, not {seconds:g} s.")
        if not 0 <= temperature <= 2:
            raise UsageError(f"The temperature must lie between 0 and 2, not at {temperature:g}.")
        if top_k is not None and not 1 <= whole(top_k, "The number of likeliest codes") <= self.alphabet.codebook_size:
            raise UsageError(f"Of {self.alphabet.codebook_size} codes, the {top_k} likeliest cannot be taken.")
        if not 0 < top_p <= 1:
            raise UsageError(f"The probability to keep must be above 0 and at most 1, not {top_p:g}.")
        if not 0 <= whole(stream, "A stream") < 1 << 32:
            raise UsageError(f"Streams have numbers from 0 to 2^32 - 1, not {stream}.")


def choose(frequencies: NDArray[np.int32], uniform: float, temperature: float, top_k: int | None, top_p: float) -> int:
    """The code that a uniform number in (0, 1) falls on.

    Args:
        frequencies: (K,), all above zero.
        temperature, top_k, top_p: as for `Prior.sample`.
    """
    if temperature == 0:
        return int(frequencies.argmax())
    weights = (frequencies / frequencies.max()) ** (1 / temperature)
    order = np.argsort(-weights, kind="stable")[:top_k]
    sums = np.cumsum(weights[order])
    kept = int(np.searchsorted(sums, top_p * sums[-1])) + 1 if top_p < 1 else len(sums)
    place = np.searchsorted(sums[:kept], uniform * sums[:kept][-1], side="right")
    return int(order[min(int(place), kept - 1)])


def loaded(path: Path) -> Prior:
    """The prior of a file, loaded once as long as the file stays as it is.

    Raises:
        ModelError: where it is missing, damaged, or not a prior.
    """
    try:
        stat = path.stat()
    except OSError:
        return _read(path)  # which says what is wrong
    return _kept(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(8)
def _kept(path: Path, *state: int) -> Prior:
    return _read(path)


def _read(path: Path) -> Prior:
    file = load_prior_file(path)
    return Prior(file.config, file.alphabet, file.state, file.card)


def all_shipped() -> Iterator[tuple[str, Prior]]:
    """The models that come with vqaudio, by name, and their priors, but for any that cannot be loaded."""
    for name in shipped.MODELS:
        with contextlib.suppress(ModelError):
            yield name, loaded(shipped.prior_file(name))


def for_codec(codec: Codec, path: str | None = None) -> Prior | None:
    """The prior of a codec: that of a file, or of a shipped model by its name; else one that comes with vqaudio and is
    for this codec.

    Raises:
        ModelError: for a file that is no prior, or one of another codec.
    """
    if path is None:
        return next((prior for _, prior in all_shipped() if prior.model == codec.fingerprint), None)
    prior = loaded(shipped.prior_file(path))
    if prior.model != codec.fingerprint:
        raise ModelError(
            f"'{path}' is a prior for {prior.alphabet.codec} ({prior.alphabet.fingerprint}), and the model at hand is "
            f"{codec.config.name} ({codec.fingerprint.hex()})."
        )
    own = dataclasses.replace(Alphabet.of(codec.config, codec.fingerprint), codec=prior.alphabet.codec)
    if prior.alphabet != own:
        raise ModelError(f"'{path}' names the model at hand, but has another hop, rate, codebook or speaker.")
    return prior


def required(codec: Codec, path: str | None = None) -> Prior:
    """The prior of a codec, as `for_codec` finds it.

    Raises:
        ModelError: as `for_codec`; UsageError: where there is none.
    """
    prior = for_codec(codec, path)
    if prior is None:
        raise UsageError(
            f"The model {codec.config.name} ({codec.fingerprint.hex()}) has no prior at hand; --prior FILE names one."
        )
    return prior


def coder_for(codec: Codec, choice: str | None, path: str | None, quantizers: int | None = None) -> Coder | None:
    """The coder to write a codec's codes with, as options choose it.

    Args:
        choice: "prior", "fixed", or None for a prior where the codec has one.
        path: of a prior, as for `for_codec`.
        quantizers: as for `Codec.encode`; a prior is for all of them.

    Returns:
        None for codes of fixed width.

    Raises:
        ModelError: for a file that is no prior, or one of another codec.
        UsageError: where a prior is asked for that the codec does not have, or not for so few quantisers, or named
            beside "fixed".
    """
    if choice == "fixed" and path is not None:
        raise UsageError("--prior names a prior, which --coder fixed does not use.")
    if choice == "fixed":
        return None
    prior = required(codec, path) if choice == "prior" else for_codec(codec, path)
    if prior is None or quantizers in (None, prior.alphabet.quantizers):
        return prior
    if choice == "prior" or path is not None:
        raise UsageError(f"The prior is for all {prior.alphabet.quantizers} quantisers, not for {quantizers}.")
    return None


def find(fingerprint: bytes, path: str | None = None) -> Coder:
    """The prior with this fingerprint: that of a file, or one that comes with vqaudio.

    Raises:
        ModelError: where it is neither, or the file is no prior.
    """
    at_hand = [loaded(shipped.prior_file(path))] if path else []
    at_hand += [prior for _, prior in all_shipped()]
    for prior in at_hand:
        if prior.fingerprint == fingerprint:
            return prior
    others = " and ".join(f"{prior.fingerprint.hex()} ({prior.alphabet.codec})" for prior in at_hand)
    raise ModelError(
        f"The codes were written under the prior {fingerprint.hex()}, which is not among those at hand, "
        f"{others or 'none'}; its file has to be named, with --prior or as coder=."
    )
