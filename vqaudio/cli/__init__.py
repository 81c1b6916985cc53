"""The command `vqaudio`. Each verb is one file over the Python API, which it imports only when it runs."""

from __future__ import annotations

import io
import signal
import sys
from typing import Any

import click

from vqaudio import __version__
from vqaudio.cli.benchmark import benchmark
from vqaudio.cli.convert import convert
from vqaudio.cli.decode import decode
from vqaudio.cli.demo import demo
from vqaudio.cli.encode import encode
from vqaudio.cli.evaluate import evaluate
from vqaudio.cli.evaluate_prior import evaluate_prior
from vqaudio.cli.info import info
from vqaudio.cli.probe import probe
from vqaudio.cli.progress import note
from vqaudio.cli.report import report
from vqaudio.cli.sample import sample
from vqaudio.cli.train import train, train_prior
from vqaudio.errors import VqaudioError
from vqaudio.files import reason
from vqaudio.processes import ends, handling

INTERRUPTED = 130  # what shells expect of a command that Ctrl-C ended; for other signals too it is 128 and their number


class Verbs(click.Group):
    """A group that shows an error of vqaudio as one sentence and exits with its code."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the command line; what the system refuses, help on a full disk too, is one sentence as well."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
        try:
            return super().main(*arguments, **options)
        except OSError as error:
            place = "" if error.filename is None else f" '{error.filename}'"
            note(f"Error: Reading or writing{place} failed: {reason(error)}.")
            sys.exit(VqaudioError.exit_code)

    def invoke(self, context: click.Context) -> object:
        """Run the chosen verb."""
        try:
            with handling(_end, *ends()):
                return super().invoke(context)
        except VqaudioError as error:
            note(f"Error: {error}")
            context.exit(error.exit_code)
        except KeyboardInterrupt:
            note("Interrupted.")
            context.exit(INTERRUPTED)
        except Exception as error:
            # that of a GPU is torch's own, which need not be loaded here
            if not isinstance(error, MemoryError) and type(error).__name__ != "OutOfMemoryError":
                raise
            note("Error: There is not enough memory for this.")
            context.exit(VqaudioError.exit_code)


def _end(number: int, _: object) -> None:
    """End at a signal as at an error, so that nothing half-written stays behind."""
    for also in ends():
        signal.signal(also, signal.SIG_IGN)
    sys.exit(128 + number)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vqaudio")
def main() -> None:
    """A neural speech codec: one or two hundred bytes per second of speech, and back."""


for verb in (
    encode,
    decode,
    convert,
    info,
    sample,
    demo,
    train,
    train_prior,
    report,
    evaluate,
    evaluate_prior,
    benchmark,
    probe,
):
    main.add_command(verb)
