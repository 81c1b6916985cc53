"""convert: the codes of one recording in the voice of another, from sound or codes to sound or codes."""

from __future__ import annotations

import dataclasses
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

import vqaudio
from vqaudio import Codec, Codes, Prior
from vqaudio.models.config import SpeakerConfig
from vqaudio.models.vqvae import VQVAE

SOUND = re.compile(r"^voice ([0-9a-f]{4}), ([\d.]+) s, [\d.]+ times real time(?:, compiling included)?$", re.M)
CODED = re.compile(
    r"^voice ([0-9a-f]{4}), ([\d.]+) s, ([\d,]+) bytes, [\d.]+ kb/s, [\d.]+ times real time(?:, compiling included)?$",
    re.M,
)


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    """A recording of another voice, at a rate of its own."""
    path = tmp_path / "voice.wav"
    soundfile.write(path, np.random.default_rng(1).normal(0, 0.1, 2 * 22050), 22050)
    return path


@pytest.fixture
def codec(tiny_codec: Path) -> Codec:
    return vqaudio.load(tiny_codec)


def with_speaker(codec: Codec, kind: str, path: Path) -> Path:
    """The model file of the same codec with speakers of another kind."""
    speaker = SpeakerConfig(kind=kind, channels=8, speakers=3)  # type: ignore[arg-type]
    config = dataclasses.replace(codec.config, speaker=speaker)
    Codec(config, VQVAE(config).arrays()).save(path)
    return path


@pytest.fixture
def table(codec: Codec, tmp_path: Path) -> Path:
    return with_speaker(codec, "lookup", tmp_path / "table.safetensors")


def read(path: Path | str) -> np.ndarray:
    return soundfile.read(path, dtype="float32")[0]


def expected(codec: Codec, source: Path, reference: Path, **options: object) -> np.ndarray:
    """What the Python API makes of it."""
    heard, rate = soundfile.read(reference, dtype="float32")
    codes = codec.encode(read(source), 16000).with_speaker(codec.voice(heard, rate))
    return np.clip(np.asarray(codec.decode(codes, **options)), -1, 1)  # type: ignore[arg-type]


def test_it_does_what_the_api_does(run, wav: Path, voice: Path, codec: Codec) -> None:
    result = run("convert", wav, "out.wav", "--to", voice)
    assert result.exit_code == 0, result.output
    heard, rate = soundfile.read(voice, dtype="float32")
    found = SOUND.search(result.stdout)
    assert found and found[1] == codec.voice(heard, rate).hex() and found[2] == "0.50"
    np.testing.assert_allclose(read("out.wav"), expected(codec, wav, voice), atol=2**-15)
    run("encode", wav, "in.codes")
    run("decode", "in.codes", "plain.wav")
    assert not np.array_equal(read("plain.wav"), read("out.wav"))
    assert run("convert", wav, "quiet.flac", "--to", voice, "--quiet").output == ""
    np.testing.assert_array_equal(read("quiet.flac"), read("out.wav"))


def test_to_its_own_voice_is_plain_decoding(run, voice: Path) -> None:
    run("encode", voice, "in.codes")
    run("decode", "in.codes", "plain.wav")
    for name, source in (("sound.wav", voice), ("codes.wav", "in.codes")):
        for reference in (voice, "in.codes"):
            assert run("convert", source, name, "--to", reference, "--force").exit_code == 0
            assert Path(name).read_bytes() == Path("plain.wav").read_bytes()


def test_codes_in_and_codes_out(run, wav: Path, codes_file: Path, voice: Path, codec: Codec) -> None:
    assert run("convert", wav, "sound.wav", "--to", voice).exit_code == 0
    result = run("convert", codes_file, "out.codes", "--to", voice)
    found = CODED.search(result.stdout)
    assert found and int(found[3]) == Path("out.codes").stat().st_size
    before, after = Codes.load(codes_file), Codes.load("out.codes")
    np.testing.assert_array_equal(before.numpy(), after.numpy())
    assert before.speaker != after.speaker and before.with_speaker(after.speaker) == after
    for source, options in ((codes_file, ("--to", voice)), (codes_file, ("--to", "out.codes"))):
        assert run("convert", source, "again.wav", *options, "--force").exit_code == 0
        assert Path("again.wav").read_bytes() == Path("sound.wav").read_bytes()
    assert run("decode", "out.codes", "decoded.wav").exit_code == 0
    assert Path("decoded.wav").read_bytes() == Path("sound.wav").read_bytes()
    assert run("convert", wav, "direct.codes", "--to", voice).exit_code == 0
    assert Path("direct.codes").read_bytes() == Path("out.codes").read_bytes()
    assert run("convert", "out.codes", "out.codes", "--to", voice, "--force").exit_code == 2


