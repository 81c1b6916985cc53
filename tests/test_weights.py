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

from vqaudio.errors import ModelError, UsageError
from vqaudio.models.vqvae import VQVAE
from vqaudio.weights import FORMAT, fingerprint, load_model, save_model


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
    longer = dataclasses.replace(model.config.encoder, gain=1.0)
    assert fingerprint(dataclasses.replace(model.config, encoder=longer), state) != fingerprint(model.config, state)


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
    ],
)
def test_safetensors_that_are_not_ours(tmp_path, metadata):
    path = tmp_path / "other.safetensors"
    path.write_bytes(save({"a": torch.zeros(2)}, metadata))
    with pytest.raises(ModelError):
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
