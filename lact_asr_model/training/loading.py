"""Batches from the disk to the device, loaded in the background."""

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lact_asr_model.data.bucketing import Item
from lact_asr_model.data.collate import CTCCollator
from lact_asr_model.errors import UserError

Batch = dict[str, Any]


def make_loader(
    dataset: Dataset[Any], sampler: Sampler[list[Item]], collator: CTCCollator, num_workers: int, device: torch.device
) -> DataLoader[Any]:
    """Loader with random numbers of its own: how it loads never changes the dropout of a training."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collator,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=device.type == "cuda",
        worker_init_fn=_leave_stopping_to_parent,
        generator=torch.Generator(),
    )


def read_batches(loader: Iterable[Batch]) -> Iterator[Batch]:
    """The batches of `loader`; a UserError of a worker process is one line again."""
    try:
        yield from loader
    except UserError as error:
        last_line = str(error).strip().splitlines()[-1]
        raise UserError(last_line.removeprefix(f"{UserError.__module__}.{UserError.__name__}: ")) from None


def model_inputs(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """The tensors of a batch, on their way to the device."""
    names = ("input_values", "attention_mask", "labels")
    return {name: batch[name].to(device, non_blocking=True) for name in names}


def _leave_stopping_to_parent(worker: int) -> None:
    """Ctrl-C and signals to the process group pass by; SIGTERM ends the worker without an error in its parent."""
    os.setsid()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
