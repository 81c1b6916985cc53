"""Model files: what is saved comes back, and anything else is one clear error."""

from __future__ import annotations

import dataclasses
import json
import os
import struct

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

import vqaudio
from vqaudio.errors import ModelError, UsageError
from vqaudio.models.config import Alphabet, CodecConfig, PriorConfig
from vqaudio.models.vqvae import VQVAE
from vqaudio.weights import (
    FORMAT,
    PRIOR_FORMAT,
    VAE_FORMAT,
    fingerprint,
    is_prior,
    load_model,
    load_prior_file,
    save_model,
    save_prior,
)

PRIOR = PriorConfig(channels=4)
ALPHABET = Alphabet("some", "01020304", 16000, 64, 2, 32, (4, 4))


@pytest.fixture(scope="module")
def model(tiny_codec):
    return load_model(tiny_codec)


def test_weights_come_back_in_half_precision_and_the_card_as_it_was(model, tmp_path):
    path, rng = tmp_path / "model.safetensors", np.random.default_rng(0)
    state = {name: rng.normal(size=value.shape).astype(np.float32) for name, value in model.state.items()}
    save_model(path, model.config, state, card="# Card\nÜmläuts.")
    loaded = load_model(path)
    assert loaded.config == model.config and loaded.card == "# Card\nÜmläuts."
    assert loaded.state.keys() == state.keys()
    for name, value in loaded.state.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, state[name].astype(np.float16))


def test_the_fingerprint_survives_saving_and_names_what_gives_codes_their_meaning(model, tmp_path):
    torch.manual_seed(0)
    state = VQVAE(model.config).state_dict()
    save_model(tmp_path / "m", model.config, state)
    assert fingerprint(model.config, load_model(tmp_path / "m").state) == fingerprint(model.config, state)
    for part, matters in {"encoder": True, "quantizer": True, "speaker": True, "spectral": False}.items():
        name = next(name for name, value in state.items() if name.startswith(part) and value.is_floating_point())
        changed = state | {name: state[name] + 1}
        assert (fingerprint(model.config, changed) != fingerprint(model.config, state)) == matters, part
    predictive = dataclasses.replace(model.config.quantizer, predictive=True)
    other = dataclasses.replace(model.config, quantizer=predictive)
    assert fingerprint(other, state) != fingerprint(model.config, state)
    searched = dataclasses.replace(other, quantizer=dataclasses.replace(predictive, paths=4))
    assert fingerprint(searched, state) == fingerprint(other, state)
    assert fingerprint(dataclasses.replace(model.config, sample_rate=8000), state) != fingerprint(model.config, state)
    longer = dataclasses.replace(model.config.encoder, gain=1.0)
    assert fingerprint(dataclasses.replace(model.config, encoder=longer), state) != fingerprint(model.config, state)


def test_what_only_training_needs_is_not_in_the_file(model, tmp_path):
    network = VQVAE(model.config)
    save_model(tmp_path / "m", model.config, network.state_dict())
    assert network.moving_averages()
    assert load_model(tmp_path / "m").state.keys() == network.state_dict().keys() - network.moving_averages().keys()


def test_nothing_is_replaced_unasked(model, tiny_codec):
    with pytest.raises(UsageError, match="exists"):
        save_model(tiny_codec, model.config, model.state)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"gone\.safetensors"):
        load_model(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.999])
def test_a_truncated_file(tiny_codec, tmp_path, share):
    data = tiny_codec.read_bytes()
    path = tmp_path / "short.safetensors"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError, match=r"short\.safetensors"):
        load_model(path)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"format": "something else"},
        {"format": FORMAT},
        {"format": FORMAT, "config": "{"},
        {"format": FORMAT, "config": "[]"},
        {"format": FORMAT, "config": json.dumps({"hidden": 3})},
        {"format": FORMAT, "config": json.dumps({"sample_rate": "fast"})},
        {"format": FORMAT, "config": json.dumps({"encoder": {"strides": [2], "channels": 3}})},
        {"format": FORMAT, "config": json.dumps({"sample_rate": True})},
        {"format": FORMAT, "config": json.dumps({"encoder": {"gain": 10**400}})},
        {"format": FORMAT, "config": json.dumps({"wavenet": {"bands": 4.0}})},
    ],
)
def test_safetensors_that_are_not_ours(tmp_path, metadata):
    path = tmp_path / "other.safetensors"
    path.write_bytes(save({"a": torch.zeros(2)}, metadata))
    with pytest.raises(ModelError):
        load_model(path)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float8_e4m3fn])
def test_numbers_of_a_kind_that_is_never_written(model, tmp_path, kind):
    path = tmp_path / "other.safetensors"
    metadata = {"format": FORMAT, "config": json.dumps(dataclasses.asdict(model.config))}
    path.write_bytes(save({"a": torch.zeros(2, dtype=kind)}, metadata))
    with pytest.raises(ModelError, match="damaged"):
        load_model(path)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), length=st.integers(0, 2**40))
