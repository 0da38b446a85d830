"""The two sums over frames of the layer memory as Triton kernels for GPUs: no hidden activation reaches the memory.

`closed_form` has the formulas, `dispatch` decides where these run. Products are of the inputs' dtype and are added up
in float32; those of float32 are exact unless `torch.set_float32_matmul_precision` allows TF32. Forward passes only: no
gradient flows through them. For PyTorch they are operators, so that compiled code takes them as they are.

Legend: as in `closed_form`; x = a block of keys or queries, D = d filled up to a power of two, n = frames.
"""

import os

import torch
import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,import-untyped,unused-ignore]
from torch import Tensor

_BLOCKS = {2: 32, 4: 16}  # hidden units and frames at a time, by the bytes of a number: they fit into shared memory
_FRAMES_PER_SPLIT, _MOST_SPLITS = 512, 8
_IS_INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")


@triton.jit
def _product(x, y, PRECISION: tl.constexpr):  # type: ignore[no-untyped-def]
    if _IS_INTERPRETED:  # by numpy, which takes the bits of a bfloat16 for those of a whole number
        x, y = x.to(tl.float32), y.to(tl.float32)
    return tl.dot(x, y, input_precision=PRECISION)


@triton.jit
def _sigmoid(x):  # type: ignore[no-untyped-def]
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def _gradient_kernel(  # type: ignore[no-untyped-def]
    w0, w1, w2, keys, values, rates, sums,
    copies, frames, frames_per_split, d, h,
    D: tl.constexpr, HIDDEN: tl.constexpr, FRAMES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """For one utterance and head, a block of hidden units and a split of the frames: the three sums, as [d, HIDDEN].

    w0, w2: [copies, d, h], w1: [copies, h, d], of utterances times heads, or of heads alone, that utterances share.
    keys, values: [rows, frames, d] with rows = utterances times heads. rates: [3, rows, frames].
    sums: float32 [splits, 3, rows, d, h].
    """
    row, split = tl.program_id(0), tl.program_id(2)
    rows = tl.num_programs(0)
    in_head = tl.arange(0, D)
    hidden = tl.program_id(1) * HIDDEN + tl.arange(0, HIDDEN)
    in_matrix = (in_head[:, None] < d) & (hidden[None, :] < h)
    place = in_head[:, None] * h + hidden[None, :]
    first = (row % copies).to(tl.int64) * d * h
    w0_block = tl.load(w0 + first + place, mask=in_matrix, other=0.0)
    w2_block = tl.load(w2 + first + place, mask=in_matrix, other=0.0)
    w1_block = tl.load(w1 + first + hidden[None, :] * d + in_head[:, None], mask=in_matrix, other=0.0)
    sum0 = tl.full((D, HIDDEN), 0.0, tl.float32)
    sum1 = tl.full((D, HIDDEN), 0.0, tl.float32)
    sum2 = tl.full((D, HIDDEN), 0.0, tl.float32)
    for start in range(split * frames_per_split, min((split + 1) * frames_per_split, frames), FRAMES):
        n = start + tl.arange(0, FRAMES)
        inside = (n[:, None] < frames) & (in_head[None, :] < d)
        offsets = (row.to(tl.int64) * frames + n[:, None]) * d + in_head[None, :]
        k = tl.load(keys + offsets, mask=inside, other=0.0)
        v = tl.load(values + offsets, mask=inside, other=0.0)
        eta = rates + row.to(tl.int64) * frames + n
        next_eta = rows.to(tl.int64) * frames
        eta0 = tl.load(eta, mask=n < frames, other=0.0)[:, None]
        eta1 = tl.load(eta + next_eta, mask=n < frames, other=0.0)[:, None]
        eta2 = tl.load(eta + 2 * next_eta, mask=n < frames, other=0.0)[:, None]
        a = _product(k, w0_block, PRECISION)
        b = _product(k, w2_block, PRECISION)
        delta = _product(v, w1_block, PRECISION)
        gate = _sigmoid(a)
        silu = a * gate
        of_w0 = eta0 * delta * b * gate * (1.0 + a * (1.0 - gate))
        of_w1 = eta1 * silu * b
        of_w2 = eta2 * delta * silu
        sum0 += _product(tl.trans(k), of_w0.to(k.dtype), PRECISION)
        sum1 += _product(tl.trans(v), of_w1.to(v.dtype), PRECISION)
        sum2 += _product(tl.trans(k), of_w2.to(k.dtype), PRECISION)
    matrix = rows.to(tl.int64) * d * h
    target = sums + split * 3 * matrix + row.to(tl.int64) * d * h + place
    tl.store(target, sum0, mask=in_matrix)
    tl.store(target + matrix, sum1, mask=in_matrix)
    tl.store(target + 2 * matrix, sum2, mask=in_matrix)


@triton.jit
def _apply_kernel(  # type: ignore[no-untyped-def]
    w0, w1, w2, queries, answers,
    copies, frames, d, h,
    D: tl.constexpr, HIDDEN: tl.constexpr, FRAMES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """For one utterance and head and a block of frames: f(q). Layouts as in `_gradient_kernel`."""
    row = tl.program_id(0)
    in_head = tl.arange(0, D)
    n = tl.program_id(1) * FRAMES + tl.arange(0, FRAMES)
    inside = (n[:, None] < frames) & (in_head[None, :] < d)
    offsets = (row.to(tl.int64) * frames + n[:, None]) * d + in_head[None, :]
    q = tl.load(queries + offsets, mask=inside, other=0.0)
    first = (row % copies).to(tl.int64) * d * h
    answer = tl.full((FRAMES, D), 0.0, tl.float32)
    for start in range(0, h, HIDDEN):
        hidden = start + tl.arange(0, HIDDEN)
        in_matrix = (in_head[:, None] < d) & (hidden[None, :] < h)
        place = first + in_head[:, None] * h + hidden[None, :]
        w0_block = tl.load(w0 + place, mask=in_matrix, other=0.0)
        w2_block = tl.load(w2 + place, mask=in_matrix, other=0.0)
        in_transpose = (hidden[:, None] < h) & (in_head[None, :] < d)
        w1_block = tl.load(w1 + first + hidden[:, None] * d + in_head[None, :], mask=in_transpose, other=0.0)
        a = _product(q, w0_block, PRECISION)
        b = _product(q, w2_block, PRECISION)
        activation = a * _sigmoid(a) * b
        answer += _product(activation.to(q.dtype), w1_block, PRECISION)
    tl.store(answers + offsets, answer.to(q.dtype), mask=inside)


@torch.library.custom_op("lact_asr::fast_weight_gradient", mutates_args=())
def fast_weight_gradient(
    w0: Tensor, w1: Tensor, w2: Tensor, keys: Tensor, values: Tensor, learning_rates: Tensor
) -> Tensor:
    """The sums for w0, w1 (transposed) and w2: float32 [3, batch, heads, d, h].

    Shapes as in `closed_form.fast_weight_gradient`; all but the learning rates of one dtype, of 2 or 4 bytes.
    """
    batch, num_heads, frames, d = keys.shape
    h, block = w0.shape[-1], _BLOCKS[keys.itemsize]
    splits = min(max(triton.cdiv(frames, _FRAMES_PER_SPLIT), 1), _MOST_SPLITS)
    sums = torch.empty(splits, 3, batch, num_heads, d, h, dtype=torch.float32, device=keys.device)
    with torch.cuda.device_of(keys):
        _gradient_kernel[batch * num_heads, triton.cdiv(h, block), splits](
            *(tensor.contiguous() for tensor in (w0, w1, w2, keys, values)),
            learning_rates.float().contiguous(),
            sums,
            w0.shape[0] * num_heads,
            frames,
            triton.cdiv(triton.cdiv(frames, splits), block) * block,
            d,
            h,
            **_constants(d, block),
        )
    return sums.sum(0)


@fast_weight_gradient.register_fake
def _(w0: Tensor, w1: Tensor, w2: Tensor, keys: Tensor, values: Tensor, learning_rates: Tensor) -> Tensor:
    return w0.new_empty(3, *keys.shape[:2], *w0.shape[-2:], dtype=torch.float32)


@torch.library.custom_op("lact_asr::apply_fast_weights", mutates_args=())
def apply_fast_weights(w0: Tensor, w1: Tensor, w2: Tensor, queries: Tensor) -> Tensor:
    """f(q) for every query; shapes as in `closed_form.apply_fast_weights`, dtypes as above."""
    batch, num_heads, frames, d = queries.shape
    block = _BLOCKS[queries.itemsize]
    answers = torch.empty(queries.shape, dtype=queries.dtype, device=queries.device)
    with torch.cuda.device_of(queries):
        _apply_kernel[batch * num_heads, triton.cdiv(frames, block)](
            *(tensor.contiguous() for tensor in (w0, w1, w2, queries)),
            answers,
            w0.shape[0] * num_heads,
            frames,
            d,
            w0.shape[-1],
            **_constants(d, block),
        )
    return answers


@apply_fast_weights.register_fake
def _(w0: Tensor, w1: Tensor, w2: Tensor, queries: Tensor) -> Tensor:
    return queries.new_empty(queries.shape)


def _constants(d: int, block: int) -> dict[str, int | str]:
    return {
        "D": max(triton.next_power_of_2(d), 16),
        "HIDDEN": block,
        "FRAMES": block,
        "PRECISION": "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32",
        "num_warps": 8,
        "num_stages": 1,
    }
