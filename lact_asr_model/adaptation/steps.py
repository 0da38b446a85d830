"""Muon's step on named weights, each with a leading dimension of one copy per utterance."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lact_asr_model.adaptation.protocol import Weights
from lact_asr_model.ops.fast_weights.closed_form import with_column_norms_of
from lact_asr_model.ops.newton_schulz import newton_schulz, relative_muon_step

_SMALLEST_NORM = 1e-7  # of a gradient, as in Newton-Schulz
_VECTOR_SHARE = 0.1  # norms break under steps that filters still bear (docs/EXPERIMENTS.md)

Size = float | Tensor


def take_step(
    weights: Weights,
    gradients: Weights,
    sizes: Mapping[str, Size],
    learns: Tensor,
    *,
    keeps_column_norms: Mapping[str, bool],
    schedule: str,
) -> Weights:
    """The weights after one Muon step down the gradients.

    A matrix whose column norms are kept: W <- renorm(W - size NewtonSchulz(gradient)). Other matrices, and filters
    [out, in, kernel] taken as [out, in * kernel], move by the share `size` of their Frobenius norm along
    NewtonSchulz(gradient). Vectors, such as those of norms, have no orthogonal direction: they move along the gradient,
    by a tenth of `size` an element in the root mean square.

    Args:
        weights, gradients: by name, [batch, ...].
        sizes: of the step, by name; may carry gradients.
        learns: bool [batch]; the other utterances stay where they are, as do those whose gradient is not finite, and
            a weight whose gradient is zero, or so small that nothing but rounding would give it a direction.
        keeps_column_norms: by name, see above.
        schedule: of Newton-Schulz.
    """
    finite = torch.stack([gradient.isfinite().flatten(1).all(dim=1) for gradient in gradients.values()]).all(dim=0)
    moved = {}
    for name, weight in weights.items():
        gradient = torch.where(over_rows(finite & learns, weight), gradients[name], 0)
        if keeps_column_norms[name]:
            new = with_column_norms_of(weight, weight - sizes[name] * newton_schulz(gradient, schedule))
        else:
            new = _relative_step(weight, gradient, sizes[name], schedule)
        has_direction = gradient.flatten(1).norm(dim=1) > _SMALLEST_NORM
        moved[name] = torch.where(over_rows(has_direction, weight), new, weight)
    return moved


def _relative_step(weight: Tensor, gradient: Tensor, share: Size, schedule: str) -> Tensor:
    if weight.ndim == 2:
        root_mean_square = gradient.square().mean(dim=1, keepdim=True).sqrt().clamp(min=_SMALLEST_NORM)
        return weight - _VECTOR_SHARE * share * gradient / root_mean_square
    return relative_muon_step(weight.flatten(2), gradient.flatten(2), share, schedule).view_as(weight)


def over_rows(mask: Tensor, tensor: Tensor) -> Tensor:
    """A mask [batch] in the shape [batch, 1, ...] of the tensor."""
    return mask.view(-1, *[1] * (tensor.ndim - 1))
