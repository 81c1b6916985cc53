"""The prior: what each distribution depends on, by measurement, and its loss against plain numpy."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from vqaudio.errors import ModelError
from vqaudio.models.config import Alphabet, CodecConfig, EncoderConfig, PriorConfig, QuantizerConfig, SpeakerConfig
from vqaudio.models.prior import CodePrior

CONFIG = PriorConfig(channels=16, skip_channels=32, dilations=(1, 2, 4), speaker_channels=3, speaker_dropout=0.5)
ALPHABET = Alphabet("test", "00112233", 16000, 64, quantizers=3, codebook_size=7, speaker=(4, 2))


def random_prior(config: PriorConfig = CONFIG, alphabet: Alphabet = ALPHABET) -> CodePrior:
    """A prior in double precision and evaluation mode whose weights all matter."""
    torch.manual_seed(0)
    prior = CodePrior(config, alphabet).double().eval()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.normal_(std=0.5)
    return prior


def random_codes(frames: int, batch: int = 2, alphabet: Alphabet = ALPHABET) -> torch.Tensor:
    return torch.randint(0, alphabet.codebook_size, (batch, alphabet.quantizers, frames))


def heard(prior: CodePrior, codes: torch.Tensor, quantizer: int, frame: int) -> torch.Tensor:
    """Which distributions (quantizers, frames) change with one code."""
    changed = codes.clone()
    changed[:, quantizer, frame] = (codes[:, quantizer, frame] + 1) % ALPHABET.codebook_size
    difference = (prior(changed) - prior(codes)).abs().amax((0, 3))
    return difference > 1e-12


@pytest.mark.parametrize("speaker", [(), (4, 2)])
@pytest.mark.parametrize("quantizers", [1, 3])
def test_shapes(quantizers: int, speaker: tuple[int, ...]) -> None:
    alphabet = dataclasses.replace(ALPHABET, quantizers=quantizers, speaker=speaker)
    prior, codes = random_prior(alphabet=alphabet), random_codes(9, alphabet=alphabet)
    voices = torch.ones(2, len(speaker), dtype=torch.int64)
    assert prior(codes, voices).shape == (2, quantizers, 9, 7)
    assert prior.loss(codes, voices).shape == codes.shape
    assert prior(codes[:, :, :1]).shape == (2, quantizers, 1, 7)


@pytest.mark.parametrize("quantizer", [0, 1, 2])
def test_a_code_changes_nothing_before_it_and_everything_in_reach_after_it(quantizer: int) -> None:
    prior, codes = random_prior(), random_codes(20)
    changed = heard(prior, codes, quantizer, frame=5)
    assert not changed[:, :5].any()
    assert changed[:, 5].tolist() == [q > quantizer for q in range(3)]
    assert changed[:, 6 : 6 + CONFIG.receptive_field].all()
    assert not changed[:, 6 + CONFIG.receptive_field :].any()


@pytest.mark.parametrize(("kernel", "dilations"), [(2, (1, 2, 4)), (3, (1, 3)), (2, (1,))])
def test_the_stated_receptive_field_is_the_measured_one(kernel: int, dilations: tuple[int, ...]) -> None:
    prior = random_prior(dataclasses.replace(CONFIG, kernel=kernel, dilations=dilations))
    reached = heard(prior, random_codes(20), quantizer=0, frame=0)[0].nonzero()
    assert int(reached.max()) == prior.config.receptive_field


def test_the_loss_is_the_negative_logarithm_of_the_softmax() -> None:
    prior, codes = random_prior(), random_codes(6)
    logits = prior(codes).detach().numpy()
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -np.log(np.take_along_axis(shares, codes.numpy()[..., None], axis=-1)[..., 0])
    np.testing.assert_allclose(prior.loss(codes).detach().numpy(), expected, atol=1e-5)


def test_at_first_all_codes_are_equally_likely() -> None:
    prior = CodePrior(CONFIG, ALPHABET)
    np.testing.assert_allclose(prior.loss(random_codes(6)).detach().numpy(), math.log(7), rtol=1e-6)


def test_steps_of_the_stack_equal_the_whole() -> None:
    prior = random_prior()
    x, vector = torch.randn(2, CONFIG.channels, 20).double(), torch.randn(2, CONFIG.speaker_channels).double()
    conditions, past = prior.stack.conditions(None, vector), prior.stack.silent_past(2)
    steps = [prior.stack.step(x[:, :, t : t + 1], conditions, past) for t in range(20)]
    torch.testing.assert_close(torch.cat(steps, dim=2), prior.stack(x, speaker=vector))


class TestSpeaker:
    voices = torch.tensor([[0, 1], [3, 0]])

    def test_every_index_is_heard(self) -> None:
        prior, codes = random_prior(), random_codes(4)
        for other in ([[1, 1], [3, 0]], [[0, 0], [3, 0]]):
            difference = (prior(codes, torch.tensor(other)) - prior(codes, self.voices)).abs().amax((1, 2, 3))
            assert difference[0] > 1e-6 and difference[1] == 0

    def test_indices_of_one_place_are_not_those_of_another(self) -> None:
        prior = random_prior()
        rows = prior.speakers.weight
        rows.data.copy_(torch.arange(len(rows))[:, None].expand_as(rows))
        vectors = prior._voice(self.voices, 2)
        assert vectors is not None
        first = prior.alphabet.speaker[0]
        assert vectors[:, 0].tolist() == [0 + first + 1, 3 + first + 0]

    def test_is_dropped_in_training_only(self) -> None:
        always = random_prior(dataclasses.replace(CONFIG, speaker_dropout=1.0))
        codes = random_codes(4)
        assert not torch.equal(always(codes, self.voices), always(codes))
        always.train()
        assert torch.equal(always(codes, self.voices), always(codes))
        never = random_prior(dataclasses.replace(CONFIG, speaker_dropout=0.0))
        expected = never(codes, self.voices)
        assert torch.equal(never.train()(codes, self.voices), expected)

    def test_is_dropped_for_about_its_share_of_the_items(self) -> None:
        prior = random_prior().train()
        codes, voices = random_codes(1, batch=1).expand(1000, -1, -1), self.voices[:1].expand(1000, -1)
        alike = torch.isclose(prior(codes, voices), prior(codes[:1])).flatten(1).all(1)
        assert float(alike.float().mean()) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("change", [{"channels": 0}, {"kernel": 1}, {"dilations": ()}, {"dilations": (1, 0)}])
def test_an_impossible_architecture_is_an_error(change: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="configuration of the prior"):
        CodePrior(dataclasses.replace(CONFIG, **change), ALPHABET)  # type: ignore[arg-type]


def test_the_alphabet_of_a_codec() -> None:
    codec = CodecConfig("some", encoder=EncoderConfig(strides=(8, 8)), quantizer=QuantizerConfig(2, 32))
    assert Alphabet.of(codec, b"\x01\x02\x03\xff") == Alphabet("some", "010203ff", 16000, 64, 2, 32, ())
    reference = dataclasses.replace(codec, speaker=SpeakerConfig(kind="reference", dims=3, levels=5))
    assert Alphabet.of(reference, b"1234").speaker == (5, 5, 5)
