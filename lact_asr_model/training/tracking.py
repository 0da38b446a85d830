"""What a training says while it runs: console lines, a progress bar on a terminal, and a log with pictures."""

import importlib
import importlib.util
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from lact_asr_model.errors import UserError
from lact_asr_model.hybrid_network import HybridNetwork

LOSSES = ("loss", "ctc", "masked", "intermediate")
TRACKERS = ("tensorboard", "wandb", "trackio")
_PROJECT = "lact-asr"


class Tracker:
    """Speaks for the main process; on the others every call does nothing.

    Args:
        is_main_process: whether this is that one.
        name: one of `TRACKERS`, which keeps the log.

    Raises:
        UserError: the tracker is not installed. Without TensorBoard, which nobody asked for, there is no log.
    """

    def __init__(self, is_main_process: bool, name: str = TRACKERS[0]) -> None:
        if name != TRACKERS[0] and importlib.util.find_spec(name) is None:
            raise UserError(
                f'--tracker {name}: is not installed; run `pip install "lact-asr[tracking]"`, or leave it out'
            )
        self.is_main_process = is_main_process
        self.name = name
        self._bar: tqdm | None = None
        self._log: Any = None

    def open(self, log_dir: Path, *, step: int, max_steps: int) -> None:
        """Start the bar (with the time left) and the log, going on at `step`; TensorBoard's is in `log_dir`."""
        if not self.is_main_process:
            return
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        options: dict[str, Any] = {"name": log_dir.parent.name}
        if self.name == TRACKERS[0]:
            options = {"logging_dir": str(log_dir), "purge_step": step + 1}
        elif self.name == "trackio" and step:
            options["resume"] = "allow"
        log = LOGGER_TYPE_TO_CLASS[self.name]("" if self.name == TRACKERS[0] else _PROJECT, **options)
        try:
            log.start()
        except ImportError:
            self.say('tensorboard is not installed: no log for it (`pip install "lact-asr[track]"`)')
        else:
            self._log = log
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

    def log(self, prefix: str, step: int, values: Mapping[str, float]) -> None:
        """Record numbers."""
        if self._log is not None:
            self._log.log({f"{prefix}/{name}": value for name, value in values.items()}, step=step)

    def log_transcripts(self, name: str, step: int, transcripts: Sequence[Mapping[str, Any]]) -> None:
        """Record "id", "ref" and "hyp" of utterances: a text each in TensorBoard, a table elsewhere."""
        if self._log is None:
            return
        if self.name == TRACKERS[0]:
            texts = {each["id"]: f"reference: {each['ref']}\n\nhypothesis: {each['hyp']}" for each in transcripts}
            self._log.log({f"{name}/{utterance}": text for utterance, text in texts.items()}, step=step)
        else:
            rows = [[each["id"], each["ref"], each["hyp"]] for each in transcripts]
            table = importlib.import_module(self.name).Table(columns=["id", "reference", "hypothesis"], data=rows)
            self._log.log({name: table}, step=step)

    def log_picture(self, name: str, step: int, values: np.ndarray) -> None:
        """Record [rows, columns] in shades of grey, from black for the least to white."""
        if self._log is None:
            return
        smallest, largest = values.min(), values.max()
        grey = np.round(255 * (values - smallest) / max(largest - smallest, 1e-9)).astype(np.uint8)
        picture = np.repeat(grey[:, :, None], 3, axis=2)
        if self.name == TRACKERS[0]:
            self._log.log_images({name: picture[None]}, step=step, dataformats="NHWC")
        else:
            self._log.log({name: importlib.import_module(self.name).Image(picture)}, step=step)

    def close(self) -> None:
        """Finish the bar and the log."""
        if self._bar is not None:
            self._bar.close()
        if self._log is not None:
            self._log.finish()


def memory_norms(fast_weights: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, float]:
    """The norm of each block's initial fast weights, all three matrices of all heads together."""
    return {
        f"block_{index}": float(
            torch.linalg.vector_norm(torch.cat([weight.detach().flatten() for weight in layer.values()]))
        )
        for index, layer in enumerate(fast_weights)
    }


@torch.no_grad()
def update_angles(model: HybridNetwork, samples: torch.Tensor) -> dict[str, float]:
    """By how many degrees the layer memory's step on one utterance turns each block's fast weights, all three matrices
    of all heads together; samples: [1, samples]."""
    angles: list[float] = []

    def measure(memory: Any, arguments: Any) -> None:
        initial, updated = (
            torch.cat([matrix.flatten() for matrix in weights])
            for weights in (memory.initial_fast_weights(), memory.learn(*arguments))
        )
        cosine = F.cosine_similarity(initial, updated, dim=0).clamp(-1, 1)
        angles.append(float(torch.rad2deg(torch.acos(cosine))))

    was_training = model.training
    model.eval()
    blocks: list[Any] = list(model.layers)
    handles = [block.memory.register_forward_pre_hook(measure) for block in blocks]
    model.recognize(samples)
    for handle in handles:
        handle.remove()
    model.train(was_training)
    return {f"block_{index}": angle for index, angle in enumerate(angles)}


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
