"""Hearing one utterance with other weights, for any module whose forward pass gives `.logits`."""

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lact_asr_model.adaptation.protocol import Weights
from lact_asr_model.errors import UserError

Module = TypeVar("Module", bound=nn.Module)


def frozen_copy(model: Module) -> Module:
    """The module in evaluation mode, without gradients to its parameters; it shares all tensors with the original.

    What is done to the copy's modes and submodules does not touch the original, so it can be used while the original
    is trained, and by several threads.
    """
    memo: dict[int, Any] = {id(buffer): buffer for buffer in model.buffers()}
    memo |= {id(parameter): nn.Parameter(parameter.detach(), requires_grad=False) for parameter in model.parameters()}
    config = getattr(model, "config", None)
    memo[id(config)] = config
    return copy.deepcopy(model, memo).eval()


@dataclass(frozen=True, eq=False)
class FullyHeard:
    """A pass through the whole model: see `adaptation.protocol.Heard`."""

    logits: Tensor

    def answer(self) -> Tensor:
        return self.logits.detach()


class FunctionalSpeech:
    """One utterance, heard by a model with replaced parameters: see `adaptation.protocol.Speech`.

    Conv layers below the first one whose parameters move are computed once.

    Args:
        model: any module whose forward pass gives `.logits`; a copy that nothing else uses, for it is changed.
        whole, beginning: arguments of the forward pass for one utterance [1, ...] without padding, and for the part of
            it that the steps listen to.
        num_frames: of that part.
        names: of the parameters that will move.
        conv_layers: names of the first layers of the model, in order.

    Raises:
        UserError: there are several utterances.
    """

    def __init__(
        self,
        model: nn.Module,
        whole: Mapping[str, Tensor],
        beginning: Mapping[str, Tensor],
        num_frames: int,
        names: Collection[str],
        conv_layers: Sequence[str] = (),
    ) -> None:
        if any(len(values) != 1 for values in whole.values()):
            raise UserError("a model of this kind is adapted to one utterance at a time; use a batch size of 1")
        self._whole, self._beginning = dict(whole), dict(beginning)
        self.is_cut = any(beginning[name].shape != values.shape for name, values in whole.items())
        self.frame_mask = torch.ones(1, num_frames, dtype=torch.bool, device=next(iter(whole.values())).device)
        self._whole_model = frozen_copy(model) if self.is_cut else model
        self._model = model
        still = [layer for layer in conv_layers if not any(name.startswith(f"{layer}.") for name in names)]
        num_fixed = next((index for index, layer in enumerate(conv_layers) if layer not in still), len(conv_layers))
        if num_fixed and num_frames:
            _fix_first_layers(model, conv_layers[:num_fixed], self._beginning)

    def hear(self, weights: Weights) -> FullyHeard:
        return FullyHeard(_run(self._model, weights, self._beginning))

    def predict_masked(self, weights: Weights, span_mask: Tensor) -> Tensor:
        raise UserError(
            "TTT option loss_type is 'masked_prediction'; it goes with front_end and fast_weights of a model that was "
            "trained to predict masked frames, use 'entropy_mcc'"
        )

    def recognize(self, weights: Weights) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            logits = _run(self._whole_model, weights, self._whole)
        return logits, torch.ones(logits.shape[:2], dtype=torch.bool, device=logits.device)


def _run(model: nn.Module, weights: Weights, inputs: dict[str, Tensor]) -> Tensor:
    own = {name: weight[0] for name, weight in weights.items()}
    return functional_call(model, own, kwargs=inputs).logits


class _Reached(Exception):
    """Ends a forward pass where nothing more is wanted of it."""


class _Known(nn.Module):
    """A layer whose output is known, whatever goes in."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, *inputs: Any) -> Tensor:
        return self.output


class _Skipped(nn.Module):
    """A layer whose output nobody reads."""

    def forward(self, hidden: Tensor, *others: Any) -> Tensor:
        return hidden


def _fix_first_layers(model: nn.Module, layers: Sequence[str], inputs: dict[str, Tensor]) -> None:
    """Compute the first layers of the model once, and let it go on from there ever after."""
    outputs = []

    def keep(module: nn.Module, arguments: Any, output: Tensor) -> None:
        outputs.append(output)
        raise _Reached

    handle = model.get_submodule(layers[-1]).register_forward_hook(keep)
    try:
        with torch.no_grad():
            model(**inputs)
    except _Reached:
        pass
    handle.remove()
    for layer in layers[:-1]:
        model.set_submodule(layer, _Skipped())
    model.set_submodule(layers[-1], _Known(outputs[0]))
