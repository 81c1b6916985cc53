"""Speaker vectors: none, from a table, from the utterance."""

import torch

from vqaudio.models.config import SpeakerConfig
from vqaudio.models.speaker import Speaker


def test_without_speakers_there_is_no_vector():
    speaker = Speaker(SpeakerConfig("none"), 4)
    assert speaker(torch.randn(2, 4, 5)) is None
    assert speaker.decode(None) is None


def test_lookup_is_a_row_of_the_table_and_dropout_the_null_speaker():
    torch.manual_seed(0)
    speaker = Speaker(SpeakerConfig("lookup", channels=6, speakers=5, dropout=0.5), 4)
    rows = torch.randint(5, (200,))
    vectors = speaker.train()(torch.randn(200, 4, 1), rows)
    null = (vectors == speaker.null).all(1)
    assert 60 < null.sum() < 140
    torch.testing.assert_close(vectors[~null], speaker.table(rows)[~null])
    torch.testing.assert_close(speaker.decode(rows[:3, None]), speaker.table(rows[:3]))


def test_reference_in_training_is_what_its_indices_decode_to():
    torch.manual_seed(0)
    speaker = Speaker(SpeakerConfig("reference", channels=6, dims=4, levels=8), 5).eval()
    latents = 3 * torch.randn(3, 5, 40)
    indices = speaker.indices(*speaker.pool(latents))
    assert indices.shape == (3, 4) and indices.min() >= 0 and indices.max() < 8
    torch.testing.assert_close(speaker(latents), speaker.decode(indices))


def test_statistics_are_those_of_inference_under_autocast_too():
    torch.manual_seed(0)
    speaker = Speaker(SpeakerConfig("reference", channels=16, dims=4, levels=8), 5)
    latents = torch.randn(2, 5, 4000)
    expected = speaker.pool(latents)[:2]
    with torch.autocast("cpu", torch.bfloat16):
        found = speaker.pool(latents)[:2]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=2e-3 * 4000)


def test_numbers_that_are_none_are_sent_as_some():
    speaker = Speaker(SpeakerConfig("reference", channels=6, dims=4, levels=8), 5)
    indices = speaker.indices(torch.full((1, 6), torch.inf), torch.full((1, 6), torch.nan), 3)
    assert indices.min() >= 0 and indices.max() < 8


def test_reference_learns_through_its_rounding():
    speaker = Speaker(SpeakerConfig("reference", channels=6, dims=4, levels=8), 5)
    latents = torch.randn(3, 5, 40, requires_grad=True)
    speaker(latents).square().sum().backward()
    assert latents.grad.abs().sum() > 0
    assert speaker.pooled.weight.grad.abs().sum() > 0


def test_decode_without_indices_is_the_null_speaker():
    speaker = Speaker(SpeakerConfig("reference", channels=6), 5)
    speaker.null.data.normal_()
    torch.testing.assert_close(speaker.decode(None, batch=2), speaker.null.expand(2, -1))
