"""Attention within a window of frames: by PyTorch's fused attention, or in compiled code for GPUs by FlexAttention.

Source of the latter: Dong et al. 2024, "Flex Attention", arXiv:2412.05496.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

_FLEX_BLOCK = 128  # frames; what FlexAttention computes or leaves out as a whole


def windowed_attention(
    queries: Tensor, keys: Tensor, values: Tensor, frame_mask: Tensor, radius: int, dropout: float = 0.0
) -> Tensor:
    """Attention of every frame to the real frames at most `radius` frames away.

    Long inputs are cut into blocks of `radius` frames that see themselves and their two neighbours, so time and memory
    grow with frames * radius; an exported graph, which is one for all lengths, sees the whole input under a mask. Code
    that is compiled for a GPU leaves the cutting to FlexAttention, unless gradients are wanted. Every frame may attend
    to itself, which keeps padded rows finite.

    Args:
        queries, keys, values: [batch, heads, frames, size].
        frame_mask: bool [batch, frames], True = real.

    Returns:
        [batch, heads, frames, size].
    """
    frames, block = queries.shape[-2], max(radius, 1)
    position = torch.arange(frames, device=queries.device)
    if torch.compiler.is_exporting() or frames <= 3 * block:
        distance = position[:, None] - position
        allowed = (distance.abs() <= radius) & frame_mask[:, None, None, :] | (distance == 0)
        return F.scaled_dot_product_attention(queries, keys, values, allowed, dropout)
    wants_gradients = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (queries, keys, values))
    if torch.compiler.is_compiling() and _is_on_gpu(queries) and not wants_gradients and dropout == 0:
        return flex_window_attention(queries, keys, values, frame_mask, radius)

    num_blocks = -(-frames // block)
    padding = num_blocks * block - frames
    query_blocks = F.pad(queries, (0, 0, 0, padding)).unflatten(-2, (num_blocks, block))

    def neighbourhoods(sequence: Tensor) -> Tensor:
        """[..., frames, size] to [..., blocks, 3 * block, size]: the block before, the block, the block after."""
        blocks = F.pad(sequence, (0, 0, block, block + padding)).unflatten(-2, (num_blocks + 2, block))
        return torch.cat([blocks[..., :-2, :, :], blocks[..., 1:-1, :, :], blocks[..., 2:, :, :]], dim=-2)

    place = torch.arange(3 * block, device=queries.device)
    distance = place[block : 2 * block, None] - place
    real = neighbourhoods(frame_mask[:, None, :, None].to(torch.uint8)).mT.bool()
    allowed = (distance.abs() <= radius) & real | (distance == 0)
    key_blocks, value_blocks = neighbourhoods(keys), neighbourhoods(values)
    attended = F.scaled_dot_product_attention(query_blocks, key_blocks, value_blocks, allowed, dropout)
    return attended.flatten(-3, -2)[..., :frames, :]


def flex_window_attention(queries: Tensor, keys: Tensor, values: Tensor, frame_mask: Tensor, radius: int) -> Tensor:
    """`windowed_attention` by FlexAttention; outside compiled code it is slow, and holds the scores of all pairs."""
    from torch.nn.attention.flex_attention import flex_attention

    blocks = window_blocks(frame_mask, queries.shape[-2], radius)
    attended = flex_attention(queries, keys, values, block_mask=blocks)
    assert isinstance(attended, Tensor)
    return attended


def window_blocks(frame_mask: Tensor, frames: int, radius: int) -> "BlockMask":
    """Who may attend to whom, and the blocks where there is such a pair.

    The blocks are counted out, as a mask of all pairs would be as large as the square of the frames.
    """
    from torch.nn.attention.flex_attention import BlockMask

    def allowed(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return ((query - key).abs() <= radius) & frame_mask[batch, key] | (query == key)

    num_blocks, reach = -(-frames // _FLEX_BLOCK), -(-radius // _FLEX_BLOCK)
    block = torch.arange(num_blocks, device=frame_mask.device, dtype=torch.int32)
    first, last = (block - reach).clamp(min=0), (block + reach).clamp(max=num_blocks - 1)
    neighbours = (first[:, None] + block) % num_blocks  # of which the first `last - first + 1` count
    return BlockMask.from_kv_blocks(
        (last - first + 1)[None, None],
        neighbours[None, None],
        BLOCK_SIZE=_FLEX_BLOCK,
        mask_mod=allowed,
        seq_lengths=(frames, frames),
        compute_q_blocks=False,  # of the backward pass
    )


def _is_on_gpu(queries: Tensor) -> bool:
    return queries.is_cuda
