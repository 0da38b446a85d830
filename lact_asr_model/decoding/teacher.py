"""A decoder as the teacher of adaptation: what it reads before adaptation is what an utterance's weights learn."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lact_asr_model.adaptation.lessons import Lesson
from lact_asr_model.decoding.greedy import greedy_decode
from lact_asr_model.decoding.hypothesis import Decoder, Hypothesis
from lact_asr_model.errors import UserError
from lact_asr_model.text import WORD_SEPARATOR


class DecoderTeacher:
    """A `lessons.Teacher`: the decoder's text, as sure as its words are on average.

    Args:
        decoder: usually a beam search with a language model.
        vocabulary: the symbol of every output of the model; characters that it lacks are left out of a lesson.
    """

    def __init__(self, decoder: Decoder, vocabulary: Sequence[str]) -> None:
        self._decoder = decoder
        self._vocabulary = list(vocabulary)
        self._ids = {symbol: index for index, symbol in enumerate(vocabulary)}

    def __call__(self, logits: Tensor, frame_mask: Tensor) -> list[Lesson]:
        """A lesson for each utterance of logits [batch, frames, vocabulary] and frame_mask bool [batch, frames]."""
        log_probs = torch.log_softmax(logits.float(), dim=-1)
        lengths = frame_mask.sum(dim=1).tolist()
        futures = [self._decoder.submit(row[:length]) for row, length in zip(log_probs, lengths, strict=True)]
        return [self._lesson(hypothesis) for hypothesis in self._decoder.collect(futures)]

    def plausibility(self, logits: Tensor, frame_mask: Tensor) -> float:
        """log10 P of the greedy text of one utterance, logits [1, frames, vocabulary], in the decoder's language model.

        Raises:
            UserError: the decoder has none.
        """
        language_model = getattr(self._decoder, "language_model", None)
        if language_model is None:
            raise UserError("method suta_lm: asks a language model; give one, not --lm none")
        return language_model.score(greedy_decode(logits[0, frame_mask[0]], self._vocabulary).text)[0]

    def _lesson(self, hypothesis: Hypothesis) -> Lesson:
        symbols = hypothesis.text.replace(" ", WORD_SEPARATOR)
        confidences = [word.confidence for word in hypothesis.words]
        return Lesson(
            [self._ids[symbol] for symbol in symbols if symbol in self._ids],
            sum(confidences) / len(confidences) if confidences else 0.0,
        )
