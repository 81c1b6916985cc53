"""encode and decode on single files, on pipes and on trees."""

from __future__ import annotations

import dataclasses
import errno
import io
import logging
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

import vqaudio
from vqaudio import Codec, Codes
from vqaudio.cli import main
from vqaudio.models.config import SpeakerConfig
from vqaudio.models.vqvae import VQVAE

LINE = re.compile(r"([\d.]+) s, ([\d,]+) bytes, ([\d.]+) kb/s, [\d.]+ times real time")


def test_a_file_there_and_back(run, wav: Path, tmp_path: Path, tiny_codec: Path, tone: np.ndarray) -> None:
    result = run("encode", wav, "a.codes")
    size = (tmp_path / "a.codes").stat().st_size
    found = LINE.search(result.stdout)
    assert found
    assert (float(found[1]), int(found[2])) == (0.5, size)
    assert float(found[3]) == pytest.approx(8 * size / 0.5 / 1000, abs=0.006)

    codec = vqaudio.load(tiny_codec)
    stored, _ = soundfile.read(wav, dtype="float32")
    assert Codes.load(tmp_path / "a.codes") == codec.encode(stored, 16000)

    assert LINE.search(run("decode", "a.codes", "a.wav").stdout)
    decoded, rate = soundfile.read(tmp_path / "a.wav", dtype="float32")
    expected = codec.decode(Codes.load(tmp_path / "a.codes"))
    assert rate == 16000
    np.testing.assert_allclose(decoded, np.clip(expected, -1, 1), atol=2**-15)


def test_the_suffix_gives_the_format(run, codes_file: Path, tmp_path: Path) -> None:
    assert run("decode", codes_file, "a.flac").exit_code == 0
    assert soundfile.info(tmp_path / "a.flac").format == "FLAC"


def test_pipes_carry_the_same_bytes_as_files(run, wav: Path, codes_file: Path, tmp_path: Path) -> None:
    result = run("encode", "-", "-", stdin=wav.read_bytes())
    assert result.stdout_bytes == codes_file.read_bytes()
    assert LINE.search(result.stderr)

    run("decode", codes_file, "a.wav")
    result = run("decode", "-", "-", stdin=codes_file.read_bytes())
    piped, _ = soundfile.read(io.BytesIO(result.stdout_bytes))
    stored, _ = soundfile.read(tmp_path / "a.wav")
    np.testing.assert_array_equal(piped, stored)


def test_a_file_on_standard_output_states_its_length(run, codes_file: Path) -> None:
    for source, stdin in ((codes_file, None), ("-", codes_file.read_bytes())):
        sound = run("decode", source, "-", stdin=stdin).stdout_bytes
        assert int.from_bytes(sound[40:44], "little") == len(sound) - 44 == 2 * 8000


def test_quiet_prints_nothing(run, wav: Path) -> None:
    assert run("encode", wav, "a.codes", "--quiet").output == ""


