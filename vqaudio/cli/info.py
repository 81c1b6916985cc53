"""`vqaudio info`: what a `.codes` file or the file of a codec or a prior holds."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vqaudio.cli.tables import printable
from vqaudio.errors import FormatError

if TYPE_CHECKING:
    from vqaudio import Codec


@click.command()
@click.argument("file", required=False, metavar="[FILE|NAME]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(file: str | None, as_json: bool) -> None:
    """Describe codes, a model or a prior.

    FILE holds codes, or a model or a prior (.safetensors); NAME is that of a model that comes with vqaudio: speech16k,
    the default, or speech16k-low.
    """
    from vqaudio.shipped import model_file
    from vqaudio.weights import is_prior

    file = str(model_file(file))
    if Path(file).suffix.lower() != ".safetensors":
        facts = _of_codes(file)
    else:
        facts = _of_prior(file) if is_prior(file) else _of_model(file)
    click.echo(json.dumps(facts, indent=2) if as_json else printable(_text(facts)))


def _of_codes(file: str) -> dict[str, Any]:
    from vqaudio.blocks import BlockReader
    from vqaudio.container import LONGEST
    from vqaudio.reader import opened
    from vqaudio.shipped import name_of

    with opened(file) as stream:
        blocks = BlockReader(stream, f"'{file}'")
        header = blocks.header
        # What is under a prior is not decoded: its prior need not be at hand.
        frames = [count for count, _ in blocks.between(0, 0 if header.prior else LONGEST)]
    seconds, size = blocks.samples / header.sample_rate, blocks.size
    codes, payload = sum(frames) * header.quantizers, blocks.payload_bytes
    if not frames:
        raise FormatError(f"'{file}' holds no codes.")
    return {
        "kind": "codes",
        "seconds": seconds,
        "bytes": size,
        "bits_per_second": 8 * size / seconds,
        "coder": "prior" if header.prior else "fixed",
        "bits_per_code": 8 * payload / codes,
        "fixed_width_bits_per_code": header.bits_per_code,
        "fixed_width_bytes": header.under(None).file_size(frames, blocks.samples),
        "overhead_bytes": size - payload,
        "sample_rate": header.sample_rate,
        "samples": blocks.samples,
        "hop": header.hop,
        "frames": sum(frames),
        "quantizers": header.quantizers,
        "codebook_size": header.codebook_size,
        "speaker_bytes": len(header.speaker),
        "model": header.model.hex(),
        "shipped_model": name_of(header.model),
        **({"prior": header.prior.hex(), "shipped_prior": _shipped_prior(header.prior)} if header.prior else {}),
    }


def _of_model(file: str) -> dict[str, Any]:
    import vqaudio
    from vqaudio.runtime.reach import latency, receptive_field
    from vqaudio.shipped import name_of

    codec = vqaudio.load(file)
    config = codec.config
    all_quantizers = config.quantizer.quantizers
    reaches = {part: receptive_field(config, part) for part in ("encoder", *codec.decoders)}
    return {
        "kind": "model",
        "name": config.name,
        "fingerprint": codec.fingerprint.hex(),
        "shipped_model": name_of(codec.fingerprint),
        "bytes": Path(file).stat().st_size,
        "sample_rate": config.sample_rate,
        "hop": config.hop,
        "quantizers": all_quantizers,
        "codebook_size": config.quantizer.codebook_size,
        "predictive": config.quantizer.predictive,
        "bits_per_second": [config.bit_rate * n / all_quantizers for n in range(1, all_quantizers + 1)],
        "speaker": config.speaker.kind,
        "weights": _weights(codec),
        "decoders": list(codec.decoders),
        "receptive_field_ms": _milliseconds(codec, reaches),
        "latency_ms": {name: _milliseconds(codec, _summed(latency(config, name))) for name in codec.decoders},
        "card": codec.card,
    }


def _of_prior(file: str) -> dict[str, Any]:
    from vqaudio import Prior
    from vqaudio.runtime.integers import PREFIX

    prior = Prior.load(file)
    alphabet, frames = prior.alphabet, prior.config.receptive_field
    return {
        "kind": "prior",
        "fingerprint": prior.fingerprint.hex(),
        "shipped_prior": _shipped_prior(prior.fingerprint),
        "codec": alphabet.codec,
        "codec_fingerprint": alphabet.fingerprint,
        "bytes": Path(file).stat().st_size,
        "sample_rate": alphabet.sample_rate,
        "hop": alphabet.hop,
        "quantizers": alphabet.quantizers,
        "codebook_size": alphabet.codebook_size,
        "architecture": dataclasses.asdict(prior.config),
        "weights": sum(array.size for name, array in prior.state.items() if not name.startswith(PREFIX)),
        "receptive_field_frames": frames,
        "receptive_field_seconds": frames * alphabet.hop / alphabet.sample_rate,
        "card": prior.card,
    }


def _weights(codec: Codec) -> dict[str, int]:
    """Numbers that the file holds for each part."""
    sizes: dict[str, int] = {}
    for name, weights in codec.state.items():
        part = name.split(".")[0]
        sizes[part] = sizes.get(part, 0) + weights.size
    return sizes


def _milliseconds(codec: Codec, samples: dict[str, int]) -> dict[str, float]:
    return {name: 1000 * count / codec.config.sample_rate for name, count in samples.items()}


def _summed(parts: dict[str, int]) -> dict[str, int]:
    return {**parts, "all": sum(parts.values())}


def _shipped_prior(fingerprint: bytes) -> str | None:
    """The name of the model whose prior has this fingerprint, where that comes with vqaudio."""
    from vqaudio.prior import all_shipped

    return next((name for name, prior in all_shipped() if prior.fingerprint == fingerprint), None)


def _text(facts: dict[str, Any]) -> str:
    """One line for each fact; the card follows as it is."""
    width = max(map(len, facts)) + 2
    lines = [f"{name.replace('_', ' '):{width}}{_shown(value)}" for name, value in facts.items() if name != "card"]
    return "\n".join([*lines, *(["", facts["card"].rstrip()] if facts.get("card") else [])])


def _shown(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:,.2f}"
        case int():
            return f"{value:,}"
        case list() | tuple():
            return ", ".join(map(_shown, value))
        case dict():
            return ", ".join(f"{name} {_shown(part)}" for name, part in value.items())
    return str(value)
