"""Joined recordings: complete, of one speaker, in order, about as long and as many as asked for."""

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lact_asr_model.data.joining import PAUSE_SECONDS_RANGE, join_neighbours, join_samples

utterances = st.lists(st.tuples(st.floats(0.5, 20.0), st.sampled_from(["a", "b", None])), max_size=60)


def join(durations_seconds, speakers, *, share, longest_seconds=30.0, seed=0) -> list[tuple[int, ...]]:
    rng = np.random.default_rng(seed)
    return join_neighbours(durations_seconds, speakers, rng, share=share, longest_seconds=longest_seconds)


@given(utterances, st.floats(0, 1), st.integers(0, 3))
def test_every_utterance_once_and_only_neighbours_of_one_speaker_together(pairs, share, seed) -> None:
    durations_seconds, speakers = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    groups = join(durations_seconds, speakers, share=share, seed=seed)
    assert [index for group in groups for index in group] == list(range(len(pairs)))
    for group in groups:
        assert len({speakers[index] for index in group}) == 1
        if len(group) > 1:
            assert speakers[group[0]] is not None
            assert sum(durations_seconds[index] for index in group) <= 30.0


def test_a_share_of_nothing_and_of_everything() -> None:
    durations_seconds, speakers = [5.0] * 200, ["a"] * 200
    assert join(durations_seconds, speakers, share=0.0) == [(index,) for index in range(200)]
    groups = join(durations_seconds, speakers, share=1.0)
    seconds = [5.0 * len(group) for group in groups[:-1]]  # the last one takes what is left
    assert min(seconds) >= 15.0 - 5.0 and max(seconds) <= 30.0
    assert len(set(seconds)) > 2


def test_about_the_share_of_the_audio_is_joined() -> None:
    durations_seconds = np.random.default_rng(1).uniform(2, 16, 3000)
    groups = join(durations_seconds, ["a"] * 3000, share=0.4, longest_seconds=60.0)
    joined_seconds = sum(durations_seconds[list(group)].sum() for group in groups if len(group) > 1)
    assert joined_seconds / durations_seconds.sum() == pytest.approx(0.4, abs=0.06)


def test_who_speaks_twice_with_another_between_is_not_joined_across() -> None:
    speakers = ["a", "a", "b", "a", "a"]
    groups = join([1.0] * 5, speakers, share=1.0)
    assert [[speakers[index] for index in group] for group in groups] == [list(run) for _, run in groupby(speakers)]


def test_each_epoch_draws_anew_and_can_be_repeated() -> None:
    durations_seconds, speakers = [5.0] * 50, ["a"] * 50
    first = join(durations_seconds, speakers, share=0.5, seed=0)
    assert first == join(durations_seconds, speakers, share=0.5, seed=0)
    assert first != join(durations_seconds, speakers, share=0.5, seed=1)


def test_recordings_follow_each_other_with_silence_between() -> None:
    rng = np.random.default_rng(0)
    recordings = [np.full(length, value, dtype=np.float32) for length, value in ((700, 0.1), (300, 0.2), (500, 0.3))]
    joined = join_samples(recordings, rng)
    assert joined.dtype == np.float32
    runs = [(value, len(list(run))) for value, run in groupby(joined.tolist())]
    assert [value for value, _ in runs] == pytest.approx([0.1, 0.0, 0.2, 0.0, 0.3])
    assert [runs[place][1] for place in (0, 2, 4)] == [700, 300, 500]
    pauses_seconds = [runs[place][1] / 16000 for place in (1, 3)]
    assert pauses_seconds[0] != pauses_seconds[1]
    assert all(PAUSE_SECONDS_RANGE[0] <= pause <= PAUSE_SECONDS_RANGE[1] for pause in pauses_seconds)


def test_one_recording_stays_as_it_is() -> None:
    recording = np.arange(5, dtype=np.float32)
    assert np.array_equal(join_samples([recording], np.random.default_rng(0)), recording)
