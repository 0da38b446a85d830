"""What a decoder returns, and the interface that every decoder has."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True)
class Word:
    """A recognised word, from `start_frame` up to (not including) `end_frame`; confidence in [0, 1]."""

    word: str
    start_frame: int
    end_frame: int
    confidence: float


@dataclass(frozen=True)
class Hypothesis:
    """A transcript: its words joined by single spaces, and its score (a log-probability; higher is better).

    alternatives: the next best transcripts, best first; empty unless the decoder was asked for them.
    """

    text: str
    words: list[Word]
    score: float
    alternatives: list["Hypothesis"] = field(default_factory=list)


class Decoder(ABC):
    """Anything that turns the CTC log-probabilities of one utterance into a hypothesis.

    uses_language_model: whether a language model has a say in it.
    """

    uses_language_model = False

    @abstractmethod
    def decode(self, log_probs: "np.ndarray[Any, Any] | Tensor") -> Hypothesis:
        """log_probs: [frames, vocab], without padding."""

    def submit(self, log_probs: "np.ndarray[Any, Any] | Tensor") -> "Future[Hypothesis]":
        """Begin to decode; a decoder without processes of its own is done when this returns."""
        future: Future[Hypothesis] = Future()
        future.set_result(self.decode(log_probs))
        return future

    def collect(self, futures: "Sequence[Future[Hypothesis]]") -> list[Hypothesis]:
        """Wait for what `submit` began."""
        return [future.result() for future in futures]