def test_quiet_keeps_back_what_the_library_says(run, wav: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    monkeypatch.setattr(
        "vqaudio.runtime.cpu.announce", lambda kernel, part: logging.getLogger("vqaudio").warning("Hear")
    )
    heard = []
    for options in ((), ("--quiet",), ()):
        run("encode", wav, "a.codes", "--force", *options)
        heard.append(caplog.messages)
        caplog.clear()
    assert heard == [["Hear"], [], ["Hear"]]


def test_the_line_says_where_its_time_went(run, wav: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []
    monkeypatch.setattr("vqaudio.runtime.compilation.announced", lambda: len(compiled))
    monkeypatch.setattr("vqaudio.runtime.cpu.announce", lambda kernel, part: compiled.append(kernel))
    assert run("encode", wav, "a.codes").stdout.endswith(" times real time, compiling included\n")
    monkeypatch.setattr("vqaudio.runtime.cpu.announce", lambda kernel, part: None)
    assert run("encode", wav, "b.codes").stdout.endswith(" times real time\n")


def test_no_progress_bar_outside_a_terminal(run, wav: Path) -> None:
    result = run("encode", wav, "a.codes")
    assert result.stderr == ""
    assert "\x1b" not in result.output


def test_force_replaces(run, wav: Path, tmp_path: Path) -> None:
    (tmp_path / "a.codes").write_bytes(b"mine")
    assert run("encode", wav, "a.codes", "--force").exit_code == 0
    assert Codes.load(tmp_path / "a.codes").seconds == 0.5


def test_fewer_quantizers_and_no_speaker_give_fewer_bytes(run, wav: Path, codes_file: Path, tmp_path: Path) -> None:
    run("encode", wav, "one.codes", "--quantizers", 1)
    run("encode", wav, "mute.codes", "--no-speaker")
    assert Codes.load(tmp_path / "one.codes").quantizers == 1
    assert Codes.load(tmp_path / "mute.codes").speaker == b""
    assert run("decode", "one.codes", "one.wav").exit_code == 0
    assert run("decode", "mute.codes", "mute.wav").exit_code == 0
    assert run("encode", wav, "three.codes", "--quantizers", 3).exit_code == 2


def test_fewer_quantisers_are_written_without_the_prior_at_hand(
    run, wav: Path, tmp_path: Path, tiny_default: Path, tiny_prior: Path
) -> None:
    shutil.copy(tiny_prior, tiny_default / "speech16k.prior.safetensors")
    for words, quantizers, coder in (((), 2, 1), (("--quantizers", 1), 1, 0)):
        assert run("encode", wav, "a.codes", "--force", *words).exit_code == 0
        assert (tmp_path / "a.codes").read_bytes()[5] == coder
        assert Codes.load(tmp_path / "a.codes").quantizers == quantizers
    result = run("encode", wav, "b.codes", "--quantizers", 1, "--prior", tiny_prior)
    assert result.exit_code == 2 and "for all 2 quantisers" in result.stderr


@pytest.fixture
def table(tiny_codec: Path, tmp_path: Path) -> Path:
    """The model file of a codec with a table of three speakers."""
    config = vqaudio.load(tiny_codec).config
    config = dataclasses.replace(config, speaker=SpeakerConfig(kind="lookup", channels=8, speakers=3))
    path = tmp_path / "table.safetensors"
    Codec(config, VQVAE(config).arrays()).save(path)
    return path


def test_the_row_of_a_table_says_who_speaks(run, wav: Path, tmp_path: Path, table: Path) -> None:
    for row in (0, 2):
        assert run("encode", wav, f"{row}.codes", "--model", table, "--row", row).exit_code == 0
        assert Codes.load(tmp_path / f"{row}.codes").speaker == bytes([row])
        assert run("decode", f"{row}.codes", f"{row}.wav", "--model", table).exit_code == 0
    assert (tmp_path / "0.wav").read_bytes() != (tmp_path / "2.wav").read_bytes()


def test_a_row_that_cannot_be_meant(run, wav: Path, tmp_path: Path, table: Path, tiny_codec: Path) -> None:
    for model, *words in (
        (table, "--row", 3),
        (table, "--row", -1),
        (table, "--row", 1, "--no-speaker"),
        (table, "--row", 1, "--live"),
        (tiny_codec, "--row", 0),
    ):
        result = run("encode", wav, "a.codes", "--model", model, *words)
        assert result.exit_code == 2
        assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
        assert not (tmp_path / "a.codes").exists()


def test_the_wavenet_follows_seed_and_temperature(run, tone: np.ndarray, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", tone[:640], 16000)
    run("encode", "short.wav", "short.codes")
    options = {"a": (0, 1.0), "b": (0, 1.0), "c": (1, 1.0), "d": (0, 0.5)}
    for name, (seed, temperature) in options.items():
        chosen = ("--decoder", "wavenet", "--seed", seed, "--temperature", temperature)
        assert run("decode", "short.codes", f"{name}.wav", *chosen).exit_code == 0
    a, b, c, d = ((tmp_path / f"{name}.wav").read_bytes() for name in options)
    assert a == b
    assert a != c
    assert a != d
    assert run("decode", "short.codes", "e.wav", "--temperature", "nan").exit_code == 2


@pytest.fixture
def tree(tmp_path: Path, wav: Path) -> Path:
    """A folder with audio at two depths and a file that is none."""
    folder = tmp_path / "speech"
    (folder / "speaker" / "chapter").mkdir(parents=True)
    shutil.copy(wav, folder / "one.wav")
    shutil.copy(wav, folder / "speaker" / "chapter" / "TWO.WAV")
    (folder / "speaker" / "notes.txt").write_text("not audio")
    return folder


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_tree_is_mirrored_there_and_back(run, tree: Path, tmp_path: Path) -> None:
    result = run("encode", tree, "codes")
    assert "2 files, 1.00 s" in result.stdout
    assert files(tmp_path / "codes") == ["one.codes", "speaker/chapter/TWO.codes"]
    assert run("decode", "codes", "back").exit_code == 0
    assert files(tmp_path / "back") == ["one.wav", "speaker/chapter/TWO.wav"]


def test_a_second_run_does_only_what_is_missing(run, tree: Path, tmp_path: Path) -> None:
    run("encode", tree, "codes")
    untouched, missing = tmp_path / "codes" / "one.codes", tmp_path / "codes" / "speaker" / "chapter" / "TWO.codes"
    untouched.write_bytes(b"mine")
    missing.unlink()
    assert "1 files" in (result := run("encode", tree, "codes")).stdout
    assert "1 were there already" in result.stdout
    assert untouched.read_bytes() == b"mine"
    assert missing.is_file()
    result = run("encode", tree, "codes")
    assert result.exit_code == 0
    assert "Nothing to encode" in result.stdout
    run("encode", tree, "codes", "--force")
    assert untouched.read_bytes() == missing.read_bytes()


def test_many_processes_give_the_same_files(run, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqaudio.runtime.schedule.cores", lambda: 2)
    run("encode", tree, "one")
    (tree / "bad.wav").write_bytes(b"RIFF")
    result = run("encode", tree, "many", "--jobs", 2)
    assert result.exit_code == 1
    assert "bad.wav" in result.stderr
    assert files(tmp_path / "many") == files(tmp_path / "one")
    for name in files(tmp_path / "one"):
        assert (tmp_path / "many" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_there_are_no_more_processes_than_cores(run, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a pool of processes")

    monkeypatch.setattr("vqaudio.runtime.schedule.cores", lambda: 1)
    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", refuse)
    assert run("encode", tree, "codes", "--jobs", 8).exit_code == 0


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_model_that_is_missing_ends_the_run_once(
    run, tree: Path, jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vqaudio.runtime.schedule.cores", lambda: 2)
    result = run("encode", tree, "codes", "--jobs", jobs, "--model", "no.safetensors")
    assert result.exit_code == 1
    assert result.stderr.count("no.safetensors") == 1
    assert not files(tmp_path / "codes") if (tmp_path / "codes").exists() else True


def test_a_bad_file_is_named_and_the_rest_goes_on(run, tree: Path, tmp_path: Path) -> None:
    (tree / "bad.wav").write_bytes(b"not audio at all")
    result = run("encode", tree, "codes")
    assert result.exit_code == 1
    assert result.stderr.count("bad.wav") == 1
    assert "1 of 3 files" in result.stderr
    assert files(tmp_path / "codes") == ["one.codes", "speaker/chapter/TWO.codes"]


def test_codes_of_another_model_are_named_in_a_tree(run, tree: Path, tmp_path: Path) -> None:
    run("encode", tree, "codes")
    path = tmp_path / "codes" / "one.codes"
    codes = Codes.load(path)
    other = Codes(codes.numpy(), codes.codebook_size, codes.hop, codes.sample_rate, codes.samples, b"else")
    other.save(path, force=True)
    result = run("decode", "codes", "back")
    assert result.exit_code == 1
    assert "one.codes" in result.stderr
    assert files(tmp_path / "back") == ["speaker/chapter/TWO.wav"]


def test_an_error_that_does_not_name_its_file_gets_its_name_however_short(run, codes_file: Path) -> None:
    codes = Codes.load(codes_file)
    other = Codes(codes.numpy(), codes.codebook_size, codes.hop, codes.sample_rate, codes.samples, b"else")
    other.save("m")
    result = run("decode", "m", codes_file, "back/")
    assert result.exit_code == 1 and "Error: 'm': The codes" in result.stderr


def test_what_the_system_refuses_of_a_file_is_said_of_that_file(
    run, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("vqaudio.files.writing", refuse)
    result = run("encode", tree, "codes")
    assert result.exit_code == 1 and "cannot be made" not in result.stderr
    assert f"Error: '{tree / 'one.wav'}': reading or writing failed: input/output error.\n" in result.stderr


def test_two_files_that_would_become_one(run, tree: Path, tone: np.ndarray, tmp_path: Path) -> None:
    soundfile.write(tree / "one.flac", tone, 16000)
    result = run("encode", tree, "codes")
    assert result.exit_code == 2
    assert "one.flac" in result.stderr and "one.wav" in result.stderr
    assert not (tmp_path / "codes").exists()


def test_a_tree_needs_audio_and_a_directory(run, tree: Path, wav: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert run("encode", "empty", "codes").exit_code == 1
    assert run("encode", tree, "-").exit_code == 2
    assert run("encode", tree, wav).exit_code == 2


def test_codes_may_lie_beside_the_audio(run, tree: Path) -> None:
    before = files(tree)
    assert run("encode", tree, tree).exit_code == 0
    assert set(files(tree)) == {*before, "one.codes", "speaker/chapter/TWO.codes"}
    assert "2 were there already" in run("encode", tree, tree).stdout


def test_several_files_go_into_a_directory(run, tree: Path, codes_file: Path, tmp_path: Path) -> None:
    one, two = tree / "one.wav", tree / "speaker" / "chapter" / "TWO.WAV"
    (tmp_path / "codes").mkdir()
    assert "2 files, 1.00 s" in run("encode", one, two, "codes").stdout
    assert files(tmp_path / "codes") == ["TWO.codes", "one.codes"]
    assert (tmp_path / "codes" / "one.codes").read_bytes() == codes_file.read_bytes()
    assert "1 files, 0.50 s" in run("decode", codes_file, "codes").stdout
    assert files(tmp_path / "codes") == ["TWO.codes", "in.wav", "one.codes"]
    assert "1 were there already" in run("encode", one, "codes").stdout
    assert run("encode", one, two, "new/codes/").exit_code == 0
    assert files(tmp_path / "new") == ["codes/TWO.codes", "codes/one.codes"]


def test_several_files_and_what_cannot_be_meant(run, tree: Path, wav: Path, tmp_path: Path) -> None:
    (tmp_path / "codes").mkdir()
    before = files(tmp_path)
    for words in (
        ("encode", wav),
        ("encode", wav, tree / "one.wav", "nowhere"),
        ("encode", wav, tree / "one.wav", "-"),
        ("encode", wav, tree / "one.wav", wav),
        ("encode", wav, "-", "codes"),
        ("encode", wav, tree, "codes"),
        ("encode", wav, tmp_path / "speech" / ".." / "in.wav", "codes"),
        ("encode", wav, "codes", "--live"),
    ):
        result = run(*words)
        assert result.exit_code == 2, words
        assert result.stderr.splitlines()[-1].startswith("Error: ")
        assert files(tmp_path) == before
    result = run("encode", "missing.wav", wav, "codes")
    assert result.exit_code == 1
    assert "missing.wav" in result.stderr
    assert files(tmp_path / "codes") == ["in.codes"]


def test_real_speech_there_and_back(run, speech: Path, tmp_path: Path) -> None:
    source = min((speech / "eval" / "librispeech").rglob("*.flac"), key=lambda path: path.stat().st_size)
    assert run("encode", source, "real.codes").exit_code == 0
    assert run("decode", "real.codes", "real.wav").exit_code == 0
    assert soundfile.info(tmp_path / "real.wav").frames == soundfile.info(source).frames


def test_codes_find_the_shipped_model_that_made_them(run, wav: Path, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()

    def decode(*words: object, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(main, ["decode", *map(str, words)], input=stdin)

    run("encode", wav, "low.codes", "--model", "speech16k-low")
    for words, stdin in ((("low.codes", "a.wav"), None), (("-", "b.wav"), (tmp_path / "low.codes").read_bytes())):
        assert decode(*words, stdin=stdin).exit_code == 0
    assert decode("low.codes", "c.wav", "--model", "speech16k-low").exit_code == 0
    a, b, c = ((tmp_path / f"{name}.wav").read_bytes() for name in "abc")
    assert a == b == c
    run("encode", wav, "tree/low.codes", "--model", "speech16k-low")
    run("encode", wav, "tree/default.codes", "--model", "speech16k")
    assert decode("tree", "back", "--jobs", 2).exit_code == 0
    assert (tmp_path / "back" / "low.wav").read_bytes() == a
    assert (tmp_path / "back" / "default.wav").read_bytes() != a
    result = decode("tree", "back", "--decoder", "wavenet", "--force")
    assert result.exit_code == 1 and "1 of 2 files failed" in result.stderr
    assert "'tree/low.codes': The codes are of model speech16k-low, which has no wavenet decoder." in result.stderr
    result = decode("low.codes", "d.wav", "--model", "speech16k")
    assert result.exit_code == 1
    assert re.search(r"model speech16k-low \(\w{8}\), but the model at hand is speech16k \(", result.stderr)


# Live


def heard_by(codec, sound: np.ndarray) -> tuple[Codes, np.ndarray]:
    """What a live encoder and a live decoder make of sound: no speaker's voice in the header."""
    codes = codec.encode(sound, 16000, speaker=False)
    return codes, codec.decode(codes)


@pytest.mark.parametrize("raw", [True, False])
def test_live_filters_answer_while_the_sound_still_comes(start, wav: Path, tiny_codec: Path, raw: bool) -> None:
    sound = np.tile(soundfile.read(wav, dtype="int16")[0], 6)
    content = io.BytesIO()
    soundfile.write(content, sound, 16000, format="WAV")
    data = sound.tobytes() if raw else content.getvalue()
    options = ("--raw", 16000) if raw else ()
    encoder = start("encode", "-", "-", "--live", *options, "--model", tiny_codec)
    decoder = start("decode", "-", "-", "--raw", "--model", tiny_codec, stdin=encoder.stdout)
    half = 2 * 16000 * 2
    encoder.stdin.write(data[:half])
    encoder.stdin.flush()
    early = decoder.stdout.read(2 * 16000)  # a second of sound comes back before the rest is sent
    encoder.stdin.write(data[half:])
    encoder.stdin.close()
    late = decoder.stdout.read()
    assert (encoder.wait(), decoder.wait()) == (0, 0)
    _, expected = heard_by(vqaudio.load(tiny_codec), sound)
    got = np.frombuffer(early + late, "<i2")
    np.testing.assert_allclose(got / 32768, np.clip(expected, -1, 1), atol=2**-15)
    assert LINE.search(encoder.stderr.read().decode()) and LINE.search(decoder.stderr.read().decode())


def test_a_live_file_is_a_codes_file(run, wav: Path, tmp_path: Path, tiny_codec: Path) -> None:
    result = run("encode", wav, "live.codes", "--live")
    assert LINE.search(result.stdout)
    sound, _ = soundfile.read(wav, dtype="float32")
    assert Codes.load(tmp_path / "live.codes") == heard_by(vqaudio.load(tiny_codec), sound)[0]
    assert run("decode", "live.codes", "live.wav").exit_code == 0
    assert soundfile.info(tmp_path / "live.wav").frames == len(sound)
    assert run("encode", wav, "live.codes", "--live").exit_code == 2


def test_fewer_quantisers_live(run, wav: Path, tmp_path: Path) -> None:
    run("encode", wav, "one.codes", "--quantizers", 1, "--no-speaker")
    assert run("encode", wav, "live.codes", "--live", "--quantizers", 1).exit_code == 0
    assert Codes.load(tmp_path / "live.codes") == Codes.load(tmp_path / "one.codes")


def test_raw_samples_in_and_out(run, wav: Path, codes_file: Path, tmp_path: Path) -> None:
    (tmp_path / "in.raw").write_bytes(soundfile.read(wav, dtype="int16")[0].tobytes())
    assert run("encode", "in.raw", "raw.codes", "--raw", 16000).exit_code == 0
    assert (tmp_path / "raw.codes").read_bytes() == codes_file.read_bytes()
    run("decode", codes_file, "a.wav")
    assert run("decode", codes_file, "a.raw", "--raw").exit_code == 0
    assert (tmp_path / "a.raw").read_bytes() == (tmp_path / "a.wav").read_bytes()[44:]
    assert run("encode", tmp_path, "b", "--raw", 16000).exit_code == 2
    assert run("decode", tmp_path, "b", "--raw").exit_code == 2


def test_a_named_pipe_is_decoded_as_it_comes(start, codes_file: Path, tiny_codec: Path, tmp_path: Path) -> None:
    data, pipe = codes_file.read_bytes(), tmp_path / "pipe"
    os.mkfifo(pipe)
    process = start("decode", pipe, "out.wav", "--model", tiny_codec)
    pipe.write_bytes(data)
    said, _ = process.communicate()
    assert process.returncode == 0 and f"{len(data)} bytes" in said.decode()
    assert soundfile.info(tmp_path / "out.wav").frames == 8000


def test_a_damaged_stream_in_a_pipe(run, wav: Path, codes_file: Path) -> None:
    data = codes_file.read_bytes()
    result = run("decode", "-", "-", stdin=data[:-1])
    assert result.exit_code == 1 and "truncated" in result.stderr
    run("encode", wav, "live.codes", "--live")
    damaged = bytearray(Path("live.codes").read_bytes())
    damaged[60] ^= 1
    result = run("decode", "-", "-", "--conceal", stdin=bytes(damaged))
    assert result.exit_code == 0 and "Warning: Block 0" in result.stderr
    assert soundfile.info(io.BytesIO(result.stdout_bytes)).frames == 8000


def test_damage_is_concealed_in_a_pipe_as_in_a_file(run, tiny_codec: Path, tmp_path: Path) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 21 * 16000).astype(np.float32)
    codes = vqaudio.load(tiny_codec).encode(sound, 16000)
    data = bytearray(codes.to_bytes())
    data[100] ^= 1  # in the first of three blocks
    (tmp_path / "damaged.codes").write_bytes(data)
    run("decode", "damaged.codes", "file.raw", "--raw", "--conceal")
    piped = run("decode", "-", "-", "--raw", "--conceal", stdin=bytes(data))
    assert piped.exit_code == 0 and "Block 0" in piped.stderr
    assert piped.stdout_bytes == (tmp_path / "file.raw").read_bytes()
    cut = run("decode", "-", "-", "--conceal", stdin=bytes(data[:-5])).stdout_bytes
    stated = int.from_bytes(cut[40:44], "little")
    assert len(cut) == 44 + 2 * 20 * 16000 and stated in (len(cut) - 44, 0xFFFFFFFF - 44, 0xFFFFFFFF)
