"""The architecture of a codec or a prior as frozen dataclasses, saved as JSON with the weights: a model is one file."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from vqaudio.errors import ModelError
from vqaudio.models.constants import DECISION_DELAY, MOST_TERMS, MU

LARGEST = 1 << 16  # channels, taps or layers; beyond, a configuration is nonsense and takes memory without end
LARGEST_TABLE = 1 << 23  # bins of an FFT at all places where a frame may begin: half as many phases are kept
RATES = range(1_000, 1_000_001)  # Hz

Config = TypeVar("Config")
Part = Literal["encoder", "quantizer", "speaker", "conditioning", "wavenet", "spectral"]  # of a model


@dataclass(frozen=True)
class EncoderConfig:
    """Strided convolutions, then residual dilated convolutions at code rate (paper, section 4.3).

    The paper's own encoder is `strides=(2,) * 6`: six convolutions of stride 2 and window 4.
    """

    strides: tuple[int, ...] = (8, 4, 4)
    channels: tuple[int, ...] = (64, 128, 256)
    dilations: tuple[int, ...] = (1, 3, 9, 1, 3, 9)
    kernel: int = 3
    latent_channels: int = 64
    pre_emphasis: float = 0.97
    gain: float = 25.0  # speech near -26 dBFS has about unit variance after pre-emphasis
    compression: float = 300.0  # how far below full level the strided convolutions' output turns from log to linear

    @property
    def reach(self) -> tuple[int, int]:
        """Samples before and after its own frame that a latent depends on."""
        before, span, hop = 1, 2, 1  # pre-emphasis hears one sample before
        for stride in self.strides:
            before += stride // 2 * hop
            span += (2 * stride - 1) * hop
            hop *= stride
        for dilation in self.dilations:
            taps = (self.kernel - 1) * dilation
            before += (taps - taps // 2) * hop
            span += taps * hop
        return before, span - before - hop


@dataclass(frozen=True)
class QuantizerConfig:
    """Residual quantisers with K codes each; one quantiser is the paper's VQ-VAE (section 3.1)."""

    quantizers: int = 1
    codebook_size: int = 512
    code_dim: int = 16
    normalize: bool = True
    predictive: bool = False  # codes tell what the quantised latent before does not
    rate_weight: float = 0.0  # of predictive codes: what a bit costs beside half the squared distance on the sphere
    paths: int = 1  # of predictive codes: how many sequences of them the search goes on with
    codebook: Literal["ema", "loss"] = "ema"
    decay: float = 0.99
    restart_below: float = 0.05  # share of uniform use under which a code is restarted from the data
    dropout: float = 0.0  # share of training items that keep only their first quantisers

    @property
    def delay(self) -> int:
        """Frames between a code and its choice."""
        return DECISION_DELAY if self.paths > 1 else 0


