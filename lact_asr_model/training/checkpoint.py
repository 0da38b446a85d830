"""The full state of a training: a killed run that resumes from it reaches the same weights."""

import dataclasses
import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object

from lact_asr_model.checkpoint_io import save_atomically
from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.errors import UserError
from lact_asr_model.files import write_atomically
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.training.arguments import TrainingArguments
from lact_asr_model.training.averaging import WeightAverage


@dataclass
class Progress:
    """How far a training is. `step` counts optimiser steps; `batches_in_epoch` the batches of `plan` behind them.

    plan: the `BatchPlan` that the training began with, which decides what is in a step.
    best_validation: summary of the best validation so far. history: what was logged, and every validation.
    skipped: why each recording was left out that could not be read when it was needed, by id.
    """

    step: int = 0
    epoch: int = 0
    batches_in_epoch: int = 0
    plan: dict[str, Any] = field(default_factory=dict)
    validated_step: int = -1
    best_validation: dict[str, Any] = field(default_factory=lambda: {"wer": math.inf, "loss": math.inf})
    validations_without_improvement: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass
class TrainingState:
    """Everything that a training step reads and changes."""

    progress: Progress
    model: HybridASRForCTC
    optimizers: Sequence[torch.optim.Optimizer]
    scaler: torch.amp.GradScaler
    average: WeightAverage | None

    def bytes_to_come(self, *, num_processes: int) -> int:
        """What the first step makes and keeps: gradients, with several processes their copies on the way to the others,
        and the optimisers' moments where they were not loaded."""
        total = 0
        for optimizer in self.optimizers:
            num_moments = 1 if isinstance(optimizer, torch.optim.Muon) else 2
            for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
                num_copies = (1 if num_processes == 1 else 2) + (0 if optimizer.state.get(parameter) else num_moments)
                total += num_copies * parameter.nbytes
        return total

    def save(self, path: Path, identity: dict[str, Any], is_main_process: bool) -> None:
        """Write the state and the `identity` of the run in one atomic file. Every process must call this."""
        random_states = gather_object([_random_state()])
        if not is_main_process:
            return
        content = {
            "identity": identity,
            "progress": dataclasses.asdict(self.progress),
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "random_states": random_states,
        }
        save_atomically(path, content)
        _progress_path(path).unlink(missing_ok=True)

    def save_progress(self, path: Path) -> None:
        """Write what a validation has changed beside the state of `save` at the same step. For one process only."""
        content = json.dumps(dataclasses.asdict(self.progress))
        write_atomically(_progress_path(path), content)

    def load(self, path: Path, identity: dict[str, Any], process_index: int) -> None:
        """Go back to a saved state, which must be of the same run.

        Raises:
            UserError: the file is damaged, or an option that shapes the training has changed.
        """
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # torch.load raises whatever its unpickler stumbles over
            raise UserError(f"{path}: is not a training state; start again in another --output_dir") from None
        _check_identity(path, content["identity"], identity)
        self.progress.__dict__.update(_stored_progress(path, content))
        self.model.load_state_dict(content["model"])
        for optimizer, stored in zip(self.optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        self.scaler.load_state_dict(content["scaler"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        if process_index < len(content["random_states"]):  # otherwise there are more processes than before
            _restore_random_state(content["random_states"][process_index])


def _progress_path(path: Path) -> Path:
    return path.with_name("training_progress.json")


def _stored_progress(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """The progress in a state, or that of a validation after it."""
    progress = content["progress"]
    try:
        later = json.loads(_progress_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        later = progress
    if later["step"] == progress["step"]:
        progress = later
    if "plan" not in progress:  # a state from before there were any
        options = content["identity"]
        by_seconds = options["--batch_seconds"] is not None
        progress["plan"] = {
            "batch_size": None if by_seconds else options["--batch_size"],
            "batch_seconds": options["--batch_seconds"],
            "accumulation": options["--gradient_accumulation_steps"],
            "num_processes": options["number of processes"],
        }
    return progress


def _check_identity(path: Path, stored: dict[str, Any], current: dict[str, Any]) -> None:
    defaults = {f"--{option.name}": option.default for option in dataclasses.fields(TrainingArguments)}
    defaults |= HybridASRConfig.own_fields()
    for name, value in current.items():
        default = defaults.get(name)  # of an option that there was not yet
        before = stored.get(name, list(default) if isinstance(default, tuple) else default)
        if before != value:
            raise UserError(
                f"{path}: this training was started with {name} = {before!r}, not {value!r}; "
                "resume it with the same, or start another in a new --output_dir"
            )


def _random_state() -> dict[str, Any]:
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": [name, np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def _restore_random_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
