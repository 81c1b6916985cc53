"""Codes as an object, and their way into files and back."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.samples import BLOCKS, EXAMPLE, TableCoder, any_codes, as_stream, coder_of, damaged_at, make
from vqaudio.codes import Codes
from vqaudio.errors import FormatError, ModelError, UsageError, VqaudioError

ROOT = Path(__file__).parents[1]


# Files


def test_save_and_load(tmp_path):
    path = tmp_path / "speech.codes"
    EXAMPLE.save(path)
    assert Codes.load(path) == EXAMPLE
    with pytest.raises(UsageError, match="exists already"):
        BLOCKS.save(path)
    assert Codes.load(path) == EXAMPLE
    BLOCKS.save(path, force=True)
    assert Codes.load(str(path)) == BLOCKS
    assert os.listdir(tmp_path) == ["speech.codes"]


def test_load_names_the_file(tmp_path):
    path = tmp_path / "bad.codes"
    with pytest.raises(FormatError, match=r"bad\.codes' cannot be read: no such file or directory\.$"):
        Codes.load(path)
    with pytest.raises(FormatError, match="is a directory"):
        Codes.load(tmp_path)
    path.write_bytes(damaged_at(1))
    with pytest.raises(FormatError, match=r"Block 1 \(10 s to 20 s\) of '.*bad\.codes' is damaged"):
        Codes.load(path)
    with pytest.warns(UserWarning, match="Block 1"):
        assert Codes.load(path, conceal=True).frames == 13


def test_save_to_a_full_disk_or_a_missing_folder(tmp_path):
    with pytest.raises(VqaudioError, match="no such file or directory"):
        EXAMPLE.save(tmp_path / "missing" / "a.codes")
    if os.path.exists("/dev/full"):
        with pytest.raises(VqaudioError, match="no space left on device"):
            EXAMPLE.save("/dev/full")


def test_files_under_a_prior(tmp_path):
    coder = coder_of(EXAMPLE)
    EXAMPLE.save(tmp_path / "speech.codes", coder=coder)
    assert (tmp_path / "speech.codes").read_bytes() == EXAMPLE.to_bytes(coder) != EXAMPLE.to_bytes()
    assert Codes.load(tmp_path / "speech.codes", coder={coder.fingerprint: coder}.__getitem__) == EXAMPLE
    assert Codes.load(tmp_path / "speech.codes", coder=coder) == EXAMPLE
    with pytest.raises(ModelError, match="prior"):  # none that comes with vqaudio
        Codes.load(tmp_path / "speech.codes", coder=None)
    with pytest.raises(ModelError, match=r"under the prior 0174626c, which is not among those at hand, .*as coder="):
        Codes.load(tmp_path / "speech.codes")
    coder.fingerprint = b"else"
    with pytest.raises(ModelError, match="under the prior 0174626c, not under 656c7365"):
        Codes.load(tmp_path / "speech.codes", coder=coder)


# Spans of files


class Counting(TableCoder):
    """Counts the frames that it decodes."""

    frames = 0

    def decode_one(self, payload: bytes, frames: int) -> np.ndarray | None:
        self.frames += frames
        return super().decode_one(payload, frames)


@given(any_codes(), st.booleans(), st.booleans(), st.data())
def test_a_span_of_a_file_is_a_slice_of_the_whole(codes, stream, under, data):
    coder = coder_of(codes)
    chosen = coder if under else None
    content = as_stream(codes, 3, 1, 9, coder=chosen) if stream else codes.to_bytes(chosen)
    span = tuple(sorted(data.draw(st.tuples(*[st.floats(0, codes.seconds)] * 2))))
    for tolerant in (False, True):
        try:
            expected = codes.slice(*span)
        except UsageError as error:
            with pytest.raises(UsageError, match=re.escape(str(error))):
                Codes.from_bytes(content, span=span, conceal=tolerant, coder=coder)
        else:
            assert Codes.from_bytes(content, span=span, conceal=tolerant, coder=coder) == expected


@pytest.mark.parametrize("stream", [False, True])
def test_only_the_blocks_of_a_span_are_decoded(tmp_path, stream):
    codes, path = make(55), tmp_path / "long.codes"
    coder = Counting(2, 512)
    path.write_bytes(as_stream(codes, *[1250] * 5, coder=coder) if stream else codes.to_bytes(coder))
    for span, blocks in (((0, 10), 1), ((9.99, 10.01), 2), ((20, 40), 2), ((31, 32), 1)):
        coder.frames = 0
        assert Codes.load(path, span=span, coder=coder) == codes.slice(*span)
        assert coder.frames == 1250 * blocks


def test_damage_outside_a_span_is_an_error_and_its_concealment_the_same(tmp_path):
    codes, coder = make(55), TableCoder(2, 512)
    for content in (codes.to_bytes(), codes.to_bytes(coder)):
        data = bytearray(content)
        data[500] ^= 1
        with pytest.raises(FormatError, match=r"^Block 0 "):
            Codes.from_bytes(bytes(data), span=(20, 30), coder=coder)
        for span in ((5, 25), (20, 30)):
            with pytest.warns(UserWarning, match="Block 0"):
                whole = Codes.from_bytes(bytes(data), conceal=True, coder=coder)
            with pytest.warns(UserWarning, match="Block 0"):
                part = Codes.from_bytes(bytes(data), conceal=True, span=span, coder=coder)
            assert part == whole.slice(*span)


def test_a_span_within_a_damaged_block_holds_the_frame_before_the_block():
    codes, coder = make(25), TableCoder(2, 512)
    for content in (codes.to_bytes(), codes.to_bytes(coder)):
        data = bytearray(content)
        data[len(data) // 2] ^= 1
        with pytest.warns(UserWarning, match="Block 1"):
            part = Codes.from_bytes(bytes(data), conceal=True, span=(12, 14), coder=coder)
        assert part.numpy().tolist() == codes.numpy()[:, 1249:1250].repeat(250, 1).tolist()


@pytest.mark.parametrize("span", [(-1, 1), (0.5, 0.5), (float("nan"), 1), (0, float("inf")), (0, 1e305), (0, 1.1)])
def test_a_span_that_is_none(span):
    with pytest.raises(UsageError, match=r"\.$"):
        Codes.from_bytes(make(1).to_bytes(), span=span)


def test_a_span_within_a_frame_is_none_under_a_prior_either():
    coder = TableCoder(2, 512)
    with pytest.raises(UsageError, match=r"\.$"):
        Codes.from_bytes(make(1).to_bytes(coder), span=(0.008, 0.008001), coder=coder)


# The object


@pytest.mark.parametrize(
    "change",
    [
        {"codes": np.zeros((2, 4))},
        {"codes": np.zeros((2, 4), bool)},
        {"codes": np.zeros(4, int)},
        {"codes": np.zeros((0, 4), int)},
        {"codes": np.zeros((2, 3), int)},
        {"codes": [[1, 2], [3]]},
        {"codes": np.full((2, 4), 512)},
        {"codes": np.full((2, 4), -1)},
        {"codes": np.zeros((256, 4), int)},
        {"codes": np.zeros((2, 0), int), "samples": 0},
        {"codebook_size": 1},
        {"codebook_size": 65537},
        {"hop": 0},
        {"hop": 12.5},
        {"sample_rate": 0},
        {"sample_rate": 1 << 63},
        {"samples": 0},
        {"samples": 384},
        {"samples": 513},
        {"samples": 1 << 63, "hop": 1 << 61},  # as many frames as there are
        {"model": b"abc"},
        {"model": "abcd"},
        {"speaker": bytes(256)},
    ],
)
def test_what_cannot_be_is_refused(change):
    with pytest.raises(UsageError, match=r"\.$"):
        dataclasses.replace(EXAMPLE, **change)


def test_the_largest_numbers_that_a_header_holds_come_back():
    largest = (1 << 63) - 1
    codes = Codes(np.full((255, 1), 65535), 65536, largest, largest, largest, b"abcd", bytes(range(255)))
    assert Codes.from_bytes(codes.to_bytes()) == codes


def test_numbers_of_numpy_do_not_overflow():
    codes = dataclasses.replace(EXAMPLE, hop=np.uint8(128), samples=np.int16(500), sample_rate=np.int16(16000))
    assert codes == EXAMPLE and codes.to_bytes() == EXAMPLE.to_bytes()
    assert codes.slice(0.01, 0.02) == EXAMPLE.slice(0.01, 0.02)


def test_the_array_of_codes_is_a_new_one():
    codes = Codes.from_bytes(EXAMPLE.to_bytes())
    codes.numpy()[:] = 0
    assert codes == EXAMPLE


def test_codes_that_were_written_to_are_looked_at_again(tmp_path):
    codes = make(5)
    for value in (-1, codes.codebook_size):
        codes.codes[0, 1] = value
        for use in (codes.numpy, codes.to_bytes, lambda: codes.save(tmp_path / "a.codes")):
            with pytest.raises(UsageError, match="are not all in"):
                use()
    assert not list(tmp_path.iterdir())


def test_properties():
    assert (EXAMPLE.quantizers, EXAMPLE.frames, EXAMPLE.bits_per_code) == (2, 4, 9)
    assert EXAMPLE.seconds == 500 / 16000
    assert [make(1, codebook_size=size).bits_per_code for size in (2, 3, 256, 257, 65536)] == [1, 2, 8, 9, 16]


def test_equality():
    same = dataclasses.replace(EXAMPLE, codes=EXAMPLE.codes.tolist(), hop=np.int64(128))
    assert same == EXAMPLE
    other = EXAMPLE.codes.copy()
    other[0, 0] = 7
    for change in ({"codes": other}, {"samples": 499}, {"model": b"xxxx"}, {"speaker": b""}, {"sample_rate": 8000}):
        assert dataclasses.replace(EXAMPLE, **change) != EXAMPLE
    assert EXAMPLE != "codes"


def test_what_a_person_sees():
    codes = make(1).with_speaker(b"\x0a")
    assert repr(codes).startswith(
        f"<Codes: {codes.quantizers} x {codes.frames} of {codes.codebook_size}, 1.00 s, model "
    )
    assert repr(codes).endswith(f"{codes.model.hex()}, speaker 0a>")


def test_what_are_no_codes_and_no_coder():
    with pytest.raises(UsageError, match="Codes are needed, not ndarray"):
        Codes.concatenate([EXAMPLE, EXAMPLE.numpy()])
    for use in (EXAMPLE.to_bytes, lambda coder: Codes.from_bytes(EXAMPLE.to_bytes(coder_of(EXAMPLE)), coder=coder)):
        with pytest.raises(UsageError, match=r"A coder is a prior, .* not str"):
            use("speech16k")


def test_slice_is_aligned_to_frames():
    codes = make(1.001)  # 16016 samples, 126 frames, the last of 16 samples
    inner = codes.slice(0.0081, 0.0239)  # samples 130 to 382: the frames 1 and 2
    assert inner.samples == 256
    assert np.array_equal(inner.codes, codes.codes[:, 1:3])
    tail = codes.slice(0.99, codes.seconds)
    assert tail.frames == 126 - 15840 // 128 and tail.samples == 16016 - 15840 // 128 * 128
    assert codes.slice(0, codes.seconds) == codes


@pytest.mark.parametrize(
    "span",
    [(-1, 1), (0, 1.1), (0.5, 0.5), (0.7, 0.2), (1, 1.5), (float("nan"), 1), (0, float("inf")), ("a", 1), (0, None)],
)
def test_slice_out_of_range(span):
    with pytest.raises(UsageError, match=r"\.$"):
        make(1).slice(*span)


@given(any_codes(), st.data())
@settings(max_examples=100, deadline=None)
def test_slices_concatenate_to_the_whole(codes, data):
    cut = data.draw(st.integers(0, codes.frames - 1))
    if cut == 0:
        assert Codes.concatenate([codes]) == codes
    else:
        seconds = cut * codes.hop / codes.sample_rate
        parts = [codes.slice(0, seconds), codes.slice(seconds, codes.seconds)]
        assert [part.frames for part in parts] == [cut, codes.frames - cut]
        assert Codes.concatenate(parts) == codes


def test_concatenate_completes_the_frames_of_all_but_the_last():
    joined = Codes.concatenate([EXAMPLE, EXAMPLE])
    assert joined.samples == 512 + 500
    assert np.array_equal(joined.codes, np.concatenate([EXAMPLE.codes] * 2, axis=1))


def test_concatenate_has_room_for_the_codes_of_every_part():
    first, second = np.array([[1, 2, 3]]), np.array([[300, 511, 256]])
    small, large = (
        dataclasses.replace(EXAMPLE, codebook_size=512, codes=torch.from_numpy(codes).to(kind), samples=3 * EXAMPLE.hop)
        for codes, kind in ((first, torch.uint8), (second, torch.int32))
    )
    for parts, expected in (((small, large), (first, second)), ((large, small), (second, first))):
        joined = Codes.concatenate(parts)
        assert isinstance(joined.codes, torch.Tensor)
        assert np.array_equal(joined.codes.numpy(), np.concatenate(expected, axis=1))


@pytest.mark.parametrize(
    "change",
    [
        {"codes": np.zeros((1, 4), int)},
        {"codebook_size": 600},
        {"hop": 126},
        {"sample_rate": 8000},
        {"model": b"xxxx"},
        {"speaker": b""},
    ],
)
def test_concatenate_refuses_what_differs(change):
    with pytest.raises(UsageError, match=next(iter(change)) if "codes" not in change else "quantizers"):
        Codes.concatenate([EXAMPLE, dataclasses.replace(EXAMPLE, **change)])


def test_concatenate_nothing():
    with pytest.raises(UsageError):
        Codes.concatenate([])


def test_torch_stays_torch():
    torch = pytest.importorskip("torch")
    codes = dataclasses.replace(EXAMPLE, codes=torch.tensor(EXAMPLE.codes))
    assert codes == EXAMPLE and codes.to_bytes() == EXAMPLE.to_bytes()
    assert isinstance(codes.slice(0, 0.01).codes, torch.Tensor)
    joined = Codes.concatenate([codes, codes])
    assert joined.codes.dtype == torch.int64
    assert joined == Codes.concatenate([EXAMPLE, EXAMPLE])


def test_torch_is_not_imported():
    program = "import sys, vqaudio.codes, vqaudio.audio; sys.exit('torch' in sys.modules or 'numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0
