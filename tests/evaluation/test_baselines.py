"""What `--against` names: which codec it means, and which of them can be used here."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

import vqaudio
from vqaudio import Codec
from vqaudio.errors import ModelError, UsageError
from vqaudio.evaluation import baselines
from vqaudio.evaluation.contenders import own_codec


def test_a_list_means_its_codecs_in_its_order():
    found = baselines.parse_all("speex:1, opus:6.0,Codec2:700c ,encodec:1.50,opus:12.5")
    assert [codec.name for codec in found] == ["speex:1", "opus:6", "codec2:700C", "encodec:1.5", "opus:12.5"]
    assert found == [baselines.parse(codec.name) for codec in found]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("opsu:6", "There is no codec 'opsu' to compare with; did you mean 'opus'?"),
        ("mp3:64", "There is no codec 'mp3' to compare with; choose from opus, codec2, speex, encodec, vqaudio."),
        ("", "There is no codec '' to compare with"),
        ("opus:6,", "There is no codec '' to compare with"),
        ("opus", "The codec 'opus' needs a setting behind a colon: a nominal rate of 6 to 256 kb/s."),
        ("opus:", "needs a setting"),
        ("opus:5.9", "The codec 'opus' has no setting '5.9'; it takes a nominal rate of 6 to 256 kb/s."),
        ("opus:257", "has no setting '257'"),
        ("opus:nan", "has no setting 'nan'"),
        ("opus:inf", "has no setting 'inf'"),
        ("opus:6:7", "has no setting '6:7'"),
        ("codec2:1500", "it takes one of its modes, 3200, 2400, 1600, 1400, 1300, 1200, 700C or 450."),
        ("speex:11", "it takes a quality of 0 to 10."),
        ("speex:-1", "has no setting '-1'"),
        ("speex:1.5", "has no setting '1.5'"),
        ("encodec:2", "it takes a bandwidth of 1.5, 3, 6, 12 or 24 kb/s."),
        ("opus:6,speex:1,opus:6.0", "The codec 'opus:6' is named twice."),
    ],
)
def test_what_cannot_be_meant_is_told(wrong, told):
    with pytest.raises(UsageError) as caught:
        baselines.parse_all(wrong)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_codec_crosses_to_another_process():
    for codec in baselines.parse_all("opus:6,codec2:1300,speex:1,encodec:24"):
        assert pickle.loads(pickle.dumps(codec)) == codec
        assert len(pickle.dumps(codec)) < 1000


def test_another_model_of_our_own(tiny_codec: Path, tiny_default: Path, tiny_prior: Path):
    plain = baselines.parse(f"vqaudio:{tiny_codec}")
    assert plain.name == f"vqaudio:{tiny_codec}" and "of fixed width" in plain.identity
    shutil.copy(tiny_prior, tiny_default / "speech16k.prior.safetensors")
    [named], notes = baselines.usable([baselines.parse("vqaudio:speech16k")])
    assert (named.name, notes) == ("vqaudio:speech16k", [])
    assert f"under the prior {vqaudio.Prior.load(tiny_prior).fingerprint.hex()}" in named.identity
    sound = np.random.default_rng(0).normal(size=1000).astype(np.float32) * 0.1
    codec = vqaudio.load(tiny_codec)
    expected = codec.decode(codec.encode(sound, 16000))
    for contender in (plain, pickle.loads(pickle.dumps(plain)), named):
        np.testing.assert_array_equal(contender.code(sound, 16000).decoded, expected)
    with pytest.raises(ModelError, match="is not there"):
        baselines.parse("vqaudio:gone.safetensors")


def test_a_model_whose_decoder_has_learned_more_is_another(tiny_codec: Path):
    codec = vqaudio.load(tiny_codec)
    state = {name: w + 0.1 if name.startswith("spectral") else w for name, w in codec.state.items()}
    learned = Codec(codec.config, state)
    assert learned.fingerprint == codec.fingerprint
    assert own_codec(learned, lambda: learned).identity != own_codec(codec, lambda: codec).identity


def test_a_model_with_another_decoder_is_another(tiny_codec: Path):
    codec = vqaudio.load(tiny_codec)
    one, other = (own_codec(codec, lambda: codec, decoder) for decoder in ("spectral", "wavenet"))
    assert one.identity != other.identity
    assert own_codec(codec, lambda: codec).identity == one.identity
    sound = np.random.default_rng(0).normal(size=1000).astype(np.float32) * 0.1
    expected = codec.decode(codec.encode(sound, 16000), decoder="wavenet")
    np.testing.assert_array_equal(other.code(sound, 16000).decoded, expected)


def test_programs_that_are_not_there_leave_their_codecs_out(tmp_path: Path, monkeypatch):
    for program in ("opusenc", "opusdec", "speexenc"):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    kept, notes = baselines.usable(baselines.parse_all("codec2:1300,opus:6,speex:1,opus:8"))
    assert [codec.name for codec in kept] == ["opus:6", "opus:8"]
    assert notes == [
        "The codec 'codec2:1300' is left out, for its program c2enc is not there; the Debian package codec2 brings it.",
        "The codec 'speex:1' is left out, for its program speexdec is not there; the Debian package speex brings it.",
    ]
