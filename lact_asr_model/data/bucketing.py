"""Batches of utterances of similar length, the same on every process."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from lact_asr_model.errors import UserError

Item = int | tuple[int, ...]  # an utterance, or several that are heard as one
LENGTH_JITTER = 0.1  # relative; varies an epoch's neighbours at a small cost in padding


class BucketBatchSampler(Sampler[list[Any]]):
    """Lists of indices into `durations_seconds`, neighbours in length, whole batches in random order.

    batch_size: utterances in a batch of one process. batch_seconds: bound of a batch's padded length, longest times
    count (an utterance that is longer alone forms its own batch). One or both must be given.
    shuffle: False gives every epoch the same batches, longest first.
    rank, world_size: this process takes every world_size-th utterance of each batch that one process would see with a
    `batch_size` world_size times as large. Every process gets the same number of batches, none empty: where a batch
    has fewer utterances than there are processes, some are repeated.
    join: makes the groups of indices that an epoch hears as one recording each, from its random numbers; batches then
    hold tuples of indices, as `UtteranceDataset` takes them. None = every utterance by itself.
    The plan of an epoch depends only on (seed, epoch).
    """

    def __init__(
        self,
        durations_seconds: Sequence[float],
        *,
        batch_size: int | None = None,
        batch_seconds: float | None = None,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        join: Callable[[np.random.Generator], list[tuple[int, ...]]] | None = None,
    ) -> None:
        if batch_size is None and batch_seconds is None:
            raise UserError("batches: no size is set; give --batch_size or --batch_seconds")
        for name, value in {"batch_size": batch_size, "batch_seconds": batch_seconds}.items():
            if value is not None and value <= 0:
                raise UserError(f"{name}: {value} is not above 0; give a positive {name}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not in [0, {world_size})")
        self.durations_seconds = np.asarray(durations_seconds, dtype=np.float64)
        self.batch_size = batch_size
        self.batch_seconds = batch_seconds
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.join = join
        self._num_skipped = 0
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Plan the batches of `epoch`."""
        rng = np.random.default_rng([self.seed, epoch])
        items: Sequence[Item] = range(len(self.durations_seconds)) if self.join is None else self.join(rng)
        seconds = np.array([self.durations_seconds[np.asarray(item)].sum() for item in items])
        sort_keys = seconds
        if self.shuffle:
            sort_keys = sort_keys * rng.uniform(1 - LENGTH_JITTER, 1 + LENGTH_JITTER, len(sort_keys))
        order = np.argsort(-sort_keys, kind="stable")
        batches = list(self._global_batches([items[place] for place in order], seconds[order].tolist()))
        if self.shuffle:
            batches = [batches[index] for index in rng.permutation(len(batches))]
        self._batches = [self._share(batch) for batch in batches]

    def skip(self, num_batches: int) -> None:
        """Leave out the first `num_batches` of the next iteration only, to go on inside an epoch."""
        self._num_skipped = num_batches

    def __len__(self) -> int:
        """Batches of the whole epoch, skipped ones included."""
        return len(self._batches)

    def __iter__(self) -> Iterator[list[Any]]:
        num_skipped, self._num_skipped = self._num_skipped, 0
        yield from self._batches[num_skipped:]

    def _global_batches(self, items: Sequence[Item], durations_seconds: Sequence[float]) -> Iterator[list[Item]]:
        batch: list[Item] = []
        longest_seconds = 0.0
        for item, duration_seconds in zip(items, durations_seconds, strict=True):
            longest_with_item = max(longest_seconds, duration_seconds)
            if batch and not self._fits(len(batch) + 1, longest_with_item):
                yield batch
                batch, longest_with_item = [], duration_seconds
            batch.append(item)
            longest_seconds = longest_with_item
        if batch:
            yield batch

    def _fits(self, count: int, longest_seconds: float) -> bool:
        count_per_process = -(-count // self.world_size)
        if self.batch_size is not None and count_per_process > self.batch_size:
            return False
        return (
            self.batch_seconds is None
            or count_per_process == 1
            or (count_per_process * longest_seconds <= self.batch_seconds)
        )

    def _share(self, batch: list[Item]) -> list[Item]:
        return batch[self.rank :: self.world_size] or [batch[self.rank % len(batch)]]
