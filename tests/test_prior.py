"""The prior as its users meet it: scores, samples, and files that are coded under it."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vqaudio
from tests.samples import random_prior
from vqaudio import Codec, Codes, Prior
from vqaudio.codec import unpack_indices
from vqaudio.errors import ModelError, UsageError
from vqaudio.prior import choose, coder_for, find, for_codec
from vqaudio.runtime.range_coder import TOTAL

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def prior(tiny_prior: Path) -> Prior:
    return Prior.load(tiny_prior)


@pytest.fixture(scope="module")
def codes(tiny_codec: Path) -> Codes:
    """Three seconds of noise that swells and fades."""
    codec = vqaudio.load(tiny_codec)
    time = np.arange(48000) / 16000
    noise = np.random.default_rng(0).normal(size=len(time)) * 0.1 * np.sin(2 * np.pi * time) ** 2
    return codec.encode(noise.astype(np.float32), 16000)


def test_scores_are_the_networks_log_probabilities(prior: Prior, codes: Codes) -> None:
    indices = unpack_indices(codes.speaker, prior.alphabet.speaker)
    array = torch.from_numpy(codes.numpy().astype(np.int64))[None]
    logits = prior.network(array, torch.tensor([indices]))[0].double().numpy()
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -np.take_along_axis(logs, codes.numpy()[..., None].astype(np.int64), -1)[..., 0] / math.log(2)
    score = prior.score(codes)
    np.testing.assert_allclose(score.bits, expected, atol=1e-4)
    assert score.per_code == pytest.approx(expected.mean())
    assert score.per_second == pytest.approx(expected.mean() * 2 * 250)
    np.testing.assert_allclose(score.per_position, expected.sum(0), atol=2e-4)
    prior.network.requires_grad_(True)
    np.testing.assert_array_equal(prior.score(codes).bits, score.bits)
    prior.network.requires_grad_(False)


def test_long_codes_are_scored_in_spans_to_the_same(
    prior: Prior, codes: Codes, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prior.score(codes).bits
    monkeypatch.setattr("vqaudio.prior.SPAN", 50)
    np.testing.assert_allclose(prior.score(codes).bits, whole, atol=1e-4)


def test_scores_do_not_depend_on_what_torch_is_set_to(tiny_prior: Path, prior: Prior, codes: Codes) -> None:
    expected, drawn = prior.score(codes).bits, torch.get_rng_state()
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        with torch.device("meta"), torch.autocast("cpu", torch.bfloat16):
            bits = Prior.load(tiny_prior).score(codes).bits
    finally:
        torch.set_default_dtype(before)
    np.testing.assert_array_equal(bits, expected)
    assert torch.equal(torch.get_rng_state(), drawn)


def test_what_files_cost_is_what_the_network_says(prior: Prior, codes: Codes) -> None:
    (payload,) = prior.encode([codes.numpy().T], codes.speaker)
    assert 8 * len(payload) == pytest.approx(prior.score(codes).bits.sum(), rel=0.01)


def test_files_come_back(prior: Prior, codes: Codes, tmp_path: Path) -> None:
    codes.save(tmp_path / "a.codes", coder=prior)
    assert Codes.load(tmp_path / "a.codes", coder=prior) == codes
    with pytest.raises(
        ModelError,
        match=rf"under the prior {prior.fingerprint.hex()}, which is not among those at hand, .*--prior or as coder=",
    ):
        Codes.load(tmp_path / "a.codes")


def test_a_prior_is_one_file(prior: Prior, codes: Codes, tmp_path: Path) -> None:
    prior.save(tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="exists already"):
        prior.save(tmp_path / "other.safetensors")
    again = Prior.load(tmp_path / "other.safetensors")
    assert again.fingerprint == prior.fingerprint
    assert again.card == prior.card
    np.testing.assert_array_equal(again.score(codes).bits, prior.score(codes).bits)


def test_samples_depend_on_the_seed_and_the_stream_alone(prior: Prior) -> None:
    first = prior.sample(0.5, seed=1)
    assert (first.seconds, first.frames, first.quantizers) == (0.5, 125, 2)
    assert first.model == prior.model
    assert prior.sample(0.5, seed=1) == first
    assert prior.sample(0.2, seed=1) == first.slice(0, 0.2)
    others = [prior.sample(0.5, seed=2), prior.sample(0.5, seed=1, stream=1)]
    assert all(other != first for other in others)


def test_samples_follow_the_prior(prior: Prior) -> None:
    """Under the network itself they cost what its distributions promise on the average."""
    sample = prior.sample(8, seed=3)
    logits = prior.network(torch.from_numpy(sample.numpy().astype(np.int64))[None])[0].double()
    logs = torch.log_softmax(logits, -1)
    entropy = float(-(logs.exp() * logs).sum(-1).mean()) / math.log(2)
    assert prior.score(sample).per_code == pytest.approx(entropy, abs=0.1)
    assert prior.score(sample).per_code < 4.8  # of 5: not uniform
    assert prior.score(prior.sample(8, seed=3, temperature=0.5)).per_code < entropy - 0.2


def test_a_prompt_is_gone_on_from(prior: Prior, codes: Codes) -> None:
    continued = prior.sample(0.3, prompt=codes, seed=5)
    assert continued.slice(0, 3) == codes
    assert continued.seconds == pytest.approx(3.3)
    assert continued.speaker == codes.speaker
    alone = prior.sample(3.3, seed=5, speaker=codes.speaker)
    assert not np.array_equal(continued.numpy()[:, 750:], alone.numpy()[:, 750:])  # the past is heard


def test_a_prompt_counts_whole_frames_and_may_be_gone_on_from_in_another_voice(prior: Prior, codes: Codes) -> None:
    prompt = codes.slice(0, 0.1)
    incomplete = dataclasses.replace(prompt, samples=prompt.samples - 10)
    assert prior.sample(0.2, prompt=incomplete, seed=5) == prior.sample(0.2, prompt=prompt, seed=5)
    voice = bytes(byte ^ 1 for byte in codes.speaker)
    assert prior.sample(0.2, prompt=prompt, speaker=voice).speaker == voice
    assert prior.sample(0.2, prompt=prompt.with_speaker(b""), speaker=voice).speaker == voice


def test_what_was_drawn_goes_on_as_it_would_have_gone_on(prior: Prior) -> None:
    whole = prior.sample(0.4, seed=5)
    assert prior.sample(0.2, seed=5, prompt=whole.slice(0, 0.2)) == whole


def test_seconds_are_rounded_to_samples(prior: Prior) -> None:
    assert prior.sample(1.001).samples == 16016  # of which floating point makes a little less


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": 600, "top_k": 0}, "likeliest"),  # as many seconds as may be
        ({"seconds": 0}, "can be sampled"),
        ({"seconds": float("nan")}, "can be sampled"),
        ({"seconds": 601}, "can be sampled"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": 0}, "likeliest"),
        ({"top_k": 33}, "likeliest"),
        ({"top_p": 0}, "probability"),
        ({"top_p": 1.1}, "probability"),
        ({"seed": -1}, "seed"),
        ({"stream": -1}, "Streams"),
    ],
)
def test_options_out_of_range(prior: Prior, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prior.sample(**{"seconds": 1.0, **options})


def test_codes_of_another_codec(prior: Prior, codes: Codes) -> None:
    foreign = dataclasses.replace(codes, model=b"none")
    for use in (prior.score, lambda c: prior.sample(1, prompt=c), lambda c: c.to_bytes(prior)):
        with pytest.raises(ModelError, match="6e6f6e65"):
            use(foreign)
    single = dataclasses.replace(codes, codes=codes.numpy()[:1])
    for use in (prior.score, lambda c: c.to_bytes(prior)):
        with pytest.raises(ModelError, match=r"quantisers|not those"):
            use(single)
    larger = dataclasses.replace(codes, codes=codes.numpy() + 32, codebook_size=64)
    for use in (prior.score, lambda c: prior.sample(1, prompt=c), lambda c: c.to_bytes(prior)):
        with pytest.raises(ModelError, match=r"of 32 codes|not those"):
            use(larger)


def test_what_are_no_codes(prior: Prior, codes: Codes) -> None:
    uses: tuple[Callable[[Any], object], ...] = (prior.score, lambda c: prior.sample(1, prompt=c))
    for use in uses:
        with pytest.raises(UsageError, match="not ndarray"):
            use(codes.numpy())


def test_choice_of_a_coder(tiny_codec: Path, tiny_prior: Path) -> None:
    codec, default = vqaudio.load(tiny_codec), vqaudio.load()
    path = str(tiny_prior)
    assert coder_for(codec, "fixed", None) is None
    assert coder_for(codec, None, None) is None
    with pytest.raises(UsageError, match="does not use"):
        coder_for(codec, "fixed", path)
    with pytest.raises(UsageError, match="no prior at hand"):
        coder_for(codec, "prior", None)
    found = coder_for(codec, None, path)
    assert isinstance(found, Prior)
    assert find(found.fingerprint, path) is found
    with pytest.raises(UsageError, match="all 2 quantisers"):
        coder_for(codec, "prior", path, quantizers=1)
    with pytest.raises(UsageError, match="all 2 quantisers"):
        coder_for(codec, None, path, quantizers=1)
    with pytest.raises(ModelError, match="is a prior for tiny"):
        for_codec(default, path)


def test_a_prior_for_codes_that_the_codec_does_not_give(tiny_codec: Path, tiny_prior: Path, tmp_path: Path) -> None:
    prior, path = Prior.load(tiny_prior), tmp_path / "other.safetensors"
    alphabet = dataclasses.replace(prior.alphabet, hop=2 * prior.alphabet.hop)
    Prior(prior.config, alphabet, prior.state).save(path)
    with pytest.raises(ModelError, match="has another hop"):
        for_codec(vqaudio.load(tiny_codec), str(path))
    for absurd in (dataclasses.replace(alphabet, hop=1 << 40), dataclasses.replace(alphabet, sample_rate=10**15)):
        with pytest.raises(ModelError, match="there is a rate"):
            Prior(prior.config, absurd, prior.state)


def test_a_prior_of_integers_alone_gives_no_scores(prior: Prior, codes: Codes) -> None:
    state = {name: array for name, array in prior.state.items() if name.startswith("integer.")}
    bare = Prior(prior.config, prior.alphabet, state)
    assert bare.fingerprint == prior.fingerprint
    with pytest.raises(ModelError, match="no network in floating point"):
        bare.score(codes)


def test_a_file_with_the_name_of_a_model(
    tiny_default: Path, tiny_codec: Path, tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny_prior, "speech16k-low")
    codec = vqaudio.load(tiny_codec)
    found = for_codec(codec, "./speech16k-low")
    assert (
        found and found.fingerprint == Prior.load("./speech16k-low").fingerprint == Prior.load(tiny_prior).fingerprint
    )
    assert Prior.load(Path("./speech16k-low")).fingerprint == found.fingerprint
    with pytest.raises(ModelError, match="is not there"):
        for_codec(codec, "speech16k-low")
    with pytest.raises(ModelError, match="this is empty"):
        vqaudio.load("")


def test_a_prior_that_is_trained_anew_to_the_same_place(tiny_codec: Path, tiny_prior: Path, tmp_path: Path) -> None:
    codec, path = vqaudio.load(tiny_codec), str(tmp_path / "prior.safetensors")
    shutil.copy(tiny_prior, path)
    before = for_codec(codec, path)
    assert before is for_codec(codec, path)
    random_prior(codec, seed=1).save(path, force=True)
    after = for_codec(codec, path)
    assert before and after and after.fingerprint == Prior.load(path).fingerprint != before.fingerprint


def test_a_prior_that_comes_with_vqaudio(tiny_default: Path, tiny_codec: Path, tiny_prior: Path) -> None:
    codec, prior = vqaudio.load(tiny_codec), Prior.load(tiny_prior)
    assert coder_for(codec, None, None) is None
    with pytest.raises(ModelError, match="at hand, none;"):
        find(prior.fingerprint)
    shutil.copy(tiny_prior, tiny_default / "speech16k-low.prior.safetensors")
    found = for_codec(codec)
    assert found and found.fingerprint == Prior.load("speech16k-low").fingerprint == prior.fingerprint
    assert find(prior.fingerprint) is for_codec(codec, "speech16k-low") is found
    assert coder_for(codec, None, None, quantizers=1) is None
    other = Codec(
        codec.config, {name: array + (name.split(".")[0] == "encoder") for name, array in codec.state.items()}
    )
    assert other.fingerprint != codec.fingerprint and coder_for(other, None, None) is None
    with pytest.raises(ModelError, match=r"at hand, \w{8} \(tiny\);"):
        find(b"none")


FREQUENCIES = st.lists(st.integers(1, 1000), min_size=2, max_size=20).map(
    lambda counts: np.array([*counts, TOTAL - sum(counts)], np.int32)
)


@given(FREQUENCIES, st.floats(1e-7, 1 - 1e-7), st.floats(1e-6, 2), st.integers(1, 21), st.floats(1e-6, 1))
def test_the_choice_is_among_the_likeliest(
    frequencies: np.ndarray, uniform: float, temperature: float, k: int, p: float
) -> None:
    code = choose(frequencies, uniform, temperature, k, p)
    ranked = np.sort(frequencies)[::-1]
    assert frequencies[code] >= ranked[min(k, len(ranked)) - 1]
    weights = (ranked / ranked[0]) ** (1 / temperature)
    weights = weights[:k] / weights[:k].sum()
    likelier = weights[: np.searchsorted(-ranked, -frequencies[code])].sum()
    assert likelier < p + 1e-9
    assert choose(frequencies, uniform, 0, k, p) == frequencies.argmax()
    assert choose(frequencies, uniform, temperature, 1, p) == frequencies.argmax()


def test_choices_have_their_probabilities() -> None:
    frequencies = np.array([1, 2, 3, 2], np.int32) * (TOTAL // 8)
    uniforms = (np.arange(4000) + 0.5) / 4000

    def shares(temperature: float, k: int | None = None, p: float = 1.0) -> np.ndarray:
        drawn = [choose(frequencies, u, temperature, k, p) for u in uniforms]
        return np.bincount(drawn, minlength=4) / len(drawn)

    np.testing.assert_allclose(shares(1), [1 / 8, 2 / 8, 3 / 8, 2 / 8], atol=1e-3)
    np.testing.assert_allclose(shares(0.5), [1 / 18, 4 / 18, 9 / 18, 4 / 18], atol=1e-3)
    np.testing.assert_allclose(shares(1, k=2), [0, 2 / 5, 3 / 5, 0], atol=1e-3)
    np.testing.assert_allclose(shares(1, p=0.7), [0, 2 / 7, 3 / 7, 2 / 7], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "path"),
    [("tiny", GOLDEN / "tiny.prior.safetensors"), ("prior", "speech16k"), ("low", "speech16k-low")],
)
def test_golden_files(name: str, path: str | Path) -> None:
    """Bytes that were written once, on one machine, and their codes: under a small prior beside them, of three blocks
    and two quantisers, and under those that come with vqaudio."""
    prior = Prior.load(path)
    codes = np.array(json.loads((GOLDEN / f"{name}.json").read_text()))
    for form in (f"{name}.codes", f"{name}.live.codes"):
        read = Codes.load(GOLDEN / form, coder={prior.fingerprint: prior}.__getitem__)
        np.testing.assert_array_equal(read.numpy(), codes)
    file = (GOLDEN / f"{name}.codes").read_bytes()
    assert Codes.from_bytes(file, coder=prior).to_bytes(prior) == file


@pytest.mark.parametrize("threads", ["1", "2", "3", "7"])
def test_threads_change_nothing(threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    prior = Prior.load(GOLDEN / "tiny.prior.safetensors")
    file = (GOLDEN / "tiny.codes").read_bytes()
    codes = Codes.from_bytes(file, coder=prior)
    assert codes.numpy().tolist() == json.loads((GOLDEN / "tiny.json").read_text())
    assert codes.to_bytes(prior) == file


def test_integers_cost_hardly_more_than_floating_point() -> None:
    """On speech, under the prior that comes with vqaudio."""
    prior, codes = Prior.load(), Codes.load(GOLDEN / "prior.codes")
    (payload,) = prior.encode([codes.numpy().T], codes.speaker)
    bits = prior.score(codes).bits.sum()
    assert bits < 0.9 * 9 * codes.frames
    assert 8 * len(payload) == pytest.approx(bits, rel=0.01)
