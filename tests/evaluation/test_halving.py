"""Successive halving: the best wins, few trials are spent on the bad ones, and the clock is heeded."""

from collections import Counter

from lact_asr_model.evaluation.halving import successive_halving
from lact_asr_model.metrics import ErrorCounts

WORDS = 10


def errors_of(candidate: int, item: int) -> ErrorCounts:
    """Candidate 3 is the best; the others are worse the farther they are from it, on every item."""
    return ErrorCounts(substitutions=abs(candidate - 3), reference_length=WORDS)


def test_the_best_candidate_wins_and_alone_sees_all_items() -> None:
    trials: Counter[int] = Counter()

    def counting(candidate: int, item: int) -> ErrorCounts:
        trials[candidate] += 1
        return errors_of(candidate, item)

    ranked = successive_halving(range(8), counting, 32, budget_seconds=1e9)
    assert [entry.candidate for entry in ranked] == [3]
    assert ranked[0].rate == 0.0
    assert len(ranked[0].counts) == 32
    assert sorted(trials.values()) == [4, 4, 4, 4, 8, 8, 16, 32]


def test_every_candidate_sees_the_same_items_in_the_same_order() -> None:
    seen: dict[int, list[int]] = {}

    def noting(candidate: int, item: int) -> ErrorCounts:
        seen.setdefault(candidate, []).append(item)
        return errors_of(candidate, item)

    successive_halving(range(4), noting, 10, budget_seconds=1e9)
    assert all(items == list(range(len(items))) for items in seen.values())


def test_a_round_that_the_clock_cuts_off_does_not_count() -> None:
    ticks = iter(range(10_000))
    ranked = successive_halving(range(4), errors_of, 64, budget_seconds=20, clock=lambda: next(ticks))
    assert [entry.candidate for entry in ranked] == [3, 2]  # 16 trials of the first round, 4 of the second
    assert all(len(entry.counts) == 4 for entry in ranked)


def test_of_a_first_round_that_the_clock_cuts_off_those_remain_that_were_through() -> None:
    ticks = iter(range(10_000))
    ranked = successive_halving(range(4), errors_of, 64, budget_seconds=9, clock=lambda: next(ticks))
    assert [entry.candidate for entry in ranked] == [1, 0]
    assert successive_halving(range(4), errors_of, 64, budget_seconds=0) == []


def test_fewer_items_than_a_first_round_are_enough() -> None:
    ranked = successive_halving(range(4), errors_of, 2, budget_seconds=1e9)
    assert [entry.candidate for entry in ranked] == [3, 2, 1, 0]
