"""Span masks: share, spans, and independence of the rows from their batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lact_asr_model.ops.masks import sample_span_mask


@given(
    num_frames=st.lists(st.integers(0, 60), min_size=1, max_size=4),
    mask_prob=st.floats(0, 0.9),
    span_frames=st.integers(1, 12),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_only_real_frames_are_masked(num_frames: list[int], mask_prob: float, span_frames: int, seed: int) -> None:
    max_frames = max([*num_frames, 1]) + 3
    seeds = [seed + row for row in range(len(num_frames))]
    mask = sample_span_mask(num_frames, max_frames, mask_prob, span_frames, seeds)
    assert mask.dtype == torch.bool
    assert mask.shape == (len(num_frames), max_frames)
    for row, length in enumerate(num_frames):
        assert not mask[row, length:].any()


@given(neighbour_frames=st.integers(0, 200), padding=st.integers(0, 20), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_a_row_depends_only_on_its_own_length_and_seed(neighbour_frames: int, padding: int, seed: int) -> None:
    alone = sample_span_mask([80], 80, 0.3, 10, [seed])
    max_frames = max(80, neighbour_frames) + padding
    together = sample_span_mask([neighbour_frames, 80], max_frames, 0.3, 10, [seed + 1, seed])
    assert torch.equal(together[1, :80], alone[0])


def test_another_seed_gives_another_mask() -> None:
    masks = sample_span_mask([200, 200], 200, 0.3, 10, [1, 2])
    assert not torch.equal(masks[0], masks[1])


def test_global_random_state_is_neither_read_nor_changed() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = sample_span_mask([100], 100, 0.3, 10, [7])
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert torch.equal(sample_span_mask([100], 100, 0.3, 10, [7]), first)


@pytest.mark.parametrize("mask_prob", [0.15, 0.33])
def test_the_share_of_masked_frames_is_the_probability_as_spans_do_not_overlap(mask_prob: float) -> None:
    num_rows, num_frames = 400, 403
    mask = sample_span_mask([num_frames] * num_rows, num_frames, mask_prob, 10, list(range(num_rows)))
    assert mask.float().mean().item() == pytest.approx(mask_prob, abs=0.003)
    assert (mask.float().mean(dim=0) > 0).all()


def test_masked_frames_come_in_spans() -> None:
    mask = sample_span_mask([400] * 20, 400, 0.15, 10, list(range(20)))
    for row in mask.int():
        edges = torch.diff(torch.nn.functional.pad(row, (1, 1)))
        starts, ends = (edges == 1).nonzero(), (edges == -1).nonzero()
        assert ((ends - starts) >= 10).all()


def test_probability_zero_masks_nothing() -> None:
    assert not sample_span_mask([50, 100], 100, 0.0, 10, [1, 2]).any()


@pytest.mark.parametrize("num_frames", [2, 3, 4, 10, 11, 30])
@pytest.mark.parametrize("mask_prob", [0.05, 0.15, 0.9])
def test_something_to_predict_and_something_to_predict_it_from(num_frames: int, mask_prob: float) -> None:
    for seed in range(20):
        mask = sample_span_mask([num_frames], num_frames, mask_prob, 10, [seed])
        assert mask.any()
        assert not mask.all()


def test_one_frame_or_none_is_never_masked() -> None:
    assert not sample_span_mask([0, 1], 3, 0.9, 10, [1, 2]).any()
