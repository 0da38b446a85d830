"""Masks from lengths, and masks made of spans of frames, as for masked prediction."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def length_mask(lengths: Tensor, max_length: int) -> Tensor:
    """True at the first `lengths[i]` positions of row i: lengths [batch] to mask [batch, max_length]."""
    return torch.arange(max_length, device=lengths.device) < lengths[:, None]


def sample_span_mask(
    num_frames: Sequence[int], max_frames: int, mask_prob: float, span_frames: int, seeds: Sequence[int]
) -> Tensor:
    """Mask `mask_prob` of every utterance's frames on average, in spans of `span_frames` that do not overlap.

    A row depends only on its own length and seed, never on the batch around it. An utterance of at least two frames
    has at least one masked and one unmasked frame (if mask_prob > 0).

    Args:
        num_frames: true length of each utterance, in frames.
        max_frames: length of the mask, in frames.
        mask_prob: share of the frames to mask, in [0, 1).
        span_frames: length of a span; shortened for utterances that it would cover whole.
        seeds: one seed per utterance.

    Returns:
        bool [batch, max_frames], True = masked.
    """
    mask = np.zeros((len(num_frames), max_frames), dtype=bool)
    for row, frames, seed in zip(mask, num_frames, seeds, strict=True):
        if mask_prob == 0 or frames < 2:
            continue
        rng = np.random.default_rng(seed)
        span = min(span_frames, max(1, round(mask_prob * frames)))
        num_spans = max(1, int(mask_prob * frames / span + rng.random()))
        num_unmasked = max(frames - num_spans * span, 0)
        starts = np.sort(rng.integers(0, num_unmasked + 1, size=num_spans)) + span * np.arange(num_spans)
        row[np.minimum(starts[:, None] + np.arange(span), frames - 1)] = True
        if row[:frames].all():
            row[rng.integers(frames)] = False
    return torch.from_numpy(mask)
