"""The integer prior against plain numpy, against the network that it was rounded from, and against itself."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vqaudio.errors import ModelError
from vqaudio.models.config import Alphabet, PriorConfig, check_prior
from vqaudio.models.prior import CodePrior
from vqaudio.runtime import product
from vqaudio.runtime.compilation import inner
from vqaudio.runtime.integer_prior import ROWS, IntegerPrior, Stepper
from vqaudio.runtime.integers import fingerprint, quantize
from vqaudio.runtime.processor import INTEGER_PAIRED
from vqaudio.runtime.range_coder import TOTAL

CONFIG = PriorConfig(channels=16, skip_channels=32, kernel=3, dilations=(1, 2, 4), speaker_channels=8)
ALPHABET = Alphabet("tiny", "01020304", 16000, 64, quantizers=2, codebook_size=21, speaker=(4, 4, 4))
ALONE = dataclasses.replace(ALPHABET, quantizers=1, speaker=())


def trained(alphabet: Alphabet, seed: int = 0, config: PriorConfig = CONFIG) -> CodePrior:
    """A network with weights about as large as trained ones, in half precision as a file holds them."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = CodePrior(config, alphabet)
        for parameter in network.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter) / max(1, parameter[0].numel()) ** 0.5
            parameter.data = parameter.data.half().float()
    return network.eval().requires_grad_(False)


def arrays_of(network: CodePrior) -> dict[str, np.ndarray]:
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    return quantize(network.config, network.alphabet, state)


def integers_of(network: CodePrior) -> IntegerPrior:
    return IntegerPrior(network.config, network.alphabet, arrays_of(network))


