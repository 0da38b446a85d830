"""Intervals of error rates that are means over conditions, with the same or with different utterances."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lact_asr_model.metrics import ErrorCounts

CONFIDENCE = 0.95
NUM_RESAMPLES = 1000


@dataclass(frozen=True)
class ConditionErrors:
    """The errors of one method under one condition: those of every utterance, by its id."""

    by_utterance: dict[str, ErrorCounts]

    @property
    def utterance_ids(self) -> tuple[str, ...]:
        return tuple(self.by_utterance)

    @property
    def total(self) -> ErrorCounts:
        return sum(self.by_utterance.values(), ErrorCounts())


def mean_rate(conditions: Sequence[ConditionErrors]) -> float:
    """The mean over conditions of their corpus error rates: each condition weighs the same, however long it is."""
    return float(np.mean([condition.total.rate for condition in conditions]))


def resampled_mean_rates(conditions: Sequence[ConditionErrors], seed: int) -> np.ndarray:
    """`mean_rate` for each of `NUM_RESAMPLES` draws of utterances with replacement (Bisani and Ney 2004).

    Each condition keeps its number of utterances. Conditions with the same utterances share their draws, as an
    utterance that is hard under one is hard under another; so do two methods that are given the same seed. Hence
    the difference of their results is that of a paired bootstrap.
    """
    rng = np.random.default_rng(seed)
    multiplicities: dict[tuple[str, ...], np.ndarray] = {}  # [resamples, utterances]
    rates = np.zeros(NUM_RESAMPLES)
    for condition in conditions:
        ids, counts = condition.utterance_ids, condition.by_utterance.values()
        if ids not in multiplicities:
            draws = (rng.integers(len(ids), size=len(ids)) for _ in range(NUM_RESAMPLES))
            multiplicities[ids] = np.stack([np.bincount(drawn, minlength=len(ids)) for drawn in draws])
        errors = multiplicities[ids] @ np.array([count.errors for count in counts])
        lengths = multiplicities[ids] @ np.array([count.reference_length for count in counts])
        rates += errors / np.maximum(lengths, 1)
    return rates / len(conditions)


def interval(resampled: np.ndarray) -> tuple[float, float]:
    """(low, high) between which the middle 95 % of the resampled values lie; NaN = no value."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(resampled, [tail, 1 - tail])
    return float(low), float(high)