@dataclass(frozen=True)
class SpeakerConfig:
    """The global speaker vector: `lookup` is the paper's one-hot, `reference` is computed from the utterance."""

    kind: Literal["none", "lookup", "reference"] = "none"
    channels: int = 64
    speakers: int = 0  # rows of the table, for `lookup`
    dims: int = 16  # numbers sent, for `reference`
    levels: int = 16  # levels of each number, for `reference`
    dropout: float = 0.1  # share of training items that hear the null speaker

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each index that is sent: one row of the table, or the levels of all dims."""
        return {"none": (), "lookup": (self.speakers,), "reference": (self.levels,) * self.dims}[self.kind]

    @property
    def width(self) -> int:
        """Numbers of a speaker vector, 0 without one."""
        return 0 if self.kind == "none" else self.channels


@dataclass(frozen=True)
class ConditioningConfig:
    """The network between codes and decoders, at code rate."""

    channels: int = 192
    layers: int = 2
    kernel: int = 3
    jitter: float = 0.0  # probability that a code is replaced by a neighbour's (Chorowski et al. 2019)
    mels: int = 80

    @property
    def reach(self) -> int:
        """Frames before and after its own that a frame of conditioning depends on."""
        return self.kernel // 2 * (1 + self.layers)


@dataclass(frozen=True)
class WaveNetConfig:
    """The autoregressive decoder. With `bands=4` one step yields four sub-band samples at a quarter of the rate."""

    bands: Literal[1, 4] = 4
    channels: int = 64
    skip_channels: int = 128
    kernel: int = 2
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128) * 2
    output: Literal["logistic", "mulaw"] = "logistic"
    mixtures: int = 4

    @property
    def receptive_steps(self) -> int:
        """Steps before its own that a distribution depends on."""
        return 1 + (self.kernel - 1) * sum(self.dilations)

    @property
    def sample_parameters(self) -> int:
        """Numbers that describe the distribution of one sample."""
        return 3 * self.mixtures if self.output == "logistic" else MU + 1


@dataclass(frozen=True)
class SpectralConfig:
    """The feed-forward decoder: a gated dilated stack at code rate, whose head gives voice and noise to an inverse
    STFT (after Vocos)."""

    channels: int = 256
    skip_channels: int = 256
    kernel: int = 3
    dilations: tuple[int, ...] = (1, 2, 4, 8) * 2
    fft_size: int = 512

    @property
    def reach(self) -> int:
        """Frames before and after its own that the head's numbers of a frame depend on."""
        return (self.kernel - 1) * sum(self.dilations) // 2

    def margin(self, hop: int) -> int:
        """Samples before and after its own `hop` that a frame's piece of waveform has."""
        return (self.fft_size - hop) // 2

    def overlap(self, hop: int) -> int:
        """Frames before and after its own into which a frame's piece of waveform reaches, at `hop` samples each."""
        return -(-self.margin(hop) // hop)

    def context(self, hop: int) -> int:
        """Frames before and after its own, at `hop` samples each, of whose numbers a frame of the waveform is made, but
        for the phase of its voice."""
        return 2 * self.overlap(hop)

    def look_ahead(self, hop: int) -> int:
        """Samples after a frame of `hop` that the decoder waits for before it gives the frame."""
        return (self.reach + self.overlap(hop)) * hop + self.margin(hop)


@dataclass(frozen=True)
class CodecConfig:
    """A whole codec: what `vqaudio.load` needs to build the networks before it fills in the weights."""

    name: str = "unnamed"
    sample_rate: int = 16000
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    speaker: SpeakerConfig = field(default_factory=SpeakerConfig)
    conditioning: ConditioningConfig = field(default_factory=ConditioningConfig)
    wavenet: WaveNetConfig | None = None
    spectral: SpectralConfig | None = None
    decoder: Literal["wavenet", "spectral"] = "spectral"  # the one used when nobody chooses

    @property
    def hop(self) -> int:
        """Samples per code frame."""
        return math.prod(self.encoder.strides)

    @property
    def frame_rate(self) -> float:
        """Code frames per second."""
        return self.sample_rate / self.hop

    @property
    def bits_per_code(self) -> int:
        """Bits of one code, fixed width."""
        return (self.quantizer.codebook_size - 1).bit_length()

    @property
    def bit_rate(self) -> float:
        """Bits per second of the codes, fixed width, without header."""
        return self.frame_rate * self.bits_per_code * self.quantizer.quantizers


@dataclass(frozen=True)
class PriorConfig:
    """The architecture of a prior."""

    channels: int = 128
    skip_channels: int = 128
    kernel: int = 2
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16)
    speaker_channels: int = 32
    speaker_dropout: float = 0.1  # share of training items that hear no speaker

    @property
    def receptive_field(self) -> int:
        """Frames before its own that a distribution depends on."""
        return 1 + (self.kernel - 1) * sum(self.dilations)