def test_the_suffix_of_codes_may_be_in_capitals(run, wav: Path, codes_file: Path, voice: Path) -> None:
    assert run("convert", wav, "sound.wav", "--to", voice).exit_code == 0
    shutil.copy(codes_file, "IN.CODES")
    assert run("convert", "IN.CODES", "OUT.CODES", "--to", voice).exit_code == 0
    assert run("convert", wav, "again.wav", "--to", "OUT.CODES").exit_code == 0
    assert Path("again.wav").read_bytes() == Path("sound.wav").read_bytes()
    assert Codes.load("OUT.CODES").with_speaker(b"") == Codes.load(codes_file).with_speaker(b"")


def test_a_file_under_a_prior_stays_under_it(run, wav: Path, voice: Path, tiny_prior: Path) -> None:
    prior = Prior.load(tiny_prior)
    run("encode", wav, "under.codes", "--prior", tiny_prior)
    assert run("convert", "under.codes", "out.codes", "--to", voice).exit_code == 1  # whose prior is not at hand
    assert run("convert", "under.codes", "out.codes", "--to", voice, "--prior", tiny_prior).exit_code == 0
    before, after = (Codes.load(name, coder=prior) for name in ("under.codes", "out.codes"))
    np.testing.assert_array_equal(before.numpy(), after.numpy())
    assert before.speaker != after.speaker
    assert Path("out.codes").read_bytes() == after.to_bytes(prior) != after.to_bytes()
    assert run("convert", wav, "direct.codes", "--to", voice, "--prior", tiny_prior).exit_code == 0
    assert Path("direct.codes").read_bytes() == Path("out.codes").read_bytes()
    run("encode", wav, "fixed.codes")
    assert run("convert", "fixed.codes", "still.codes", "--to", voice, "--prior", tiny_prior).exit_code == 0
    assert Path("still.codes").read_bytes() == after.to_bytes()


def test_a_stream_without_a_voice_gets_one(run, wav: Path, voice: Path) -> None:
    run("encode", wav, "live.codes", "--live")
    assert run("convert", wav, "sound.wav", "--to", voice).exit_code == 0
    assert run("convert", "live.codes", "live.wav", "--to", voice).exit_code == 0
    assert Path("live.wav").read_bytes() == Path("sound.wav").read_bytes()


def test_decoder_seed_and_temperature(run, wav: Path, voice: Path, codec: Codec, tone: np.ndarray) -> None:
    soundfile.write("short.wav", tone[:640], 16000)
    options = {"decoder": "wavenet", "seed": 3, "temperature": 0.5}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    assert run("convert", "short.wav", "out.wav", "--to", voice, *words).exit_code == 0
    np.testing.assert_allclose(read("out.wav"), expected(codec, Path("short.wav"), voice, **options), atol=2**-15)


def test_rows_of_a_table(run, wav: Path, table: Path, tmp_path: Path) -> None:
    model = ("--model", table)
    run("encode", wav, "0.codes", *model, "--row", 0)
    run("encode", wav, "2.codes", *model, "--row", 2)
    run("decode", "2.codes", "expected.wav", *model)
    for number, (source, to) in enumerate([(wav, "2"), ("0.codes", "2"), ("0.codes", "2.codes")]):
        assert run("convert", source, f"{number}.wav", "--to", to, *model).exit_code == 0
        assert Path(f"{number}.wav").read_bytes() == Path("expected.wav").read_bytes()
    shutil.copy(wav, tmp_path / "1")  # a file with the name of a row is not that row
    result = run("convert", wav, "row.codes", "--to", "1", *model)
    assert result.stdout.startswith("voice 01, ") and Codes.load("row.codes").speaker == b"\1"


def test_a_recording_may_have_a_number_for_a_name(run, wav: Path, voice: Path) -> None:
    assert run("convert", wav, "out.wav", "--to", voice).exit_code == 0
    shutil.copy(voice, "1")
    assert run("convert", wav, "number.wav", "--to", "1").exit_code == 0
    assert Path("number.wav").read_bytes() == Path("out.wav").read_bytes()


