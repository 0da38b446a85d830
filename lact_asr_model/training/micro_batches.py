"""How much of a batch is computed at once: as many utterances as fit into memory.

The loss of a batch is a mean over its utterances, so gradients may be added up over pieces of it (micro-batches). They
are the same to rounding; only what is random inside a pass, such as dropout, is drawn piece by piece.
"""

import ctypes
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from lact_asr_model.audio import SAMPLING_RATE
from lact_asr_model.data.collate import IGNORED_LABEL
from lact_asr_model.training.loading import Batch

GIGABYTE = 1e9
_SHORT_SECONDS = 1.0
_M_MMAP_THRESHOLD = -3  # of <malloc.h>: blocks of more bytes are mapped one by one
# What a pass takes for each byte of its tensors, with what kernels take inside and what allocators do not give back: on
# a CPU it was measured (docs/EXPERIMENTS.md), on a GPU it is an assumption.
OVERHEADS = {"cpu": 1.6, "cuda": 1.1}


@dataclass(frozen=True)
class Memory:
    """Bytes of a process on its device: what it holds between two steps, and what it may take in all."""

    held: float
    limit: float

    @property
    def working(self) -> float:
        """What is left for a forward and backward pass."""
        return self.limit - self.held


@dataclass(frozen=True)
class MicroBatching:
    """How batches are cut.

    recompute: whether the blocks recompute their activations.
    utterance_bytes, bytes_per_second: what a pass needs for each utterance, and beside that for each of its seconds; 0
        where that was not counted, as all would fit many times over.
    """

    memory: Memory
    recompute: bool
    utterance_bytes: float = 0.0
    bytes_per_second: float = 0.0

    def needed_bytes(self, seconds: float) -> float:
        """What a pass needs for each utterance of a batch that is padded to that length."""
        return self.utterance_bytes + self.bytes_per_second * seconds

    def at_once(self, batch_size: int, seconds: float) -> int:
        """How many utterances of such a batch one pass computes: at least one, in as few and equal passes as fit."""
        needed_bytes = self.needed_bytes(seconds)
        if batch_size * needed_bytes <= self.memory.working:
            return batch_size
        most = max(1, int(self.memory.working / needed_bytes))
        return math.ceil(batch_size / math.ceil(batch_size / most))

    def cut(self, batch: Batch) -> Iterator[Batch]:
        """The batch in pieces that fit, each padded to its own longest utterance only."""
        num_utterances, num_samples = batch["input_values"].shape
        size = self.at_once(num_utterances, num_samples / SAMPLING_RATE)
        for start in range(0, num_utterances, size):
            yield _rows(batch, start, start + size)

    def describe(self, batch_size: int, seconds: float) -> str:
        """One line for a batch of the longest utterances."""
        memory, size = self.memory, self.at_once(batch_size, seconds)
        pieces = f"batches of {batch_size}, {f'{size} at a time' if size < batch_size else 'whole'}"
        allowed = f"{memory.limit / GIGABYTE:.1f} GB that this process may take"
        if not self.bytes_per_second:
            return f"memory: {pieces}, far below the {allowed}"
        peak = memory.held + size * self.needed_bytes(seconds)
        line = (
            f"memory: {pieces}, with activations {'recomputed' if self.recompute else 'kept'}; a peak of "
            f"{peak / GIGABYTE:.1f} GB is expected for {seconds:.1f} s each, "
            f"{memory.held / GIGABYTE:.1f} GB of it for weights, gradients and optimiser, of {allowed}"
        )
        if peak > memory.limit:
            line += "; it may run out: lower --max_audio_samples, or add --mixed_precision"
        return line


def choose_micro_batching(
    count: Callable[[float, bool], float], memory: Memory, longest_seconds: float, *, recompute: bool = False
) -> MicroBatching:
    """Recompute activations only if they do not fit for one utterance, or if `recompute` asks for it.

    Args:
        count: bytes of a pass over one utterance of so many seconds, with activations recomputed or not.
        memory: of the device.
        longest_seconds: of an utterance.
    """
    longest_bytes = count(longest_seconds, recompute)
    if not recompute and longest_bytes > memory.working:
        recompute = True
        longest_bytes = count(longest_seconds, recompute)
    short_seconds = min(_SHORT_SECONDS, longest_seconds / 2)
    slope = (longest_bytes - count(short_seconds, recompute)) / (longest_seconds - short_seconds)
    return MicroBatching(memory, recompute, longest_bytes - slope * longest_seconds, slope)


def free_bytes(device: torch.device) -> tuple[float, float]:
    """What this process holds on the device, and what it could take beside that.

    On a CPU, the memory of the machine or of the container, shared among the training processes there.
    """
    if device.type == "cuda":
        held = torch.cuda.memory_allocated(device)
        return held, torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - held
    available = min(psutil.virtual_memory().available, _free_in_container())
    return psutil.Process().memory_info().rss, available / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def return_freed_memory() -> None:
    """Let glibc give freed tensors back at once, which takes time; otherwise it keeps many holes between others."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 2**20)


def _free_in_container(folder: Path = Path("/sys/fs/cgroup")) -> float:
    """What the control group may still take, cached files given back; infinite where there is no limit."""
    try:
        limit, used = (float((folder / name).read_text()) for name in ("memory.max", "memory.current"))
        lines = (folder / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # "max" is no number
        return math.inf
    cached = sum(float(line.split()[1]) for line in lines if line.startswith(("active_file ", "inactive_file ")))
    return limit - used + cached


def _rows(batch: Batch, start: int, end: int) -> Batch:
    num_samples = int(batch["attention_mask"][start:end].sum(dim=1).max())
    num_labels = int((batch["labels"][start:end] != IGNORED_LABEL).sum(dim=1).max())
    return {
        **{name: batch[name][start:end] for name in ("ids", "indices")},
        **{name: batch[name][start:end, :num_samples] for name in ("input_values", "attention_mask")},
        "labels": batch["labels"][start:end, : max(1, num_labels)],
        "skipped": [],
    }
