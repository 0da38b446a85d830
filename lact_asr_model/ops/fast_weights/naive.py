"""The fast-weight update by automatic differentiation: slow, obvious, and the oracle for `fast_weights`."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lact_asr_model.ops.fast_weights.closed_form import FastWeights, renormalize
from lact_asr_model.ops.newton_schulz import newton_schulz


def apply_fast_weights(weights: FastWeights, queries: Tensor) -> Tensor:
    """f(q) = (silu(q W0) * (q W2)) W1 for queries [batch, heads, frames, d]."""
    return (F.silu(queries @ weights.w0) * (queries @ weights.w2)) @ weights.w1


def fast_weight_gradient(weights: FastWeights, keys: Tensor, values: Tensor, learning_rates: Tensor) -> FastWeights:
    """Negative gradients of - sum_i eta_i f(k_i) . v_i; each matrix has learning rates, hence a loss, of its own."""
    copies = FastWeights(*(w.expand(keys.shape[0], *w.shape[1:]) for w in weights))
    if not (torch.is_grad_enabled() and copies.w0.requires_grad):
        copies = FastWeights(*(w.detach().requires_grad_() for w in copies))
    with torch.enable_grad():
        similarities = (apply_fast_weights(copies, keys) * values).sum(-1)
        return FastWeights(
            *(
                torch.autograd.grad((eta * similarities).sum(), w, create_graph=True)[0]
                for eta, w in zip(learning_rates, copies, strict=True)
            )
        )


def update_fast_weights(
    weights: FastWeights,
    keys: Tensor,
    values: Tensor,
    learning_rates: Tensor,
    *,
    muon: bool = True,
    schedule: str = "muon",
) -> FastWeights:
    """One step of the layer memory, each matrix orthogonalised by itself."""
    step = fast_weight_gradient(weights, keys, values, learning_rates)
    if muon:
        step = FastWeights(*(newton_schulz(matrix, schedule) for matrix in step))
    return renormalize(FastWeights(*(w + s for w, s in zip(weights, step, strict=True))), weights)
