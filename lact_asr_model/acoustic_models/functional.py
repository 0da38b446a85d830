"""Hearing one utterance with other weights, for any module whose forward pass gives `.logits`."""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
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


@dataclass(frozen=True)
class Layout:
    """Names of the modules that a model runs first, in order: conv layers, what adds positions, and blocks."""

    conv_layers: Sequence[str] = ()
    positions: Sequence[str] = ()
    blocks: Sequence[str] = ()

    def num_still(self, names: Collection[str]) -> tuple[int, int]:
        """How many conv layers, and how many blocks, come before all parameters of these names."""
        if all(_holds_one(self.blocks, [name]) for name in names):
            return len(self.conv_layers), _num_before(self.blocks, names)
        return _num_before(self.conv_layers, names), 0


def _holds_one(modules: Sequence[str], names: Collection[str]) -> bool:
    """Whether any of the parameters is in one of the modules."""
    prefixes = tuple(f"{module}." for module in modules)
    return any(name.startswith(prefixes) for name in names)


def _num_before(modules: Sequence[str], names: Collection[str]) -> int:
    """How many modules come before the first that holds one of the parameters."""
    return next((index for index, module in enumerate(modules) if _holds_one([module], names)), len(modules))


class FunctionalSpeech:
    """One utterance, heard by a model with replaced parameters: see `adaptation.protocol.Speech`.

    What comes before the first layer whose parameters move is computed once.

    Args:
        model: any module whose forward pass gives `.logits`; a copy that nothing else uses, for it is changed.
        whole, beginning: arguments of the forward pass for one utterance [1, ...] without padding, and for the part of
            it that the steps listen to.
        num_frames: of that part.
        names: of the parameters that will move.
        layout: of the model; with none given, everything is computed in each pass.

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
        layout: Layout = Layout(),
    ) -> None:
        if any(len(values) != 1 for values in whole.values()):
            raise UserError("a model of this kind is adapted to one utterance at a time; use a batch size of 1")
        self._whole, self._beginning = dict(whole), dict(beginning)
        self.is_cut = any(beginning[name].shape != values.shape for name, values in whole.items())
        self.frame_mask = torch.ones(1, num_frames, dtype=torch.bool, device=next(iter(whole.values())).device)
        self._whole_model = frozen_copy(model) if self.is_cut else model
        self._model = model
        if num_frames:
            _fix_first_layers(model, layout, names, self._beginning)

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

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, *inputs: Any, **options: Any) -> Any:
        return self.output


class _Skipped(nn.Module):
    """A layer whose output nobody reads."""

    def forward(self, hidden: Tensor, *others: Any) -> Tensor:
        return hidden


def _fix_first_layers(model: nn.Module, layout: Layout, names: Collection[str], inputs: Mapping[str, Tensor]) -> None:
    """Compute what comes before the parameters of these names once, and let the model go on from there ever after."""
    num_conv_layers, num_blocks = layout.num_still(names)
    unread = list(layout.conv_layers[: max(num_conv_layers - 1, 0)])
    known = list(layout.conv_layers[len(unread) : num_conv_layers])
    if num_blocks:
        known += [*layout.positions, *layout.blocks[:num_blocks]]
    outputs = _outputs(model, known, inputs) if known else {}
    for name in unread:
        model.set_submodule(name, _Skipped())
    for name, output in outputs.items():
        model.set_submodule(name, _Known(output))


def _outputs(model: nn.Module, names: Sequence[str], inputs: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the modules of these names give, in a pass that ends with the last of them."""
    outputs = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            outputs[name] = output
            if name == names[-1]:
                raise _Reached

        return hook

    handles = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        with torch.no_grad():
            model(**inputs)
    except _Reached:
        pass
    for handle in handles:
        handle.remove()
    return outputs
