"""Losses that need no reference, one value per utterance: they say how sure an output is.

Sources: Wang et al. 2021, "Tent", arXiv:2006.10726 (entropy); Jin et al. 2020, "Minimum class confusion",
arXiv:1912.03699; Lin et al. 2022, "Listen, adapt, better WER", arXiv:2203.14222 (both, for CTC).
Masked prediction, the other self-supervised loss, belongs to the model: `Speech.predict_masked`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

_ENTROPY_WEIGHT = 0.3
_CONFUSION_WEIGHT = 0.7


def entropy_loss(logits: Tensor, frame_mask: Tensor, temperature: float, blank_id: int = 0) -> Tensor:
    """Mean entropy (in nats) of the frames whose most probable symbol is not the blank.

    Args:
        logits: [batch, frames, vocab].
        frame_mask: bool [batch, frames], True = real.
        temperature: the logits are divided by it.
        blank_id: index of the blank.

    Returns:
        [batch]; zero, with a zero gradient, for an utterance whose every frame says blank.
    """
    entropies = _entropies(_log_probs(logits, frame_mask, temperature))
    counted = frame_mask & (logits.argmax(dim=-1) != blank_id)
    return entropies.masked_fill(~counted, 0).sum(dim=1) / counted.sum(dim=1).clamp(min=1)


def minimum_class_confusion_loss(logits: Tensor, frame_mask: Tensor, temperature: float) -> Tensor:
    """How often, over the whole utterance, two symbols are probable in the same frames: 0 = never.

    With P = softmax(logits / temperature) [frames, vocab] and w the frames' weights, proportional to 1 + exp(-entropy),
    with a mean of 1 and no gradient: C = P^T diag(w) P, each row divided by its sum; loss = (sum C - trace C) / vocab.
    Shapes as in `entropy_loss`; zero for an utterance without frames.
    """
    log_probs = _log_probs(logits, frame_mask, temperature)
    probs = log_probs.exp() * frame_mask[..., None]
    weights = (1 + torch.exp(-_entropies(log_probs).detach())) * frame_mask
    num_frames = frame_mask.sum(dim=1, keepdim=True)
    weights = weights * num_frames / weights.sum(dim=1, keepdim=True).clamp(min=1)
    confusion = probs.mT @ (weights[..., None] * probs)
    confusion = confusion / confusion.sum(dim=2, keepdim=True).clamp(min=torch.finfo(confusion.dtype).tiny)
    off_diagonal = confusion.sum(dim=(1, 2)) - confusion.diagonal(dim1=1, dim2=2).sum(dim=1)
    return off_diagonal / logits.shape[-1]


def entropy_mcc_loss(logits: Tensor, frame_mask: Tensor, temperature: float, blank_id: int = 0) -> Tensor:
    """0.3 entropy + 0.7 minimum class confusion, as in SUTA; shapes as in `entropy_loss`."""
    entropy = entropy_loss(logits, frame_mask, temperature, blank_id)
    confusion = minimum_class_confusion_loss(logits, frame_mask, temperature)
    return _ENTROPY_WEIGHT * entropy + _CONFUSION_WEIGHT * confusion


LOGIT_LOSSES: dict[str, Callable[[Tensor, Tensor, float, int], Tensor]] = {
    "entropy": entropy_loss,
    "entropy_mcc": entropy_mcc_loss,
}


def mean_entropy(logits: Tensor, frame_mask: Tensor, temperature: float, blank_id: int = 0) -> Tensor:
    """`entropy_loss` without a gradient: how unsure the model is of an utterance, [batch]."""
    with torch.no_grad():
        return entropy_loss(logits, frame_mask, temperature, blank_id)


def _log_probs(logits: Tensor, frame_mask: Tensor, temperature: float) -> Tensor:
    """Log-probabilities in at least float32; padded frames, whose logits may be infinite, become uniform."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return torch.log_softmax(logits.masked_fill(~frame_mask[..., None], 0) / temperature, dim=-1)


def _entropies(log_probs: Tensor) -> Tensor:
    return -(log_probs.exp() * log_probs).sum(dim=-1)