def test_pipes_and_trees(run, wav: Path, voice: Path, tmp_path: Path) -> None:
    assert run("convert", wav, "out.wav", "--to", voice).exit_code == 0
    piped = run("convert", "-", "-", "--to", voice, stdin=wav.read_bytes())
    np.testing.assert_array_equal(soundfile.read(io.BytesIO(piped.stdout_bytes), dtype="float32")[0], read("out.wav"))
    assert SOUND.search(piped.stderr)
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    shutil.copy(wav, tmp_path / "tree" / "one.wav")
    run("encode", wav, tmp_path / "tree" / "deep" / "two.codes")
    (tmp_path / "tree" / "bad.wav").write_bytes(b"RIFF")
    result = run("convert", "tree", "out", "--to", voice)
    assert result.exit_code == 1 and "bad.wav" in result.stderr and "1 of 3 files failed" in result.stderr
    for name in ("one.wav", "deep/two.wav"):
        assert (tmp_path / "out" / name).read_bytes() == Path("out.wav").read_bytes()
    for _ in range(2):  # what was made is no source of the next time
        run("convert", "tree", "tree/out", "--to", voice)
        assert sorted(Path("tree/out").rglob("*.*")) == [Path("tree/out/deep/two.wav"), Path("tree/out/one.wav")]
    done = run("convert", "tree/deep", "tree", "--to", voice)
    assert done.exit_code == 0 and Path("tree/two.wav").exists()
    assert done.stdout.startswith("voice ") and ", 1 files, 0.50 s" in done.stdout
    again = run("convert", "tree/deep", "tree", "--to", voice)
    assert again.stdout == "Nothing to convert; 1 were there already.\n"


def test_every_mistake_is_one_sentence(run, wav: Path, voice: Path, codec: Codec, table: Path, tmp_path: Path) -> None:
    none = with_speaker(codec, "none", tmp_path / "none.safetensors")
    run("encode", wav, "mute.codes", "--no-speaker")
    soundfile.write("silent.wav", np.zeros(32000), 16000)
    Path("noise.codes").write_bytes(b"noise")
    foreign = Codes(np.zeros((1, 1), int), 32, 64, 16000, 64, b"else", b"\1\2")
    foreign.save("foreign.codes")
    dataclasses.replace(Codes.load("mute.codes"), speaker=b"bob").save("unknown.codes")
    shutil.copy(wav, "there.wav")
    for words, hint, code in (
        (("out.wav", "--to", "nobody"), "'nobody' is neither a file", 2),
        (("out.wav", "--to", ""), "'' is neither a file", 2),
        (("out.wav", "--to", "9" * 5000), "neither a file", 2),
        (("out.wav", "--to", "0"), "no speaker 0 in a table; it takes a voice from a recording", 2),
        (("out.wav", "--to", wav), "0.50 s is too short", 1),
        (("out.wav", "--to", "silent.wav"), "silent", 1),
        (("out.wav", "--to", tmp_path), "cannot be read", 1),
        (("out.wav", "--to", "noise.codes"), "not a .codes file", 1),
        (("out.wav", "--to", "mute.codes"), "written without a voice", 2),
        (("out.wav", "--to", "foreign.codes"), "656c7365", 1),
        (("out.wav", "--to", "unknown.codes"), "does not know", 1),
        (("out.codes", "--to", "unknown.codes"), "does not know", 1),
        (("out.wav", "--to", voice, "--model", table), "rows 0 to 2", 2),
        (("out.wav", "--to", "3", "--model", table), "rows 0 to 2", 2),
        (("out.wav", "--to", "-1", "--model", table), "rows 0 to 2", 2),
        (("out.wav", "--to", voice, "--model", none), "its codes alone", 2),
        (("out.wav", "--to", "0", "--model", none), "its codes alone", 2),
        (("out.xyz", "--to", voice), "which name a format", 2),
        (("there.wav", "--to", voice), "--force replaces it", 2),
        ((tmp_path, "--to", voice, "--force"), "read and written at once", 2),
        (("no/out.wav", "--to", voice), "is not there", 2),
        (("out.wav", "--to", voice, "--temperature", "nan"), "temperature", 2),
        (("out.wav",), "Missing option '--to'", 2),
    ):
        result = run("convert", wav, *words)
        assert (result.exit_code, hint in result.stderr) == (code, True), (words, result.output)
        assert result.stderr.splitlines()[-1].startswith("Error: ") and "Traceback" not in result.stderr
        assert not Path("out.wav").exists() and not Path("out.codes").exists()
    assert run("convert", "foreign.codes", "out.codes", "--to", voice).exit_code == 1
    assert run("convert", "foreign.codes", "out.wav", "--to", voice).exit_code == 1
    assert run("convert", "missing.wav", "out.wav", "--to", voice).exit_code == 1
    assert not Path("out.codes").exists() and not Path("out.wav").exists()
