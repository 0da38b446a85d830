"""The learning rate as a function of the optimiser step."""

import math

from lact_asr_model.errors import UserError

SCHEDULES = ("cosine", "triangular", "stable")
DECAY_SHARE = 0.2
WARMUP_START = 0.1
FINAL_FRACTION = 0.01


def learning_rate_factor(step: int, *, warmup_steps: int, max_steps: int, schedule: str = "cosine") -> float:
    """Share of the peak learning rate at optimiser step `step` (steps taken so far).

    Linear from 10 % to 100 % in `warmup_steps`, then down to 1 % at `max_steps`: along a half cosine, or along a
    straight line for "triangular". "stable" stays at the peak until the last 20 % of the steps and then takes the
    straight line (Hägele et al. 2024, arXiv:2405.18392), so that how long to train may be decided late. It stays at 1 %
    afterwards.

    Raises:
        UserError: warm-up does not end before training does, or the schedule is unknown.
    """
    check_schedule(warmup_steps=warmup_steps, max_steps=max_steps, schedule=schedule)
    if step < warmup_steps:
        return WARMUP_START + (1 - WARMUP_START) * step / warmup_steps
    progress = min((step - warmup_steps) / (max_steps - warmup_steps), 1.0)
    if schedule == "cosine":
        remaining = (1 + math.cos(math.pi * progress)) / 2
    else:
        remaining = min((1 - progress) / (DECAY_SHARE if schedule == "stable" else 1.0), 1.0)
    return FINAL_FRACTION + (1 - FINAL_FRACTION) * remaining


def check_schedule(*, warmup_steps: int, max_steps: int, schedule: str) -> None:
    """Raise a UserError unless there is such a schedule with these lengths."""
    if schedule not in SCHEDULES:
        raise UserError(f"--lr_schedule {schedule}: unknown; choose one of {', '.join(SCHEDULES)}")
    if not 0 <= warmup_steps < max_steps:
        raise UserError(
            f"--warmup_steps {warmup_steps}: warm-up must end before training does, after max_steps = {max_steps}; "
            "lower --warmup_steps, or train longer with --max_epochs or --max_steps"
        )
