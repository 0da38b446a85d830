"""Batches: complete, similar in length, bounded, the same plan on every process."""

from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lact_asr_model.data.bucketing import LENGTH_JITTER, BatchPlan, BucketBatchSampler
from lact_asr_model.errors import UserError

durations = st.lists(st.floats(0.1, 30.0), max_size=60)
limits = st.sampled_from([{"batch_size": 4}, {"batch_seconds": 40.0}, {"batch_size": 3, "batch_seconds": 25.0}])
world_sizes = st.integers(1, 4)


def padded_seconds(batch: list[int], durations_seconds: list[float]) -> float:
    return len(batch) * max(durations_seconds[index] for index in batch)


@given(durations, limits, world_sizes, st.booleans(), st.integers(0, 2))
def test_every_utterance_once_within_the_limits(durations_seconds, limit, world_size, shuffle, epoch) -> None:
    samplers = [
        BucketBatchSampler(durations_seconds, shuffle=shuffle, rank=rank, world_size=world_size, **limit)
        for rank in range(world_size)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    steps = list(zip(*samplers, strict=True))  # strict: every process has the same number of batches
    assert len(steps) == len(samplers[0])
    seen = []
    for shares in steps:
        indices = {index for share in shares for index in share}
        if len(indices) >= world_size:
            assert sum(map(len, shares)) == len(indices)
        seen += sorted(indices)
        for share in shares:
            assert 1 <= len(share) <= limit.get("batch_size", len(durations_seconds))
            assert len(share) == 1 or padded_seconds(share, durations_seconds) <= limit.get("batch_seconds", 1e9)
    assert sorted(seen) == list(range(len(durations_seconds)))


@given(durations, world_sizes, st.integers(1, 4))
def test_processes_together_see_what_one_process_sees(durations_seconds, world_size, batch_size) -> None:
    alone = BucketBatchSampler(durations_seconds, batch_size=batch_size * world_size, seed=5)
    shares = [
        BucketBatchSampler(durations_seconds, batch_size=batch_size, seed=5, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for batch, *parts in zip(alone, *shares, strict=True):
        assert set(batch) == {index for part in parts for index in part}


@given(durations, st.integers(1, 8))
def test_batches_are_of_similar_length(durations_seconds, batch_size) -> None:
    batches = sorted(
        sorted(durations_seconds[index] for index in batch)
        for batch in BucketBatchSampler(durations_seconds, batch_size=batch_size)
    )
    slack = (1 + LENGTH_JITTER) / (1 - LENGTH_JITTER) + 1e-9
    for shorter, longer in pairwise(batches):
        assert shorter[-1] <= longer[0] * slack or longer[-1] <= shorter[0] * slack


def test_batches_are_full_but_for_one() -> None:
    sizes = sorted(map(len, BucketBatchSampler([1.0] * 23, batch_size=5)))
    assert sizes == [3, 5, 5, 5, 5]
    sizes = sorted(map(len, BucketBatchSampler([2.0] * 23, batch_seconds=11.0)))
    assert sizes == [3, 5, 5, 5, 5]


def test_an_epoch_has_its_own_order_that_can_be_repeated() -> None:
    durations_seconds = [1.0 + index % 7 for index in range(50)]
    sampler, same = (BucketBatchSampler(durations_seconds, batch_size=4, seed=1) for _ in range(2))
    first = list(sampler)
    assert first == list(same) == list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert {frozenset(batch) for batch in first} != {frozenset(batch) for batch in second}
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert list(BucketBatchSampler(durations_seconds, batch_size=4, seed=2)) != first


def test_shuffling_mixes_short_and_long_batches_and_can_be_off() -> None:
    durations_seconds = [float(index + 1) for index in range(40)]
    in_order = [batch[0] for batch in BucketBatchSampler(durations_seconds, batch_size=4, shuffle=False)]
    assert in_order == sorted(in_order, reverse=True)
    shuffled = [batch[0] for batch in BucketBatchSampler(durations_seconds, batch_size=4)]
    assert shuffled not in (sorted(shuffled), sorted(shuffled, reverse=True))


@pytest.mark.parametrize("num_batches", [0, 3, 99])
def test_skipping_resumes_inside_one_epoch_only(num_batches: int) -> None:
    sampler = BucketBatchSampler([1.0] * 23, batch_size=5)
    whole = list(sampler)
    sampler.skip(num_batches)
    assert len(sampler) == 5
    assert list(sampler) == whole[num_batches:]
    assert list(sampler) == whole


def pairs_of_this_epoch(rng: np.random.Generator) -> list[tuple[int, ...]]:
    """12 utterances: some alone and some in pairs of neighbours, by chance."""
    return [
        group
        for index in range(0, 12, 2)
        for group in ([(index, index + 1)] if rng.random() < 0.5 else [(index,), (index + 1,)])
    ]


@pytest.mark.parametrize("world_size", [1, 2])
def test_joined_utterances_are_one_item_as_long_as_all_of_them(world_size: int) -> None:
    durations_seconds = [1.0 + index % 5 for index in range(12)]
    samplers = [
        BucketBatchSampler(
            durations_seconds, batch_seconds=12.0, join=pairs_of_this_epoch, rank=rank, world_size=world_size
        )
        for rank in range(world_size)
    ]
    plans = []
    for epoch in range(3):
        items = set()
        for sampler in samplers:
            sampler.set_epoch(epoch)
            for batch in sampler:
                assert all(isinstance(item, tuple) for item in batch)
                longest_seconds = max(sum(durations_seconds[index] for index in item) for item in batch)
                assert len(batch) == 1 or len(batch) * longest_seconds <= 12.0
                items.update(batch)
        assert sorted(index for item in items for index in item) == list(range(12))
        plans.append(items)
    assert any(len(item) == 2 for item in plans[0])
    assert plans[0] != plans[1] or plans[1] != plans[2]
    samplers[0].set_epoch(0)
    assert {item for batch in samplers[0] for item in batch} <= plans[0]


@pytest.mark.parametrize("limit", [{}, {"batch_size": 0}, {"batch_seconds": -1.0}])
def test_limits_that_make_no_batches(limit: dict) -> None:
    with pytest.raises(UserError, match="batch_s"):
        BucketBatchSampler([1.0], **limit)
    with pytest.raises(ValueError, match="rank 2"):
        BucketBatchSampler([1.0], batch_size=1, rank=2, world_size=2)


splits = st.sampled_from(
    [(1, 1, 12), (12, 1, 1), (4, 3, 1), (2, 3, 2), (6, 1, 2), (3, 4, 1)]
)  # size, accumulation, world


def steps_of(split: tuple[int, int, int], durations_seconds: list[float], plan: BatchPlan | None, num_skipped: int = 0):
    """The utterances of each optimiser step, over all processes, and the largest batch."""
    batch_size, accumulation, world_size = split
    steps: list[set] = []
    largest = 0
    for rank in range(world_size):
        sizes = {"batch_size": batch_size, "accumulation": accumulation, "rank": rank, "world_size": world_size}
        sampler = BucketBatchSampler(durations_seconds, **sizes, plan=plan, seed=2)
        sampler.skip(num_skipped)
        num_steps_done = -(-num_skipped // sampler.plan.accumulation)
        batches = iter(sampler)
        for number, size in enumerate(sampler.step_sizes[num_steps_done:]):
            assert 1 <= size <= accumulation
            if rank == 0:
                steps.append(set())
            for batch in islice(batches, size):
                largest = max(largest, len(batch))
                steps[number].update(batch)
        assert next(batches, None) is None
    return steps, largest


@given(durations, splits, splits, st.data())
def test_a_plan_gives_the_same_steps_to_other_sizes_also_from_inside_an_epoch(
    durations_seconds, planned, split, data
) -> None:
    plan = BatchPlan(batch_size=planned[0], accumulation=planned[1], num_processes=planned[2])
    own = BatchPlan(batch_size=split[0], accumulation=split[1], num_processes=split[2])
    assert own.is_same_training(plan)
    expected, _ = steps_of(planned, durations_seconds, None)
    steps, largest = steps_of(split, durations_seconds, plan)
    assert steps == expected
    assert largest <= split[0]
    num_steps_done = data.draw(st.integers(0, len(expected)))
    rest, _ = steps_of(split, durations_seconds, plan, num_skipped=num_steps_done * plan.accumulation)
    assert rest == expected[num_steps_done:]


@given(durations)
def test_a_plan_by_seconds_keeps_its_steps_and_the_new_bound(durations_seconds) -> None:
    planned = BucketBatchSampler(durations_seconds, batch_seconds=60.0, accumulation=1)
    sampler = BucketBatchSampler(durations_seconds, batch_seconds=20.0, accumulation=3, plan=planned.sizes)
    batches = iter(sampler)
    for expected, size in zip(planned, sampler.step_sizes, strict=True):
        step = list(islice(batches, size))
        assert sorted(index for batch in step for index in batch) == sorted(expected)
        for batch in step:
            assert len(batch) == 1 or padded_seconds(batch, durations_seconds) <= 20.0


def test_steps_of_another_size_are_another_training() -> None:
    plan = BatchPlan(batch_size=4, accumulation=2)
    assert plan.is_same_training(BatchPlan(batch_size=2, accumulation=2, num_processes=2))
    assert not plan.is_same_training(BatchPlan(batch_size=4, accumulation=3))
    assert not plan.is_same_training(BatchPlan(batch_seconds=4.0, accumulation=2))
    by_seconds = BatchPlan(batch_seconds=0.3, accumulation=1)
    assert by_seconds.is_same_training(BatchPlan(batch_seconds=0.1, accumulation=3))
    assert plan.describe() == "8 = --batch_size 4 x --gradient_accumulation_steps 2 x 1 process(es)"
