"""Means over conditions and their intervals."""

import numpy as np
import pytest

from lact_asr_model.metrics import (
    ConditionErrors,
    ErrorCounts,
    bootstrap_interval,
    interval,
    mean_rate,
    paired_bootstrap_interval,
    resampled_mean_rates,
)


def condition(errors: list[int], length: int = 10, prefix: str = "") -> ConditionErrors:
    """Utterances of `length` words with so many errors each."""
    return ConditionErrors(
        {
            f"{prefix}{index}": ErrorCounts(substitutions=count, reference_length=length)
            for index, count in enumerate(errors)
        }
    )


def counts(errors: list[int]) -> list[ErrorCounts]:
    return list(condition(errors).by_utterance.values())


def test_each_condition_weighs_the_same_however_long_it_is() -> None:
    short, long = condition([5]), condition([1] * 9)
    assert mean_rate([short, long]) == pytest.approx((0.5 + 0.1) / 2)
    assert mean_rate([condition([1, 2]), condition([3, 4])]) == pytest.approx(10 / 40)  # as if pooled


def test_of_one_condition_it_is_the_plain_bootstrap() -> None:
    better, worse = [0, 1, 2, 1, 0, 3], [1, 1, 4, 1, 2, 3]
    assert interval(resampled_mean_rates([condition(worse)], seed=3)) == bootstrap_interval(counts(worse), seed=3)
    difference = resampled_mean_rates([condition(better)], 3) - resampled_mean_rates([condition(worse)], 3)
    assert interval(difference) == paired_bootstrap_interval(counts(better), counts(worse), seed=3)


def test_conditions_of_the_same_utterances_are_resampled_together() -> None:
    one = resampled_mean_rates([condition([0, 5, 9])], seed=0)
    np.testing.assert_allclose(resampled_mean_rates([condition([0, 5, 9])] * 3, seed=0), one)  # no more evidence
    opposite = resampled_mean_rates([condition([0, 10]), condition([10, 0])], seed=0)
    np.testing.assert_allclose(opposite, 0.5)


def test_conditions_of_other_utterances_are_resampled_on_their_own() -> None:
    errors = [0, 2, 5, 9, 10]
    parts = [condition(errors, prefix=prefix) for prefix in "abcd"]
    spread_of_one, spread_of_mean = (np.std(resampled_mean_rates(chosen, seed=0)) for chosen in (parts[:1], parts))
    assert spread_of_mean == pytest.approx(spread_of_one / 2, rel=0.1)  # 1 / sqrt(4)


def test_the_interval_holds_the_middle_95_percent_of_what_is_there() -> None:
    values = np.concatenate([np.arange(1001.0), [np.nan] * 50])
    assert interval(values) == pytest.approx((25, 975))
