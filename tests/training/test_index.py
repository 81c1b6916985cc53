"""The index of a packed corpus: what is held out, and the pieces that are drawn, whatever is packed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqaudio.errors import TrainingError
from vqaudio.training.index import Draw, Index, validation_places


def build(lengths: list[int], speakers: list[str], names: list[str] | None = None) -> Index:
    speaker_names, rows = np.unique(speakers, return_inverse=True)
    return Index(
        starts=np.cumsum([0, *lengths[:-1]]),
        lengths=np.array(lengths),
        speakers=rows.astype(np.int64),
        names=np.array(names or [f"{speaker}/{i}" for i, speaker in enumerate(speakers)]),
        speaker_names=speaker_names,
        key="",
    )


class TestSplit:
    @settings(max_examples=25, deadline=None)
    @given(st.integers(2, 30), st.integers(0, 12), st.randoms(use_true_random=False))
    def test_parts_are_whole_disjoint_and_fixed_by_names(self, speakers, held, random):
        names = [f"s{i}/{j}" for i in range(speakers) for j in range(1 + i % 3)]
        chosen = []
        for order in (names, random.sample(names, len(names))):
            index = build([5] * len(order), [name.split("/")[0] for name in order], order)
            train, validation = index.split(held)
            assert sorted([*train, *validation]) == list(range(len(order)))
            assert len(train) and len(validation)
            voices = set(index.speakers[validation])
            if 0 < 2 * held <= speakers:
                assert len(voices) == held and not voices & set(index.speakers[train])
            else:
                assert len(validation) == max(1, len(names) // 20)
            chosen.append({order[i] for i in validation})
        assert chosen[0] == chosen[1]

    def test_one_utterance_cannot_be_split(self):
        with pytest.raises(TrainingError, match="only one utterance"):
            build([5], ["a"]).split(8)


class TestDraw:
    index = build([300, 40, 700, 120, 90], ["a", "b", "a", "c", "b"])

    def test_is_a_pure_function_of_seed_and_step(self):
        draw = Draw(self.index, np.arange(5), 50, seed=3)
        first, other, again = (np.stack(draw.places(step, 8)) for step in (7, 8, 7))
        assert np.array_equal(first, again) and not np.array_equal(first, other)
        assert not np.array_equal(first, np.stack(Draw(self.index, np.arange(5), 50, seed=4).places(7, 8)))

    def test_pieces_lie_in_the_utterances_drawn_from(self):
        rows, starts = Draw(self.index, np.array([1, 2]), 50, seed=0).places(0, 500)
        assert set(rows) == {1, 2}
        assert (starts[rows == 1] == 0).all()
        assert starts.min() == 0 and 600 < starts.max() <= 650

    @settings(max_examples=50, deadline=None)
    @given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**9), st.integers(0, 2**31))
    def test_processes_share_one_draw(self, world, share, step, seed):
        size = world * share
        whole = np.stack(Draw(self.index, np.arange(5), 50, seed).places(step, size))
        parts = [
            np.stack(Draw(self.index, np.arange(5), 50, seed, rank, world).places(step, size)) for rank in range(world)
        ]
        assert {part.shape for part in parts} == {(2, share)}
        assert np.array_equal(np.concatenate(parts, axis=1), whole)

    @settings(max_examples=50, deadline=None)
    @given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**9), st.integers(0, 2**31))
    def test_no_piece_is_heard_twice_by_any_process_in_two_steps(self, world, share, step, seed):
        """In a corpus so long that chance would hardly repeat a place."""
        index = build([2**40], ["a"])
        draws = [Draw(index, np.arange(1), 50, seed, rank, world) for rank in range(world)]
        starts = [start for draw in draws for i in (step, step + 1) for start in draw.places(i, world * share)[1]]
        assert len(set(starts)) == len(starts) == 2 * world * share


def test_validation_hears_speakers_in_turn_and_no_place_twice():
    index = build([900, 300, 300, 20], ["a", "b", "c", "c"])
    rows, starts = validation_places(index, np.arange(4), 9, 50)
    assert Counter(index.speakers[rows].tolist()) == {0: 3, 1: 3, 2: 3}
    assert len(set(zip(rows.tolist(), starts.tolist(), strict=True))) == 9
    assert len(validation_places(index, np.arange(4), 100, 50)[0]) == 18 + 6 + 6 + 1