@dataclass(frozen=True)
class Alphabet:
    """What a prior has to know of its codec: which one it is, and what its codes look like."""

    codec: str  # its name
    fingerprint: str  # hexadecimal
    sample_rate: int  # Hz
    hop: int  # samples per frame
    quantizers: int  # codes per frame
    codebook_size: int
    speaker: tuple[int, ...]  # number of values of each index that the codec sends of a speaker

    @classmethod
    def of(cls, config: CodecConfig, fingerprint: bytes) -> Alphabet:
        """The alphabet of a codec."""
        quantizer = config.quantizer
        return cls(
            codec=config.name,
            fingerprint=fingerprint.hex(),
            sample_rate=config.sample_rate,
            hop=config.hop,
            quantizers=quantizer.quantizers,
            codebook_size=quantizer.codebook_size,
            speaker=config.speaker.sizes,
        )


def check(config: CodecConfig) -> None:
    """See that networks can be built of a configuration.

    Raises:
        ModelError: with the first thing that is impossible.
    """
    encoder, quantizer, speaker, spectral = config.encoder, config.quantizer, config.speaker, config.spectral
    sizes = [*encoder.strides, *encoder.channels, *encoder.dilations, encoder.latent_channels, encoder.kernel]
    sizes += [quantizer.quantizers, quantizer.code_dim, quantizer.paths, speaker.channels, speaker.dims]
    sizes += [speaker.levels, config.hop]
    conditioning = config.conditioning
    sizes += [conditioning.channels, conditioning.layers, conditioning.mels, conditioning.kernel]
    kernels = [encoder.kernel, conditioning.kernel] + ([spectral.kernel] if spectral else [])
    spans = [(encoder.kernel - 1) * sum(encoder.dilations), (conditioning.kernel - 1) * conditioning.layers]
    for decoder in (config.wavenet, spectral):
        if decoder is not None:
            sizes += [
                decoder.channels,
                decoder.skip_channels,
                decoder.kernel,
                len(decoder.dilations),
                *decoder.dilations,
            ]
            spans += [(decoder.kernel - 1) * sum(decoder.dilations)]
    sizes += [config.wavenet.mixtures] if config.wavenet else []
    sizes += [spectral.fft_size] if spectral else []
    possible = {
        f"all sizes lie between 1 and {LARGEST:,}": min(sizes) >= 1 and max(sizes) <= LARGEST,
        f"no network hears more than {LARGEST:,} frames or samples at once": max(spans) <= LARGEST,
        "ten seconds are a frame at least": config.hop <= 10 * config.sample_rate,
        f"its sample rate lies between {RATES[0]:,} and {RATES[-1]:,} Hz": config.sample_rate in RATES,
        "the encoder has as many channels as strides": len(encoder.strides) == len(encoder.channels) > 0,
        "kernels are odd": all(kernel % 2 for kernel in kernels),
        "a codebook has 2 to 65536 codes": 2 <= quantizer.codebook_size <= 65536,
        "a predictive quantiser is normalised, and its codebook a moving average": not quantizer.predictive
        or (quantizer.normalize and quantizer.codebook == "ema"),
        "codes whose rate has a weight are predictive": quantizer.rate_weight == 0
        or (quantizer.rate_weight > 0 and quantizer.predictive),
        "codes whose rate has a weight restart": quantizer.rate_weight == 0 or quantizer.restart_below > 0,
        "a search along several paths is for one predictive quantiser": quantizer.paths == 1
        or (quantizer.predictive and quantizer.quantizers == 1),
        "a speaker table has 2 to a million rows": speaker.kind != "lookup" or 2 <= speaker.speakers <= 1_000_000,
        "a speaker reference has at least 2 levels": speaker.levels > 1,
        "files have room for the speaker, 255 bytes": speaker.kind != "reference"
        or speaker.dims * math.log2(max(2, speaker.levels)) <= 8 * 255,
        "files have room for the quantisers, 255": quantizer.quantizers <= 255,
        "a codebook's decay lies in [0, 1)": 0 <= quantizer.decay < 1,
        "shares of what restarts, drops out or jitters lie in [0, 1]": all(
            0 <= share <= 1
            for share in (quantizer.restart_below, quantizer.dropout, speaker.dropout, conditioning.jitter)
        ),
        "the FFT is an even number of samples and spans at least two hops": spectral is None
        or (spectral.fft_size >= 2 * config.hop and (spectral.fft_size - config.hop) % 2 == 0),
        "the hop and the FFT have most of their factors in common": spectral is None
        or math.lcm(config.hop, spectral.fft_size) * spectral.fft_size <= LARGEST_TABLE * config.hop,
        "the hop is a multiple of the WaveNet's bands": config.wavenet is None
        or config.hop % config.wavenet.bands == 0,
        "a WaveNet's kernel has at least 2 taps": config.wavenet is None or config.wavenet.kernel > 1,
        "there is a decoder, and the default one": getattr(config, config.decoder) is not None,
    }
    for condition, holds in possible.items():
        if not holds:
            raise ModelError(f"The configuration of the codec '{config.name}' must see to it that {condition}.")


