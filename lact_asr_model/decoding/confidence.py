"""How sure a beam search is of each word: the share of its hypotheses, by probability, that have it there."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Candidate(NamedTuple):
    """A text that a search found.

    words: as they are written. score: of them all. spans: where the search saw each, [start, end) in frames.
    spellings: each word in the symbols that were heard.
    """

    words: list[str]
    score: float
    spans: list[tuple[int, int]]
    spellings: list[str]


def word_posteriors(candidates: Sequence[Candidate], index: int) -> list[float]:
    """For each word of a candidate, the probability in [0, 1] of all candidates with that word at that time."""
    scores = np.array([candidate.score for candidate in candidates])
    weights = np.exp(scores - scores.max())
    weights /= weights.sum()
    posteriors = np.zeros(len(candidates[index].words))
    for weight, candidate in zip(weights, candidates, strict=True):
        places: dict[str, list[tuple[int, int]]] = {}
        for word, span in zip(candidate.words, candidate.spans, strict=True):
            places.setdefault(word, []).append(span)
        for position, (word, (start, end)) in enumerate(
            zip(candidates[index].words, candidates[index].spans, strict=True)
        ):
            if any(other_start < end and start < other_end for other_start, other_end in places.get(word, ())):
                posteriors[position] += weight
    return np.minimum(posteriors, 1.0).tolist()
