"""A decoder as a teacher: its text in ids, and how sure it is."""

import numpy as np
import pytest
import torch

from lact_asr_model.decoding.hypothesis import Decoder, Hypothesis, Word
from lact_asr_model.decoding.teacher import DecoderTeacher
from lact_asr_model.errors import UserError

VOCABULARY = ["<pad>", "|", "A", "B"]


class Scripted(Decoder):
    """Says texts in turn, and remembers what it heard."""

    def __init__(self, *hypotheses: Hypothesis) -> None:
        self.hypotheses = list(hypotheses)
        self.heard: list[np.ndarray] = []

    def decode(self, log_probs: torch.Tensor) -> Hypothesis:
        self.heard.append(log_probs.numpy())
        return self.hypotheses.pop(0)


def said(*words: tuple[str, float]) -> Hypothesis:
    return Hypothesis(" ".join(word for word, _ in words), [Word(word, 0, 1, sure) for word, sure in words], 0.0)


def test_a_lesson_is_the_text_in_ids_with_the_mean_confidence_of_its_words() -> None:
    decoder = Scripted(said(("AB", 0.5), ("B", 1.0)), said())
    logits, frame_mask = torch.randn(2, 5, 4), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    first, second = DecoderTeacher(decoder, VOCABULARY)(logits, frame_mask)
    assert (list(first.labels), first.confidence) == ([2, 3, 1, 3], 0.75)
    assert (list(second.labels), second.confidence) == ([], 0.0)
    assert [len(rows) for rows in decoder.heard] == [5, 3]
    np.testing.assert_allclose(decoder.heard[1], torch.log_softmax(logits[1, :3], dim=-1).numpy())


def test_characters_that_the_model_does_not_write_are_left_out() -> None:
    (lesson,) = DecoderTeacher(Scripted(said(("AXB", 1.0))), VOCABULARY)(
        torch.randn(1, 5, 4), torch.ones(1, 5, dtype=torch.bool)
    )
    assert list(lesson.labels) == [2, 3]


def test_plausibility_is_the_language_models_of_the_greedy_text() -> None:
    class Knowing(Scripted):
        class language_model:
            score = staticmethod(lambda text: ({"AB A": -1.5}[text], [True]))

    path = torch.tensor([[2, 0, 3, 1, 2]])
    logits = torch.nn.functional.one_hot(path, 4) * 9.0
    teacher = DecoderTeacher(Knowing(), VOCABULARY)
    assert teacher.plausibility(logits, torch.ones(1, 5, dtype=torch.bool)) == -1.5
    with pytest.raises(UserError, match="suta_lm: asks a language model"):
        DecoderTeacher(Scripted(), VOCABULARY).plausibility(logits, torch.ones(1, 5, dtype=torch.bool))
