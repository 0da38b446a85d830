"""Greedy CTC decoding: the most probable symbol of every frame, repeats collapsed, blanks removed."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from lact_asr_model.decoding.hypothesis import Decoder, Hypothesis, Word
from lact_asr_model.text import BLANK, WORD_SEPARATOR

if TYPE_CHECKING:
    from torch import Tensor


class GreedyDecoder(Decoder):
    """`greedy_decode` with its vocabulary, behind the interface of all decoders."""

    def __init__(self, vocabulary: list[str]) -> None:
        self.vocabulary = vocabulary

    def decode(self, log_probs: "np.ndarray[Any, Any] | Tensor") -> Hypothesis:
        """log_probs: [frames, vocab], without padding."""
        return greedy_decode(log_probs, self.vocabulary)


def greedy_decode(log_probs: "np.ndarray[Any, Any] | Tensor", vocabulary: list[str]) -> Hypothesis:
    """Decode the best path of one utterance.

    Args:
        log_probs: [frames, vocab] log-probabilities, without padding; a tensor may live on any device, only its
            best path is copied from there.
        vocabulary: the symbol of every index. `<pad>` is the blank, `|` separates words, and other symbols in angle
            brackets (`<unk>`) are silent.

    Returns:
        The words with their frames and a confidence (mean probability of the frames that spell the word); the score
        is the log-probability of the best path.
    """
    path, log_maxima = _best_path(log_probs)
    words = words_of_path(path, log_maxima, vocabulary)
    return Hypothesis(" ".join(word.word for word in words), words, float(log_maxima.sum()))


def words_of_path(path: np.ndarray, path_log_probs: np.ndarray, vocabulary: list[str]) -> list[Word]:
    """The words that a path spells, with their frames and the mean probability of the frames that spell them.

    Args:
        path: [frames] the index of a symbol for every frame.
        path_log_probs: [frames] its log-probability.
        vocabulary: the symbol of every index.
    """
    run_boundaries = np.flatnonzero(np.diff(path, prepend=-1, append=-1)).tolist()
    probability_sums = np.concatenate([[0.0], np.cumsum(np.exp(path_log_probs))])

    words: list[Word] = []
    letters: list[tuple[str, int, int]] = []

    def finish_word() -> None:
        if letters:
            num_frames = sum(end - start for _, start, end in letters)
            probability = sum(probability_sums[end] - probability_sums[start] for _, start, end in letters)
            confidence = min(1.0, float(probability / num_frames))
            words.append(Word("".join(letter for letter, _, _ in letters), letters[0][1], letters[-1][2], confidence))
            letters.clear()

    for start, end in pairwise(run_boundaries):
        symbol = vocabulary[path[start]]
        if symbol == WORD_SEPARATOR:
            finish_word()
        elif symbol != BLANK and not is_special(symbol):
            letters.append((symbol, start, end))
    finish_word()
    return words


def _best_path(log_probs: "np.ndarray[Any, Any] | Tensor") -> tuple[np.ndarray, np.ndarray]:
    """Index and log-probability (float64) of the best symbol of every frame."""
    if isinstance(log_probs, np.ndarray):
        symbols = log_probs.argmax(axis=-1)
        return symbols, np.take_along_axis(log_probs, symbols[:, None], axis=-1)[:, 0].astype(np.float64)
    best = log_probs.detach().max(dim=-1)
    return best.indices.cpu().numpy(), best.values.cpu().double().numpy()


def is_special(symbol: str) -> bool:
    """Whether a symbol is not a character, such as `<unk>`."""
    return len(symbol) > 2 and symbol.startswith("<") and symbol.endswith(">")
