"""Masks from lengths."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from lact_asr_model.ops.masks import length_mask


@given(st.lists(st.integers(0, 12), min_size=1, max_size=5), st.integers(1, 12))
def test_true_exactly_below_the_length(lengths: list[int], max_length: int) -> None:
    mask = length_mask(torch.tensor(lengths), max_length)
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[position < length for position in range(max_length)] for length in lengths]