def draw(frames: int, alphabet: Alphabet, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(0, alphabet.codebook_size, (frames, alphabet.quantizers)).astype(np.uint16)


def by_specification(
    config: PriorConfig, alphabet: Alphabet, arrays: dict[str, np.ndarray], codes: np.ndarray, speaker: list[int] | None
) -> np.ndarray:
    """All frequencies (frames, quantizers, K) as docs/format.md has them, in plain numpy."""
    own = {name.removeprefix("integer."): array.astype(np.int64) for name, array in arrays.items()}
    size, channels = alphabet.codebook_size, config.channels

    def scaled(sums, scale):
        return (sums * scale + 2**23) >> 24

    def bounded(x):
        return np.clip(x, -8191, 8191)

    def sigmoid(x):
        return own["sigmoid"][np.clip(x, -2048, 2047) + 2048]

    def rectified(x):
        return x * sigmoid(x) >> 14

    gates = own["dilated_bias"]
    if alphabet.speaker:
        rows, offset = [own["speakers"][-1]], 0
        if speaker is not None:
            rows = []
            for index, values in zip(speaker, alphabet.speaker, strict=True):
                rows.append(own["speakers"][offset + index])
                offset += values
        gates = gates + scaled(bounded(sum(rows)) @ own["speaker"], own["speaker_scale"]).reshape(gates.shape)
    inputs = [own["codes"][-1]]
    for frame in codes[:-1].astype(np.int64):
        inputs.append(bounded(sum(own["codes"][q * size + code] for q, code in enumerate(frame))))
    x = np.stack(inputs)
    skips = 0
    for layer, dilation in enumerate(config.dilations):
        past = np.zeros(((config.kernel - 1) * dilation, channels), np.int64)
        padded = np.concatenate([past, x])
        taps = np.concatenate([padded[k * dilation :][: len(x)] for k in range(config.kernel)], axis=1)
        both = scaled(taps @ own["dilated"][layer], own["dilated_scale"][layer]) + gates[layer]
        f, g = both[:, :channels], both[:, channels:]
        z = ((2 * sigmoid(2 * f) - 2**14) * sigmoid(g)) >> 16
        result = scaled(z @ own["output"][layer], own["output_scale"][layer]) + own["output_bias"][layer]
        x, skips = bounded(x + result[:, :channels]), skips + result[:, channels:]
    context = rectified(bounded(skips))
    found = np.zeros((*codes.shape, size), np.int64)
    for q in range(codes.shape[1]):
        hidden = scaled(context @ own["hidden"][q], own["hidden_scale"][q]) + own["hidden_bias"][q]
        for j in range(q):
            hidden = hidden + own["earlier"][(q * (q - 1) // 2 + j) * size + codes[:, j]]
        logits = scaled(rectified(bounded(hidden)) @ own["final"][q], own["final_scale"][q]) + own["final_bias"][q]
        below = logits.max(1, keepdims=True) - logits
        e = own["powers"][below % 1024] >> np.minimum(below // 1024, 31)
        share = ((2**24 - size) * 2**32) // e.sum(1, keepdims=True)
        f = 1 + (e * share >> 32)
        f[np.arange(len(f)), logits.argmax(1)] += 2**24 - f.sum(1)
        found[:, q] = f
    return found


def intervals_of(frequencies: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Where codes (frames, quantizers) lie among frequencies (frames, quantizers, K)."""
    starts = np.cumsum(frequencies, axis=2) - frequencies
    chosen = codes[:, :, None].astype(np.int64)
    return np.concatenate([np.take_along_axis(array, chosen, 2) for array in (starts, frequencies)], axis=2)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 2 * ROWS + 3), st.booleans(), st.booleans())
def test_frequencies_are_those_of_the_specification(seed: int, frames: int, alone: bool, nobody: bool) -> None:
    alphabet = ALONE if alone else ALPHABET
    network = trained(alphabet, seed)
    codes = draw(frames, alphabet, seed)
    speaker = None if nobody or alone else [seed % 4, seed // 4 % 4, seed // 16 % 4]
    expected = by_specification(network.config, alphabet, arrays_of(network), codes, speaker)
    assert (expected.sum(2) == TOTAL).all()
    assert expected.min() >= 1
    assert np.array_equal(integers_of(network).intervals(codes, speaker), intervals_of(expected, codes))


def test_activations_and_logits_beyond_their_bounds_are_those_of_the_specification() -> None:
    network = trained(ALPHABET)
    for parameter in network.parameters():
        parameter.data *= 20
    network.speakers.weight.data.fill_(20.0)  # of three the sum is beyond what is kept of it
    codes = draw(100, ALPHABET)
    expected = by_specification(CONFIG, ALPHABET, arrays_of(network), codes, [1, 2, 3])
    assert (expected == 1).any()  # what is impossible to the network costs 24 bits
    assert np.array_equal(integers_of(network).intervals(codes, [1, 2, 3]), intervals_of(expected, codes))


def test_rows_of_tables_beyond_the_largest_activation_are_that() -> None:
    network = trained(ALPHABET)
    for name in ("codes", "speakers", "earlier.0"):
        table = network.get_parameter(f"{name}.weight").data
        table[1], table[2] = 1000.0, -1000.0
    arrays = arrays_of(network)
    for name in ("codes", "speakers", "earlier"):
        assert (arrays[f"integer.{name}"][1] == 8191).all() and (arrays[f"integer.{name}"][2] == -8191).all()


def test_processors_without_products_of_pairs_come_to_the_same_frequencies(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    weights = generator.integers(-127, 128, (48, 32)).astype(np.int16)
    inputs = generator.integers(-8191, 8192, (5, 48)).astype(np.int16)
    paired = np.ascontiguousarray(np.ascontiguousarray(weights.T).view(np.int32).T)
    for fast in {False, INTEGER_PAIRED}:
        monkeypatch.setattr(product, "INTEGER_PAIRED", fast)
        add = product.strip(1, (2, 1), 8)
        totals = np.ones((5, 32), np.int32)

        @inner
        def run(totals, weights, inputs, add=add):
            for row in range(len(totals)):
                add(totals, weights, inputs, row, 0)

        run(totals, paired, inputs.view(np.int32))
        assert np.array_equal(totals, 1 + inputs.astype(np.int64) @ weights)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 200), st.booleans())
def test_blocks_come_back(seed: int, frames: int, alone: bool) -> None:
    alphabet = ALONE if alone else ALPHABET
    prior, codes = integers_of(trained(alphabet, seed)), draw(frames, alphabet, seed)
    speaker = None if alone else [3, 0, 1]
    payload = prior.encode(codes, speaker)
    (decoded,) = prior.decode([payload], [frames], speaker)
    assert decoded is not None
    assert np.array_equal(decoded, codes)
    ideal = (24 - np.log2(prior.intervals(codes, speaker)[..., 1])).sum() / 8
    assert len(payload) <= ideal * 1.001 + 4


def test_blocks_that_are_decoded_together_are_as_if_alone() -> None:
    prior = integers_of(trained(ALPHABET))
    blocks = [draw(frames, ALPHABET, frames) for frames in (1, 150, 64, 65, 150)]
    payloads = [prior.encode(block, [1, 2, 3]) for block in blocks]
    payloads[3] += b"\0"  # which no encoder writes
    decoded = prior.decode(payloads, [len(block) for block in blocks], [1, 2, 3])
    assert decoded[3] is None
    for index in (0, 1, 2, 4):
        np.testing.assert_array_equal(decoded[index], blocks[index])


@given(st.binary(max_size=300))
def test_any_payload_ends_in_codes_or_in_nothing(payload: bytes) -> None:
    (decoded,) = integers_of(trained(ALPHABET)).decode([payload], [40], [0, 1, 2])
    assert decoded is None or (decoded.shape == (40, 2) and decoded.max() < 21)


def test_steps_give_what_blocks_do() -> None:
    prior, codes = integers_of(trained(ALPHABET)), draw(150, ALPHABET)
    expected = prior.intervals(codes, [3, 2, 1])
    stepper = Stepper(prior, [3, 2, 1], len(codes))
    for frame in range(len(codes)):
        for q in range(2):
            frequencies = stepper.frequencies()
            assert frequencies.sum() == TOTAL
            assert frequencies[codes[frame, q]] == expected[frame, q, 1]
            stepper.push(int(codes[frame, q]))


def test_rounding_to_integers_costs_less_than_a_hundredth() -> None:
    network = trained(ALPHABET, config=dataclasses.replace(CONFIG, channels=64, skip_channels=64))
    prior, codes = integers_of(network), draw(600, ALPHABET)
    speaker = [1, 1, 2]
    nats = network.loss(torch.from_numpy(codes.T.astype(np.int64))[None], torch.tensor([speaker]))
    bits = float(nats.mean()) / math.log(2)
    rounded = (24 - np.log2(prior.intervals(codes, speaker)[..., 1])).mean()
    assert bits > 0.5
    assert rounded == pytest.approx(bits, rel=0.01)


def test_arrays_that_do_not_fit_are_refused() -> None:
    arrays = arrays_of(trained(ALPHABET))
    for name in arrays:
        fewer = {other: array for other, array in arrays.items() if other != name}
        with pytest.raises(ModelError, match="does not fit"):
            IntegerPrior(CONFIG, ALPHABET, fewer)
        if arrays[name].size:
            with pytest.raises(ModelError, match="does not fit"):
                IntegerPrior(CONFIG, ALPHABET, arrays | {name: arrays[name][:-1]})
        with pytest.raises(ModelError, match="does not fit"):
            IntegerPrior(CONFIG, ALPHABET, arrays | {name: arrays[name].astype(np.int64)})


def test_tables_of_something_else_are_refused() -> None:
    arrays = arrays_of(trained(ALPHABET))
    for name in ("integer.sigmoid", "integer.powers"):
        near, far = arrays[name].copy(), arrays[name].copy()
        near[5] += 1  # as another machine may round it
        far[5] += 2
        IntegerPrior(CONFIG, ALPHABET, arrays | {name: near})
        with pytest.raises(ModelError, match="wrong table"):
            IntegerPrior(CONFIG, ALPHABET, arrays | {name: far})


@pytest.mark.parametrize("change", [{"codebook_size": 0}, {"quantizers": 0}, {"speaker": (4, 0)}, {"hop": 0}])
def test_alphabets_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="must see to it"):
        IntegerPrior(CONFIG, dataclasses.replace(ALPHABET, **change), arrays_of(trained(ALPHABET)))


def test_sums_that_could_overflow_are_refused() -> None:
    largest = 2048 // CONFIG.kernel // 16 * 16
    check_prior(dataclasses.replace(CONFIG, channels=largest), ALPHABET)
    for larger in (
        dataclasses.replace(CONFIG, channels=largest + 16),
        dataclasses.replace(CONFIG, skip_channels=2064),
        dataclasses.replace(CONFIG, speaker_channels=2049),
    ):
        with pytest.raises(ModelError, match="2,048 terms"):
            check_prior(larger, ALPHABET)


def test_the_fingerprint_names_all_that_frequencies_depend_on_and_nothing_else() -> None:
    network = trained(ALPHABET)
    arrays = arrays_of(network)
    names = {fingerprint(CONFIG, ALPHABET, arrays)}
    for name, array in arrays.items():
        if array.size:
            changed = array.copy()
            changed.flat[-1] += 1
            names.add(fingerprint(CONFIG, ALPHABET, arrays | {name: changed}))
    names.add(fingerprint(dataclasses.replace(CONFIG, dilations=(1, 2, 5)), ALPHABET, arrays))
    assert len(names) == 2 + sum(array.size > 0 for array in arrays.values())
    assert fingerprint(dataclasses.replace(CONFIG, speaker_dropout=0.5), ALPHABET, arrays) in names
    floats = {name: value.numpy() for name, value in network.state_dict().items()}
    assert fingerprint(CONFIG, ALPHABET, floats | arrays) == fingerprint(CONFIG, ALPHABET, arrays)
