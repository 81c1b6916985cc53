"""`vqaudio benchmark`: how fast a codec is on this machine, beside PyTorch and beside other codecs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqaudio.cli import options, training_speed
from vqaudio.cli.progress import note, progress
from vqaudio.cli.tables import figure, table
from vqaudio.errors import UsageError

if TYPE_CHECKING:
    from vqaudio.evaluation.benchmark import Measurement

PARTS = {"to bytes": "prior, to bytes", "from bytes": "prior, from bytes"}
WAVENET_PARTS = {"wavenet": "WaveNet, pieces", "sequential": "WaveNet, one pass"}
WORDS, FIGURES = ("codec", "part"), ("threads", "files", "speed", "GFLOP/s", "MB", "ratio")


@click.command()
@options.model
@options.device
@click.option("--seconds", type=options.Range(0.1, 3600), default=10.0, show_default=True, help="Of each file.")
@click.option("--threads", metavar="N,...", help="Of the CPU; by default 1 and as many as there are cores.")
@click.option("--streams", metavar="N,...", default="1,8", show_default=True, help="Files at once.")
@click.option(
    "--repeat", type=click.IntRange(min=1), default=3, show_default=True, help="Runs, of which the best counts."
)
@click.option(
    "--long", "minutes", type=options.Range(0.1), help="Also take a file of so many minutes to codes and back."
)
@click.option(
    "--against",
    metavar="NAME,...",
    default="",
    help="Other codecs: encodec, mimi, snac, dac.",
)
@click.option(
    "--train",
    "recipe",
    metavar="[RECIPE]",
    is_flag=False,
    flag_value=training_speed.RECIPE,
    help=f"Measure how fast a recipe trains instead, by default {training_speed.RECIPE}.",
)
@click.option(
    "--batch", type=click.IntRange(min=1), help="With --train: crops in a micro-batch, instead of the recipe's."
)
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="With --train: override the recipe.")
@options.record
@options.force
@click.pass_context
def benchmark(
    context: click.Context,
    model: str | None,
    device: str,
    seconds: float,
    threads: str | None,
    streams: str,
    repeat: int,
    minutes: float | None,
    against: str,
    recipe: str | None,
    batch: int | None,
    settings: tuple[str, ...],
    target: Path | None,
    force: bool,
) -> None:
    """Measure the speed of a codec.

    Speech that comes with vqaudio, spoken by espeak-ng, is encoded and decoded, by the compiled networks, by the same
    networks in eager PyTorch, and by other codecs, one after the other, on the CPU. Speeds are those of the best run.
    With a GPU as the --device vqaudio is measured there, the WaveNet with all files in one pass: --device cuda
    --streams 1,16,128,1024

    With --train it is the steps of training, stage by stage, and the share of what the machine can multiply.
    """
    training_speed.check_options(context)
    if recipe is not None:
        training_speed.report(recipe, settings, batch, device, repeat, target, force)
        return
    from rich.console import Console

    import vqaudio
    from vqaudio.codec import check_device
    from vqaudio.evaluation import benchmark as harness
    from vqaudio.evaluation import peers, records
    from vqaudio.evaluation.versions import versions
    from vqaudio.prior import for_codec
    from vqaudio.runtime.schedule import available_threads

    options.check_results(force, target)
    counts = _numbers(threads) if threads is not None else sorted({1, available_threads()})
    files = _numbers(streams)
    wanted = {name.strip() for name in against.split(",")} - {""}
    if device != "cpu" and (wanted or minutes is not None or threads is not None):
        raise UsageError(
            "Other codecs, long files and numbers of threads are measured on the CPU alone; leave out --device."
        )
    check_device(device)
    chosen, notes = peers.usable(peers.select(wanted))
    codec = vqaudio.load(model)
    for sentence in notes:
        note(sentence)
    complete, wavenet, footnotes = codec, WAVENET_PARTS, list[str]()
    if "wavenet" not in codec.decoders:
        complete = harness.with_wavenet(codec)
        wavenet = {part: f"*{title}" for part, title in WAVENET_PARTS.items()}
        footnotes = [
            f"*: random weights, for the model has no WaveNet; the shape is that of the recipe {harness.SHAPE}."
        ]
    measured: list[Measurement] = []
    with progress("benchmark", None):
        if minutes is not None:
            measured += harness.measure_long(codec, minutes=minutes)
        measured.append(harness.measure_start(model=model, repeat=repeat))
        if device == "cpu":
            measured += harness.measure(complete, seconds=seconds, threads=counts, streams=files, repeat=repeat)
            if prior := for_codec(codec):
                measured += harness.measure_prior(codec, prior, seconds=seconds, repeat=repeat)
            measured += harness.measure_eager(complete, seconds=seconds, threads=counts, repeat=repeat)
        else:
            measured += harness.measure_device(complete, device, seconds=seconds, streams=files, repeat=repeat)
        for peer in chosen:
            measured += harness.measure_peer(peer, seconds=seconds, threads=counts, repeat=repeat)
    ratios = [harness.ratios(m, measured) for m in measured]
    machine, packages = harness.machine(), versions(peer.package for peer in chosen)
    titles = {harness.OURS: "vqaudio", harness.EAGER: "PyTorch"} | {peer.name: peer.title for peer in chosen}
    console = Console(markup=False)
    title = f"{codec.config.name}, {seconds:g} s in each file"
    rows = [_row(titles | PARTS | wavenet, *pair) for pair in zip(measured, ratios, strict=True)]
    console.print(table(title, WORDS, FIGURES, rows))
    console.print(
        f"speed: times real time, all files together, best of {repeat}; MB: "
        + ("by which memory rose" if device == "cpu" else "allocated at most")
        + "; ratio: how many times faster vqaudio was, with one file; beside a decoder the spectral one, then the "
        "WaveNet in pieces. PyTorch runs the same networks in float32, but for the search for codes, the WaveNet as a "
        "loop, "
        f"{harness.LOOP_SECONDS} s of it.",
        *footnotes,
        *(f"{peer.title}: {peer.setting}, random weights." for peer in chosen),
        ", ".join(f"{key} {value}" for key, value in {**machine, **packages}.items()),
        sep="\n",
        highlight=False,
        markup=False,
    )
    if target is not None:
        record = {
            "model": {**records.model(codec, model), "decoders": codec.decoders},
            "settings": {"device": device, "seconds": seconds, "streams": files, "repeat": repeat}
            | ({"threads": counts} if device == "cpu" else {}),
            "against": {peer.name: peer.setting for peer in chosen},
            "machine": machine,
            "versions": packages,
            "notes": [*notes, *footnotes],
            "measurements": [{**m.to_dict(), "ratios": r} for m, r in zip(measured, ratios, strict=True)],
        }
        records.write(target, record, force)


def _numbers(text: str) -> list[int]:
    """The numbers of a list such as 1,8."""
    words = text.split(",")
    if not all(word.strip().isdecimal() and int(word) for word in words):
        raise UsageError(f"'{text}' is not a list of whole numbers above zero, such as 1,8.")
    return [int(word) for word in words]


def _row(titles: dict[str, str], measured: Measurement, faster: dict[str, float]) -> list[str]:
    memory = None if measured.memory is None else measured.memory / 1e6
    words = [titles[measured.codec], titles.get(measured.part, measured.part)]
    figures = [*map(figure, (measured.speed, measured.gflops, memory)), "/".join(map(figure, faster.values()))]
    return [*words, str(measured.threads), str(measured.streams), *figures]
