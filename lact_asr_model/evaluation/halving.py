"""Successive halving: the best of many candidates on a set of items, most of the time spent on good ones.

Source: Jamieson & Talwalkar 2016, "Non-stochastic best arm identification", arXiv:1502.07943.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from lact_asr_model.metrics import ErrorCounts

Candidate = TypeVar("Candidate")
FIRST_ITEMS = 4


@dataclass
class Entry(Generic[Candidate]):
    """A candidate with its errors on the items that it was tried on so far, in their order."""

    candidate: Candidate
    counts: list[ErrorCounts] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Errors per reference word so far."""
        return sum(self.counts, ErrorCounts()).rate


def successive_halving(
    candidates: Sequence[Candidate],
    errors_of: Callable[[Candidate, int], ErrorCounts],
    num_items: int,
    *,
    budget_seconds: float,
    on_trial: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Entry[Candidate]]:
    """Try all candidates on a few items, the better half on twice as many, and so on.

    It ends when the rest have seen all items, or when the time is over. A round that the time cuts off does not count,
    but for the first, of which those candidates remain that were through with it.

    Args:
        candidates: at least one.
        errors_of: (candidate, item) -> its errors.
        num_items: how many there are; all candidates see them in the same order.
        budget_seconds: no trial is begun after so long.
        on_trial: called after each trial.
        clock: seconds.

    Returns:
        The candidates of the last whole round, the best first.
    """
    deadline_seconds = clock() + budget_seconds
    entries = [Entry(candidate) for candidate in candidates]
    num_seen, size = 0, min(FIRST_ITEMS, num_items)
    while True:
        for entry in entries:
            while len(entry.counts) < size:
                if clock() >= deadline_seconds:
                    return _ranked(_through(entries, num_seen or size))
                entry.counts.append(errors_of(entry.candidate, len(entry.counts)))
                on_trial()
        entries = _ranked(entries)
        if size == num_items:
            return entries
        entries = entries[: max(1, len(entries) // 2)]
        num_seen, size = size, min(2 * size, num_items)


def _through(entries: list[Entry[Candidate]], size: int) -> list[Entry[Candidate]]:
    """The candidates that have seen so many items, with their errors on these."""
    return [Entry(entry.candidate, entry.counts[:size]) for entry in entries if len(entry.counts) >= size]


def _ranked(entries: list[Entry[Candidate]]) -> list[Entry[Candidate]]:
    return sorted(entries, key=lambda entry: entry.rate)
