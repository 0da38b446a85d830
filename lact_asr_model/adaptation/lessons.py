"""What a language model teaches: the text that it reads in an utterance, for the utterance's own weights to learn.

Sources: Yoon et al. 2024, "LI-TTA: Language informed test-time adaptation", arXiv:2408.05769, which teaches with a text
that a large language model has corrected; Huang et al. 2025, "SUTA-LM", arXiv:2506.11121, which lets a language model
choose the step to stop at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Lesson:
    """A text for an utterance.

    labels: ids of its symbols, without blanks; empty = there is nothing to learn. confidence: in [0, 1].
    """

    labels: Sequence[int]
    confidence: float


class Teacher(Protocol):
    """Whoever knows more of the language than the model; logits [batch, frames, vocabulary], frame_mask bool."""

    def __call__(self, logits: Tensor, frame_mask: Tensor, /) -> list[Lesson]:
        """A lesson for each utterance."""
        ...

    def plausibility(self, logits: Tensor, frame_mask: Tensor, /) -> float:
        """How probable the text is that one utterance's logits spell by themselves: a logarithm, higher is better."""
        ...


def taught_loss(logits: Tensor, frame_mask: Tensor, lessons: Sequence[Lesson], blank_id: int = 0) -> Tensor:
    """CTC loss of the lessons per symbol, times the square of their confidence: a doubtful text teaches little.

    Args:
        logits: [batch, frames, vocabulary].
        frame_mask: bool [batch, frames], True = real.
        lessons: one for each utterance.
        blank_id: index of the blank.

    Returns:
        [batch]; zero for an utterance without a lesson, or with fewer frames than its lesson needs.
    """
    lengths = torch.tensor([len(lesson.labels) for lesson in lessons])
    labels = torch.zeros(len(lessons), max(int(lengths.max()), 1), dtype=torch.long)
    for row, lesson in enumerate(lessons):
        labels[row, : len(lesson.labels)] = torch.tensor(lesson.labels, dtype=torch.long)
    losses = F.ctc_loss(
        torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=-1).transpose(0, 1),
        labels.to(logits.device),
        frame_mask.sum(dim=1),
        lengths.to(logits.device),
        blank=blank_id,
        reduction="none",
        zero_infinity=True,
    )
    trust = torch.tensor([lesson.confidence**2 if lesson.labels else 0.0 for lesson in lessons])
    return losses * (trust / lengths.clamp(min=1)).to(losses)
