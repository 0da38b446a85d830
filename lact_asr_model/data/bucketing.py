"""Batches of utterances of similar length, the same on every process."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from lact_asr_model.errors import UserError

Item = int | tuple[int, ...]  # an utterance, or several that are heard as one
LENGTH_JITTER = 0.1  # relative; varies an epoch's neighbours at a small cost in padding


@dataclass(frozen=True)
class BatchPlan:
    """How an epoch is cut into batches, and batches are gathered to optimiser steps.

    batch_size: utterances in a batch of one process. batch_seconds: bound of a batch's padded length, longest times
    count; an utterance longer than that is a batch by itself. With both, both hold. accumulation: batches of each
    process in one step.
    """

    batch_size: int | None = None
    batch_seconds: float | None = None
    accumulation: int = 1
    num_processes: int = 1

    def __post_init__(self) -> None:
        if self.batch_size is None and self.batch_seconds is None:
            raise UserError("batches: no size is set; give --batch_size or --batch_seconds")
        for name, value in (("batch_size", self.batch_size), ("batch_seconds", self.batch_seconds)):
            if value is not None and value <= 0:
                raise UserError(f"--{name} {value}: must be above 0; give a larger one")

    def is_same_training(self, other: "BatchPlan") -> bool:
        """Whether a step has as many utterances, or seconds, with both."""
        factors = [plan.accumulation * plan.num_processes for plan in (self, other)]
        for sizes in ((self.batch_size, other.batch_size), (self.batch_seconds, other.batch_seconds)):
            products = [None if size is None else round(size * n, 6) for size, n in zip(sizes, factors, strict=True)]
            if products[0] != products[1]:
                return False
        return True

    def describe(self) -> str:
        """The options, and how many utterances or seconds a step has."""
        factor = self.accumulation * self.num_processes
        sizes = {"batch_size": self.batch_size, "batch_seconds": self.batch_seconds}
        products = [f"{size * factor:g} = --{name} {size:g}" for name, size in sizes.items() if size is not None]
        return (
            f"{' and '.join(products)} x --gradient_accumulation_steps {self.accumulation} x "
            f"{self.num_processes} process(es)"
        )

    def fits(self, count: int, longest_seconds: float) -> bool:
        """Whether the processes together can take so many utterances in one batch."""
        count_per_process = -(-count // self.num_processes)
        if self.batch_size is not None and count_per_process > self.batch_size:
            return False
        return (
            self.batch_seconds is None
            or count_per_process == 1
            or (count_per_process * longest_seconds <= self.batch_seconds)
        )


class BucketBatchSampler(Sampler[list[Any]]):
    """Lists of indices into `durations_seconds`, neighbours in length, whole batches in random order.

    batch_size, batch_seconds, accumulation: see `BatchPlan`.
    rank, world_size: this process takes every world_size-th utterance of each batch that one process would see with a
    `batch_size` world_size times as large. Every process gets the same number of batches, none empty: where a batch
    has fewer utterances than there are processes, some are repeated.
    join: makes the groups of indices that an epoch hears as one recording each, from its random numbers; batches then
    hold tuples of indices, as `UtteranceDataset` takes them. None = every utterance by itself.
    plan: another way to the same steps, which decides what is in each of them; None = the sizes above do. Steps are
    then the same whatever the sizes, and only cut into batches differently.
    The plan of an epoch depends only on (seed, epoch).

    Attributes:
        step_sizes: how many batches each optimiser step of the epoch has.
        num_planned: batches of the epoch as the plan cuts it.
    """

    def __init__(
        self,
        durations_seconds: Sequence[float],
        *,
        batch_size: int | None = None,
        batch_seconds: float | None = None,
        accumulation: int = 1,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        join: Callable[[np.random.Generator], list[tuple[int, ...]]] | None = None,
        plan: BatchPlan | None = None,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size} processes")
        self.durations_seconds = np.asarray(durations_seconds, dtype=np.float64)
        self.sizes = BatchPlan(batch_size, batch_seconds, accumulation, world_size)
        self.plan = plan or self.sizes
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.join = join
        self._num_skipped = 0
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Plan the batches of `epoch`."""
        rng = np.random.default_rng([self.seed, epoch])
        items: Sequence[Item] = range(len(self.durations_seconds)) if self.join is None else self.join(rng)
        sort_keys = np.array([self._seconds(item) for item in items])
        if self.shuffle:
            sort_keys = sort_keys * rng.uniform(1 - LENGTH_JITTER, 1 + LENGTH_JITTER, len(sort_keys))
        order = np.argsort(-sort_keys, kind="stable")
        batches = list(self._cut([items[place] for place in order], self.plan))
        if self.shuffle:
            batches = [batches[index] for index in rng.permutation(len(batches))]
        starts = range(0, len(batches), self.plan.accumulation)
        steps = [batches[start : start + self.plan.accumulation] for start in starts]
        if self.plan != self.sizes:
            steps = [self._cut_anew(step) for step in steps]
        self._batches = [self._share(batch) for step in steps for batch in step]
        self.step_sizes = [len(step) for step in steps]
        self.num_planned = len(batches)

    def skip(self, num_planned: int) -> None:
        """Leave out the first steps of the next iteration only, to go on inside an epoch: `num_planned` of its batches.

        They are those of the plan, and the steps end where they do.
        """
        self._num_skipped = sum(self.step_sizes[: -(-num_planned // self.plan.accumulation)])

    def __len__(self) -> int:
        """Batches of the whole epoch, skipped ones included."""
        return len(self._batches)

    def __iter__(self) -> Iterator[list[Any]]:
        num_skipped, self._num_skipped = self._num_skipped, 0
        yield from self._batches[num_skipped:]

    def _seconds(self, item: Item) -> float:
        return float(self.durations_seconds[np.asarray(item)].sum())

    def _cut(self, items: Sequence[Item], plan: BatchPlan) -> Iterator[list[Item]]:
        """Batches of all processes together, each of consecutive items and as large as the plan allows."""
        batch: list[Item] = []
        longest_seconds = 0.0
        for item in items:
            seconds = self._seconds(item)
            longest_with_item = max(longest_seconds, seconds)
            if batch and not plan.fits(len(batch) + 1, longest_with_item):
                yield batch
                batch, longest_with_item = [], seconds
            batch.append(item)
            longest_seconds = longest_with_item
        if batch:
            yield batch

    def _cut_anew(self, step: Sequence[list[Item]]) -> list[list[Item]]:
        """The same utterances in batches of this sampler's own sizes."""
        return list(self._cut(sorted(chain.from_iterable(step), key=self._seconds, reverse=True), self.sizes))

    def _share(self, batch: list[Item]) -> list[Item]:
        world_size = self.sizes.num_processes
        return batch[self.rank :: world_size] or [batch[self.rank % len(batch)]]