def test_random_bytes_are_a_model_error(tmp_path, data, length):
    path = tmp_path / "noise.safetensors"
    for content in (data, struct.pack("<Q", length) + data):
        path.write_bytes(content)
        with pytest.raises(ModelError):
            load_model(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file(tiny_codec, tmp_path):
    path = tmp_path / "secret.safetensors"
    path.write_bytes(tiny_codec.read_bytes())
    path.chmod(0)
    with pytest.raises(ModelError, match="permission"):
        load_model(path)


class TestPrior:
    def test_floats_come_back_in_half_precision_and_whole_numbers_as_they_were(self, tmp_path):
        path, rng = tmp_path / "prior.safetensors", np.random.default_rng(0)
        whole = {f"integer.{kind}": rng.integers(-99, 99, (2, 3)).astype(kind) for kind in ("int8", "int16", "int32")}
        state = {"a.weight": torch.randn(3, 4), "b": rng.normal(size=5).astype(np.float32)}
        save_prior(path, PRIOR, ALPHABET, state | whole, card="# Card\nÜmläuts.")
        loaded = load_prior_file(path)
        assert (loaded.config, loaded.alphabet, loaded.card) == (PRIOR, ALPHABET, "# Card\nÜmläuts.")
        assert loaded.state.keys() == (state | whole).keys()
        for name, value in state.items():
            assert loaded.state[name].dtype == np.float32
            np.testing.assert_array_equal(loaded.state[name], np.asarray(value).astype(np.float16))
        for name, value in whole.items():
            assert loaded.state[name].dtype == value.dtype
            np.testing.assert_array_equal(loaded.state[name], value)

    def test_nothing_is_replaced_unasked(self, tmp_path):
        path = tmp_path / "prior.safetensors"
        save_prior(path, PRIOR, ALPHABET, {})
        with pytest.raises(UsageError, match="exists"):
            save_prior(path, PRIOR, ALPHABET, {})
        save_prior(path, PRIOR, ALPHABET, {}, card="new", force=True)
        assert load_prior_file(path).card == "new"

    def test_a_codec_is_no_prior_and_a_prior_no_codec(self, tiny_codec, tmp_path):
        path = tmp_path / "prior.safetensors"
        save_prior(path, PRIOR, ALPHABET, {})
        assert is_prior(path) and not is_prior(tiny_codec) and not is_prior(tmp_path / "gone")
        with pytest.raises(ModelError, match="is a prior, not a codec"):
            load_model(path)
        with pytest.raises(ModelError, match="is a codec, not a prior"):
            load_prior_file(tiny_codec)

    def test_a_vae_is_no_codec(self, tiny_codec, tmp_path):
        path, config = tmp_path / "vae.safetensors", CodecConfig(name="vae")
        save_model(path, config, {"a": torch.ones(3) / 3}, card="# Card", form=VAE_FORMAT)
        loaded = load_model(path, VAE_FORMAT)
        assert (loaded.config, loaded.card) == (config, "# Card")
        np.testing.assert_array_equal(loaded.state["a"], np.full(3, np.float16(1 / 3), np.float32))
        with pytest.raises(ModelError, match="is a continuous VAE, not a codec; it has no codes and cannot encode"):
            vqaudio.load(path)
        with pytest.raises(ModelError, match="is a codec, not a continuous VAE"):
            load_model(tiny_codec, VAE_FORMAT)
        with pytest.raises(UsageError, match="exists"):
            save_model(path, config, {}, form=VAE_FORMAT)

    @pytest.mark.parametrize(
        "metadata",
        [
            None,
            {"format": "vqaudio prior 2"},
            {"format": PRIOR_FORMAT},
            {"format": PRIOR_FORMAT, "config": json.dumps(dataclasses.asdict(PRIOR))},
            {"format": PRIOR_FORMAT, "config": json.dumps(dataclasses.asdict(PRIOR)), "alphabet": "{}"},
            {
                "format": PRIOR_FORMAT,
                "config": '{"channels": "many"}',
                "alphabet": json.dumps(dataclasses.asdict(ALPHABET)),
            },
        ],
    )
    def test_safetensors_that_are_not_ours(self, tmp_path, metadata):
        path = tmp_path / "other.safetensors"
        path.write_bytes(save({"a": torch.zeros(2)}, metadata))
        with pytest.raises(ModelError):
            load_prior_file(path)

    @pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
    def test_a_truncated_or_missing_file(self, tmp_path, share):
        path = tmp_path / "short.safetensors"
        save_prior(path, PRIOR, ALPHABET, {"a": np.zeros(100, np.float32)})
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        with pytest.raises(ModelError, match=r"short\.safetensors"):
            load_prior_file(path)
        with pytest.raises(ModelError, match="not there"):
            load_prior_file(tmp_path / "gone")
