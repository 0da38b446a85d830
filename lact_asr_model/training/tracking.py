"""What a training says while it runs: console lines, a progress bar on a terminal, TensorBoard."""

import sys
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

LOSSES = ("loss", "ctc", "masked", "intermediate")


class Tracker:
    """Speaks for the main process; on the others every call does nothing."""

    def __init__(self, is_main_process: bool) -> None:
        self.is_main_process = is_main_process
        self._bar: tqdm | None = None
        self._writer: Any = None

    def open(self, log_dir: Path, *, step: int, max_steps: int) -> None:
        """Start the bar (with the time left) and TensorBoard's log, going on at `step`."""
        if not self.is_main_process:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.say('tensorboard is not installed: no log for it (`pip install "lact-asr[track]"`)')
        else:
            self._writer = SummaryWriter(str(log_dir), purge_step=step + 1)
        on_terminal = sys.stderr.isatty()
        self._bar = tqdm(total=max_steps, initial=step, unit="step", disable=not on_terminal, dynamic_ncols=True)

    def say(self, line: str) -> None:
        """Print a line on stdout, above the bar."""
        if self.is_main_process:
            tqdm.write(line, file=sys.stdout)
            sys.stdout.flush()

    def advance(self) -> None:
        """Move the bar by one step."""
        if self._bar is not None:
            self._bar.update()

    def log(self, prefix: str, step: int, values: dict[str, float]) -> None:
        """Record scalars in TensorBoard."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"{prefix}/{name}", value, step)

    def close(self) -> None:
        """Finish the bar and TensorBoard's log."""
        if self._bar is not None:
            self._bar.close()
        if self._writer is not None:
            self._writer.close()


class LossWindow:
    """Sums since the last console line; the losses stay on their device until they are read."""

    def __init__(self, device: torch.device) -> None:
        self.losses = torch.zeros(len(LOSSES), device=device)
        self.num_steps = 0
        self.num_samples = 0
        self._started_seconds = time.perf_counter()

    @property
    def elapsed_seconds(self) -> float:
        return time.perf_counter() - self._started_seconds
