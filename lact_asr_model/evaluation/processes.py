"""Several processes that `torchrun` started share out a comparison; without it there is one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

_LONGEST_WAIT = timedelta(days=7)  # the share of one process may take long after that of another


def num_processes() -> int:
    """How many processes there are, as the environment says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@dataclass(frozen=True)
class Processes:
    """This process among all: its number and their number."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def wait_for_all(self) -> None:
        """Return when all processes have come here."""
        if self.count > 1:
            from torch import distributed

            distributed.barrier()

    @contextmanager
    def first_one_first(self) -> Iterator[None]:
        """The first process goes through the `with` alone, then the others; all leave it together."""
        if not self.is_first:
            self.wait_for_all()
        yield
        if self.is_first:
            self.wait_for_all()
        self.wait_for_all()


ALONE = Processes()


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """Join the other processes, if there are any; each has a GPU of its own where there are GPUs."""
    if num_processes() == 1:
        yield ALONE
        return

    import torch
    from torch import distributed

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    distributed.init_process_group("gloo", timeout=_LONGEST_WAIT)
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
