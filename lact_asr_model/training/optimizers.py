"""The outer optimisers, with a learning rate of its own for the conv encoder."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC

ADAM_BETAS = (0.9, 0.98)
STEP_SCALE_LR_SCALE = 30.0  # a factor's logarithm has a long way to go, by Adam's steps of equal size


def make_optimizers(
    model: HybridASRForCTC, *, name: str, peak_lr: float, encoder_lr_scale: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """Optimisers that together hold every trainable parameter once.

    "adamw" is one AdamW. "muon" adds Muon, with AdamW's step size, for the matrices inside the blocks; the heads, the
    norms, the biases, the filters and the fast weights (3-D) stay with AdamW. Weight decay spares vectors.
    Each parameter group keeps its own peak in `group["peak_lr"]`.
    """
    matrices = [matrix for matrix in model.hidden_matrices().values() if matrix.requires_grad] if name == "muon" else []
    taken = {id(parameter) for parameter in matrices}
    groups = []
    for parameters, scale in (
        (model.encoder_parameters(), encoder_lr_scale),
        (model.other_parameters(), 1.0),
        (model.step_scale_parameters(), STEP_SCALE_LR_SCALE),
    ):
        remaining = [p for p in parameters if p.requires_grad and id(p) not in taken]
        groups += [
            _group([p for p in remaining if p.ndim > 1], peak_lr * scale, weight_decay),
            _group([p for p in remaining if p.ndim <= 1], peak_lr * scale, 0.0),
        ]
    groups = [group for group in groups if group["params"]]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=peak_lr, betas=ADAM_BETAS, fused=True)]
    if matrices:
        muon_groups = [_group(matrices, peak_lr, weight_decay)]
        optimizers.append(torch.optim.Muon(muon_groups, lr=peak_lr, adjust_lr_fn="match_rms_adamw"))
    return optimizers


def set_learning_rate(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Set every group to `factor` times its own peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor


def _group(parameters: Sequence[Tensor], peak_lr: float, weight_decay: float) -> dict[str, Any]:
    return {"params": parameters, "peak_lr": peak_lr, "lr": peak_lr, "weight_decay": weight_decay}
