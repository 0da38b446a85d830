"""Windowed attention by FlexAttention, against the same by blocks of frames."""

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

from lact_asr_model.ops import window_attention
from lact_asr_model.ops.window_attention import flex_window_attention, window_blocks, windowed_attention


def inputs(frames: int, dtype: torch.dtype = torch.float32, padding: int = 9) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys and values [2, 3, frames, 16], and a mask with padding in the second row; its keys are large."""
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = torch.randn(3, 2, 3, frames, 16, generator=generator).to(dtype)
    frame_mask = torch.ones(2, frames, dtype=torch.bool)
    frame_mask[1, frames - padding :] = False
    keys[1, :, frames - padding :] *= 30
    return queries, keys, values, frame_mask


@pytest.mark.parametrize(("frames", "radius"), [(1, 3), (40, 0), (40, 3), (128, 20), (300, 64), (300, 128), (300, 400)])
def test_flex_attention_sees_the_same_window(frames: int, radius: int) -> None:
    given = inputs(frames, padding=min(9, frames))
    expected = windowed_attention(*given, radius)
    torch.testing.assert_close(flex_window_attention(*given, radius), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("radius", [0, 1, 127, 128, 129, 300, 2000])
@pytest.mark.parametrize("frames", [1, 128, 129, 1000])
def test_no_block_of_the_window_is_left_out_and_none_is_too_much(frames: int, radius: int) -> None:
    frame_mask = torch.ones(2, frames, dtype=torch.bool)
    blocks = window_blocks(frame_mask, frames, radius)
    expected = create_block_mask(blocks.mask_mod, None, None, frames, frames, device="cpu")
    assert torch.equal(blocks.to_dense(), expected.to_dense())


def test_compiled_code_for_a_gpu_takes_flex_attention_in_passes_without_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(window_attention, "_is_on_gpu", lambda queries: True)
    called = []

    def noted(*arguments: object) -> Tensor:
        called.append(arguments)
        return flex_window_attention(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(window_attention, "flex_window_attention", noted)
    queries, *others = inputs(200)
    expected = windowed_attention(queries, *others, 20)
    assert not called
    compiled = torch.compile(windowed_attention, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(queries, *others, 20), expected, rtol=1e-4, atol=1e-5)
    assert len(called) == 1
    compiled(queries.requires_grad_(), *others, 20)
    assert len(called) == 1
