"""The memory that a training step needs, counted on shapes alone: nothing of it is allocated.

PyTorch's `FakeTensorMode` runs the step, and `_LiveBytes` adds up the tensors that are alive at the same time. What
kernels allocate inside is not seen. A CPU's kernels are counted, which keep the layer memory's Newton-Schulz in float32
where a GPU's are in bfloat16.
"""

import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.hybrid_network import LactBlock
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.training.adapted_step import adapted_weights
from lact_asr_model.training.setup import recompute_activations

_CHARACTERS_PER_SECOND = 20  # more than people say


def count_working_bytes(
    acoustic_model: HybridAcousticModel,
    seconds: float,
    *,
    recompute: bool,
    ttt_gradient: str | None = None,
    autocast_dtype: torch.dtype | None = None,
    is_gpu: bool = False,
) -> int:
    """The peak of the forward and backward pass, beside weights and gradients, on one utterance.

    Several need so many times as much.

    Args:
        recompute: the blocks keep their inputs alone, and run forward twice.
        ttt_gradient: "first_order" or "exact" with --enable_ttt; None = without.
        autocast_dtype: of mixed precision; None = float32.
        is_gpu: a GPU's attention does not keep its probabilities where a CPU's does, for their dropout.
    """
    real = acoustic_model.model
    autocast = nullcontext() if autocast_dtype is None else torch.autocast("cpu", autocast_dtype)
    num_samples = round(seconds * real.config.sampling_rate)
    with FakeTensorMode():
        model = HybridASRForCTC(real.config).train()
        for parameter, original in zip(model.parameters(), real.parameters(), strict=True):
            parameter.requires_grad_(original.requires_grad)
            if original.requires_grad:
                parameter.grad = torch.empty_like(parameter)
        if recompute:
            recompute_activations(model)
        if is_gpu:
            for block in cast("list[LactBlock]", list(model.layers)):
                block.attention.dropout = 0.0
        inputs = {
            "input_values": torch.empty(1, num_samples),
            "attention_mask": torch.ones(1, num_samples, dtype=torch.int64),
            "labels": torch.ones(1, round(seconds * _CHARACTERS_PER_SECOND), dtype=torch.int64),
        }
        fake = HybridAcousticModel(model, acoustic_model.processor)
        kept = [
            tensor for parameter in model.parameters() for tensor in (parameter, parameter.grad) if tensor is not None
        ]
        with _LiveBytes(kept, number=model.config.num_frames(num_samples)) as live:
            with autocast:
                weights = None
                if ttt_gradient is not None:
                    weights = adapted_weights(fake, inputs, seed=0, is_exact=ttt_gradient == "exact")
                loss = model(**inputs, weights=weights).loss
            loss.backward()
    return live.peak_bytes


class _LiveBytes(TorchDispatchMode):
    """Adds up the bytes of the tensors that operations make, while they are alive.

    others: tensors that are not counted.
    number: what integers without values read as, and truth values as true; None = the tensors have values.
    """

    def __init__(self, others: Sequence[Tensor], number: int | None) -> None:
        super().__init__()
        self.peak_bytes = 0
        self._number = number
        self._live_bytes = 0
        self._storages = {tensor.untyped_storage()._cdata for tensor in others}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._number is not None:
            if func is torch.ops.aten._local_scalar_dense.default:
                return True if args[0].dtype == torch.bool else self._number
            func = _WITHOUT_SHAPES.get(func, func)
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, num_bytes = storage._cdata, int(storage.nbytes())
        if key not in self._storages:
            self._storages.add(key)
            self._live_bytes += num_bytes
            self.peak_bytes = max(self.peak_bytes, self._live_bytes)
            weakref.finalize(storage, self._remove, key, num_bytes)

    def _remove(self, key: int, num_bytes: int) -> None:
        self._storages.remove(key)
        self._live_bytes -= num_bytes


def _ctc_loss(log_probs: Tensor, targets: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
    """The shapes of the losses [batch] and of what they keep, [batch, frames, states]."""
    num_frames, batch = log_probs.shape[:2]
    return log_probs.new_empty(batch), log_probs.new_empty(batch, num_frames, 2 * targets.shape[1] + 1)


# operations whose shapes PyTorch does not tell without their values
_WITHOUT_SHAPES: dict[Any, Callable[..., Any]] = {
    torch.ops.aten._ctc_loss.Tensor: _ctc_loss,
    torch.ops.aten._ctc_loss_backward.Tensor: lambda _, log_probs, *__, **___: torch.empty_like(log_probs),
}
