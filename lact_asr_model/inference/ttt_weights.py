"""The weights that adaptation moves: copies of an utterance's own, and Muon's step on them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from lact_asr_model.configuration_hybrid_asr import parse_layers
from lact_asr_model.errors import UserError
from lact_asr_model.inference.ttt_options import TTTOptions
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.ops.fast_weights import FastWeights, muon_step
from lact_asr_model.ops.newton_schulz import relative_muon_step

_SMALLEST_NORM = 1e-7  # of a gradient, as in Newton-Schulz


@dataclass(frozen=True)
class OwnWeights:
    """What moves, with a leading dimension of one copy per utterance.

    fast_weights: by block. front_end: conv filters [batch, out, in, kernel] by name. Empty: not to be moved.
    """

    fast_weights: dict[int, FastWeights]
    front_end: dict[str, Tensor]

    @property
    def tensors(self) -> list[Tensor]:
        """All of them, fast weights first."""
        return [matrix for layer in self.fast_weights.values() for matrix in layer] + list(self.front_end.values())

    def filled_with(self, tensors: Sequence[Tensor]) -> "OwnWeights":
        """The same structure around other tensors, in the order of `tensors`."""
        remaining = iter(tensors)
        fast_weights = {
            index: FastWeights(next(remaining), next(remaining), next(remaining)) for index in self.fast_weights
        }
        return OwnWeights(fast_weights, {name: next(remaining) for name in self.front_end})

    def map(self, function: Callable[[Tensor], Tensor]) -> "OwnWeights":
        """The same structure with the function's value in the place of each tensor."""
        return self.filled_with([function(tensor) for tensor in self.tensors])

    def where(self, mask: Tensor, other: "OwnWeights") -> "OwnWeights":
        """These weights for the utterances of `mask`, bool [batch], and the other ones for the rest."""
        pairs = zip(self.tensors, other.tensors, strict=True)
        return self.filled_with([torch.where(_over_rows(mask, mine), mine, theirs) for mine, theirs in pairs])

    def fast_weights_of_all_layers(self, model: HybridASRForCTC) -> list[FastWeights] | None:
        """For `model.run_stack`, with the learned ones where nothing moves; None: nothing moves anywhere."""
        if not self.fast_weights:
            return None
        return [self.fast_weights.get(index, learned) for index, learned in enumerate(model.initial_fast_weights())]

    @contextmanager
    def in_use(self, model: HybridASRForCTC) -> Iterator[None]:
        """Inside the `with`, the model uses these weights instead of its own."""
        fast_weights, front_end = self.fast_weights_of_all_layers(model), self.front_end or None
        with model.using_fast_weights(fast_weights), model.using_front_end(front_end):
            yield


def own_weights(model: HybridASRForCTC, batch_size: int, options: TTTOptions) -> OwnWeights:
    """The learned weights that the options choose, seen once by every utterance: views, with the parameters' gradient.

    Raises:
        UserError: a layer is chosen that the model does not have, or the front end of one with log-mel features.
    """
    weights = OwnWeights({}, {})
    if options.parameters != "front_end":
        initial = model.initial_fast_weights()
        for index in _chosen(options, "layers", len(initial)):
            weights.fast_weights[index] = FastWeights(
                *(matrix.expand(batch_size, *matrix.shape[1:]) for matrix in initial[index])
            )
    if options.parameters != "fast_weights":
        filters = list(model.initial_front_end().items())
        if not filters:
            raise UserError(
                f"TTT option parameters is {options.parameters!r}; the log-mel front end has no weights, "
                "use 'fast_weights'"
            )
        for index in _chosen(options, "conv_layers", len(filters)):
            name, parameter = filters[index]
            weights.front_end[name] = parameter.expand(batch_size, *parameter.shape)
    return weights


def moved(
    weights: OwnWeights, gradients: OwnWeights, model: HybridASRForCTC, options: TTTOptions, learns: Tensor
) -> OwnWeights:
    """The weights after one Muon step down the gradients.

    Each layer's step is the option's times the model's learned scale for the layer, which gets a gradient if gradients
    are on.

    Args:
        learns: bool [batch]; the other utterances stay where they are, as do those whose gradient is not finite, and
            a matrix whose gradient is zero, or so small that nothing but rounding would give it a direction.
    """
    schedule = model.config.newton_schulz_schedule
    is_finite = torch.stack([gradient.isfinite().flatten(1).all(dim=1) for gradient in gradients.tensors]).all(dim=0)
    gradients = gradients.map(lambda gradient: torch.where(_over_rows(is_finite & learns, gradient), gradient, 0))

    layer_scales, filter_scales = model.fast_weight_step_scales(), model.front_end_step_scales()
    candidates = OwnWeights(
        {
            index: muon_step(
                layer, gradients.fast_weights[index], options.learning_rate * layer_scales[index], schedule
            )
            for index, layer in weights.fast_weights.items()
        },
        {
            name: relative_muon_step(
                filters.flatten(2),
                gradients.front_end[name].flatten(2),
                options.front_end_step * filter_scales[name],
                schedule,
            ).view_as(filters)
            for name, filters in weights.front_end.items()
        },
    )
    triples = zip(candidates.tensors, weights.tensors, gradients.tensors, strict=True)
    return weights.filled_with(
        [
            torch.where(_over_rows(gradient.flatten(1).norm(dim=1) > _SMALLEST_NORM, new), new, old)
            for new, old, gradient in triples
        ]
    )


def _chosen(options: TTTOptions, name: str, num_layers: int) -> Sequence[int]:
    try:
        return parse_layers(getattr(options, name), num_layers)
    except ValueError as error:
        raise UserError(f"TTT option {name} is {getattr(options, name)!r}; it must be {error}") from None


def _over_rows(mask: Tensor, tensor: Tensor) -> Tensor:
    """A mask [batch] in the shape [batch, 1, ...] of the tensor."""
    return mask.view(-1, *[1] * (tensor.ndim - 1))
