"""What priors cost, context, and samples, on an untrained codec and a prior with random weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import vqaudio
from tests.samples import random_prior
from vqaudio.codec import Codec, pack_indices
from vqaudio.codes import Codes
from vqaudio.errors import AudioError
from vqaudio.evaluation import context, generated
from vqaudio.evaluation.context import CHECKSUM, octave_bounds
from vqaudio.evaluation.counted import Bigram, Counted, Unigram
from vqaudio.evaluation.estimates import Estimate
from vqaudio.evaluation.generated import Plan
from vqaudio.evaluation.prior import Cost, costs, encode, integer_bits, saving, ways
from vqaudio.prior import Prior


@pytest.fixture(scope="module")
def codec(tiny_codec: Path) -> Codec:
    return vqaudio.load(tiny_codec, threads=1)


@pytest.fixture(scope="module")
def prior(codec: Codec) -> Prior:
    return random_prior(codec)


@pytest.fixture(scope="module")
def speech(codec: Codec, prior: Prior) -> list[Codes]:
    """Three utterances that the prior itself says, each in a voice of its own."""
    voices = [pack_indices([k] * len(codec.config.speaker.sizes), codec.config.speaker.sizes) for k in range(3)]
    return [prior.sample(seconds, stream=k, speaker=voices[k]) for k, seconds in enumerate((0.5, 0.8, 1.3))]


@pytest.fixture(scope="module")
def counted(speech: list[Codes]) -> Counted:
    pieces = [codes.numpy() for codes in speech]
    unigram = Unigram.counted(pieces, 32)
    return Counted(Unigram.uniform(2, 32), unigram, Bigram(pieces, unigram))


def test_every_way_costs_what_it_should(speech: list[Codes], counted: Counted, prior: Prior) -> None:
    rows = {cost.name: cost for cost in costs(speech, ways(counted, prior, {"other": prior}, True), prior)}
    assert rows["uniform"].per_code.mean == pytest.approx(5)
    assert rows["uniform"].rate.mean == pytest.approx(5 * 2 * 250 / 1000)
    assert rows["unigram"].per_code.mean < 5
    learned = [float(prior.score(codes).per_code) for codes in speech]
    assert rows["learned"].per_code == Estimate.of(learned)
    assert rows["integers"].per_code.mean == pytest.approx(rows["learned"].per_code.mean, rel=0.05)
    assert rows["integers of other"].utterances == rows["integers"].utterances
    alone = [float(integer_bits(prior, codes.with_speaker(b"")).sum()) for codes in speech]
    assert rows["integers, no speaker"].utterances == pytest.approx(alone)
    assert rows["integers, no speaker"].utterances != rows["integers"].utterances
    sizes = [len(codes.to_bytes(prior)) for codes in speech]
    assert rows["files, prior"].utterances == [8 * size for size in sizes]
    assert rows["files, fixed"].utterances == [8 * len(codes.to_bytes()) for codes in speech]
    shares = [1 - size / len(codes.to_bytes()) for size, codes in zip(sizes, speech, strict=True)]
    assert saving(list(rows.values())) == Estimate.of(shares)


def test_codes_without_speakers_have_no_rows_without(counted: Counted, prior: Prior) -> None:
    assert not any("speaker" in name for name in ways(counted, prior, {}, False))


def test_means_over_utterances_have_bootstrap_intervals(speech: list[Codes]) -> None:
    cost = Cost.of("two bits", [2.0 * codes.codes.size for codes in speech], speech)
    assert (cost.per_code.low, cost.per_code.mean, cost.per_code.high) == (2, 2, 2)
    uneven = Cost.of("uneven", [codes.codes.size * k for k, codes in enumerate(speech)], speech)
    assert uneven.per_code.mean == pytest.approx(1)
    assert 0 <= uneven.per_code.low < 1 < uneven.per_code.high <= 2


def test_octaves_hold_every_length_of_context_once() -> None:
    assert octave_bounds(1) == [(0, 1)]
    assert octave_bounds(8) == [(0, 1), (1, 2), (2, 4), (4, 8)]
    assert octave_bounds(11) == [(0, 1), (1, 2), (2, 4), (4, 8), (8, 11)]


def test_blocks_that_start_anew_lack_context_and_only_that(speech: list[Codes], prior: Prior) -> None:
    result = context.measure(prior, speech)
    assert len(result.extra) == prior.config.receptive_field
    assert result.whole == pytest.approx(np.mean([integer_bits(prior, codes).mean() for codes in speech]))
    by_hand = []
    for codes in speech:
        whole = integer_bits(prior, codes).mean(0)
        for start in range(62, codes.frames, 62):  # a quarter of a second
            span = dataclasses.replace(codes, codes=codes.numpy()[:, start:], samples=(codes.frames - start) * 64)
            extra = (integer_bits(prior, span).mean(0) - whole[start:])[:12]
            by_hand.append(np.pad(extra, (0, 12 - len(extra)), constant_values=np.nan))
    means = np.nanmean(by_hand, axis=0)
    assert result.extra == pytest.approx(means[:8])
    assert means[8:] == pytest.approx(0, abs=1e-12)  # behind the receptive field nothing is lacking
    assert result.extra[0] != 0
    assert [octave.name for octave in result.octaves] == ["0", "1", "2 to 3", "4 to 7"]
    assert 0 < result.end < 32


def test_longer_blocks_cost_less_and_end_at_what_no_blocks_cost(speech: list[Codes], prior: Prior) -> None:
    result = context.measure(prior, speech)
    prices = [result.block(seconds).price for seconds in (0.5, 1, 2, 5, 10, 20, 1000)]
    assert prices == sorted(prices, reverse=True)
    assert prices[-1] < 0.001 < prices[0]
    half = result.block(0.5)
    assert 5 < half.overhead < 10
    assert half.rate == pytest.approx(result.rate + half.price)
    assert half.per_code == pytest.approx(half.rate * 1000 / 500)


def test_every_code_of_a_frame_lacks_context() -> None:
    whole = context.Context(5.0, np.array([1.0, 0.5]), [], 4.0, 2, 100.0)
    assert whole.block(0.02).per_code == pytest.approx((4 * 5 + 2 * (1 + 0.5) + 4 + 8 * (1 + CHECKSUM)) / 4)


def test_the_price_of_a_block_is_that_of_real_ones(codec: Codec, prior: Prior) -> None:
    codes = prior.sample(60.0)
    result = context.measure(prior, [codes])
    block = result.block(1.0)
    array = codes.numpy().T
    payloads = prior.encode([array[start : start + 250] for start in range(0, len(array), 250)], b"")
    real = np.mean([len(payload) + 4 + (1 if len(payload) < 128 else 2) for payload in payloads])
    assert block.rate * 1000 / 8 == pytest.approx(real, rel=0.01)


def test_speech_shorter_than_a_start_has_no_context_to_tell_of(prior: Prior) -> None:
    result = context.measure(prior, [prior.sample(0.1), prior.sample(0.1, stream=1)])
    assert not result.extra.any()
    assert all(octave.extra.count == 0 for octave in result.octaves)


def test_divergence_is_zero_for_the_same_and_one_for_all_different() -> None:
    assert generated.divergence(np.array([1, 2, 2]), np.array([2, 1, 2, 1, 2, 2])) == pytest.approx(0, abs=1e-12)
    assert generated.divergence(np.array([1, 2]), np.array([3])) == pytest.approx(1)
    assert np.isnan(generated.divergence(np.array([], int), np.array([3])))
    half = generated.divergence(np.array([0]), np.array([0, 1]))
    assert half == pytest.approx(-0.75 * np.log2(0.75) - 0.25 * np.log2(0.25) - 0.5)


def test_runs_and_silence() -> None:
    assert generated.run_length(np.array([[1, 1, 1, 1], [1, 2, 1, 2]], np.uint16)) == pytest.approx((4 + 1) / 2)
    loud, quiet = np.full(320, 0.5, np.float32), np.full(320, 0.5 * 10 ** (-39 / 20), np.float32)
    assert generated.silence(np.concatenate([loud, quiet]), 16000) == 0
    assert generated.silence(np.concatenate([loud, quiet / 2, quiet / 2, loud, loud[:99]]), 16000) == 0.5
    assert generated.silence(np.zeros(640, np.float32), 16000) == 1
    assert np.isnan(generated.silence(loud[:300], 16000))


def test_excerpts_take_turns_and_are_never_the_same_twice(speech: list[Codes]) -> None:
    pieces = [excerpt.codes for excerpt in generated.excerpts(speech, 4, 0.4)]
    assert [piece.seconds for piece in pieces] == pytest.approx([0.4] * 4, abs=0.005)
    assert pieces[0] == speech[0].slice(0.05, 0.45)
    assert pieces[3] == speech[1].slice(0.4, 0.8)
    assert len(generated.excerpts(speech, 100, 0.4)) == 1 + 2 + 3
    longer = generated.excerpts(speech, 3, 1.0)
    assert [excerpt.codes for excerpt in longer] == [speech[0], speech[1], speech[2].slice(0.15, 1.15)]


def test_an_excerpt_sounds_as_within_its_utterance(speech: list[Codes], codec: Codec) -> None:
    excerpt = generated.excerpts(speech[2:], 2, 0.4)[1]
    whole, piece = codec.decode(speech[2]), excerpt.sound(codec)
    assert len(piece) == excerpt.codes.samples and excerpt.start > 0
    np.testing.assert_array_equal(piece, whole[excerpt.start : excerpt.start + len(piece)])
    first, frames = excerpt.start // 64, excerpt.codes.frames
    np.testing.assert_array_equal(excerpt.codes.numpy(), speech[2].numpy()[:, first : first + frames])


def test_samples_of_every_prior_are_judged_like_real_speech(
    speech: list[Codes], counted: Counted, prior: Prior, codec: Codec
) -> None:
    plan = Plan(samples=3, seconds=1.0, seed=5, temperature=1.0)
    advanced: list[int] = []
    results = list(generated.compare(speech, counted, prior, codec, plan, (), lambda: advanced.append(1)))
    assert [result.name for result in results] == ["real", "uniform", "unigram", "bigram", "learned"]
    assert [result.samples for result in results] == [1, 3, 3, 3, 3]  # of the real ones, as many as there are
    assert len(advanced) == 13
    few = [generated.draw(counted.uniform, plan, stream, speech[1]) for stream in range(3)]
    compared = generated.judge(
        "uniform", few, (np.asarray(codec.decode(codes)) for codes in few), speech[0::2], (), -(-speech[1].frames // 3)
    )
    assert compared.unigram == results[1].unigram  # no more codes than there are of real speech
    assert all(0 < result.unigram < result.bigram <= 1 for result in results)
    assert all(0 <= result.silence.mean <= 1 <= result.run.mean for result in results)
    again = generated.draw(counted.bigram, plan, 0, speech[1])
    assert again == generated.draw(counted.bigram, plan, 0, speech[1])
    assert again != generated.draw(counted.bigram, plan, 1, speech[1])
    assert (again.speaker, again.samples, again.model) == (speech[1].speaker, 16000, codec.fingerprint)


def test_files_that_cannot_be_read_are_left_out_and_one_is_too_few(codec: Codec, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    for name in ("a.wav", "b.wav"):
        vqaudio.audio.write(tmp_path / name, np.zeros(4000, np.float32), 16000)
    speech = encode(codec, [tmp_path / name for name in ("a.wav", "bad.wav", "b.wav")])
    assert len(speech.codes) == len(speech.paths) == 2
    assert speech.skipped[0][0].endswith("bad.wav")
    with pytest.raises(AudioError, match=r"Two files .* there are 1: .*bad\.wav"):
        encode(codec, [tmp_path / "a.wav", tmp_path / "bad.wav"])
