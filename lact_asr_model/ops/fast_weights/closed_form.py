"""Fast weights of the LaCT layer: a SwiGLU per head that learns from the utterance's own keys and values.

    f(x) = (silu(x W0) * (x W2)) W1          loss = - sum_i eta_i f(k_i) . v_i          one step = one sum over frames

With a = k W0, b = k W2, h = silu(a) * b and delta = v W1^T, the negative gradients are
    dW1 = (eta1 h)^T v      dW2 = (eta2 k)^T (delta * silu(a))
    dW0 = (eta0 k)^T (delta * b * sigmoid(a) * (1 + a (1 - sigmoid(a))))
`fast_weights_naive` computes the same by automatic differentiation and is the oracle of the tests.

Legend: d = size of a head, h = hidden size of the SwiGLU, k/v/q = keys/values/queries, eta = learning rates.
Source: Zhang et al. 2025, "Test-Time Training Done Right", arXiv:2505.23884.
"""

from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lact_asr_model.ops.newton_schulz import newton_schulz

_SMALLEST_NORM = 1e-7


class FastWeights(NamedTuple):
    """The three matrices of every head's SwiGLU; batch is 1 where all utterances share them.

    w0, w2: [batch, heads, d, h]; w1: [batch, heads, h, d].
    """

    w0: Tensor
    w1: Tensor
    w2: Tensor


def apply_fast_weights(weights: FastWeights, queries: Tensor, chunk_size: int | None = None) -> Tensor:
    """f(q) for every query: [batch, heads, frames, d] to the same shape, `chunk_size` frames at a time."""

    def apply(q: Tensor) -> Tensor:
        return (F.silu(q @ weights.w0) * (q @ weights.w2)) @ weights.w1

    frames = queries.shape[-2]
    if chunk_size is None or frames <= chunk_size:
        return apply(queries)
    return torch.cat([apply(chunk) for chunk in queries.split(chunk_size, dim=-2)], dim=-2)


def fast_weight_gradient(
    weights: FastWeights, keys: Tensor, values: Tensor, learning_rates: Tensor, chunk_size: int | None = None
) -> FastWeights:
    """The negative gradient of the layer-memory loss, summed over the whole utterance.

    Args:
        weights: the current fast weights.
        keys, values: [batch, heads, frames, d].
        learning_rates: [3, batch, heads, frames], for w0, w1, w2, already zero at padded frames.
        chunk_size: frames whose hidden activations are held at once; the sum is the same.

    Returns:
        Three sums of the shapes of the weights, with the batch of the keys.
    """
    if chunk_size is None or keys.shape[-2] <= chunk_size:
        return _gradient_of_piece(weights, keys, values, learning_rates)
    pieces = (
        _gradient_of_piece(weights, *piece)
        for piece in zip(
            keys.split(chunk_size, dim=-2),
            values.split(chunk_size, dim=-2),
            learning_rates.split(chunk_size, dim=-1),
            strict=True,
        )
    )
    return reduce(lambda total, piece: FastWeights(*(t + p for t, p in zip(total, piece, strict=True))), pieces)


def _gradient_of_piece(weights: FastWeights, k: Tensor, v: Tensor, learning_rates: Tensor) -> FastWeights:
    """The sum over the frames of one piece."""
    w0, w1, w2 = weights
    eta0, eta1, eta2 = learning_rates[..., None].to(k.dtype)
    a, b, delta = k @ w0, k @ w2, v @ w1.mT
    gate = torch.sigmoid(a)
    silu = a * gate
    piece = FastWeights(
        w0=(eta0 * k).mT @ (delta * b * gate * (1 + a * (1 - gate))),
        w1=(eta1 * silu * b).mT @ v,
        w2=(eta2 * k).mT @ (delta * silu),
    )
    return FastWeights(*(matrix.to(w0.dtype) for matrix in piece))


def with_column_norms_of(reference: Tensor, updated: Tensor) -> Tensor:
    """Rescale each output neuron (column) of `updated` [..., rows, columns] to the norm it has in `reference`."""
    wanted = torch.linalg.vector_norm(reference, dim=-2, keepdim=True)
    actual = torch.linalg.vector_norm(updated, dim=-2, keepdim=True)
    return updated * (wanted / actual.clamp(min=_SMALLEST_NORM))


def renormalize(updated: FastWeights, reference: FastWeights) -> FastWeights:
    """`with_column_norms_of` for the three matrices."""
    return FastWeights(*(with_column_norms_of(old, new) for new, old in zip(updated, reference, strict=True)))


def orthogonalize(gradients: FastWeights, schedule: str) -> FastWeights:
    """Newton-Schulz of the three matrices of every head, in one batched call."""
    w0, w1, w2 = newton_schulz(torch.stack([gradients.w0, gradients.w1.mT, gradients.w2]), schedule)
    return FastWeights(w0, w1.mT, w2)


def update_fast_weights(
    weights: FastWeights,
    keys: Tensor,
    values: Tensor,
    learning_rates: Tensor,
    *,
    muon: bool = True,
    schedule: str = "muon",
    chunk_size: int | None = None,
    first_order: bool = False,
    gradient: Callable[..., FastWeights] = fast_weight_gradient,
) -> FastWeights:
    """Layer memory: one step W <- renorm(W + NewtonSchulz(dW)) on the utterance's keys and values.

    Orthogonalisation removes the scale of dW, so under Muon the learning rates only weigh frames against each other;
    with `muon=False` the step is plain gradient descent and their scale counts. Shapes as in `fast_weight_gradient`.
    `first_order` takes the step for a constant: gradients reach the weights only where the step starts from them, and
    nothing else. `gradient` is what computes the sums, `fast_weight_gradient` or another form of it.
    """
    with torch.set_grad_enabled(torch.is_grad_enabled() and not first_order):
        step = gradient(weights, keys, values, learning_rates, chunk_size)
        if muon:
            step = orthogonalize(step, schedule)
    return renormalize(FastWeights(*(w + s for w, s in zip(weights, step, strict=True))), weights)
