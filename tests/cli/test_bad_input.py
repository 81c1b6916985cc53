"""Bad input to the command line: one sentence, the right exit code, nothing half-written."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from click.testing import Result
from safetensors.numpy import save_file

import vqaudio
from vqaudio import Codes
from vqaudio.blocks import BlockReader
from vqaudio.container import MAGIC, VERSION

RATE = 16000
Start = Callable[..., subprocess.Popen[bytes]]


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def refused(run, tmp_path: Path):
    """Run a command that has to fail: with this code, one sentence that holds these words, and every file as it was."""

    def check(code: int, words: str, *arguments: object, stdin: bytes | None = None) -> None:
        before = everything(tmp_path)
        result: Result = run(*arguments, stdin=stdin)
        assert result.exit_code == code, result.output
        assert result.stdout == ""
        assert result.stderr.startswith("Error: ")
        assert result.stderr.endswith(".\n")
        assert result.stderr.count("\n") == 1
        assert words in result.stderr
        assert everything(tmp_path) == before

    return check


def write(path: Path, samples: np.ndarray, subtype: str = "FLOAT") -> Path:
    soundfile.write(path, samples, RATE, subtype)
    return path


# Audio that cannot be coded


@pytest.mark.parametrize("content", [b"", b"R", b"RIFF", b"These are words, not audio. " * 99, bytes(4096)])
def test_not_audio(refused, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.wav").write_bytes(content)
    refused(1, "bad.wav", "encode", "bad.wav", "out.codes")
    refused(1, "audio", "encode", "-", "out.codes", stdin=content)


def test_audio_without_samples(refused, tmp_path: Path) -> None:
    write(tmp_path / "bad.wav", np.zeros(0))
    refused(1, "bad.wav", "encode", "bad.wav", "out.codes")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite(refused, tmp_path: Path, tone: np.ndarray, value: float) -> None:
    tone[4000] = value
    write(tmp_path / "bad.wav", tone)
    refused(1, "bad.wav", "encode", "bad.wav", "out.codes")


def test_input_that_is_missing(refused) -> None:
    refused(1, "missing.wav", "encode", "missing.wav", "out.codes")
    refused(1, "missing.codes", "decode", "missing.codes", "out.wav")
    refused(1, "missing.codes", "info", "missing.codes")


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs a file that is there but cannot be read")
def test_input_that_cannot_be_read(refused) -> None:
    refused(1, "/proc/self/mem", "encode", "/proc/self/mem", "out.codes")
    refused(1, "/proc/self/mem", "decode", "/proc/self/mem", "out.wav")


# Audio that is odd and goes through all the same


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(1),
        np.full(1, 0.5),
        np.zeros(RATE),
        np.sign(np.random.default_rng(0).standard_normal(RATE)),
        100 * np.random.default_rng(0).standard_normal(RATE),
        np.random.default_rng(0).uniform(-1e38, 1e38, RATE),
    ],
    ids=["one zero", "one sample", "silence", "clipped noise", "beyond full scale", "beyond all scales"],
)
def test_odd_audio_comes_back_with_its_length(run, tmp_path: Path, samples: np.ndarray) -> None:
    write(tmp_path / "odd.wav", samples)
    assert run("encode", "odd.wav", "odd.codes").exit_code == 0
    assert run("decode", "odd.codes", "back.wav").exit_code == 0
    back, _ = soundfile.read(tmp_path / "back.wav")
    assert len(back) == len(samples)
    assert np.isfinite(back).all()


def test_silence_stays_near_silence_with_the_shipped_model(run, tmp_path: Path) -> None:
    write(tmp_path / "silence.wav", np.zeros(RATE))
    for verb, source, target in (("encode", "silence.wav", "s.codes"), ("decode", "s.codes", "back.wav")):
        result = run(verb, source, target, "--model", "speech16k")
        assert result.exit_code == 0, result.stderr
    back, _ = soundfile.read(tmp_path / "back.wav")
    assert np.sqrt(np.mean(back**2)) < 10 ** (-50 / 20)


# Output


def test_output_that_exists(refused, run, wav: Path, codes_file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.wav").write_bytes(b"mine")
    refused(2, "--force", "encode", wav, codes_file)
    refused(2, "--force", "decode", codes_file, "mine.wav")
    refused(2, ".codes", "encode", wav, "out.mp3")
    refused(2, "directory", "encode", "-", tmp_path, stdin=wav.read_bytes())


def test_source_that_is_the_target(refused, wav: Path, codes_file: Path, tmp_path: Path) -> None:
    (tmp_path / "link.codes").symlink_to(codes_file)
    refused(2, "at once", "decode", codes_file, codes_file, "--force")
    refused(2, "at once", "decode", codes_file, f"{tmp_path}/./in.codes", "--force")
    refused(2, "at once", "decode", codes_file, "link.codes", "--force")
    (tmp_path / "speech").write_bytes(wav.read_bytes())
    refused(2, "at once", "encode", "speech", "speech", "--force")


def test_output_without_a_directory(refused, wav: Path) -> None:
    refused(2, "nowhere", "encode", wav, "nowhere/out.codes")


def test_output_of_an_unknown_format(refused, codes_file: Path) -> None:
    refused(2, "out.xyz", "decode", codes_file, "out.xyz")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a directory that nobody can write to")
def test_output_that_cannot_be_written(refused, wav: Path, codes_file: Path) -> None:
    refused(1, "/proc/out.codes", "encode", wav, "/proc/out.codes")
    refused(1, "/proc/out.wav", "decode", codes_file, "/proc/out.wav")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_is_full(refused, wav: Path, start: Start, tiny_codec: Path) -> None:
    refused(1, "no space", "encode", wav, "/dev/full")
    with open("/dev/full", "wb") as full:
        process = start("encode", wav, "-", "--model", tiny_codec, stdout=full)
    _, said = process.communicate()
    assert process.returncode == 1
    assert said == b"Error: Standard output cannot be written: no space left on device.\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("words", [("--help",), ("info", "in.codes")])
@pytest.mark.usefixtures("codes_file")
def test_words_that_find_the_disk_full(start: Start, words: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        process = start(*words, stdout=full)
    _, said = process.communicate()
    assert process.returncode == 1
    assert said == b"Error: Reading or writing failed: no space left on device.\n"


def test_names_in_errors_of_the_system_do_not_steer_the_terminal(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error", "\x1b[31m.codes")

    monkeypatch.setattr("vqaudio.shipped.model_file", fail)
    result = run("info", "in.codes")
    assert result.exit_code == 1
    assert result.stderr == "Error: Reading or writing '\\x1b[31m.codes' failed: input/output error.\n"


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a directory that nobody can write to")
@pytest.mark.usefixtures("tiny_default")
@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])
def test_memory_that_does_not_suffice(
    refused, wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("vqaudio.codec.Codec.encode", full)
    refused(1, "not enough memory", "encode", wav, tmp_path / "out.codes")


def test_a_demo_where_nothing_can_be_written(refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/proc")
    refused(1, "'vqaudio-demo' cannot be made", "demo")


def test_a_reader_that_has_had_enough(start: Start, wav: Path, tiny_codec: Path) -> None:
    process = start("encode", wav, "-", "--model", tiny_codec)
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.wait() != 0
    assert b"Traceback" not in process.stderr.read()


# Codes


def test_codes_cut_off_at_every_byte(refused, codes_file: Path, tmp_path: Path) -> None:
    data = codes_file.read_bytes()
    for length in range(len(data)):
        refused(1, "The input", "decode", "-", "out.wav", stdin=data[:length])
    (tmp_path / "cut.codes").write_bytes(data[:-1])
    refused(1, "cut.codes", "decode", "cut.codes", "out.wav")
    refused(1, "cut.codes", "info", "cut.codes")


def test_codes_with_any_byte_changed(refused, codes_file: Path) -> None:
    data = codes_file.read_bytes()
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        refused(1, "", "decode", "-", "out.wav", stdin=bytes(changed))


def test_codes_with_more_behind_them(refused, codes_file: Path) -> None:
    refused(1, "The input", "decode", "-", "out.wav", stdin=codes_file.read_bytes() + b"\0")


def test_codes_of_a_future_version(refused, codes_file: Path, tmp_path: Path) -> None:
    data = bytearray(codes_file.read_bytes())
    data[len(MAGIC)] = VERSION + 1
    (tmp_path / "future.codes").write_bytes(data)
    refused(1, f"version {VERSION + 1}", "decode", "future.codes", "out.wav")
    refused(1, f"version {VERSION + 1}", "info", "future.codes")


@pytest.mark.parametrize(
    ("stated", "words"),
    [({"samples": 2**63 - 1}, "truncated"), ({"samples": 2**63 - 1, "sample_rate": 2**63 - 1}, "rate")],
)
def test_codes_of_absurd_length(refused, codes_file: Path, tmp_path: Path, stated: dict[str, Any], words: str) -> None:
    data = codes_file.read_bytes()
    with codes_file.open("rb") as file:
        header = BlockReader(file, "in.codes").header
    claim = dataclasses.replace(header, **stated).to_bytes() + data[len(header.to_bytes()) :]
    (tmp_path / "long.codes").write_bytes(claim)
    refused(1, words, "decode", "-", "out.wav", stdin=claim)
    refused(1, words, "decode", "long.codes", "out.wav")
    refused(1, "truncated", "info", "long.codes")


def test_codes_of_another_model(refused, codes_file: Path, tmp_path: Path) -> None:
    codes = Codes.load(codes_file)
    fields = (codes.codebook_size, codes.hop, codes.sample_rate, codes.samples)
    Codes(codes.numpy(), *fields, b"else", codes.speaker).save(tmp_path / "other.codes")
    refused(1, b"else".hex(), "decode", "other.codes", "out.wav")
    Codes(codes.numpy(), *fields, codes.model, b"not a speaker").save(tmp_path / "speaker.codes")
    refused(1, "speaker", "decode", "speaker.codes", "out.wav")


# Models and devices


def test_a_model_that_is_no_model(refused, wav: Path, tiny_codec: Path, tmp_path: Path) -> None:
    data = tiny_codec.read_bytes()
    contents = {"empty": b"", "text": b"not a model " * 99, "header": data[:100], "cut": data[: len(data) // 2]}
    for name, content in contents.items():
        (tmp_path / f"{name}.safetensors").write_bytes(content)
    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "others.safetensors")
    for name in (*contents, "others", "missing"):
        refused(1, f"{name}.safetensors", "encode", wav, "out.codes", "--model", f"{name}.safetensors")
        refused(1, f"{name}.safetensors", "info", f"{name}.safetensors")


def test_a_device_that_is_not_there(refused, wav: Path) -> None:
    refused(2, "abacus", "encode", wav, "out.codes", "--device", "abacus")
    refused(2, "cuda:99", "encode", wav, "out.codes", "--device", "cuda:99")


@pytest.mark.parametrize("rate", [0, 500, 1 << 31])
def test_raw_samples_of_no_rate(refused, wav: Path, rate: int) -> None:
    refused(2, "rate", "encode", wav, "out.codes", "--raw", rate)


@pytest.mark.usefixtures("codes_file")  # so that nothing has to be compiled, which is said
def test_standard_streams_that_are_closed(start: Start, wav: Path, tiny_codec: Path, tmp_path: Path) -> None:
    """As a process that a daemon starts may find them."""

    def shell(words: str) -> tuple[int, str]:
        command = f"{sys.executable} -m vqaudio {words} --model {tiny_codec}"
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
        return done.returncode, done.stderr

    assert shell(f"encode {wav} out.codes >&-") == (0, "")
    assert Codes.load(tmp_path / "out.codes").samples == 8000
    assert shell(f"encode {wav} quiet.codes 2>&-") == (0, "")
    assert Codes.load(tmp_path / "quiet.codes").samples == 8000
    assert shell(f"encode {wav} - >&-") == (2, "Error: Standard output is closed.\n")
    assert shell("decode - out.wav <&-") == (2, "Error: Standard input is closed.\n")
    assert shell("decode - out.wav 0>other") == (1, "Error: The input cannot be read: bad file descriptor.\n")


@pytest.mark.parametrize("hop", [1, 128])
def test_nothing_is_decoded_of_codes_that_do_not_fit(
    refused, codes_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hop: int
) -> None:
    codes = Codes.load(codes_file)
    fields = (codes.codebook_size, hop, codes.sample_rate, hop * codes.frames, codes.model)
    Codes(codes.numpy(), *fields).save(tmp_path / "other.codes")
    monkeypatch.setattr(Codes, "load", lambda *_, **__: pytest.fail("decoded"))
    refused(1, "another codebook, hop", "decode", "other.codes", "out.wav")


# Ctrl-C and SIGTERM


def test_interrupted_while_it_reads(start: Start, tiny_codec: Path, tmp_path: Path) -> None:
    process = start("encode", "-", "out.codes", "--model", tiny_codec)
    assert process.stdin
    process.stdin.write(bytes(1 << 20))  # more than a pipe holds, so that by its end the command is reading
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert said == b"Interrupted.\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_interrupted_while_it_decodes(
    start: Start, tiny_codec: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    codes = vqaudio.load(tiny_codec).encode(np.zeros(25 * 16000, np.float32), 16000)
    process = start("decode", "-", "out.wav", "--model", tiny_codec)
    assert process.stdin
    process.stdin.write(codes.to_bytes()[:-10])  # two blocks and most of the third, on whose end it waits
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 16000 for path in tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [path.name for path in tmp_path.iterdir()] != ["out.wav"]  # it is written under another name
    process.send_signal(number)
    process.communicate()
    assert process.returncode == code
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("jobs", "number", "code", "words"),
    [
        (1, signal.SIGINT, 130, b"Interrupted.\n"),
        (2, signal.SIGINT, 130, b"Interrupted.\n"),
        (2, signal.SIGTERM, 143, b""),
        (2, signal.SIGHUP, 129, b""),
    ],
)
def test_interrupted_within_a_tree(
    start: Start, tiny_codec: Path, tmp_path: Path, jobs: int, number: signal.Signals, code: int, words: bytes
) -> None:
    source, target = tmp_path / "speech", tmp_path / "codes"
    source.mkdir()
    vqaudio.load(tiny_codec).encode(np.zeros(RATE, np.float32), RATE)  # so that nothing has to be compiled
    write(source / "0.wav", 0.1 * np.random.default_rng(0).standard_normal(60 * RATE), "PCM_16")
    for copy in range(1, 400):
        os.link(source / "0.wav", source / f"{copy}.wav")
    process = start("encode", source, target, "--model", tiny_codec, "--jobs", jobs)
    while process.poll() is None and not list(target.glob("*.codes")):
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate()  # which waits for all who hold the pipes, the workers too
    assert process.returncode == code
    assert said == words
    done = list(target.iterdir())
    assert 0 < len(done) < 400
    assert all(path.suffix == ".codes" and Codes.load(path).seconds == 60 for path in done)
    shutil.rmtree(source)
