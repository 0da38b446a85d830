"""Which form of the fast weights' sums over frames runs: the closed form, or on a GPU the kernels of `fused`.

The kernels take passes without gradients, if a trial on noise has shown that they work on the device.
"""

from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from lact_asr_model.errors import print_warning
from lact_asr_model.ops.fast_weights import closed_form
from lact_asr_model.ops.fast_weights.closed_form import FastWeights

_LARGEST_HEAD = 256  # that the kernels take
_LARGEST_ERROR = 0.02  # in the trial, of the largest value; what bfloat16 rounds is below half of it


def update_fast_weights(weights: FastWeights, *tensors: Tensor, **options: Any) -> FastWeights:
    """`closed_form.update_fast_weights`, its sums over frames by what is quickest here."""
    return closed_form.update_fast_weights(weights, *tensors, **options, gradient=fast_weight_gradient)


def fast_weight_gradient(
    weights: FastWeights, keys: Tensor, values: Tensor, learning_rates: Tensor, chunk_size: int | None = None
) -> FastWeights:
    """`closed_form.fast_weight_gradient`, by what is quickest here; the kernels hold no hidden activations at all."""
    if not uses_fused(weights, keys, values, learning_rates):
        return closed_form.fast_weight_gradient(weights, keys, values, learning_rates, chunk_size)
    from lact_asr_model.ops.fast_weights import fused

    dtype = _dtype_of_products(keys)
    sums = fused.fast_weight_gradient(*(x.to(dtype) for x in (*weights, keys, values)), learning_rates)
    step0, step1, step2 = sums.to(weights.w0.dtype)
    return FastWeights(step0, step1.mT, step2)


def apply_fast_weights(weights: FastWeights, queries: Tensor, chunk_size: int | None = None) -> Tensor:
    """`closed_form.apply_fast_weights`, likewise."""
    if not uses_fused(weights, queries):
        return closed_form.apply_fast_weights(weights, queries, chunk_size)
    from lact_asr_model.ops.fast_weights import fused

    dtype = _dtype_of_products(queries)
    return fused.apply_fast_weights(*(x.to(dtype) for x in (*weights, queries)))


def uses_fused(weights: FastWeights, x: Tensor, *others: Tensor) -> bool:
    """Whether the kernels compute with these; x: the keys or queries [batch, heads, frames, d]."""
    d, h = weights.w0.shape[-2:]
    if not _is_on_gpu(x) or d > _LARGEST_HEAD or torch.compiler.is_exporting():
        return False
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (*weights, x, *others)):
        return False
    return _fused_works(x.device, _dtype_of_products(x), d, h)


def _is_on_gpu(x: Tensor) -> bool:
    return x.is_cuda


def _dtype_of_products(x: Tensor) -> torch.dtype:
    """What PyTorch multiplies in: autocast's dtype where that is on, else that of the tensor."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def _fused_works(device: torch.device, dtype: torch.dtype, d: int, h: int) -> bool:
    return _try_fused(device, dtype, d, h)


# Compiled code asks while it is made. `torch.compiler.assume_constant_result` sets this, and takes a second to import.
_fused_works._dynamo_marked_constant = True  # type: ignore[attr-defined]


@cache
def _try_fused(device: torch.device, dtype: torch.dtype, d: int, h: int) -> bool:
    """Whether the kernels, tried once on noise, do what the closed form does; one line on stderr if they do not."""
    if dtype not in (torch.float32, torch.float16, torch.bfloat16) or find_spec("triton") is None:
        return False
    noise = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    batch, heads, frames = 2, 1, 40
    weights = FastWeights(
        noise(1, heads, d, h) / d**0.5, noise(1, heads, h, d) / h**0.5, noise(1, heads, d, h) / d**0.5
    )
    keys, values = noise(batch, heads, frames, d), noise(batch, heads, frames, d)
    rates = noise(3, batch, heads, frames).abs()
    expected = closed_form.fast_weight_gradient(weights, keys, values, rates)
    expected_answers = closed_form.apply_fast_weights(weights, keys)
    try:
        from lact_asr_model.ops.fast_weights import fused

        matrices = [matrix.to(device, dtype) for matrix in (*weights, keys, values)]
        step0, step1, step2 = fused.fast_weight_gradient(*matrices, rates.to(device)).cpu()
        answers = fused.apply_fast_weights(*matrices[:4]).cpu()
    except Exception as error:  # of a compiler, a driver, or a GPU that is too old or too small
        reason = (str(error).splitlines() or [type(error).__name__])[0]
    else:
        pairs = zip((step0, step1.mT, step2, answers), (*expected, expected_answers), strict=True)
        deviation = max(float((ours - right).abs().max() / right.abs().max()) for ours, right in pairs)
        if deviation < _LARGEST_ERROR:
            return True
        reason = f"they are wrong by {100 * deviation:.0f} %"
    print_warning(f"{device}: the kernels of the layer memory cannot be used ({reason}); the closed form is")
    return False