def check_prior(config: PriorConfig, alphabet: Alphabet) -> None:
    """See that a network can be built of a configuration, for the codes of an alphabet.

    Raises:
        ModelError: with the first thing that is impossible.
    """
    possible = {
        "there are layers, of dilations of at least 1": len(config.dilations) > 0 and min(config.dilations) > 0,
        "its receptive field is below 65,536 frames": config.receptive_field < 1 << 16,
        "the kernel has at least 2 taps": config.kernel > 1,
        "channels are multiples of 16": min(config.channels, config.skip_channels) > 0
        and config.channels % 16 == config.skip_channels % 16 == 0,
        "the speaker has channels": config.speaker_channels > 0,
        "there is a codebook of 2 to 65536 codes": alphabet.quantizers > 0 and 2 <= alphabet.codebook_size <= 65536,
        "a speaker's indices have values": min(alphabet.speaker, default=1) > 0,
        "there is a rate": 1 <= alphabet.sample_rate < RATES.stop and 1 <= alphabet.hop <= LARGEST,
        f"no sum has more than {MOST_TERMS:,} terms": max(
            config.kernel * config.channels, config.skip_channels, config.speaker_channels
        )
        <= MOST_TERMS,
    }
    for condition, holds in possible.items():
        if not holds:
            raise ModelError(f"The configuration of the prior must see to it that {condition}.")


def from_dict(kind: type[Config], values: Any) -> Config:
    """Rebuild the dataclass `kind` from what `dataclasses.asdict` gave, or JSON made of that.

    Raises:
        ModelError: for an unknown key or a value of another type.
    """
    if not isinstance(values, dict):
        raise ModelError(f"The configuration of {kind.__name__} is not a table of keys and values.")
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ModelError(f"The configuration of {kind.__name__} has an unknown key '{unknown[0]}'.")
    try:
        return kind(**{name: convert(hints[name], value, name) for name, value in values.items()})
    except TypeError as error:
        raise ModelError(f"The configuration of {kind.__name__} cannot be used: {error}.") from error


def convert(hint: Any, value: Any, name: str) -> Any:
    """Give `value`, read from JSON, the type that `hint` asks for.

    Raises:
        ModelError: where it has another type.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            if type(None) in arguments:
                return None
        else:
            return convert(next(a for a in arguments if a is not type(None)), value, name)
    elif dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value)
    elif origin is typing.Literal:
        if any(type(value) is type(known) and value == known for known in arguments):
            return value
    elif origin is tuple and isinstance(value, list | tuple):
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(convert(arguments[0], item, name) for item in value)
        if len(arguments) == len(value):
            return tuple(convert(kind, item, name) for kind, item in zip(arguments, value, strict=True))
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # of whole numbers alone
            return float(value)
    elif isinstance(hint, type) and type(value) is hint and (not isinstance(value, int) or value.bit_length() < 64):
        return value
    raise ModelError(f"The value {value!r} does not fit '{name}'.")
