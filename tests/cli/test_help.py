"""The command before any verb runs: what it imports, what it says."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

import vqaudio
from vqaudio.cli import main

HEAVY = ("torch", "numba", "numpy", "soundfile", "rich", "torchaudio", "librosa", "matplotlib", "tensorboard")


def imported(statement: str) -> set[str]:
    """The heavy packages that a fresh Python has imported after a statement."""
    script = f"import sys\n{statement}\nprint(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_import_and_help_are_light() -> None:
    assert imported("import vqaudio") == set()
    assert imported("from vqaudio.cli import main; main(['--help'], standalone_mode=False)") == set()


def test_coding_on_the_cpu_imports_neither_torch_nor_what_only_training_and_evaluation_need() -> None:
    coding = (
        "codec, prior = vqaudio.load(), vqaudio.Prior.load(); codes = codec.encode(numpy.zeros(999, 'f'), 16000); "
        "codec.decode(vqaudio.Codes.from_bytes(codes.to_bytes(prior)))"
    )
    heavy = imported(f"import numpy, vqaudio; {coding}")
    assert "numba" in heavy
    assert heavy.isdisjoint({"torch", "torchaudio", "librosa", "matplotlib", "tensorboard"})


def test_every_verb_has_help() -> None:
    for name, verb in main.commands.items():
        result = CliRunner().invoke(main, [name, "--help"])
        assert result.exit_code == 0
        assert verb.help and " ".join(verb.help.split()) in " ".join(result.output.split())


@pytest.mark.parametrize("words", [["--help"], ["probe", "--help"]])
def test_what_each_verb_does_fits_its_line(words: list[str]) -> None:
    output = CliRunner(env={"COLUMNS": "80"}).invoke(main, words).output
    commands = output[output.index("Commands:") :].splitlines()[1:]
    assert len(commands) > 5 and all(line.endswith(".") and not line.endswith("...") for line in commands)


def test_version() -> None:
    assert vqaudio.__version__ in CliRunner().invoke(main, ["--version"]).output


def test_public_names() -> None:
    assert {"Codec", "Codes", "load", "errors"} <= set(dir(vqaudio))
    assert vqaudio.load.__module__ == vqaudio.Codec.__module__ == "vqaudio.codec"
    with pytest.raises(AttributeError, match="nothing"):
        vqaudio.nothing  # noqa: B018


@pytest.mark.parametrize(
    "words", [["sing"], ["encode"], ["encode", "a", "b", "--loud"], ["encode", "a", "b", "--jobs=0"]]
)
def test_wrong_usage_exits_with_2(words: list[str]) -> None:
    assert CliRunner().invoke(main, words).exit_code == 2
